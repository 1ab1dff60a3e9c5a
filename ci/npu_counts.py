#!/usr/bin/env python3
"""What a training step asks of an NPU: launches of kernels, copies, waits of the host. Counted on the vendor's torch_npu over the
simulated CANN of tests/cannsim, so exact, and without a card; it says nothing of time.

    python ci/npu_counts.py                         the table: each folder's small model, in three precisions
    python ci/npu_counts.py --write                 also stores the counts in ci/npu_counts.json, which a test compares
    python ci/npu_counts.py --folders VAN --launches  the operators of those folders, the most frequent first

Counted are ten steps after six, of the recipe with its augmentation, at 32 pixels; a printed line waits for the device, and no
line is printed among them.
"""

import argparse
import collections
import ctypes
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / 'tests'))

import helpers  # noqa: E402

STORED = TOP / 'ci' / 'npu_counts.json'
PRECISIONS = {'float32': ['--no-amp'], 'float16': ['--amp-dtype=float16'], 'bfloat16': ['--amp-dtype=bfloat16']}
FIRST, STEPS = 6, 10
SMALL = (
    '--device=npu --img-size=32 --batch-size=8 --epochs=1 --eval-steps=1 --workers=0 --print-freq=1000 --seed=1'.split()
)


def count_here(path):
    """In a process of the simulated host: runs train.py, and writes the counts of its steps FIRST to FIRST + STEPS."""
    sys.path.insert(0, os.getcwd())  # the folder
    import torch

    from common.throughput import StepClock

    plain, runtime, done = StepClock.step, ctypes.CDLL('libascendcl.so'), [0]

    def step(clock, *words):
        plain(clock, *words)
        done[0] += 1
        if done[0] in (FIRST, FIRST + STEPS):  # what is queued is launched by a thread of torch_npu
            torch.npu.synchronize()
            if done[0] == FIRST:
                runtime.cannsim_counts_reset()
            else:
                runtime.cannsim_counts_write(os.fsencode(path))

    StepClock.step = step
    sys.argv = ['train.py', *sys.argv[3:]]
    runpy.run_path('train.py', run_name='__main__')


def measure(folder, precision, data, environment):
    """-> {'launches': {operator: n}, 'copies': {direction: n}, 'bytes': {direction: n}, 'waits': n}, each of one step on average"""
    with tempfile.TemporaryDirectory() as out:
        path = os.path.join(out, 'counts.json')
        words = ['--data-path', str(data), '--model', helpers.describe(folder)['model'], *SMALL, f'--output-dir={out}']
        words += [f'--max-steps={FIRST + STEPS}', *PRECISIONS[precision]]
        env = helpers.environment(**environment)
        command = [sys.executable, __file__, '--here', path, *words]
        done = subprocess.run(command, cwd=TOP / folder, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f'[Error] {folder} in {precision} did not train: {(done.stdout + done.stderr).strip()[-600:]}')
        found = json.loads(Path(path).read_text())
    waits = sum(found['synchronisations'].values()) - 1  # the last one is the count's own
    return {
        'launches': {name: n / STEPS for name, n in sorted(found['launches'].items())},
        'copies': {way: each['count'] / STEPS for way, each in found['copies'].items()},
        'bytes': {way: each['bytes'] / STEPS for way, each in found['copies'].items()},
        'waits': waits / STEPS,
    }


def row(folder, precision, found):
    launches, copies, size = sum(found['launches'].values()), found['copies'], found['bytes']
    moved = f'{copies["h2d"]:.1f} ({size["h2d"] / 1024:.0f} KiB) | {copies["d2h"]:.1f} | {copies["d2d"]:.1f}'
    return f'| {folder.replace("_for_PyTorch", "")} | {precision} | {launches:.1f} | {moved} | {found["waits"]:.1f} |'


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--folders', nargs='+', metavar='WORD', help='those whose name contains one of these')
    parser.add_argument('--launches', action='store_true', help='also the operators')
    parser.add_argument('--write', action='store_true', help=f'store the counts in {STORED.relative_to(TOP)}')
    args = parser.parse_args()
    environment = helpers.simulated()
    stored = json.loads(STORED.read_text()) if STORED.is_file() else {}
    folders = [name for name in helpers.FOLDERS if not args.folders or any(word in name for word in args.folders)]
    with tempfile.TemporaryDirectory() as place:
        data = helpers.make_digits(Path(place) / 'digits')
        print('| folder | precision | launches | copies to the card | from it | on it | waits of the host |')
        print('|---|---|---|---|---|---|---|')
        for folder in folders:
            for precision in PRECISIONS:
                found = stored[f'{folder} {precision}'] = measure(folder, precision, data, environment)
                print(row(folder, precision, found), flush=True)
                for name, n in collections.Counter(found['launches']).most_common(None if args.launches else 0):
                    print(f'{n:10.1f} {name}')
    if args.write:
        STORED.write_text(json.dumps(stored, indent=1, sort_keys=True) + '\n')


if __name__ == '__main__':
    if sys.argv[1:2] == ['--here']:
        count_here(sys.argv[2])
    else:
        main()
