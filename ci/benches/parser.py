"""How fast the log parser reads, for each format: MB per second of processor time (one core), and peak memory.

    python ci/bench.py parser [--mb 200] [--rounds 3] [--formats timm deit ...]

The figure is the median of the rounds. Beside it stands the median of what this processor did just before each of them:
millions of additions a second in a Python loop, which tells slow hours and machines from slow code.

Each log is a long training in the form of tests/data/logs (training lines whose steps go on, evaluations between the
epochs), made here, and parsed in a process of its own. `ranks`: the same lines printed by two ranks. `stamped`: each
line with the time that Kubernetes writes before it. `noise`: lines that say nothing. log.txt and summary.csv have a
line an epoch, and are a hundredth of the size.
"""

import argparse
import itertools
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
LOGS = TOP / 'tests' / 'data' / 'logs'
FORMATS = 'convmixer timm spach vit twins deit convnext van imagenet imagenet_old swin mlla torchvision ours'.split()
FILES = {
    **{name: f'{name}.log' for name in FORMATS},
    'metrics': 'metrics.jsonl',
    'log.txt': 'log.txt',
    'summary.csv': 'summary.csv',
}
FILES.update(ranks='timm.log', stamped='timm.log', noise=None)
A_LINE_AN_EPOCH = ('log.txt', 'summary.csv')  # whose logs are a hundredth of the size
NOISE = b'2023-01-01 10:00:00 WARNING: some library has something to say, at some length, about a deprecated function\n'
STEPS = 1251  # of an epoch
EPOCH_1 = re.compile(rb'Train: 1 \[|Train: \[1/|Epoch: \[1\].*eta|Epoch: \[1\]\[|"train".*"epoch": 1')
EPOCH_2 = re.compile(rb'Train: 2 \[|Train: \[2/|\[2\]|"epoch": 2')


def long_log(name, path, size):
    """A log of `size` bytes or a little more. Its epochs count up, and every step is printed."""
    with open(path, 'wb') as f:
        while FILES[name] is None and f.tell() < size:
            f.write(NOISE * 10000)
        if FILES[name] is None:
            return
        lines = [line + b'\n' for line in (LOGS / FILES[name]).read_bytes().splitlines()]
        if name in A_LINE_AN_EPOCH:
            f.write(lines[0])
            for k in itertools.count():
                if f.tell() >= size:
                    return
                f.write(
                    re.sub(
                        rb'^1,|"epoch": 1',
                        lambda found, k=k: found.group().replace(b'1', b'%d' % (k % 1000)),
                        lines[-2],
                    )
                )
        train = [line for line in lines if EPOCH_1.search(line)]
        after = lines[lines.index(train[-1]) + 1 :]
        end = next((i for i, line in enumerate(after) if EPOCH_2.search(line)), len(after))
        before = b'2024-05-06T01:02:03.456789012Z stdout F ' if name == 'stamped' else b''
        epoch = 0
        while f.tell() < size:
            for step in range(1, STEPS + 1):
                f.write((before + moved(train[step % len(train)], epoch, step)) * (2 if name == 'ranks' else 1))
            f.writelines(after[:end])
            epoch += 1


def moved(line, epoch, step):
    """A training line of epoch 1 and some step -> the same of another epoch and step."""
    line = re.sub(rb'(Train: \[?|Epoch: \[|"epoch": )1', b'\\g<1>%d' % epoch, line, count=1)
    shown = b'[%d/%d' if b'][' in line and b'eta' in line else b'[%4d/%d'
    line = re.sub(rb'\[ *\d+/ *100', shown % (step, STEPS), line, count=1)
    return re.sub(rb'"step": \d+, "steps": 100', b'"step": %d, "steps": %d' % (step, STEPS), line, count=1)


def additions():
    """-> millions of additions a second, in Python, on this processor and now"""
    began, total = time.process_time(), 0
    for i in range(2 * 10**6):
        total += i
    return 2 / (time.process_time() - began)


def child(path):
    sys.path.insert(0, str(TOP))
    from common import log_parser

    loop, began = additions(), time.process_time()
    found = log_parser.parse(path).summary()
    seconds, memory = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = f'{found["format"]}, {found["logged_steps"]}, {found["runs"]}, {len(found["problems"])}'
    print(json.dumps([seconds, loop, memory, said]))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--mb', type=int, default=200, help='size of each log')
    parser.add_argument('--rounds', type=int, default=3, help='how often each log is read')
    parser.add_argument('--formats', nargs='+', choices=sorted(FILES), default=list(FILES))
    parser.add_argument('--child', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        return child(args.child)
    print(f'{"format":<12} {"MB/s":>8} {"loop":>8} {"peak MB":>8}   read as, training lines, runs, problems')
    for name in args.formats:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'log'
            long_log(name, path, args.mb * 10 ** (4 if name in A_LINE_AN_EPOCH else 6))
            size = path.stat().st_size / 1e6
            command = [sys.executable, __file__, '--child', str(path)]
            rounds = [subprocess.run(command, stdout=subprocess.PIPE, check=True) for _ in range(args.rounds)]
        seconds, loop, memory, (said, *_) = zip(*(json.loads(done.stdout) for done in rounds))
        rate = size / statistics.median(seconds)
        print(f'{name:<12} {rate:>8.1f} {statistics.median(loop):>8.1f} {max(memory):>8.0f}   {said}', flush=True)


if __name__ == '__main__':
    sys.exit(main())
