#!/usr/bin/env python3
"""Write a data set as a JPEG ImageFolder (OUT/train/<class>/*.jpg, OUT/val/<class>/*.jpg), without a download.

    python ci/make_dataset.py digits OUT --size 64
        Real images for "does it learn": scikit-learn's 1,797 handwritten digits, 10 classes, a fixed split
        (train 1438, val 359: not a multiple of 8, so a padded sampler is caught).  About 1 s.

    python ci/make_dataset.py imagenet-like OUT --classes 10 --per-class 100
        Photo-sized images for throughput: about 500 x 375, about 110 kB each (ImageNet's average, so that reading
        and decoding cost what they cost there), 1/f spectrum, a class signal that a model can learn.
        About 90 images a second and core.

The same command writes the same files, whatever the number of workers (byte for byte with the same numpy and
Pillow).  OUT appears when it is complete, never before.  Needs numpy and Pillow; digits needs scikit-learn too.
"""

import argparse
import io
import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

try:
    import numpy as np
    from PIL import Image
except ImportError as missing:
    sys.exit(f"make_dataset.py: error: the Python package {missing.name!r} is missing from {sys.executable}: "
             f"{sys.executable} -m pip install numpy pillow")

SPLITS = ("train", "val")


class DatasetError(Exception):
    """A mistake of the user's or of the machine's, in one sentence with the way out; exit code 1."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM: `signum` says which.  Not an Exception, so that no library swallows it."""

    def __init__(self, signum):
        super().__init__(signum)
        self.signum = signum


@dataclass(frozen=True)
class Summary:
    """What was written: images in each split, number of classes, bytes of all JPEG files."""

    train: int
    val: int
    classes: int
    size: int

    def line(self, kind, out):
        images = self.train + self.val
        return (f"{kind}: {images} images (train {self.train}, val {self.val} = {self.val // 8} x 8 + {self.val % 8}), "
                f"{self.classes} classes, {self.size} bytes (mean {self.size / images / 1000:.1f} kB): {out}")


# ---- writing: all or nothing -------------------------------------------------------------------------------------

def check_free(out):
    """Raise DatasetError unless `out` is absent or an empty directory: images of two runs must never mix."""
    if out.exists() and not out.is_dir():
        raise DatasetError(f"OUT {out} is a file: give the name of a new directory")
    if out.is_dir() and any(out.iterdir()):
        raise DatasetError(f"OUT {out} exists and is not empty: remove it or give another name")


def check_space(out, needed):
    """Raise DatasetError where fewer than `needed` bytes are free: better now than after an hour of writing."""
    parent = next(folder for folder in out.parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise DatasetError(f"OUT {out} needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
                           "ask for fewer images or give a name on another disk")


@contextmanager
def staged(out):
    """Yield a new directory beside `out`; rename it to `out` if the block succeeds, remove it if it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    # The inner directory is the one that is renamed: mkdtemp's own is readable by its owner only.
    holder = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        staging = holder / "data"
        staging.mkdir()
        yield staging
        check_free(out)  # again: another run may have finished meanwhile
        os.rename(staging, out)
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half of it behind
        shutil.rmtree(holder, ignore_errors=True)


def make_folders(root, classes):
    for split in SPLITS:
        for name in classes:
            (root / split / name).mkdir(parents=True)


def write_jpeg(path, pixels, quality):
    """Write `pixels` (H, W, 3) uint8 as a JPEG with 4:2:0 chroma, as cameras do; return its bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    path.write_bytes(buffer.getvalue())
    return buffer.tell()


# ---- digits ------------------------------------------------------------------------------------------------------

DIGITS_QUALITY = 95  # Pillow's advised maximum: the images are the data, the bytes are few


def load_digits():
    """Return images (1797, 8, 8) uint8 in 0..255 and labels (1797,) int, in scikit-learn's order."""
    try:
        from sklearn import datasets
    except ImportError as missing:
        raise DatasetError(f"digits needs scikit-learn, which {sys.executable} cannot import ({missing}): "
                           f"{sys.executable} -m pip install scikit-learn") from None
    digits = datasets.load_digits()
    # The file's values are 0..16: counts of dark pixels in 4 x 4 blocks of the scanned bitmap.
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target


def val_counts(class_sizes, val_fraction):
    """Return images of each class for val: the fraction, at least one on either side, the sum no multiple of 8.

    A val set that 8 processes share evenly would hide a sampler that pads (and counts images twice).
    """
    counts = np.clip(np.rint(class_sizes * val_fraction).astype(int), 1, class_sizes - 1)
    if counts.sum() % 8 == 0:
        counts[counts.argmax()] -= 1  # at least 16 images over 10 classes: the largest class has two or more
    assert counts.sum() % 8 and counts.min() >= 1, counts
    return counts


def choose_val(labels, val_fraction, seed):
    """Return the set of indices into `labels` (n,) that are val: stratified, fixed by the seed."""
    class_sizes = np.bincount(labels)
    # RandomState, not default_rng: its streams are frozen, so the split outlives versions of numpy.
    rng = np.random.RandomState(seed)
    chosen = set()
    for label, count in enumerate(val_counts(class_sizes, val_fraction)):
        members = np.flatnonzero(labels == label)
        chosen.update(rng.permutation(members)[:count].tolist())
    return chosen


def make_digits(root, args):
    """Write the digits under `root`, upscaled to (size, size, 3); return a Summary."""
    images, labels = load_digits()
    val = choose_val(labels, args.val_fraction, args.seed)
    classes = [str(label) for label in range(10)]
    make_folders(root, classes)
    size = 0
    for index, (image, label) in enumerate(zip(images, labels)):
        large = Image.fromarray(image).resize((args.size, args.size), Image.Resampling.BICUBIC).convert("RGB")
        path = root / ("val" if index in val else "train") / classes[label] / f"{index:04d}.jpg"
        size += write_jpeg(path, np.asarray(large), DIGITS_QUALITY)
    return Summary(len(images) - len(val), len(val), len(classes), size)


# ---- imagenet-like -----------------------------------------------------------------------------------------------

# (width, height) in pixels and its share.  ImageNet's commonest is 500 x 375; the rest are its neighbours.
SHAPES = (((500, 375), 0.50), ((375, 500), 0.18), ((500, 333), 0.14), ((333, 500), 0.06),
          ((500, 400), 0.05), ((500, 500), 0.03), ((400, 300), 0.02), ((640, 480), 0.02))

PHOTO_QUALITY = 89       # measured: a mean of 112.5 kB over 1,000 images (88: 108, 90: 117)
MEAN_BYTES = 110_000     # ImageNet's average file, the aim; used to tell whether the disk has room
SLOPE = (0.9, 1.1)       # amplitude ~ 1 / f ** slope: photographs lie around 1 (Field 1987)
CONTRAST = (40.0, 60.0)  # standard deviation of luminance, in levels of 0..255
BRIGHTNESS = (118, 12)   # mean and standard deviation, over images, of an image's mean luminance, in levels

# Rows: luminance, blue-yellow, red-green, as weights of R, G, B (orthogonal, of equal length).
AXES = np.array([(1, 1, 1), (2 ** -0.5, 2 ** -0.5, -2 ** 0.5), (1.5 ** 0.5, -1.5 ** 0.5, 0)], dtype=np.float32)
# Contrast along each axis as a share of luminance's: colours of photographs vary less, and least in red-green.
AXIS_CONTRAST = np.array([1.0, 0.25, 0.12], dtype=np.float32)

CAST = 16.0              # levels: how far a class's mean colour lies from grey ...
CAST_JITTER = 5.0        # ... and the standard deviation of an image's around it
GRATING = 12.0           # levels: amplitude of a class's grating, well under the contrast of the image
CYCLES = (5.0, 30.0)     # periods of the grating along the image's shorter side: survives a resize to 224


@dataclass(frozen=True)
class ClassLook:
    """What the images of one class share: hue of the cast, direction of the grating (radians), its cycles."""

    hue: float
    angle: float
    cycles: float


def class_look(number):
    """Return the ClassLook of class `number`; of that alone, so that runs of other sizes or seeds agree.

    The three values are an R3 low-discrepancy sequence (Roberts 2018): any number of classes is spread evenly.
    """
    golden = 1.2207440846057596  # the root of x ** 4 = x + 1
    hue, angle, cycles = ((0.5 + number * golden ** -axis) % 1 for axis in (1, 2, 3))
    # A quarter turn only: a horizontal flip (an augmentation) then never makes it another class's grating.
    return ClassLook(2 * math.pi * hue, math.pi / 2 * angle, CYCLES[0] * (CYCLES[1] / CYCLES[0]) ** cycles)


@lru_cache(maxsize=len(SHAPES))
def log_frequency(height, width):
    """Return ln f for each coefficient of rfft2, (height, width // 2 + 1) float32, f in cycles per pixel; inf at 0."""
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    f[0, 0] = np.inf  # amplitude 0: the mean is set by the class and not by the noise
    return np.log(f).astype(np.float32)


def natural_noise(rng, height, width):
    """Return noise (3, height, width) float32 with a 1/f amplitude spectrum, mean 0, deviation 1 in each plane."""
    white = rng.standard_normal((3, height, width // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    planes = np.fft.irfft2(white * np.exp(-rng.uniform(*SLOPE) * log_frequency(height, width)), s=(height, width))
    return planes / planes.std(axis=(1, 2), keepdims=True)


def grating(rng, look, height, width):
    """Return the class's sine wave (height, width) float32 in -1..1, at a random phase, slightly detuned."""
    angle = look.angle + rng.normal(0, math.radians(2))
    step = 2 * math.pi * look.cycles * rng.uniform(0.97, 1.03) / min(height, width)  # radians per pixel
    x = (step * math.cos(angle) * np.arange(width)).astype(np.float32)
    y = (step * math.sin(angle) * np.arange(height)).astype(np.float32)
    return np.cos(x[None, :] + y[:, None] + np.float32(rng.uniform(0, 2 * math.pi)))


def photo(rng, look):
    """Return one image (height, width, 3) uint8 of a class."""
    shapes, shares = zip(*SHAPES)
    width, height = shapes[rng.choice(len(shapes), p=shares)]
    planes = natural_noise(rng, height, width)
    planes *= np.float32(rng.uniform(*CONTRAST)) * AXIS_CONTRAST[:, None, None]
    planes[0] += rng.normal(*BRIGHTNESS) + GRATING * grating(rng, look, height, width)
    planes[1] += CAST * math.cos(look.hue) + rng.normal(0, CAST_JITTER)
    planes[2] += CAST * math.sin(look.hue) + rng.normal(0, CAST_JITTER)
    rgb = np.einsum("ahw,ac->hwc", planes, AXES)  # not a matrix product: BLAS would start threads in every worker
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def class_name(number):
    return f"n{number + 1:08d}"


def write_photo(root, seed, task):
    """Write image `index` of class `number` in split `split` (task = those three); return its bytes."""
    number, split, index = task
    # Its own stream for each image: the order of the work, hence the number of workers, cannot matter.
    rng = np.random.default_rng((seed, SPLITS.index(split), number, index))
    name = class_name(number)
    path = root / split / name / f"{name}_{split}_{index:05d}.jpg"
    return write_jpeg(path, photo(rng, class_look(number)), PHOTO_QUALITY)


def start_worker():
    """Prepare a worker process: Ctrl-C is the parent's to handle, and a killed parent takes its workers along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def follow_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()


def run_tasks(function, tasks, workers):
    """Return [function(task) for task in tasks], computed by `workers` processes (1: this one)."""
    if workers == 1:
        return [function(task) for task in tasks]
    chunk = max(1, min(16, len(tasks) // (4 * workers)))  # at most 16 images, under a second, to stop
    pool = ProcessPoolExecutor(workers, initializer=start_worker)
    try:
        return list(pool.map(function, tasks, chunksize=chunk))
    except BrokenProcessPool:
        raise DatasetError(f"one of {workers} worker processes was killed (by the system, for want of memory?): "
                           "try fewer with --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def val_per_class(args):
    return args.val_per_class or max(1, args.per_class // 10)


def make_imagenet_like(root, args):
    """Write the photo-sized images under `root`; return a Summary."""
    sizes = dict(zip(SPLITS, (args.per_class, val_per_class(args))))
    make_folders(root, [class_name(number) for number in range(args.classes)])
    tasks = [(number, split, index)
             for number in range(args.classes) for split in SPLITS for index in range(sizes[split])]
    written = run_tasks(partial(write_photo, root, args.seed), tasks, min(args.workers, len(tasks)))
    return Summary(args.classes * sizes["train"], args.classes * sizes["val"], args.classes, sum(written))


# ---- command line ------------------------------------------------------------------------------------------------

class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence, without the usage above it."""

    def error(self, message):
        self.exit(2, f"make_dataset.py: error: {message} (options: {self.prog} --help)\n")


def whole(low, high):
    """Return an argparse type: a whole number from `low` to `high`."""
    def convert(text):
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)
    return convert


def fraction(text):
    """Convert `text` for argparse: a number between 0 and 1, both excluded."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1, such as 0.2")
    return value


def cores():
    """Return the number of CPU cores this process may use, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_args(argv):
    parser = Parser(prog="make_dataset.py", allow_abbrev=False, description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", metavar="digits|imagenet-like", required=True)

    digits = kinds.add_parser("digits", allow_abbrev=False, help="1,797 real images in 10 classes")
    digits.add_argument("--size", type=whole(8, 4096), default=64, help="width and height in pixels (64)")
    digits.add_argument("--val-fraction", type=fraction, default=0.2, help="share of each class that is val (0.2)")
    digits.set_defaults(make=make_digits)

    photos = kinds.add_parser("imagenet-like", allow_abbrev=False, help="photo-sized images of about 110 kB")
    photos.add_argument("--classes", type=whole(1, 99_999_999), required=True, help="number of classes")
    photos.add_argument("--per-class", type=whole(1, 10 ** 9), required=True, help="train images of each class")
    photos.add_argument("--val-per-class", type=whole(1, 10 ** 9), help="val images of each class (per-class / 10)")
    photos.add_argument("--workers", type=whole(1, 1024), default=cores(), help="processes (one for each core)")
    photos.set_defaults(make=make_imagenet_like)

    for kind in (digits, photos):
        kind.add_argument("out", metavar="OUT", type=Path, help="directory to create; must not exist, or be empty")
        kind.add_argument("--seed", type=whole(0, 2 ** 32 - 1), default=0, help="another seed, other files (0)")
    return parser.parse_args(argv)


def create(args):
    """Make the data set that `args` asks for and return the line that sums it up."""
    out = args.out.resolve()
    check_free(out)
    if args.kind == "imagenet-like":
        check_space(out, args.classes * (args.per_class + val_per_class(args)) * MEAN_BYTES)
    with staged(out) as root:
        summary = args.make(root, args)
    return summary.line(args.kind, out)


def stop(signum, frame):
    raise Interrupted(signum)


def main(argv=None):
    args = parse_args(argv)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    try:
        print(create(args))
        return 0
    except DatasetError as error:
        message, code = str(error), 1
    except OSError as error:
        message, code = f"OUT {args.out} cannot be written: {error}; give a name on a disk with room and rights", 1
    except Interrupted as error:
        name = signal.Signals(error.signum).name
        message, code = f"stopped by {name}: OUT {args.out} was not created; run the command again", 128 + error.signum
    print(f"make_dataset.py: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
