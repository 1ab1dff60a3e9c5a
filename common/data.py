"""An ImageFolder on the host: checks, data set, batch samplers, DataLoader. images.py reads a file, device_data.py brings the batches
to the device.

The workers decode, crop and augment, and hand over uint8 CHW; the device does the rest. What is random about an image is a
function of (seed, epoch, index): neither the number of workers nor an interruption changes a training.
"""

import collections
import contextlib
import hashlib
import os
import random
import signal
from functools import lru_cache, partial
from typing import Any, Callable, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np
import torch
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import default_collate
from torchvision.datasets.folder import IMG_EXTENSIONS

from common import compat
from common.errors import UserError
from common.images import read_image

# images: uint8 (N, 3, H, W); targets: int64 (N,); bad: a sentence for each image that could not be read
Batch = collections.namedtuple('Batch', 'images targets bad')
EXTENSIONS = tuple(IMG_EXTENSIONS)  # a list in old torchvision
Key = Tuple[int, int, int]  # (epoch, index of the image, number of its repetition)


OTHER_NAMES = ('validation', 'valid', 'test', 'testing', 'eval', 'dev', 'training')  # of splits

# ---- checks


def check_root(root: str, splits: Sequence[str] = ('train', 'val'), read: bool = True) -> List[str]:
    """Looks the data set over before anything is spent on it. -> the names of the classes

    Raises UserError with the path when root, a split or a class is missing or empty, when the classes of the splits
    differ, or, with read, when the first image cannot be read.
    """
    wanted = ' and '.join(f'{split}/' for split in splits)
    if not os.path.isdir(root):
        what = 'is not a directory' if os.path.exists(root) else 'does not exist'
        raise UserError(f'data path {root} {what}; give the data set root, which holds {wanted}')
    missing = [split for split in splits if not os.path.isdir(os.path.join(root, split))]
    parent, leaf = os.path.split(os.path.abspath(root))
    if missing and leaf in splits and os.path.isdir(os.path.join(parent, leaf)):
        raise UserError(f'data path {root} is one split of the data set; give its root, {parent}')
    if missing:
        lacking, there = (
            '/ and no '.join(missing),
            [name for name in OTHER_NAMES if os.path.isdir(os.path.join(root, name))],
        )
        way_out = f'give the data set root, which holds {wanted}'
        if there:
            train = missing[0] == splits[0] and len(splits) > 1
            likely = [name for name in there if name.startswith('train') == train] or there
            way_out += f', or its name, such as {"--train-split" if train else "--val-split"}={likely[0]}'
        raise UserError(f'data path {root} has no {lacking}/; {way_out}')
    classes = [class_names(os.path.join(root, split)) for split in splits]
    for split, names in zip(splits[1:], classes[1:]):
        if names != classes[0]:
            raise UserError(difference(root, splits[0], classes[0], split, names))
    for split in splits:
        paths, _ = listed(os.path.join(root, split))
        if read:
            read_image(os.fsdecode(paths[0]))
    return classes[0]


def class_names(folder: str) -> List[str]:
    """-> the names of the class folders, in order; what is hidden (.ipynb_checkpoints) is none."""
    with listing(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith('.'))
    if not names:
        raise UserError(f'{folder} holds no class folders; it must hold one folder of images per class')
    return names


def difference(root: str, a: str, classes_a: Sequence[str], b: str, classes_b: Sequence[str]) -> str:
    """-> the sentence for two splits whose classes differ."""
    only = sorted(set(classes_a) - set(classes_b))
    if not only:
        return difference(root, b, classes_b, a, classes_a)
    more = ', '.join(only[:3]) + (f', ... ({len(only)} in all)' if len(only) > 3 else '')
    have, lack = os.path.join(root, a), os.path.join(root, b)
    return f'{lack} lacks the class {more}, which {have} has; both must have the same class folders'


def image_folder(split: str) -> Tuple[List[str], List[int]]:
    """-> the paths of a split's images, in the order of torchvision's ImageFolder, and the number of the class of each.

    Raises UserError for a class without images.
    """
    folders = [os.path.join(split, name) for name in class_names(split)]
    real = {folder: os.path.realpath(folder) for folder in folders}
    above, parent = set(), os.path.realpath(split)
    while parent not in above:  # the root is its own parent
        above.add(parent)
        parent = os.path.dirname(parent)
    paths, targets = [], []
    for target, folder in enumerate(folders):
        # two classes may be one folder, as where a large data set is simulated
        found = images_below(folder, above | (set(real.values()) - {real[folder]}))
        if not found:
            known = ' '.join(IMG_EXTENSIONS)
            raise UserError(
                f'class folder {folder} holds no image ({known}); add images or remove it from train/ and val/'
            )
        paths += found
        targets += [target] * len(found)
    return paths, targets


@lru_cache(maxsize=None)
def listed(split: str) -> Tuple[np.ndarray, np.ndarray]:
    """The same as arrays, the paths as bytes, listed once in a process: 200,000 files take 0.4 s, on a network more.

    Arrays, because forked workers would copy the memory pages of a million Python objects.
    """
    paths, targets = image_folder(split)
    return np.array([os.fsencode(path) for path in paths]), np.array(targets)


def counts(split: str) -> List[int]:
    """-> the number of images of each class"""
    return np.bincount(listed(split)[1]).tolist()


def images_below(folder: str, elsewhere: Set[str]) -> List[str]:
    """-> the paths of the images below a class folder. What is hidden (._a.jpg, as macOS leaves beside a.jpg) is none.

    elsewhere: folders whose images have another place. Raises UserError for a link to one of them or to a folder seen already
    (loop -> . or up -> ..), whose images would be counted again, or as of a wrong class.
    """
    found, todo = {}, [folder]
    while todo:
        where = todo.pop()
        real = os.path.realpath(where)
        if real in elsewhere:
            raise UserError(
                f'{where} leads to {real}, whose images have another place in the data set: they would be counted '
                'again, or as of a wrong class; remove the link'
            )
        elsewhere.add(real)
        with listing(where) as entries:
            visible = [entry for entry in entries if not entry.name.startswith('.')]
            todo += [entry.path for entry in visible if entry.is_dir()]
            found[where] = sorted(entry.path for entry in visible if is_image(entry.name) and not entry.is_dir())
    return [path for where in sorted(found) for path in found[where]]


def is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


@contextlib.contextmanager
def listing(folder: str) -> Iterator[Iterator[Any]]:
    """What a folder holds, as os.scandir gives it. Raises UserError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield entries
    except OSError as e:
        raise UserError(f'{folder} cannot be read ({e}); repair it, or give another data path') from e


# ---- randomness


def derive_seed(*parts: Any) -> int:
    """-> a seed of 32 bits from whole numbers and words; neighbours have unrelated seeds."""
    return int.from_bytes(hashlib.sha1(repr(parts).encode()).digest()[:4], 'little')


def seed_host(number: Optional[int]) -> None:
    """Seeds what the transforms of timm and torchvision draw from; None leaves it alone."""
    if number is None:
        return
    random.seed(number)
    np.random.seed(number)
    torch.default_generator.manual_seed(number)


# ---- images


class Images(Dataset):
    """Images and their targets, such as `listed` gives. [epoch, index, repeat] -> (uint8 CHW tensor or None, target, [a sentence for what could not be read]).

    read: (path, what sets the random numbers) -> uint8 CHW, as images.Reader.
    seed: of the augmentation; None leaves the random state alone (an evaluation draws nothing).
    replace: how many images after one that cannot be read may take its place, so that a training batch keeps its size.
    """

    def __init__(
        self, paths: np.ndarray, targets: np.ndarray, read: Callable, seed: Optional[int] = None, replace: int = 0
    ):
        self.paths, self.targets = paths, targets
        self.read, self.seed, self.replace = read, seed, replace

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> Tuple[Optional[torch.Tensor], int, List[str]]:
        epoch, index, repeat = key
        number = None if self.seed is None else derive_seed(self.seed, epoch, index, repeat)
        bad = []
        for candidate in range(index, index + min(1 + self.replace, len(self))):
            candidate %= len(self)
            try:
                image = self.read(os.fsdecode(self.paths[candidate]), partial(seed_host, number))
            except UserError as e:
                bad.append(str(e))
                continue
            return image, int(self.targets[candidate]), bad
        return None, int(self.targets[index]), bad


def collate(samples: Sequence[Tuple[Optional[torch.Tensor], int, List[str]]]) -> Batch:
    """Samples of Images -> Batch; those without an image are left out.

    default_collate writes the images of a worker where the trainer will read them, in shared memory.
    """
    good = [(image, target) for image, target, _ in samples if image is not None]
    images = default_collate([image for image, _ in good]) if good else torch.empty(0, dtype=torch.uint8)
    targets = torch.tensor([target for _, target in good], dtype=torch.int64)
    return Batch(images, targets, [reason for _, _, bad in samples for reason in bad])


def transform_of(args: Any, training: bool) -> Callable:
    """-> RGB image -> uint8 CHW, by timm; normalisation and erasing are left to the device."""
    common = {'is_training': training, 'use_prefetcher': True, 'interpolation': args.interpolation}
    size = args.img_size if isinstance(args.img_size, int) else tuple(args.img_size)
    if not training:
        return create_transform(size, crop_pct=args.crop_pct, **common)
    if args.no_aug:
        return create_transform(size, no_aug=True, **common)
    crop = {'scale': args.scale, 'ratio': args.ratio, 'hflip': args.hflip, 'vflip': args.vflip}
    colour = {'color_jitter': args.color_jitter or None, 'auto_augment': args.aa, 'mean': args.mean}
    return create_transform(size, **{**common, **crop, **colour, 'interpolation': args.train_interpolation})


# ---- batches


class TrainBatchSampler:
    """The batches of one rank in an epoch, as lists of Key.

    An epoch is one permutation, cut into global batches, of which each rank takes every world-th image; so the global
    batches are the same at any number of ranks. What is left over at the end is not used in this epoch.
    repeats: each image stands that many times in a row (on neighbouring ranks), and an epoch has as many fewer images.
    """

    def __init__(self, size: int, batch_size: int, ranks: Any, seed: int, max_steps: int = 0, repeats: int = 1):
        self.size, self.batch_size, self.ranks, self.seed, self.repeats = size, batch_size, ranks, seed, repeats
        whole = size // (batch_size * ranks.world)
        if whole == 0:
            raise UserError(
                f'a batch of {batch_size} x {ranks.world} ranks is larger than the training set of {size} images; lower '
                f'--batch-size to {max(1, size // ranks.world)} or less'
            )
        self.steps = min(whole, max_steps) if max_steps else whole
        self.epoch = self.first_step = 0

    def begin(self, epoch: int, first_step: int = 0) -> None:
        """Chooses the epoch, and the step at which the next iteration begins."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[List[Key]]:
        order = np.random.RandomState(derive_seed('order', self.seed, self.epoch)).permutation(self.size)
        width = self.batch_size * self.ranks.world
        for step in range(self.first_step, self.steps):
            places = range(step * width + self.ranks.rank, (step + 1) * width, self.ranks.world)
            yield [(self.epoch, int(order[p // self.repeats]), p % self.repeats) for p in places]


class EvalBatchSampler:
    """The batches of one rank that together with those of the other ranks hold every image exactly once.

    max_steps > 0: at most so many batches a rank, spread evenly over the (sorted) set.
    """

    def __init__(self, size: int, batch_size: int, ranks: Any, max_steps: int = 0):
        wanted = min(size, max_steps * batch_size * ranks.world) if max_steps else size
        chosen = [i * size // wanted for i in range(wanted)]
        self.size, self.batch_size = len(chosen), batch_size
        self.mine = chosen[ranks.rank :: ranks.world]

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch_size)

    def __iter__(self) -> Iterator[List[Key]]:
        for start in range(0, len(self.mine), self.batch_size):
            yield [(0, index, 0) for index in self.mine[start : start + self.batch_size]]


def begin_worker(step_back: bool, number: int) -> None:
    """A worker that is told to stop, as the trainer is, goes on: the trainer ends its step, saves, and ends the worker.

    A scheduler, a terminal and torchrun tell every process of a job. After two minutes the worker ends by itself. step_back: the
    trainer computes on the same cores, so the worker takes what it leaves; a thread that loses its core holds up all others.
    """
    if step_back:
        os.nice(10)
    signal.set_wakeup_fd(-1)  # the trainer's, which tells it of its own signals
    for request in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(request, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(120))


def make_loader(dataset: Images, batch_sampler: Any, args: Any, accelerator: Any) -> DataLoader:
    """-> DataLoader of Batch."""
    options = {**compat.loader_options(args.workers), **(accelerator.pinning() if args.pin_mem else {})}
    return DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=args.workers,
        collate_fn=collate,
        worker_init_fn=partial(begin_worker, accelerator.kind == 'cpu'),
        **options,
    )
