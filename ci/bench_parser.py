#!/usr/bin/env python3
"""How fast the log parser reads, per format: MB per second of processor time (one core) and peak memory, over logs made here of lines that all count.

    python ci/bench_parser.py [--mb 200] [--formats timm deit ...]

Each log is a long run in the form of tests/data/logs (training lines with steps that go on; evaluations between the epochs), and
is parsed in a process of its own. `ranks`: the same lines printed by two ranks. `noise`: lines that say nothing.
"""
import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LOGS = TOP / 'tests' / 'data' / 'logs'
FORMATS = {'convmixer': 'convmixer.log', 'timm': 'timm.log', 'spach': 'spach.log', 'vit': 'vit.log', 'twins': 'twins.log', 'deit': 'deit.log',
           'van': 'van.log', 'imagenet': 'imagenet.log', 'torchvision': 'torchvision.log', 'ours': 'ours.log', 'metrics': 'metrics.jsonl',
           'mlperf': 'mlperf.log', 'ranks': 'timm.log', 'noise': None}


def long_log(name, path, size):
    """A log of `size` bytes; its epochs count up, and each has 1251 steps of which every one is printed."""
    if FORMATS[name] is None:
        lines = [b'2023-01-01 10:00:00 WARNING: some library has something to say, at some length, about a deprecated function\n'] * 10000
        with open(path, 'wb') as f:
            while f.tell() < size:
                f.writelines(lines)
        return
    lines = [line + b'\n' for line in (LOGS / FORMATS[name]).read_bytes().splitlines()]
    train = [line for line in lines if re.search(rb'Train: 1 \[|Epoch: \[1\].*eta|Epoch: \[1\]\[|"train".*"epoch": 1', line)]
    after = lines[lines.index(train[-1]) + 1:] if train else [line for line in lines if b'_start"' not in line]
    after = after[:next((i for i, line in enumerate(after) if re.search(rb'Train: 2 \[|\[2\]|"epoch": 2', line)), len(after))]
    with open(path, 'wb') as f:
        epoch = 0
        while f.tell() < size:
            f.writelines(lines[:4] if not train and not epoch else [])
            for step in range(1, 1252 if train else 0):
                line = re.sub(rb'(Train: |Epoch: \[|"epoch": )1', b'\\g<1>%d' % epoch, train[step % len(train)], 1)
                line = re.sub(rb'\[ *\d+/ *100', b'[%4d/1251' % step, line, 1)
                line = re.sub(rb'"step": \d+, "steps": 100', b'"step": %d, "steps": 1251' % step, line, 1)
                f.write(line * 2 if name == 'ranks' else line)
            f.writelines(after)
            epoch += 1


def child(path):
    sys.path.insert(0, str(TOP))
    from common import log_parser
    began = time.process_time()
    found = log_parser.parse(path).summary()
    print(json.dumps({'seconds': time.process_time() - began, 'rss': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                      'format': found['format'], 'lines': found['logged_steps'], 'runs': found['runs'], 'problems': len(found['problems'])}))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--mb', type=int, default=200, help='size of each log')
    parser.add_argument('--formats', nargs='+', choices=sorted(FORMATS), default=list(FORMATS))
    parser.add_argument('--child', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        return child(args.child)
    print('%-12s %8s %10s   %s' % ('format', 'MB/s', 'peak MB', 'read as, training lines, runs, problems'))
    for name in args.formats:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'log'
            long_log(name, path, args.mb * 10 ** 6)
            size = path.stat().st_size
            done = subprocess.run([sys.executable, __file__, '--child', str(path)], stdout=subprocess.PIPE, check=True)
            found = json.loads(done.stdout)
        print('%-12s %8.1f %10.0f   %s, %s, %d, %d' % (name, size / 1e6 / found['seconds'], found['rss'], found['format'], found['lines'],
                                                     found['runs'], found['problems']), flush=True)


if __name__ == '__main__':
    sys.exit(main())
