"""Batches on the device: copied, normalised, erased and mixed there, while the step before still runs.

What is random about a batch is a function of (seed, epoch, step, rank).
"""

import time
from typing import Any, Callable, Iterator, Optional, Set, Tuple

import torch
from timm.data.random_erasing import RandomErasing

from common.data import Batch, derive_seed, seed_host
from common.erasing import BatchErasing
from common.errors import UserError
from common.images import WAY_OUT
from common.legacy import DeviceMixup
from common.options import sides
from common.watchdog import IMAGES, STEP


def mixup_of(args: Any) -> Optional[DeviceMixup]:
    """-> mixup and cutmix as the options say; None where both are off."""
    if not (args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax) or args.no_aug:
        return None
    if args.batch_size % 2:
        raise UserError(
            f'--batch-size {args.batch_size} is odd, and mixup pairs images; give an even one, or --mixup 0 --cutmix 0'
        )
    least, most = args.cutmix_minmax or (0, 1)
    side = min(sides(args.img_size))
    if int(least * side) == int(most * side):
        raise UserError(f'--cutmix-minmax {least:g} {most:g} is no range of whole pixels at {side} pixels; widen it')
    return DeviceMixup(
        mixup_alpha=args.mixup,
        cutmix_alpha=args.cutmix,
        cutmix_minmax=args.cutmix_minmax,
        prob=args.mixup_prob,
        switch_prob=args.mixup_switch_prob,
        mode=args.mixup_mode,
        label_smoothing=args.smoothing,
        num_classes=args.num_classes,
    )


class EvalTransform:
    """Batch on the host (uint8) -> (images, targets) on the device; images are normalised float32 (N, 3, H, W)."""

    def __init__(self, args: Any, accelerator: Any):
        self.accelerator, self.channels_last = accelerator, args.channels_last
        mean, std = (torch.tensor(v, device=accelerator.device).mul(255) for v in (args.mean, args.std))
        self.mean, self.std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)

    def __call__(self, batch: Batch) -> Tuple[torch.Tensor, torch.Tensor]:
        device = self.accelerator.device
        images = batch.images.to(device, non_blocking=True)
        targets = batch.targets.to(device, self.accelerator.targets_dtype, non_blocking=True)
        images = images.float().sub_(self.mean).div_(self.std)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, targets


class TrainTransform(EvalTransform):
    """Also erases and mixes; with mixup, targets are (N, num_classes). Call `begin` before each epoch."""

    def __init__(self, args: Any, accelerator: Any, ranks: Any):
        super().__init__(args, accelerator)
        self.erase = None
        if args.reprob > 0 and not args.no_aug:
            options = {'probability': args.reprob, 'mode': args.remode, 'max_count': args.recount}
            if accelerator.launches_cost:
                self.erase = BatchErasing(accelerator.upload, **options)
            else:  # timm's draws the numbers of the boxes only
                self.erase = RandomErasing(device='cpu', **options)
        self.mixup, self.mixup_off_epoch = mixup_of(args), args.mixup_off_epoch
        self.seed, self.rank = args.seed, ranks.rank

    def begin(self, epoch: int, step: int) -> None:
        self.epoch, self.step = epoch, step
        if self.mixup is not None and self.mixup_off_epoch:
            self.mixup.mixup_enabled = epoch < self.mixup_off_epoch

    def __call__(self, batch: Batch) -> Tuple[torch.Tensor, torch.Tensor]:
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


class BadImages:
    """The images of a run that cannot be read, of all its ranks and both splits.

    More than limit of them end the run with UserError. say(text): is told each of the others once.
    """

    def __init__(self, limit: int, ranks: Any, say: Callable[[str], None]):
        self.limit, self.ranks, self.say = limit, ranks, say

    def note(self, reason: str) -> None:
        if self.limit == 0:
            raise UserError(reason)
        if self.ranks.count(reason) > 1:  # another rank, in another epoch, met it before
            return
        number = self.ranks.count('images that cannot be read')
        if number > self.limit:
            raise UserError(
                f'more than {self.limit} images cannot be read (--skip-bad-images {self.limit}), the last: {reason}'
            )
        self.say(f'{reason[: -len(WAY_OUT)]}; skipped, {number} of at most {self.limit}')


class PrefetchLoader:
    """Iterates the transformed batches of a DataLoader on the device.

    bad_images: is told what cannot be read. at: is told when the workers are waited for, and when they have answered.
    """

    def __init__(self, loader: Any, transform: EvalTransform, accelerator: Any, bad_images: BadImages, at: Callable):
        self.loader, self.transform, self.accelerator, self.bad_images = loader, transform, accelerator, bad_images
        self.at = at
        self.waited = 0.0
        self.bad: Set[str] = set()  # as this rank met them

    def __len__(self) -> int:
        return len(self.loader.batch_sampler)

    def __iter__(self) -> Iterator[Tuple[torch.Tensor, torch.Tensor]]:
        return iter(self.accelerator.prefetch(self._timed(), self.transform))

    def begin(self, epoch: int, first_step: int) -> None:
        """Of a training: chooses the epoch, and the step at which the next iteration begins."""
        self.loader.batch_sampler.begin(epoch, first_step)
        self.transform.begin(epoch, first_step)

    def take_waited(self) -> float:
        """-> seconds spent waiting for the workers since the last call."""
        waited, self.waited = self.waited, 0.0
        return waited

    def close(self) -> None:
        """Ends the workers. (Garbage collection would close their queues first, and then wait 5 s for each worker.)"""
        self.loader = None

    def _timed(self) -> Iterator[Batch]:
        self.at(IMAGES)
        source = iter(self.loader)
        while True:
            start = time.perf_counter()
            self.at(IMAGES)
            batch = next(source, None)
            self.at(STEP)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            for reason in batch.bad:
                if reason not in self.bad:
                    self.bad.add(reason)
                    self.bad_images.note(reason)
            if len(batch.images):
                yield batch
            elif self.loader.dataset.replace:
                raise UserError('the training set has no readable image')
