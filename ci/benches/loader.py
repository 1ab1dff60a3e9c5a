"""How many images a second one core reads for a training, beside timm's loader and torchvision's transforms (v2).

    python ci/bench.py loader [--pairs 5] [--only crop]

A loader is whole: one DataLoader worker and the process that takes its batches of 64, on one core; its images are uint8, as timm's
are before they go to the device. A figure is how many times faster ours is, in processor time of the two processes, each pair in turn
on the same images: real photographs of quality 95, 500 x 375 and 1500 x 1000 (enlarged), and with grain, 500 x 375 and about 110 kB, as
make_dataset.py's imagenet-like: the more bytes, the more of the time goes into what all decoders do alike.
The rows of a recipe have the same crop, flip and RandAugment (torchvision's own has other strengths) on both sides.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from timm.data import create_dataset, create_loader
from torchvision.datasets import ImageFolder
from torchvision.io import decode_image
from torchvision.transforms import InterpolationMode, v2

import make_dataset
from benches import in_turn, said
from common import accelerator, data, images, jpeg, options
from common.distributed import Ranks

BATCH, SIDE, RAND = 64, 224, 'rand-m9-mstd0.5-inc1'
# row: images, auto-augment, interpolation
ROWS = {
    'crop': ('500 x 375', None, 'bicubic'),
    'grain': ('with grain', None, 'bicubic'),
    'SPACH': ('500 x 375', RAND, 'bicubic'),
    'VAN': ('500 x 375', RAND, 'random'),
    'large': ('1500 x 1000', None, 'bicubic'),
}


def grained(root, classes, per_class):
    """500 x 375 or upright, about 110 kB."""
    words = ['imagenet-like', str(root), f'--classes={classes}', f'--per-class={per_class}', '--val-per-class=1']
    with contextlib.redirect_stdout(sys.stderr):
        make_dataset.main(words)


def smooth(root, classes, per_class, width, height):
    """As much of each photograph as has this shape, or a part of it, upside down and mirrored too; quality 95."""
    turns = (None, Image.FLIP_LEFT_RIGHT, Image.FLIP_TOP_BOTTOM, Image.ROTATE_180)
    for number in range(classes):
        photo = make_dataset.photograph(make_dataset.PHOTOS[number % len(make_dataset.PHOTOS)])
        most = min(photo.width / width, photo.height / height)
        for k in range(per_class):
            scale = most * (1 - 0.3 * k / per_class)
            part = photo.resize((width, height), Image.BICUBIC, box=(0, 0, scale * width, scale * height))
            part = part if turns[k % 4] is None else part.transpose(turns[k % 4])
            make_dataset.write_jpeg(root / 'train' / str(number) / f'{k}.jpg', part)


# ---- loaders, each a DataLoader of uint8 batches


def ours(root, aa, interpolation, decoder):
    words = [
        '--data-path',
        str(root),
        f'--batch-size={BATCH}',
        '--workers=1',
        f'--aa={aa or "none"}',
        '--color-jitter=0',
    ]
    words += [f'--train-interpolation={interpolation}', f'--decoder={decoder}']
    device, ranks = accelerator.Accelerator(), Ranks(environ={})
    args = options.resolve(options.parse('', {'img_size': SIDE}, words), None, None, device, ranks)
    read = images.Reader(data.transform_of(args, training=True), args.decoder)
    dataset = data.Images(*data.listed(str(root / 'train')), read, seed=0)
    return data.make_loader(dataset, data.TrainBatchSampler(len(dataset), BATCH, ranks, 0), args, device)


def timms(root, aa, interpolation):
    dataset = create_dataset('', root=str(root / 'train'), split='train')
    recipe = {'interpolation': interpolation, 'auto_augment': aa, 'color_jitter': 0.0}
    made = create_loader(dataset, (3, SIDE, SIDE), BATCH, True, num_workers=1, device=torch.device('cpu'), **recipe)
    return made.loader  # before its conversion to float, which is the device's work


def torchvisions(root, aa, interpolation):
    """Tensors from the decoder on, as its documentation advises for speed."""
    mode = InterpolationMode.BILINEAR if interpolation == 'random' else InterpolationMode(interpolation)
    steps = [v2.RandomResizedCrop(SIDE, interpolation=mode, antialias=True), v2.RandomHorizontalFlip()]
    steps += [v2.RandAugment(interpolation=InterpolationMode.BILINEAR)] if aa else []  # its only one for tensors
    dataset = ImageFolder(root / 'train', v2.Compose(steps), loader=decode_image)
    workers = {'num_workers': 1, 'persistent_workers': True}
    return torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True, **workers)


# ---- timing


def processor_seconds():
    """-> of this process and its children so far, as the system counts them (10 ms)"""
    total = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f'/proc/{child.pid}/stat').read_text().rpartition(')')[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
    return total


class Epochs:
    """() -> the processor seconds an image that an epoch of the loader takes; seconds: of all that were taken."""

    def __init__(self, loader):
        self.loader, self.seconds = loader, []
        self()  # starts the worker
        self.seconds.clear()

    def __call__(self):
        began, count = processor_seconds(), 0
        for batch in self.loader:
            count += len(batch[1])
        self.seconds.append((processor_seconds() - began) / count)
        return self.seconds[-1]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--pairs', type=int, default=5, help='pairs of an epoch each')
    parser.add_argument('--only', nargs='+', choices=sorted(ROWS), default=list(ROWS), help='these rows')
    args = parser.parse_args(argv)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    print(f'{"row":<6} {"images":<12} {"decoder":<12} {"images/s":>8}   {"timm":<22} {"torchvision v2":<22}')
    with tempfile.TemporaryDirectory() as folder:
        roots = {size: Path(folder, size) for size in ('500 x 375', 'with grain', '1500 x 1000')}
        smooth(roots['500 x 375'], 12, 48, 500, 375)
        grained(roots['with grain'], 12, 48)
        smooth(roots['1500 x 1000'], 12, 16, 1500, 1000)
        for row in args.only:
            size, aa, interpolation = ROWS[row]
            rivals = [Epochs(make(roots[size], aa, interpolation)) for make in (timms, torchvisions)]
            for decoder in dict.fromkeys((jpeg.chosen('auto'), 'pillow')):
                mine = Epochs(ours(roots[size], aa, interpolation, decoder))
                ratios = [said(in_turn(mine, rival, args.pairs)) for rival in rivals]
                speed = 1 / statistics.median(mine.seconds)
                print(f'{row:<6} {size:<12} {decoder:<12} {speed:>8.0f}   {ratios[0]:<22} {ratios[1]:<22}', flush=True)


if __name__ == '__main__':
    sys.exit(main())
