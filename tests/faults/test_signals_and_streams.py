"""What a script survives: a terminal that leaves, a full disk, a launcher that is killed, signals; and what it refuses."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from helpers import SMALL, environment, explains, fails, in_folder, run, start

TRAIN = [*SMALL, '--batch-size', '8', '--epochs', '1', '--max-steps', '2']
LONG = [*SMALL, '--batch-size', '8', '--epochs', '100']


def children(pid):
    """{id: command line} of all processes below one."""
    found = {}
    for child in (Path(f'/proc/{pid}/task/{pid}/children').read_text()).split():
        try:
            found[int(child)] = Path(f'/proc/{child}/cmdline').read_bytes().replace(b'\0', b' ').decode()
            found.update(children(child))
        except OSError:  # gone meanwhile
            continue
    return found


def is_running(pid):
    """One that has ended may still be listed, where nobody has asked for its status."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def wait_for(condition, process):
    end = time.monotonic() + 120
    while not condition():
        if time.monotonic() > end or process.poll() is not None:
            process.kill()
            pytest.fail(process.communicate()[0])
        time.sleep(0.05)


def holds(path, text):
    return path.exists() and text in path.read_text()


def status(out):
    return next(out.glob('*_acc.log')).read_text()


def test_the_run_goes_on_when_nobody_reads_its_lines(folder, few_digits, tmp_path):
    """`... | head -1`: the log has all of them, and the exit status and the summary are those of the run."""
    script, out = folder / 'test' / 'train_full_1p.sh', tmp_path / 'out'
    pipe = 'bash "$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}'
    command = ['bash', '-c', pipe, 'x', script, f'--data_path={few_digits}', *TRAIN, f'--output_dir={out}']
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done
    assert 'Status = OK' in status(out) and 'Acc@1' in (out / 'train_0.log').read_text()


def test_the_run_goes_on_when_tee_is_killed(folder, few_digits, tmp_path):
    """What comes later is in the log still, whoever writes it."""
    out = tmp_path / 'out'
    words = [f'--data_path={few_digits}', *TRAIN, '--max-steps=10', f'--output_dir={out}']
    process = start(folder / 'test' / 'train_full_1p.sh', *words)
    wait_for(lambda: holds(out / 'train_0.log', 'Train: 0'), process)
    for pid, command in children(process.pid).items():
        if command.startswith('tee '):
            os.kill(pid, signal.SIGKILL)
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and 'Status = OK' in status(out), text
    assert 'Acc@1' in (out / 'train_0.log').read_text()


def test_a_record_that_cannot_be_written_ends_no_training(folder, few_digits, tmp_path):
    """The checkpoint is there; the result says that the numbers are not, and is no success."""
    (tmp_path / 'metrics.jsonl').symlink_to('/dev/full')
    result = run(folder / 'test' / 'train_full_1p.sh', f'--data_path={few_digits}', *TRAIN, out=tmp_path)
    explains(result, 'metrics.jsonl', 'No space left')
    assert (tmp_path / 'checkpoint.pth').is_file() and 'training goes on' in result.text
    assert result.summary['Status'] == 'FAILED' and result.summary['ActualFPS'] == 'N/A'


def test_a_log_that_cannot_be_written_ends_no_training(folder, few_digits, tmp_path):
    """train.py alone, with its lines on a full disk: it ends as it would have."""
    words = ['train.py', f'--data-path={few_digits}', *TRAIN, f'--output-dir={tmp_path}']
    with open('/dev/full', 'w') as full:
        command = [environment()['PYTHON'], *words]
        done = subprocess.run(command, cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 0 and (tmp_path / 'checkpoint.pth').is_file(), done.stderr


def test_without_a_folder_for_temporary_files(folder, few_digits, tmp_path):
    result = run(
        folder / 'test' / 'train_full_1p.sh',
        f'--data_path={few_digits}',
        *TRAIN,
        out=tmp_path / 'out',
        TMPDIR='/nowhere',
    )
    assert result.code == 0 and not list(result.out.glob('.pipe*')), result.text


def test_ranks_end_with_their_launcher(folder, few_digits, tmp_path):
    """It is killed: they save and end."""
    words = [f'--data_path={few_digits}', *LONG, '--nproc_per_node=2', f'--output_dir={tmp_path}']
    process = start(folder / 'test' / 'train_full_8p.sh', *words)
    wait_for(lambda: holds(tmp_path / 'metrics.jsonl', '"step": 2,'), process)
    below = children(process.pid)
    launcher = min(pid for pid, command in below.items() if 'launcher.py' in command and children(pid))
    ranks = list(children(launcher))
    os.kill(launcher, signal.SIGKILL)
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 137 and 'SIGKILL' in text.splitlines()[-1], text
    assert '--resume=' in text.splitlines()[-1] and (tmp_path / 'checkpoint.pth').is_file()
    assert len(ranks) == 2 and not any(is_running(rank) for rank in ranks)


@pytest.mark.parametrize('script', ['train_full_1p.sh', 'train_full_8p.sh'])
def test_asked_to_save_while_it_starts(folder, few_digits, tmp_path, script):
    """SIGUSR1 is no reason to end, whenever it comes; SIGHUP, before there is anything to save, ends with 129. It comes right
    after a SIGUSR1, while the script still sees to that one.
    """
    words = [f'--data_path={few_digits}', *LONG, '--nproc_per_node=2', f'--output_dir={tmp_path}']
    process = start(folder / 'test' / script, *(word for word in words if '8p' in script or 'nproc' not in word))
    wait_for(
        lambda: (tmp_path / 'train_0.log').exists() and any('train.py' in c for c in children(process.pid).values()),
        process,
    )
    for _ in range(20):
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGHUP)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 129 and 'stopped by' in text.splitlines()[-1], text


def limits(files, shared):
    """In a child: -> what limits.check says of a run with 4 workers."""
    import argparse
    import resource
    from types import SimpleNamespace

    from common import limits
    from common.errors import UserError

    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    limits.SHARED_MEMORY = shared
    try:
        limits.check(argparse.Namespace(workers=4, batch_size=2**20, img_size=224), SimpleNamespace(local_world=8))
    except UserError as e:
        return str(e)
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_what_the_workers_need():
    """A soft limit of files is raised; what cannot be had is named."""
    assert 'ulimit -n' in in_folder('VAN-Classification_for_PyTorch', limits, (40, 40), '/nowhere')
    assert in_folder('VAN-Classification_for_PyTorch', limits, (100, 4096), '/nowhere') >= 128
    assert '--shm-size' in in_folder('VAN-Classification_for_PyTorch', limits, (1024, 4096), '/dev/shm')


def test_too_few_files_are_refused_at_once(folder, few_digits, tmp_path):
    few = tmp_path / 'few.sh'
    few.write_text('ulimit -n 40; exec bash "$@"')
    words = [f'--data_path={few_digits}', *TRAIN, '--workers=1', '--nproc_per_node=2']
    result = run(few, folder / 'test' / 'train_full_8p.sh', *words, out=tmp_path / 'out')
    fails(result, 'ulimit -n', '--workers')


def first_failed(codes):
    """In a child: -> the index that the launcher blames, of ranks that end one after the other."""
    from types import SimpleNamespace

    from common import launcher

    return launcher.first_failure([SimpleNamespace(exitcode=code) for code in codes])


@pytest.mark.parametrize(
    'codes, blamed', [((1, -9), 1), ((-6, -9), 1), ((1, -6), 1), ((0, 3), 1), ((0, 0), None), ((-9, -9), 0)]
)
def test_the_rank_that_was_killed_is_blamed(codes, blamed):
    assert in_folder('VAN-Classification_for_PyTorch', first_failed, codes) == blamed
