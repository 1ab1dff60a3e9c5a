"""The loop: train_one_epoch and evaluate."""
import math
import time

import torch
import torch.nn.functional as F

from common.data import derive_seed
from common.errors import Interrupted, UserError


def train_one_epoch(run, epoch, first_step=0):
    """Trains from first_step to the end of the epoch. run: trainer.Run.

    -> the signal that all ranks agreed to stop for, and the step to go on with; (0, steps) at the end of the epoch.
    """
    run.net.train()
    run.order.begin(epoch, first_step)
    run.stage.begin(epoch, first_step)
    run.meter.open()
    pace = Pace(run)
    run.progress.begin('epoch %d of %d' % (epoch + 1, run.epochs), run.steps, first_step)
    signum, step = 0, first_step
    for images, targets in run.batches:
        # what the model draws (dropout, stochastic depth) depends on the place in the run alone: a resumed run is the same
        run.accelerator.seed(derive_seed('step', run.args.seed, epoch, step, run.ranks.rank))
        with run.precision.autocast():
            loss = run.criterion(run.net(images), targets)
        run.precision.step(loss, run.optimizer, run.clip)
        run.schedule.step_update(epoch * run.steps + step + 1)
        if run.ema is not None:
            run.ema.update(run.model)
        step += 1
        if run.profile is not None:
            run.profile.step()
        waited = run.batches.take_waited()
        run.meter.step(len(images), waited)
        run.progress.step()
        pace.count(len(images), waited)
        if step % run.args.print_freq == 0 or step == run.steps:
            run.log.train(**pace.line(epoch, step, loss))
        signum = run.stop.agreed()
        if signum:
            break
    run.meter.close()
    run.progress.end()
    return signum or run.stop.settle(), step


class Pace:
    """What a training line says: loss, images per second and waiting since the line before."""

    def __init__(self, run):
        self.run = run
        self.begin()

    def begin(self):
        self.start, self.images, self.waited, self.steps = time.perf_counter(), 0, 0., 0

    def count(self, images, waited):
        self.images, self.waited, self.steps = self.images + images, self.waited + waited, self.steps + 1

    def line(self, epoch, step, loss):
        """-> the fields of run_log.train; loss: this rank's, a scalar tensor. Called by every rank at the same steps."""
        run = self.run
        loss = run.ranks.sum([loss.item()], run.accelerator.device)[0] / run.ranks.world   # .item() waits for the device
        if not math.isfinite(loss):
            raise UserError('the loss is %s at epoch %d, step %d; lower --lr, clip by --clip-grad, or try --no-amp; the '
                            'last checkpoint is untouched' % (loss, epoch, step))
        seconds = time.perf_counter() - self.start
        todo = (run.epochs - epoch) * run.steps - step
        fields = dict(epoch=epoch, step=step, steps=run.steps, loss=loss, fps=self.images * run.ranks.world / seconds,
                      step_ms=1000 * seconds / self.steps, data_wait=self.waited / seconds,
                      lr=run.optimizer.param_groups[0]['lr'], eta=int(todo * seconds / self.steps))
        self.begin()
        return fields


@torch.no_grad()
def evaluate(model, batches, run, meter=None):
    """Counts right answers over all ranks' batches, every image once.

    -> {'acc1', 'acc5' in percent, 'loss' (mean cross entropy), 'images' counted, 'seconds'}. meter: throughput to feed.
    With fewer than five classes acc5 counts the best of as many as there are.
    """
    model.eval()
    device, start = run.accelerator.device, time.perf_counter()
    right1, right5 = torch.zeros((), dtype=torch.int64, device=device), torch.zeros((), dtype=torch.int64, device=device)
    loss, images_seen = torch.zeros((), device=device), 0
    if meter is not None:
        meter.open()
    for images, targets in batches:
        with run.precision.autocast():
            logits = model(images)
        logits = logits.float()
        loss += F.cross_entropy(logits, targets, reduction='sum')
        hits = logits.topk(min(5, logits.shape[1]), dim=1)[1] == targets.view(-1, 1)
        right1 += hits[:, :1].sum()
        right5 += hits.sum()
        images_seen += len(targets)
        if meter is not None:
            meter.step(len(targets), batches.take_waited())
        if run.stop.signum:          # no collective until the end, so each rank may leave at once; nothing is lost
            raise Interrupted(run.stop.signum, 'during an evaluation; ' + run.way_on())
    if meter is not None:
        meter.close()
    one, five, loss, total = run.eval_ranks.sum([right1.item(), right5.item(), loss.item(), images_seen], device)
    if not total:
        raise UserError('the validation set has no readable image')
    if not math.isfinite(loss):
        raise UserError('the model answers with %s on the validation set; its weights are spoilt' % loss)
    return {'acc1': 100 * one / total, 'acc5': 100 * five / total, 'loss': loss / total, 'images': int(total),
            'seconds': time.perf_counter() - start}
