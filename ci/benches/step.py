"""A training step on this CPU: our default settings, beside the plain step that people write from timm's or upstream's parts.

    python ci/bench.py step [--folders VAN ...] [--batch 16] [--pairs 5]

Ours is the loop of common/engine.py with what train.py makes of the options. The rival is the same model, timm's own where timm has it,
with timm's AdamW, in float32, images in NCHW. Both train on the same images, which lie ready, each in a process of its own.
--settings: each of them given on the command line, against the default; above 1.05 it would have been the better default. --script: what
is left of the default's speed in train_performance_1p.sh, which reads photographs of ImageNet's size and mixes them; each time
both begin anew, and take the same number of steps.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benches import in_turn, said, timed

TOP = Path(__file__).resolve().parent.parent.parent
# of each folder, the one that its recipe trains, or a smaller one of its family; what timm calls it, None where timm has it not
MODELS = {
    path.parent.name: json.loads(path.read_text())['bench'] for path in sorted(TOP.glob('*_for_PyTorch/folder.json'))
}
SETTINGS = {  # of a CPU
    'float32': '--no-amp',
    'bfloat16': '--amp',
    'NCHW': '--no-channels-last',
    'NHWC': '--channels-last',
    'float32, NHWC': '--no-amp --channels-last',
    'bfloat16, NHWC': '--amp --channels-last',
    'not fused': '--no-fused-optimizer',
}
CLASSES, SIZE = 1000, 224
OF_SCRIPT = (3, 12)  # steps of warm-up and measured ones, where the script stands beside the bare step
RATE = 1e-4  # of both sides: a network that diverges computes with numbers that may take longer
COMMON = f'--img-size={SIZE} --opt=adamw --lr={RATE} --clip-grad=0 --drop-path=0'.split()


class Ready(list):
    """Batches for which nobody waits."""

    def take_waited(self):
        return 0.0


def batch(args, device, channels_last=False):
    """-> the same images and mixed targets each time, on the device, as they come from the transforms"""
    import torch

    torch.manual_seed(0)
    images, targets = torch.randn(args.batch, 3, SIZE, SIZE), torch.rand(args.batch, CLASSES).softmax(1)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images.to(device), targets.to(device)


def ours(model, options, args):
    """-> a function (steps) that gives the seconds of a step, by our loop; what it computes in, in words"""
    from timm.loss import SoftTargetCrossEntropy

    import train
    from common import accelerator, build, engine, precision, throughput
    from common import options as declared
    from common.distributed import Ranks

    words = ['--data-path=.', f'--device={args.device}', f'--model={model}', f'--batch-size={args.batch}', *COMMON]
    made = declared.parse('', train.RECIPE, [*words, *options], train.HOOKS)
    device, ranks, classes = accelerator.choose(args.device), Ranks(environ={}), [str(k) for k in range(CLASSES)]
    declared.resolve(made, None, classes, device, ranks)
    device.set_up()
    net = build.model(made, train.HOOKS, device, ranks, classes, None, lambda line: None)
    optimizer, numbers = build.optimizer(made, net, device), precision.choose(made, device)
    net, optimizer = numbers.prepare(net, optimizer)
    trained = build.network(made, net, numbers, device, ranks)
    one = batch(args, device.device, made.channels_last)

    class Constant:
        def step_update(self, updates):
            pass

    def work(steps):
        engine.train_one_epoch(
            trained, Ready([one] * steps), SoftTargetCrossEntropy(), optimizer, Constant(), precision=numbers, clock=throughput.StepClock(device, 0),
            epoch=0, steps=steps, seed_step=lambda step: None, after_update=lambda step: None, after_step=lambda step, loss: 0,
        )  # fmt: skip

    layout = 'NHWC' if made.channels_last else 'NCHW'
    return (
        lambda steps: timed(lambda: work(steps)) / steps,
        f'{numbers.words}, {layout}. {build.kernels(net, optimizer)}',
    )


def plain(model, theirs, args):
    """-> the same of the ordinary step; on a card in mixed precision, by timm's scaler, as timm's --amp"""
    import timm
    import torch
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.utils import NativeScaler

    import train

    net = (
        timm.create_model(theirs, num_classes=CLASSES)
        if theirs
        else train.HOOKS.create_model(model, num_classes=CLASSES)
    )
    net, criterion, card = net.to(args.device).train(), SoftTargetCrossEntropy(), args.device != 'cpu'
    torch.backends.cudnn.benchmark = True  # as timm's train.py; it means nothing to a CPU
    optimizer, scaler = (
        create_optimizer_v2(net, opt='adamw', lr=RATE, weight_decay=0.05),
        NativeScaler() if card else None,
    )

    images, targets = batch(args, args.device)

    def work(steps):
        for _ in range(steps):
            with torch.autocast(args.device, dtype=torch.float16) if card else contextlib.nullcontext():
                loss = criterion(net(images), targets)
            optimizer.zero_grad()
            if card:
                scaler(loss, optimizer)
            else:
                loss.backward()
                optimizer.step()
        torch.isfinite(loss).item()

    return lambda steps: timed(lambda: work(steps)) / steps


@contextlib.contextmanager
def script(folder, args):
    """Gives a function that gives the seconds of a step of train_performance_1p.sh, by its own FPS."""
    warmup, measured = OF_SCRIPT
    with tempfile.TemporaryDirectory() as place:
        make = [sys.executable, str(TOP / 'ci' / 'make_dataset.py'), 'imagenet-like', f'{place}/data', '--classes=4']
        make += ['--val-per-class=1', f'--per-class={args.batch * (warmup + measured) // 4 + 1}']
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        words = [f'--data-path={place}/data', f'--output-dir={place}/out', f'--model={MODELS[folder][0]}', *COMMON]
        words += ['--no-model-ema', f'--device={args.device}', f'--batch-size={args.batch}']
        command = [
            'bash',
            'test/train_performance_1p.sh',
            *words,
            f'--max-steps={warmup + measured}',
            f'--warmup-steps={warmup}',
        ]
        env = {**os.environ, 'PYTHON': sys.executable}

        def work():
            subprocess.run(command, cwd=TOP / folder, env=env, check=True, stdout=subprocess.DEVNULL)
            return args.batch / json.loads(Path(place, 'out', 'result.json').read_text())['fps']

        yield work


def bare(folder, args):
    """-> the seconds of a step of our loop, in a new process with as many steps as the script's"""
    warmup, measured = OF_SCRIPT
    with Side(folder, args, f'--warmup={warmup}', f'--steps={measured}') as side:
        return side()


def work_of(model, args):
    """-> floating point operations of a step: three times those of the forward pass"""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import train

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        train.HOOKS.create_model(model, num_classes=CLASSES)(torch.zeros(1, 3, SIZE, SIZE))
    return 3 * args.batch * counter.get_total_flops()


def child(args):
    """In the folder, in a process of its own: what the device computes, in words, then the seconds of a step for each line that is read."""
    sys.path.insert(0, os.getcwd())
    model, theirs = MODELS[args.child]
    if args.rival:
        work, words = plain(model, theirs, args), 'plain'
    else:
        work, words = ours(model, args.options.split(), args)
    warm = timed(lambda: work(args.warmup or args.steps))  # what is made once is made now
    print(json.dumps([f'{words} Warm-up: {warm:.1f} s', work_of(model, args)]), flush=True)
    for _ in sys.stdin:
        print(work(args.steps), flush=True)
    return 0


class Side:
    """() -> the seconds of a step, as another process takes them; words: what it computes in; work: operations of a step."""

    def __init__(self, folder, args, *more, optional=False):
        command = [sys.executable, str(TOP / 'ci' / 'bench.py'), 'step', f'--child={folder}', f'--device={args.device}']
        command += [f'--batch={args.batch}', f'--steps={args.steps}', *more]
        # Threads that sleep while they wait are right where processes share cores; alone they slow the plain step to less than half.
        env = {name: value for name, value in os.environ.items() if name != 'OMP_WAIT_POLICY'}
        pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
        self.process = subprocess.Popen(command, cwd=TOP / folder, env=env, **pipes)
        self.words, self.work = json.loads(self.process.stdout.readline() or '["", 0]')
        if not self.words and not optional:
            sys.exit(f'[Error] bench.py: no step of {folder} can be made here; why stands above')

    def __call__(self):
        print(file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()


def table(folder, args, settings):
    """Prints what the folder's steps take. -> the ratio to the plain step"""
    model = MODELS[folder][0]
    with Side(folder, args) as default:
        print(f'{folder}: {model}, {args.batch} images of {SIZE} pixels. Default: {default.words}')
        with Side(folder, args, '--rival') as rival:
            ratios = in_turn(default, rival, args.pairs)
        speed = default.work / min(default() for _ in range(2)) / 1e12
        share = f', {100 * speed / args.peak:.0f} % of the peak' if args.peak else ''
        print(f'  default against the plain step   {said(ratios)}; {speed:.2g} TFLOP/s{share}', flush=True)
        for name, options in settings.items() if args.settings else ():
            with Side(folder, args, f'--options={options}', optional=True) as other:
                if other.words:  # an older torch may have no such setting
                    print(f'  {name:<32} {said(in_turn(other, default, args.pairs))}', flush=True)
    if args.script:
        with script(folder, args) as whole:
            ratios_of_script = in_turn(whole, lambda: bare(folder, args), args.pairs)
            print(f'  train_performance_1p.sh          {said(ratios_of_script)}', flush=True)
    return statistics.median(ratios)


def main(device='cpu', about=__doc__, settings=SETTINGS, batch=16, steps=2):
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--folders', nargs='+', metavar='WORD', default=[''], help='those whose name contains one of these'
    )
    parser.add_argument('--batch', type=int, default=batch)
    parser.add_argument('--steps', type=int, default=steps, help='of one measurement')
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('--settings', action='store_true', help='also each setting against the default')
    parser.add_argument('--script', action='store_true', help='also the script, with its loader, against the default')
    parser.add_argument(
        '--peak', type=float, help="the device's TFLOP/s in the precision of the default, for its share"
    )
    parser.add_argument('--device', default=device, choices=['cpu', 'cuda'])
    for hidden in ('--child', '--options'):
        parser.add_argument(hidden, default='', help=argparse.SUPPRESS)
    parser.add_argument('--warmup', type=int, help=argparse.SUPPRESS)
    parser.add_argument('--rival', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        from common.errors import UserError

        try:
            return child(args)
        except UserError as e:
            return str(e)  # the exit status of it is 1
    medians = [table(name, args, settings) for name in MODELS if any(word in name for word in args.folders)]
    print(f'Geometric mean against the plain step: {statistics.geometric_mean(medians):.2f}')
    return 0
