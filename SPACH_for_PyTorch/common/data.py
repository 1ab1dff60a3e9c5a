"""An ImageFolder, from the files to batches on the device.

Fast by design: the workers decode, crop and augment, and hand over uint8 CHW; conversion, normalisation, random erasing
and mixup run on the device, where they overlap with the step before.

What is random about an image is a function of (seed, epoch, index), and of a batch of (seed, epoch, step, rank): neither
the number of workers nor an interruption changes a run.
"""
import collections
import hashlib
import os
import random
import signal
import time

import numpy as np
import torch
from PIL import Image
from timm.data import Mixup, create_transform
from timm.data.random_erasing import RandomErasing
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS, default_loader

from common import compat
from common.errors import UserError

# images: uint8 (N, 3, H, W); targets: int64 (N,); bad: one 'path: reason' for each image that could not be read
Batch = collections.namedtuple('Batch', 'images targets bad')


# ---- checks

def check_root(root, splits=('train', 'val'), read=True):
    """Looks the data set over before anything is spent on it -> the list of class names.

    Raises UserError with the path when root, a split or a class is missing or empty, when the splits' classes differ,
    or, with read, when the first image cannot be read.
    """
    if not os.path.isdir(root):
        raise UserError('data path %s %s; give the data set root, which holds train/ and val/'
                        % (root, 'is not a directory' if os.path.exists(root) else 'does not exist'))
    missing = [s for s in splits if not os.path.isdir(os.path.join(root, s))]
    parent, leaf = os.path.split(os.path.abspath(root))
    if missing and leaf in ('train', 'val') and os.path.isdir(os.path.join(parent, leaf)):
        raise UserError('data path %s is one split of the data set; give its root, %s' % (root, parent))
    if missing:
        raise UserError('data path %s has no %s/; give the data set root, which holds train/ and val/'
                        % (root, '/ and no '.join(missing)))
    classes = {s: class_names(os.path.join(root, s)) for s in splits}
    first = splits[0]
    for split in splits[1:]:
        if classes[split] != classes[first]:
            raise UserError(difference(root, first, classes[first], split, classes[split]))
    for split in splits:
        samples = [first_image(os.path.join(root, split, name)) for name in classes[split]]
        if read:
            read_image(samples[0])
    return classes[first]


def class_names(folder):
    names = sorted(e.name for e in os.scandir(folder) if e.is_dir())
    if not names:
        raise UserError('%s holds no class folders; it must hold one folder of images per class' % folder)
    return names


def difference(root, a, classes_a, b, classes_b):
    """The sentence for two splits whose classes differ."""
    for have, lack, there, here in ((a, b, classes_a, classes_b), (b, a, classes_b, classes_a)):
        only = sorted(set(there) - set(here))
        if only:
            shown = ', '.join(only[:3]) + (', ... (%d in all)' % len(only) if len(only) > 3 else '')
            return '%s lacks the class %s, which %s has; both must have the same class folders' % (
                os.path.join(root, lack), shown, os.path.join(root, have))


def first_image(folder):
    """Path of some image below folder."""
    for where, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(tuple(IMG_EXTENSIONS)):
                return os.path.join(where, name)
    raise UserError('class folder %s holds no image (%s); add images or remove it from both train/ and val/'
                    % (folder, ' '.join(IMG_EXTENSIONS)))


WAY_OUT = '; repair or remove it, or go on without such images by --skip-bad-images'


def read_image(path):
    """-> RGB PIL image. Raises UserError for a file that cannot be decoded."""
    try:
        return default_loader(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise UserError('image %s cannot be read (%s)%s' % (path, e, WAY_OUT))


# ---- randomness

def derive_seed(*parts):
    """A 32-bit seed from whole numbers and words, with no relation between the seeds of neighbours."""
    return int.from_bytes(hashlib.sha1(repr(parts).encode()).digest()[:4], 'little')


def seed_host(number):
    """Seeds what timm's and torchvision's transforms draw from."""
    random.seed(number)
    np.random.seed(number)
    torch.default_generator.manual_seed(number)


# ---- images

class Images(torch.utils.data.Dataset):
    """One split. Indexed by (epoch, index, repeat) -> (uint8 CHW tensor or None, target, [what could not be read]).

    seed: of the augmentation; None leaves the random state alone (evaluation draws nothing).
    replace: an image that cannot be read is replaced by a neighbour, so that a training batch keeps its size.
    """

    def __init__(self, folder, transform, seed=None, replace=False):
        samples = ImageFolder(folder).samples
        # arrays, not lists of tuples: forked workers would copy the pages of a million Python objects
        self.paths = np.array([os.fsencode(path) for path, _ in samples])
        self.targets = np.array([target for _, target in samples])
        self.transform, self.seed, self.replace = transform, seed, replace

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, key):
        epoch, index, repeat = key
        if self.seed is not None:
            seed_host(derive_seed(self.seed, epoch, index, repeat))
        bad = []
        for candidate in range(index, index + (10 if self.replace else 1)):
            candidate %= len(self)
            try:
                image = read_image(os.fsdecode(self.paths[candidate]))
            except UserError as e:
                bad.append(str(e))
                continue
            return torch.as_tensor(self.transform(image)), int(self.targets[candidate]), bad
        return None, int(self.targets[index]), bad


def collate(samples):
    """Samples of Images -> Batch; those without an image are left out."""
    good = [(image, target) for image, target, _ in samples if image is not None]
    images = torch.stack([image for image, _ in good]) if good else torch.empty(0, dtype=torch.uint8)
    targets = torch.tensor([target for _, target in good], dtype=torch.int64)
    return Batch(images, targets, [reason for _, _, bad in samples for reason in bad])


class TrainOrder:
    """The batches of one rank, as lists of (epoch, index, repeat): a batch sampler.

    Every epoch is one permutation, cut into global batches, of which each rank takes every world-th image; so the
    global batches are the same at any number of ranks. What is left over at the end waits for another epoch.
    repeats: each image stands that many times in a row (on neighbouring ranks), in as many fewer images per epoch.
    """

    def __init__(self, size, batch_size, ranks, seed, max_steps=0, repeats=1):
        self.size, self.batch_size, self.ranks, self.seed, self.repeats = size, batch_size, ranks, seed, repeats
        whole = size // (batch_size * ranks.world)
        if whole == 0:
            raise UserError('a batch of %d x %d ranks is larger than the training set of %d images; lower --batch-size '
                            'to %d or less' % (batch_size, ranks.world, size, max(1, size // ranks.world)))
        self.steps = min(whole, max_steps) if max_steps else whole
        self.epoch = self.first_step = 0

    def begin(self, epoch, first_step=0):
        """Chooses the epoch, and the step at which the next iteration begins."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self):
        return self.steps - self.first_step

    def __iter__(self):
        order = np.random.RandomState(derive_seed('order', self.seed, self.epoch)).permutation(self.size)
        width = self.batch_size * self.ranks.world
        for step in range(self.first_step, self.steps):
            places = range(step * width + self.ranks.rank, (step + 1) * width, self.ranks.world)
            yield [(self.epoch, int(order[p // self.repeats]), p % self.repeats) for p in places]


class EvalOrder:
    """The batches of one rank that together with the other ranks' cover every image exactly once.

    max_steps > 0: no more than so many batches a rank, spread evenly over the (sorted) set.
    """

    def __init__(self, size, batch_size, ranks, max_steps=0):
        wanted = min(size, max_steps * batch_size * ranks.world) if max_steps else size
        chosen = [i * size // wanted for i in range(wanted)]
        self.size, self.batch_size = len(chosen), batch_size
        self.mine = chosen[ranks.rank::ranks.world]

    def __len__(self):
        return -(-len(self.mine) // self.batch_size)

    def __iter__(self):
        for start in range(0, len(self.mine), self.batch_size):
            yield [(0, index, 0) for index in self.mine[start:start + self.batch_size]]


def stay_until_ended(number):
    """A loading process, told to stop together with the trainer, goes on: the trainer ends its step and saves, then ends it.

    A scheduler, a terminal and torchrun tell every process of a job. After two minutes the process goes by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(120))


def make_loader(dataset, order, args, accelerator):
    """DataLoader of Batch."""
    options = compat.loader_options(args.workers)
    if args.pin_mem:
        options.update(accelerator.pinning())
    return DataLoader(dataset, batch_sampler=order, num_workers=args.workers, collate_fn=collate,
                      worker_init_fn=stay_until_ended, **options)


def transform_of(args, training):
    """PIL image -> uint8 CHW, by timm; normalisation and erasing are left to the device."""
    if not training:
        return create_transform(args.img_size, is_training=False, use_prefetcher=True, crop_pct=args.crop_pct,
                                interpolation=args.interpolation)
    if args.no_aug:
        return create_transform(args.img_size, is_training=True, use_prefetcher=True, no_aug=True,
                                interpolation=args.interpolation)
    return create_transform(
        args.img_size, is_training=True, use_prefetcher=True, scale=args.scale, ratio=args.ratio, hflip=args.hflip,
        vflip=args.vflip, color_jitter=args.color_jitter or None, auto_augment=args.aa, interpolation=args.train_interpolation,
        mean=args.mean)


# ---- batches on the device

class DeviceMixup(Mixup):
    """timm's Mixup with the targets made on the inputs' device (timm 0.4 makes them on 'cuda')."""

    def __call__(self, x, target):
        lam = {'elem': self._mix_elem, 'pair': self._mix_pair, 'batch': self._mix_batch}[self.mode](x)
        one_hot = torch.full((len(target), self.num_classes), self.label_smoothing / self.num_classes, device=x.device)
        one_hot.scatter_(1, target.long().view(-1, 1), 1. - self.label_smoothing + self.label_smoothing / self.num_classes)
        return x, one_hot * lam + one_hot.flip(0) * (1. - lam)


def mixup_of(args):
    """-> DeviceMixup, or None where neither mixup nor cutmix is on."""
    if not (args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax) or args.no_aug:
        return None
    if args.batch_size % 2:
        raise UserError('--batch-size %d is odd, and mixup pairs images; take an even one, or --mixup 0 --cutmix 0'
                        % args.batch_size)
    return DeviceMixup(mixup_alpha=args.mixup, cutmix_alpha=args.cutmix, cutmix_minmax=args.cutmix_minmax,
                       prob=args.mixup_prob, switch_prob=args.mixup_switch_prob, mode=args.mixup_mode,
                       label_smoothing=args.smoothing, num_classes=args.num_classes)


class Stage:
    """Batch (host, uint8) -> (images, targets) on the device, normalised; float32 (N, 3, H, W)."""

    def __init__(self, args, accelerator):
        self.accelerator, self.channels_last = accelerator, args.channels_last
        self.mean, self.std = (torch.tensor(v, device=accelerator.device).mul(255).view(1, 3, 1, 1)
                               for v in (args.mean, args.std))

    def __call__(self, batch):
        device = self.accelerator.device
        images = batch.images.to(device, non_blocking=True)
        targets = batch.targets.to(device, self.accelerator.target_dtype, non_blocking=True)
        images = images.float().sub_(self.mean).div_(self.std)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, targets


class TrainStage(Stage):
    """Also erases and mixes; targets become (N, num_classes) where mixup is on. Call `begin` before an epoch."""

    def __init__(self, args, accelerator, ranks):
        super().__init__(args, accelerator)
        self.erase = None
        if args.reprob > 0 and not args.no_aug:
            self.erase = RandomErasing(args.reprob, mode=args.remode, max_count=args.recount, device=accelerator.device)
        self.mixup, self.mixup_off_epoch = mixup_of(args), args.mixup_off_epoch
        self.seed, self.rank = args.seed, ranks.rank

    def begin(self, epoch, step):
        self.epoch, self.step = epoch, step
        if self.mixup is not None and self.mixup_off_epoch:
            self.mixup.mixup_enabled = epoch < self.mixup_off_epoch

    def __call__(self, batch):
        images, targets = super().__call__(batch)
        number = derive_seed('batch', self.seed, self.epoch, self.step, self.rank)
        seed_host(number)
        self.accelerator.seed(number)
        self.step += 1
        if self.erase is not None:
            images = self.erase(images)
        if self.mixup is not None:
            images, targets = self.mixup(images, targets)
        return images, targets


class Batches:
    """Iterates a loader's batches on the device.

    waited: seconds spent waiting for the loader since the last call of `take_waited`.
    bad: what could not be read so far, each said once by `tell`; more than `limit` of them end the run.
    """

    def __init__(self, loader, stage, accelerator, limit, tell):
        self.loader, self.stage, self.accelerator, self.limit, self.tell = loader, stage, accelerator, limit, tell
        self.waited, self.bad = 0., set()

    def __len__(self):
        return len(self.loader.batch_sampler)

    def __iter__(self):
        return iter(self.accelerator.prefetch(self._timed(), self.stage))

    def take_waited(self):
        waited, self.waited = self.waited, 0.
        return waited

    def close(self):
        """Ends the loading processes, as soon as no loop is over them.

        Left to the collector, a loader would lose the queues to its processes before it ends them, and wait 5 s for each.
        """
        self.loader = None

    def _timed(self):
        source = iter(self.loader)
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            self._note(batch.bad)
            if len(batch.images):
                yield batch

    def _note(self, bad):
        for reason in bad:
            if reason not in self.bad:
                self.bad.add(reason)
                if len(self.bad) > self.limit:
                    raise UserError(reason if self.limit == 0 else 'more than %d images cannot be read (--skip-bad-images '
                                    '%d), the last: %s' % (self.limit, self.limit, reason))
                self.tell('%s; skipped, %d of at most %d' % (reason[:-len(WAY_OUT)], len(self.bad), self.limit))
