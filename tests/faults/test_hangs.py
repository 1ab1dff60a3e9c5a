"""A run in which something stands still, or that is told something: it says who waits for what, ends or goes on, and has saved."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from helpers import SMALL, start

WORDS = [word for word in SMALL if word not in ('--workers', '0')]
WORDS += ['--workers=1', '--batch-size=8', '--epochs=200', '--eval-steps=1', '--print-freq=1', '--save-minutes=0']


def children(pid):
    return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def below(pid):
    return [pid, *[found for child in children(pid) for found in below(child)]]


def is_trainer(pid):
    try:
        words = Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
    except OSError:
        return False
    return any(word.endswith(b'/train.py') for word in words)


class Run:
    """A training that has made its first steps. trainers: of its processes those that run train.py, each after its parent."""

    def __init__(self, folder, data, out, ranks, *words):
        script = folder / 'test' / ('train_full_1p.sh' if ranks == 1 else 'train_full_8p.sh')
        several = [] if ranks == 1 else [f'--nproc_per_node={ranks}']
        self.out, self.ranks = out, ranks
        self.process = start(script, f'--data_path={data}', *WORDS, *several, *words, f'--output_dir={out}')
        self.wait_for_step(2)
        self.trainers = [pid for pid in below(self.process.pid) if is_trainer(pid)]

    def wait_for_step(self, step):
        end = time.monotonic() + 120
        while not any(event['event'] == 'train' and event['step'] >= step for event in self.events()):
            assert self.process.poll() is None and time.monotonic() < end, self.process.communicate()[0]
            time.sleep(0.1)

    def events(self):
        path = self.out / 'metrics.jsonl'
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith('\n')]

    def rank(self, number):
        """-> the process of a rank; its parent is the launcher, or the script."""
        if self.ranks == 1:
            return self.trainers[0]
        return [child for child in children(self.trainers[0]) if is_trainer(child)][number]

    def worker(self, number):
        """-> the DataLoader worker of a rank that brings its training images."""
        return children(self.rank(number))[0]

    def made(self):
        """-> (epoch, step) of the last step that the log has."""
        return max((event['epoch'], event['step']) for event in self.events() if event['event'] == 'train')

    def end(self):
        try:
            text = self.process.communicate(timeout=120)[0]
        finally:
            for pid in below(self.process.pid) if self.process.poll() is None else ():
                os.kill(pid, signal.SIGKILL)
        summary = next(self.out.glob('*_acc.log')).read_text()
        return text, re.search('^Reason = (.*)', summary, re.M)[1], self.process.returncode


def place(out):
    """-> (epoch, step) of the newest checkpoint, (0, 0) where there is none."""
    path = out / 'checkpoint.pth'
    if not path.exists():
        return (0, 0)
    saved = torch.load(str(path))
    return saved['epoch'], saved['step']


CASES = [  # ranks, whom of which rank is stopped, --timeout, signal to the script, exit status, in the reason, whether it saves
    (1, 'worker', 0, 4, None, 1, ['rank 0 waits for images', '--timeout', '--resume='], True),
    (1, 'worker', 0, 0, signal.SIGTERM, 143, ['stopped by SIGTERM', '--resume='], True),
    (2, 'worker', 1, 4, None, 1, ['rank 1 waits for images'], True),
    (2, 'rank', 1, 4, None, 1, ['rank 1 does not answer'], True),
    (2, 'rank', 0, 4, None, 1, ['rank 0 does not answer'], False),
    (2, 'rank', 1, 0, signal.SIGINT, 130, ['stopped by SIG', '--resume='], True),
]


@pytest.mark.parametrize('ranks, whom, number, timeout, signum, code, words, saves', CASES)
def test_something_stands_still(folder, few_digits, tmp_path, ranks, whom, number, timeout, signum, code, words, saves):
    training = Run(folder, few_digits, tmp_path, ranks, f'--timeout={timeout}')
    os.kill(getattr(training, whom)(number), signal.SIGSTOP)
    if signum is not None:
        training.process.send_signal(signum)
    text, reason, status = training.end()
    assert status == code and all(word in reason for word in words), text
    assert not saves or place(tmp_path) >= training.made(), text


def test_a_rank_that_is_killed_costs_no_step(folder, few_digits, tmp_path):
    training = Run(folder, few_digits, tmp_path, 2)
    os.kill(training.rank(1), signal.SIGKILL)
    text, reason, status = training.end()
    assert status == 137 and 'rank 1 was killed' in reason and place(tmp_path) >= training.made(), text


@pytest.mark.parametrize('ranks', [1, 2])
def test_signals_of_a_scheduler_and_of_a_terminal(folder, few_digits, tmp_path, ranks):
    """SIGUSR1: it saves and goes on. SIGHUP: it saves and ends."""
    training = Run(folder, few_digits, tmp_path, ranks)
    training.process.send_signal(signal.SIGUSR1)
    end = time.monotonic() + 60
    while place(tmp_path) == (0, 0) and time.monotonic() < end:
        time.sleep(0.2)
    saved = place(tmp_path)
    assert saved > (0, 0)
    while training.made() <= saved and time.monotonic() < end:
        time.sleep(0.1)
    os.killpg(training.process.pid, signal.SIGHUP)
    text, reason, status = training.end()
    assert status == 129 and 'stopped by SIGHUP' in reason and place(tmp_path) > saved, text
