"""Several machines: a wrong place, one that is missing, two that take one place, and two that would not train the same.

A machine is a launch.sh of its own on this host.
"""

import os
import shutil
import signal
import socket
import time

import pytest

from helpers import SMALL, copy_alone, explains, run, start

TRAIN = [*SMALL, '--batch-size', '8', '--epochs', '1', '--max-steps', '2']
NEAR = {'MASTER_ADDR': '127.0.0.1'}


def wrong(marker):
    """-> (environment, words that the sentence has)"""
    trap = f'a[$(touch {marker})]'
    numbers = ('NNODES', 'NODE_RANK', 'RANK_SIZE', 'NPROC_PER_NODE', 'MASTER_PORT', 'OMP_NUM_THREADS')
    yield from (({**NEAR, 'NNODES': '2', name: trap}, [name, trap]) for name in numbers)
    yield {'NNODES': 'abc'}, ['NNODES', "'abc'"]
    yield {'NNODES': '08', **NEAR}, ['NNODES', "'08'"]
    yield {'NNODES': '0'}, ['NNODES', "'0'"]
    yield {'NNODES': '2'}, ['NNODES is 2', 'MASTER_ADDR']
    yield {'NNODES': '2', 'NODE_RANK': '2', **NEAR}, ['NODE_RANK', "'2'", 'from 0 to 1']
    yield {'NODE_RANK': '1'}, ['NODE_RANK', "'1'"]
    yield {'NNODES': '2', 'RANK_SIZE': '9', **NEAR}, ['RANK_SIZE is 9', 'NNODES, 2']
    yield {'MASTER_PORT': '99999'}, ['MASTER_PORT', '99999']


def test_a_wrong_place_is_told_before_a_file_is_touched(folder, few_digits, tmp_path):
    """And what stands in a variable is never run."""
    marker, out = tmp_path / 'run', tmp_path / 'out'
    for env, words in wrong(marker):
        result = run(folder / 'test' / 'train_full_8p.sh', f'--data_path={few_digits}', *TRAIN, out=out, **env)
        explains(result, *words)
        assert len(result.lines) == 1 and not out.exists() and not marker.exists(), (env, result.text)


class Machines:
    """Starts machines of one training. -> each one's exit status and text, by `ended`"""

    def __init__(self, out):
        self.out, self.processes = out, []
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            self.port = str(free.getsockname()[1])

    def start(self, folder, data, *words, rank, nodes=2):
        env = {**NEAR, 'NNODES': str(nodes), 'NODE_RANK': str(rank), 'MASTER_PORT': self.port, 'OMP_NUM_THREADS': '1'}
        out = f'--output_dir={self.out / str(len(self.processes))}'
        words = [f'--data_path={data}', *TRAIN, *words, out]
        self.processes.append(start(folder / 'test' / 'train_full_1p.sh', *words, **env))

    def ended(self):
        try:
            return [(process.communicate(timeout=120)[0], process.returncode) for process in self.processes]
        finally:
            for process in self.processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def refused(self, *words):
        for text, code in self.ended():
            last = text.splitlines()[-1]
            assert code == 1 and last.startswith('[Error] ') and all(word in last for word in words), text
            assert 'Traceback' not in text, text


@pytest.fixture
def machines(tmp_path):
    return Machines(tmp_path)


def test_two_machines_train_together(folder, few_digits, machines):
    """They may have the data, the output and the workers that each has."""
    machines.start(folder, few_digits, rank=0)
    elsewhere = machines.out / 'elsewhere'
    elsewhere.symlink_to(few_digits)
    machines.start(folder, elsewhere, '--workers=1', rank=1)
    (text, code), (other, other_code) = machines.ended()
    assert (code, other_code) == (0, 0) and '2 x cpu' in text, text + other


def test_a_machine_that_is_missing(folder, few_digits, machines):
    """The first one names it; one that finds no first one says so."""
    machines.start(folder, few_digits, '--timeout=3', rank=0)
    (text, code) = machines.ended()[0]
    assert code == 1 and 'NODE_RANK=1' in text.splitlines()[-1] and '--timeout' in text.splitlines()[-1], text
    assert 'Status = FAILED' in next((machines.out / '0').glob('*_acc.log')).read_text()
    machines.processes.clear()
    machines.start(folder, few_digits, '--timeout=3', rank=1)
    machines.refused('NODE_RANK=0', '127.0.0.1', '--timeout')


@pytest.mark.parametrize('rank', [0, 1])
def test_two_machines_in_one_place(folder, few_digits, machines, rank):
    if rank:
        machines.start(folder, few_digits, rank=0, nodes=3)
    for _ in range(2):
        machines.start(folder, few_digits, rank=rank, nodes=3)
    machines.refused(f'two machines have NODE_RANK={rank}')


def nothing(folder, data):
    return folder


def fewer_images(folder, data):
    next((data / 'val' / '3').iterdir()).unlink()
    return folder


def other_code(folder, data):
    copy = copy_alone(folder.name, data.parent / 'other', top=folder.parent)
    with open(copy / 'npu_patch.py', 'a') as f:
        f.write('# changed\n')
    return copy


@pytest.mark.parametrize('change, words, told', [
    (nothing, ['--max-steps=3', '--seed=7', '--dist-backend=mpi'], ['--max-steps 3', 'has 2', '--seed 7', 'has 42', 'mpi']),
    (fewer_images, [], ['val/', '92 images', '93 images']),
    (other_code, [], ['npu_patch.py']),
], ids=['options', 'data', 'code'])  # fmt: skip
def test_two_machines_that_would_not_train_the_same(folder, few_digits, data, machines, change, words, told):
    machines.start(change(folder, data), data, *words, rank=1)
    machines.start(folder, few_digits, rank=0)
    machines.refused('rank 1', 'rank 0', *told)


def test_a_line_says_who_is_waited_for(folder, few_digits, tmp_path):
    """Every half minute; here the clock of the meeting is faster."""
    quick = copy_alone(folder.name, tmp_path / 'quick', top=folder.parent)
    meeting = quick / 'common' / 'meeting.py'
    meeting.write_text(meeting.read_text().replace('SAY_EVERY = 30', 'SAY_EVERY = 1'))
    machines = Machines(tmp_path)
    machines.start(quick, few_digits, '--timeout=0', rank=0)
    log = tmp_path / '0' / 'train_0.log'
    end = time.monotonic() + 100
    while time.monotonic() < end and (not log.exists() or log.read_text().count('NODE_RANK=1') < 3):
        time.sleep(0.1)
    machines.start(quick, few_digits, '--timeout=0', rank=1)
    assert [code for _, code in machines.ended()] == [0, 0], log.read_text()
    assert log.read_text().count('for rank 1 (NODE_RANK=1)') >= 3
    shutil.rmtree(quick)
