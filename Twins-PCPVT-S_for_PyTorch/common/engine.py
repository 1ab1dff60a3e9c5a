"""The loop: train_one_epoch and evaluate. It knows neither the options nor the log."""

import contextlib
import time
from typing import Any, Callable, Dict, Iterable, Iterator, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from common.precision import Clip, Precision


def train_one_epoch(
    net: nn.Module,
    batches: Any,
    criterion: nn.Module,
    optimizer: Any,
    schedule: Any,
    *,
    precision: Precision,
    clock: Any,
    epoch: int,
    steps: int,
    first_step: int = 0,
    seed_step: Callable[[int], None],
    after_update: Callable[[int], None],
    after_step: Callable[[int, torch.Tensor], int],
    changing: Callable[[], Any] = contextlib.nullcontext,
    clip: Clip = None,
    parts: int = 1,
    frozen: Iterable[nn.Module] = (),
) -> int:
    """Trains from first_step to the end of an epoch of `steps` steps.

    batches: iterates (images, targets) on the device, and says by take_waited() for how long they were waited for.
    seed_step(step): before each step. changing(): the context in which the weights and what belongs to them change.
    after_update(step): in it, how many steps are done. after_step(step, loss): loss is a scalar tensor; -> the signal to stop for, or 0.
    parts: in how many a batch is computed, one after the other. frozen: modules that stay in evaluation mode.
    -> that signal or 0.
    """
    net.train()
    for module in frozen:
        module.training = False
    clock.begin(f'epoch {epoch}', steps, first_step)
    signum, step = 0, first_step
    for images, targets in batches:
        seed_step(step)
        losses = losses_of_parts(net, criterion, images, targets, parts, precision)
        loss = precision.backward(losses, optimizer, clip)
        with changing():
            precision.update(optimizer)
            step += 1
            schedule.step_update(epoch * steps + step)
            after_update(step)
        clock.step(len(images), batches.take_waited())
        signum = after_step(step, loss)
        if signum:
            break
    clock.end()
    return signum


def losses_of_parts(
    net: nn.Module, criterion: nn.Module, images: torch.Tensor, targets: torch.Tensor, parts: int, precision: Precision
) -> Iterator[torch.Tensor]:
    """Yields the loss of each part of a batch, by its share; they add up to the batch's mean. The ranks of a
    DistributedDataParallel exchange gradients once, with the last part's.
    """
    whole, pairs = len(images), list(zip(images.chunk(parts), targets.chunk(parts)))
    for number, (some, theirs) in enumerate(pairs, 1):
        alone = number < len(pairs) and hasattr(net, 'no_sync')
        with net.no_sync() if alone else contextlib.nullcontext():
            with precision.autocast():
                loss = criterion(net(some), theirs)
            yield loss if len(pairs) == 1 else loss * (len(some) / whole)


def logits_of(model: nn.Module, batches: Any, precision: Precision) -> Iterator[Tuple[torch.Tensor, torch.Tensor]]:
    """Yields the targets and the logits (N, classes), float32, of each batch, by the model in evaluation mode."""
    model.eval()
    for images, targets in batches:
        with torch.no_grad(), precision.autocast():
            logits = model(images)
        yield targets, logits.float()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Tuple[torch.Tensor, torch.Tensor]],
    *,
    precision: Precision,
    device: torch.device,
    ranks: Any,
    clock: Any = None,
    stopped: Callable[[], int] = lambda: 0,
    answers: Any = None,
) -> Dict[str, float]:
    """Counts right answers over the batches of all ranks; of those before stopped(), which each rank asks for itself.

    answers: a report.Answers, for batches whose targets are the numbers of the images.
    -> {'acc1', 'acc5' in percent, 'loss' (mean cross entropy), 'images' (how many were counted), 'seconds'}. Percentages and loss
    are NaN where no image was counted. With fewer than five classes acc5 counts the
    best of as many as there are.
    """
    start = time.perf_counter()
    right1, right5 = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
    loss, images_seen = torch.zeros((), device=device), 0
    if clock is not None:
        clock.begin()
    for targets, logits in logits_of(model, batches, precision):
        if answers is not None:
            targets = answers.take(targets, logits)
        loss += F.cross_entropy(logits, targets, reduction='sum')
        hits = logits.topk(min(5, logits.shape[1]), dim=1)[1] == targets.view(-1, 1)
        right1 += hits[:, :1].sum()
        right5 += hits.sum()
        images_seen += len(targets)
        if clock is not None:
            clock.step(len(targets), batches.take_waited())
        if stopped():
            break
    if clock is not None:
        clock.end()
    one, five, total_loss, total = ranks.sum([right1.item(), right5.item(), loss.item(), images_seen], device)
    counted = total or float('nan')
    found = {'acc1': 100 * one / counted, 'acc5': 100 * five / counted, 'loss': total_loss / counted}
    return {**found, 'images': int(total), 'seconds': time.perf_counter() - start}
