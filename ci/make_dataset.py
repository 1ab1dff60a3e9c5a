#!/usr/bin/env python3
"""Writes a data set as a JPEG ImageFolder (OUT/train/CLASS/*.jpg, OUT/val/CLASS/*.jpg), without a download.

    python ci/make_dataset.py digits OUT --size 64
        Does a model learn? scikit-learn's 1,797 handwritten digits, split by a seed: train 1438, val 359. About 1 s.
        --only 0-4: some of the digits, in the same split.
    python ci/make_dataset.py textures OUT          python ci/make_dataset.py faces OUT
        Does a fine-tuning learn? scikit-image's photographs of brick, grass and gravel, cut into 144 pieces each; its 100
        faces out of Labeled Faces in the Wild, and 100 pieces of photographs that are none.
    python ci/make_dataset.py imagenet-like OUT --classes 10 --per-class 100
        What does reading cost? Crops of real photographs, 500 x 375 and about 110 kB each, as in ImageNet, in classes
        that a model can learn. About 100 images a second and core.

The same command writes the same files, byte for byte with the same numpy and Pillow. OUT appears when it is complete.
"""

import argparse
import functools
import importlib.util
import io
import os
import shlex
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PIP = f'{shlex.quote(sys.executable)} -m pip install'

try:
    import numpy as np
    from PIL import Image
except ImportError as e:
    sys.exit(f'make_dataset.py: error: {e}: {PIP} numpy pillow')

SPLITS = ('train', 'val')
# photographs inside the wheels of scikit-image and scikit-learn; class n is cut from number n modulo 12
PHOTOS = [
    f'skimage/data/{name}.png' for name in 'astronaut chelsea coffee motorcycle_left ihc grass gravel brick'.split()
]
PHOTOS += ['skimage/data/rocket.jpg', 'skimage/data/retina.jpg']
PHOTOS += ['sklearn/datasets/images/china.jpg', 'sklearn/datasets/images/flower.jpg']
PHOTO_BYTES = 110_000  # about ImageNet's average file
GRAIN = 8.0  # deviation of the noise, in levels of 0..255, that brings a resized crop to the file size of a photograph
PIECES = 12  # a texture of 512 x 512 pixels is cut into so many rows and columns
CAST = 24.0  # levels: how far a class's colours are moved from the photograph's, in a direction of its own
SIGNALS = []  # SIGINT or SIGTERM, once it has come; raising in its handler could leave a lock of the threads locked


class Failure(Exception):
    """What ends the command: one sentence with the way out, and the exit status."""


def write_jpeg(path, image):
    """-> the number of bytes. Colour at half the resolution, as cameras write it. Raises Failure after a signal."""
    if SIGNALS:
        name = signal.Signals(SIGNALS[0]).name
        raise Failure(f'stopped by {name}: OUT was not created; run the command again', 128 + SIGNALS[0])
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=95, subsampling='4:2:0')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.tell()


# ---- the kinds; each -> images in train, images in val, number of classes, bytes


def make_digits(root, args):
    try:
        from sklearn.datasets import load_digits
    except ImportError as e:
        raise Failure(f'digits needs scikit-learn ({e}): {PIP} scikit-learn', 1) from e
    digits = load_digits()
    # the values are 0..16: how many of 4 x 4 pixels of the scanned page are dark
    images = [np.rint(image * (255 / 16)).astype(np.uint8) for image in digits.images]
    return write_small(root, args, images, [str(label) for label in digits.target], args.only)


def make_faces(root, args):
    faces = np.load(inside('skimage/data/lfw_subset.npy'))
    images = [np.rint(255 * image).astype(np.uint8) for image in faces]
    return write_small(root, args, images, ['face'] * 100 + ['other'] * 100)


def make_textures(root, args):
    images, labels, side = [], [], 512 // PIECES
    for name in ('brick', 'grass', 'gravel'):
        whole = np.asarray(photograph(f'skimage/data/{name}.png').convert('L'))
        for row, column in np.ndindex(PIECES, PIECES):
            images.append(whole[row * side : (row + 1) * side, column * side : (column + 1) * side])
            labels.append(name)
    return write_small(root, args, images, labels)


def write_small(root, args, images, labels, only=None):
    """images: uint8 (H, W); labels: the class of each; only: the classes that are written."""
    val, counts, size = choose_val(np.array(labels), args.seed), [0, 0], 0
    for index, (image, label) in enumerate(zip(images, labels)):
        if only is None or label in only:
            large = Image.fromarray(image).resize((args.size, args.size), Image.Resampling.BICUBIC).convert('RGB')
            size += write_jpeg(root / SPLITS[index in val] / label / f'{index:04d}.jpg', large)
            counts[index in val] += 1
    return counts[0], counts[1], len(set(labels if only is None else only)), size


def choose_val(labels, seed):
    """-> the set of indices into labels (n,) that are val: a fifth of each class, chosen by the seed.

    Of the digits 359, no multiple of 8: a val set that 8 ranks share evenly would hide a sampler that counts images twice.
    """
    rng = np.random.RandomState(seed)  # its streams are frozen: the split outlives versions of numpy
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in sorted(set(labels))]
    return {int(index) for indices in members for index in indices[: round(0.2 * len(indices))]}


def make_imagenet_like(root, args):
    sizes = (args.per_class, args.val_per_class)
    tasks = [
        (number, split, index) for number in range(args.classes) for split in (0, 1) for index in range(sizes[split])
    ]
    pool = ThreadPoolExecutor(args.workers)  # threads, because Pillow and numpy release Python's lock
    try:
        size = sum(pool.map(lambda task: write_photo(root, args.seed, *task), tasks))
    finally:
        pool.shutdown(cancel_futures=True)
    return args.classes * sizes[0], args.classes * sizes[1], args.classes, size


def write_photo(root, seed, number, split, index):
    """Writes a random part of the photograph of class `number`, upright or not, in the class's colours. -> bytes"""
    rng = np.random.default_rng((seed, split, number, index))  # of its own: the order of the work cannot matter
    photo = photograph(PHOTOS[number % len(PHOTOS)])
    width, height = (500, 375) if rng.random() < 0.75 else (375, 500)
    scale = rng.uniform(0.6, 1) * min(photo.width / width, photo.height / height)
    left, top = rng.uniform(0, photo.width - scale * width), rng.uniform(0, photo.height - scale * height)
    box = (left, top, left + scale * width, top + scale * height)
    pixels = np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC, box=box), dtype=np.float32)
    cast = CAST * np.cos(2.4 * number + np.array([0, 2, 4]) * np.pi / 3)  # 2.4: the golden angle spreads any number
    pixels = pixels * rng.uniform(0.8, 1.2) + cast + rng.normal(0, GRAIN, (height, width, 1))
    name = f'n{number + 1:08d}'
    path = root / SPLITS[split] / name / f'{name}_{SPLITS[split]}_{index:05d}.jpg'
    return write_jpeg(path, Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)))


@functools.cache
def photograph(name):
    """-> the whole photograph, from the package that has it."""
    return Image.open(inside(name)).convert('RGB')


def inside(name):
    """-> the path of a file inside an installed package."""
    package, _, rest = name.partition('/')
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0] if spec else package, rest)
    if not path.is_file():
        wanted = str(Path(__file__).resolve().parent / 'requirements.txt')
        raise Failure(f'there is no {path}: {PIP} -r {shlex.quote(wanted)}', 1)
    return path


# ---- command line


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence, without the usage above it."""

    def error(self, message):
        self.exit(2, f'make_dataset.py: error: {message} (options: {self.prog} --help)\n')


KINDS = {'digits': make_digits, 'textures': make_textures, 'faces': make_faces, 'imagenet-like': make_imagenet_like}


def some_digits(text):
    """'0-4' -> ['0', ..., '4']"""
    first, _, last = text.partition('-')
    if not (first.isdigit() and last.isdigit() and 0 <= int(first) < int(last) <= 9):
        raise argparse.ArgumentTypeError(f'{text} is no range of digits; give one such as 0-4')
    return [str(digit) for digit in range(int(first), int(last) + 1)]


def parse_args(argv):
    parser = Parser(prog='make_dataset.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest='kind', metavar='|'.join(KINDS), required=True)
    digits = kinds.add_parser('digits', allow_abbrev=False, help='1,797 real images in 10 classes')
    digits.add_argument('--only', type=some_digits, help='some of them, such as 0-4')
    textures = kinds.add_parser('textures', allow_abbrev=False, help='432 pieces of three photographs')
    faces = kinds.add_parser('faces', allow_abbrev=False, help='100 faces and 100 other images')
    for kind in (digits, textures, faces):
        kind.add_argument('--size', type=int, default=64, help='width and height in pixels (64)')
    photos = kinds.add_parser('imagenet-like', allow_abbrev=False, help='photo-sized images of about 110 kB')
    photos.add_argument('--classes', type=int, required=True, help='number of classes')
    photos.add_argument('--per-class', type=int, required=True, help='train images of each class')
    photos.add_argument('--val-per-class', type=int, help='val images of each class (a tenth of --per-class)')
    photos.add_argument('--workers', type=int, default=os.cpu_count(), help='threads (one for each core)')
    for kind in (digits, textures, faces, photos):
        kind.add_argument('out', metavar='OUT', type=Path, help='directory to create; must not exist, or be empty')
        kind.add_argument('--seed', type=int, default=0, help='another seed, other files (0)')
    args = parser.parse_args(argv)
    for name, least in dict(size=8, classes=1, per_class=1, val_per_class=1, workers=1, seed=0).items():
        value = getattr(args, name, None)
        if value is not None and value < least:
            parser.error(f'--{name.replace("_", "-")} is {value}: give {least} or more')
    if args.kind == 'imagenet-like':
        args.val_per_class = args.val_per_class or max(1, args.per_class // 10)
    return args


def create(args):
    """Makes the data set that `args` asks for. -> the line that sums it up"""
    out = args.out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):  # images of two runs must never mix
        what = 'is not empty' if out.is_dir() else 'is a file'
        raise Failure(f'OUT {out} {what}: remove it or give the name of a new directory', 1)
    photos = args.classes * (args.per_class + args.val_per_class) if args.kind == 'imagenet-like' else 0
    needed = photos * PHOTO_BYTES
    free = shutil.disk_usage(next(folder for folder in out.parents if folder.exists())).free
    if needed > free:  # better now than after an hour of writing
        gigabytes = f'{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free'
        raise Failure(f'OUT {out} needs about {gigabytes}: ask for fewer images or name another disk', 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}.partial-', dir=out.parent) as holder:
        root = Path(holder, 'data')  # the outer directory is readable by its owner only
        root.mkdir()
        train, val, classes, size = KINDS[args.kind](root, args)
        root.rename(out)  # fails where another run has filled it meanwhile
    counts = f'{train + val} images (train {train}, val {val} = {val // 8} x 8 + {val % 8}), {classes} classes'
    return f'{args.kind}: {counts}, {size} bytes (mean {size / (train + val) / 1000:.1f} kB): {out}'


def main(argv=None):
    args = parse_args(argv)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, frame: SIGNALS.append(number))
    try:
        print(create(args))
        return 0
    except Failure as e:
        message, code = e.args
    except OSError as e:
        message, code = f'OUT {args.out} cannot be written: {e}; give a name on a disk with room and rights', 1
    print(f'make_dataset.py: error: {message}', file=sys.stderr)
    return code


if __name__ == '__main__':
    sys.exit(main())
