"""What a training step asks of an NPU, beside the same recipe written from timm's parts: launches of kernels, copies, waits of the host.

    python ci/bench.py npu                          the table: each folder's small model, in three precisions
    python ci/bench.py npu --write                  also stores the counts in ci/benches/npu.json, which a test compares
    python ci/bench.py npu --folders VAN --launches   the operators of those folders, the most frequent first

Counted on the vendor's torch_npu over the simulated CANN of tests/cannsim, so exact, and without a card; it says nothing of
time. Counted are ten steps after six, of the recipe with its augmentation, at 32 pixels; a printed line waits for the device,
and no line is printed among them.
"""

import argparse
import collections
import contextlib
import ctypes
import itertools
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / 'tests'))

import helpers  # noqa: E402

STORED = Path(__file__).with_suffix('.json')
PRECISIONS = {'float32': ['--no-amp'], 'float16': ['--amp-dtype=float16'], 'bfloat16': ['--amp-dtype=bfloat16']}
FIRST, STEPS = 6, 10
SMALL = (
    '--device=npu --img-size=32 --batch-size=8 --epochs=1 --eval-steps=1 --workers=0 --print-freq=1000 --seed=1'.split()
)


# ---- in a process of the simulated host, whose working folder is a folder of the collection


class Counter:
    """Is told of each step that is done, and writes the counts of the steps FIRST to FIRST + STEPS."""

    def __init__(self, path):
        self.runtime, self.path, self.done = ctypes.CDLL('libascendcl.so'), os.fsencode(path), 0

    def step(self):
        import torch

        self.done += 1
        if self.done in (FIRST, FIRST + STEPS):  # what is queued is launched by a thread of torch_npu
            torch.npu.synchronize()
            if self.done == FIRST:
                self.runtime.cannsim_counts_reset()
            else:
                self.runtime.cannsim_counts_write(self.path)


def ours(counter):
    """Runs the folder's train.py."""
    from common.throughput import StepClock

    plain = StepClock.step

    def step(clock, *words):
        plain(clock, *words)
        counter.step()

    StepClock.step = step
    runpy.run_path('train.py', run_name='__main__')


def rival(counter):
    """The recipe as one would write it from timm's parts, in the manner of timm's own train.py."""
    import torch
    import torch_npu  # noqa: F401
    from timm.utils import ModelEmaV2, NativeScaler, dispatch_clip_grad, random_seed

    from common import options
    from train import HOOKS, RECIPE

    args = options.parse('', RECIPE, hooks=HOOKS)
    device, half = torch.device('npu:0'), None if args.amp is False else getattr(torch, args.amp_dtype)
    random_seed(args.seed)
    batches, mixup, criterion = rival_data(args, device)
    wanted = {'num_classes': 10, 'img_size': args.img_size, 'drop_path': args.drop_path, **HOOKS.model_options(args)}
    model = HOOKS.create_model(args.model, **wanted).to(device).train()
    optimizer = rival_optimizer(args, model)
    average = ModelEmaV2(model, decay=args.model_ema_decay) if args.model_ema else None
    scaler = NativeScaler(device='npu') if half is torch.float16 else None
    for images, targets in itertools.islice(itertools.chain.from_iterable(itertools.repeat(batches)), FIRST + STEPS):
        if mixup is not None:
            images, targets = mixup(images, targets)
        with torch.autocast('npu', dtype=half) if half else contextlib.nullcontext():
            loss = criterion(model(images), targets)
        optimizer.zero_grad()
        if scaler is not None:
            scaler(loss, optimizer, args.clip_grad, args.clip_mode, model.parameters())
        else:
            loss.backward()
            if args.clip_grad:
                dispatch_clip_grad(model.parameters(), args.clip_grad, args.clip_mode)
            optimizer.step()
        if average is not None:
            average.update(model)
        counter.step()


def rival_data(args, device):
    """-> (batches, mixup or None, loss)"""
    from timm.data import ImageDataset, Mixup, create_loader
    from timm.loss import SoftTargetCrossEntropy
    from torch import nn

    batches = create_loader(
        ImageDataset(os.path.join(args.data_path, 'train')),
        (3, args.img_size, args.img_size),
        args.batch_size,
        is_training=True,
        re_prob=args.reprob,
        re_mode=args.remode,
        re_count=args.recount,
        color_jitter=args.color_jitter,
        auto_augment=args.aa,
        interpolation=args.train_interpolation,
        mean=args.mean,
        std=args.std,
        num_workers=0,
        persistent_workers=False,
        pin_memory=True,
        device=device,
    )
    if not (args.mixup or args.cutmix):
        return batches, None, nn.CrossEntropyLoss()
    mixup = Mixup(args.mixup, args.cutmix, label_smoothing=args.smoothing, num_classes=10)
    return batches, mixup, SoftTargetCrossEntropy()


def rival_optimizer(args, model):
    from timm.optim import create_optimizer_v2

    more = {} if args.opt_eps is None else {'eps': args.opt_eps}
    return create_optimizer_v2(model, args.opt, lr=1e-4, weight_decay=args.weight_decay, momentum=args.momentum, **more)


def count_here(who, path):
    sys.path.insert(0, os.getcwd())  # the folder
    {'ours': ours, 'rival': rival}[who](Counter(path))


# ---- in the process of the bench


def measure(who, folder, precision, data, environment, also=()):
    """who: ours or rival; also: further options. -> what one step asks for on average: {'launches': {operator: n}, 'copies': {direction: n}, 'bytes':
    {direction: n}, 'waits': n}"""
    with tempfile.TemporaryDirectory() as out:
        path = os.path.join(out, 'counts.json')
        words = ['--data-path', str(data), '--model', helpers.describe(folder)['model'], *SMALL, f'--output-dir={out}']
        words += [f'--max-steps={FIRST + STEPS}', *PRECISIONS[precision], *also]
        env = helpers.environment(**environment)
        command = [sys.executable, __file__, '--here', who, path, *words]
        done = subprocess.run(command, cwd=TOP / folder, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f'[Error] {folder} in {precision} did not train: {(done.stdout + done.stderr).strip()[-600:]}')
        found = json.loads(Path(path).read_text())
    asked = found['synchronisations']
    waits = (
        asked['stream'] + asked['device'] + asked['event'] - 1
    )  # a copy that waits asks for its stream too; 1: ours, here
    return {
        'launches': {name: n / STEPS for name, n in sorted(found['launches'].items())},
        'copies': {way: each['count'] / STEPS for way, each in found['copies'].items()},
        'bytes': {way: each['bytes'] / STEPS for way, each in found['copies'].items()},
        'waits': waits / STEPS,
    }


def launches(found):
    return sum(found['launches'].values())


def ratios(stored):
    """-> {precision: {folder: our launches as a part of the rival's}} of those that were counted"""
    parts = collections.defaultdict(dict)
    for key, found in stored.items():
        folder, precision = key.split()
        parts[precision][folder] = launches(found['ours']) / launches(found['rival'])
    return parts


def row(folder, precision, found):
    one, other = found['ours'], found['rival']
    cells = [folder.replace('_for_PyTorch', ''), precision]
    cells += [f'{launches(one):.0f}', f'{launches(other):.0f}', f'{launches(one) / launches(other):.2f}']
    for each in one, other:
        copies, size = each['copies'], each['bytes']
        cells.append(f'{copies["h2d"]:.1f} ({size["h2d"] / 1024:.0f} KiB), {copies["d2h"]:.1f}, {copies["d2d"]:.1f}')
    cells += [f'{one["waits"]:.1f}, {other["waits"]:.1f}']
    return '| ' + ' | '.join(cells) + ' |'


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--folders', nargs='+', metavar='WORD', help='those whose name contains one of these')
    parser.add_argument('--precisions', nargs='+', choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument(
        '--launches', action='store_true', help='also our operators, and how many of them the rival has'
    )
    parser.add_argument('--write', action='store_true', help=f'store the counts in {STORED.relative_to(TOP)}')
    parser.add_argument(
        '--also', nargs='+', default=[], metavar='WORD', help='further options of train.py (--also=--opt=lamb)'
    )
    args = parser.parse_args()
    environment = helpers.simulated()
    folders = [name for name in helpers.FOLDERS if not args.folders or any(word in name for word in args.folders)]
    counted = {}
    with tempfile.TemporaryDirectory() as place:
        data = helpers.make_digits(Path(place) / 'digits')
        print(
            '| folder | precision | launches | rival | ratio | copies to the card, from it, on it | rival | waits, rival |'
        )
        print('|---|---|---|---|---|---|---|---|')
        for folder, precision in itertools.product(folders, args.precisions):
            found = {who: measure(who, folder, precision, data, environment, args.also) for who in ('ours', 'rival')}
            counted[f'{folder} {precision}'] = found
            print(row(folder, precision, found), flush=True)
            names = {name for each in found.values() for name in each['launches']} if args.launches else ()
            for name in sorted(names, key=lambda name: -found['ours']['launches'].get(name, 0)):
                print('{:10.1f} {:10.1f} {}'.format(*(each['launches'].get(name, 0) for each in found.values()), name))
    for precision, parts in ratios(counted).items():
        mean = statistics.geometric_mean(parts.values())
        print(f'{precision}: {mean:.2f} of the launches of the rival (geometric mean of {len(parts)} folders)')
    if args.write:
        stored = json.loads(STORED.read_text()) if STORED.is_file() else {}
        STORED.write_text(json.dumps({**stored, **counted}, indent=1, sort_keys=True) + '\n')


if __name__ == '__main__':
    who, path = sys.argv[2:4]
    sys.argv = ['train.py', *sys.argv[4:]]
    count_here(who, path)
