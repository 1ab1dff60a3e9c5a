"""From the command to the first step: seconds of wall time, in turn with another way to start the same.

    python ci/bench.py start [--ranks 8] [--pairs 5] [--against CHECKOUT]

train_performance of the VAN folder with its small model, to the first line of a step. Eight ranks: beside torchrun, which starts each
rank anew. One process: beside `python train.py` without the script. --against: also beside another checkout of this collection. Then
what a user waits for `train.py --help` and for a mistyped option.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benches import in_turn, said

TOP = Path(__file__).resolve().parent.parent.parent
FOLDER = 'VAN-Classification_for_PyTorch'
SMALL = '--model=van_b0 --img-size=32 --device=cpu --workers=0 --batch-size=2 --epochs=1 --max-steps=2 --print-freq=1'.split()


def first_step(command, where, out):
    """Runs the command until it prints a step, then ends it. -> seconds"""
    env = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'PASSIVE'}
    began = time.perf_counter()
    streams = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
    process = subprocess.Popen([*command, f'--output-dir={out}'], cwd=where, env=env, start_new_session=True, **streams)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith('Train:'):
            break
    else:
        raise SystemExit(f'[Error] {" ".join(command)} printed no step:\n{"".join(lines)}')
    seconds = time.perf_counter() - began
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    shutil.rmtree(out, ignore_errors=True)
    return seconds


def whole(command, where):
    began = time.perf_counter()
    subprocess.run(command, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--ranks', type=int, default=8)
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('--against', type=Path, help='the top of another checkout')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data, out = Path(place) / 'digits', Path(place) / 'out'
        make = [sys.executable, str(TOP / 'ci' / 'make_dataset.py'), 'digits', str(data), '--size', '32']
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        options = [f'--data-path={data}', *SMALL]

        def script(top, ranks):
            name = f'train_performance_{"1p" if ranks == 1 else "8p"}.sh'
            more = [] if ranks == 1 else [f'--nproc_per_node={ranks}']
            command = ['bash', f'test/{name}', *options, *more]
            return lambda: timed(first_step(command, top / FOLDER, out))

        seconds = []

        def timed(value):
            seconds.append(value)
            return value

        torchrun = [sys.executable, '-m', 'torch.distributed.run', f'--nproc_per_node={args.ranks}', 'train.py']
        rivals = {
            'one process': (1, [sys.executable, 'train.py'], 'python train.py'),
            f'{args.ranks} ranks': (args.ranks, torchrun, 'torchrun'),
        }
        print('what                 seconds   times as fast as')
        for what, (ranks, command, name) in rivals.items():
            plain = [*command, '--case=performance', *options]
            seconds.clear()
            ratios = in_turn(script(TOP, ranks), lambda plain=plain: first_step(plain, TOP / FOLDER, out), args.pairs)
            print(f'{what:<20} {statistics.median(seconds):>7.1f}   {name}: {said(ratios)}', flush=True)
            if args.against:
                ratios = in_turn(script(TOP, ranks), script(args.against.resolve(), ranks), args.pairs)
                print(f'{"":<28}   {args.against}: {said(ratios)}', flush=True)
    for what, word in (('--help', '--help'), ('a mistyped option', '--epoch-s=3')):
        took = [whole([sys.executable, 'train.py', word], TOP / FOLDER) for _ in range(args.pairs)]
        print(f'{what:<20} {statistics.median(took):>7.2f}')
    return 0
