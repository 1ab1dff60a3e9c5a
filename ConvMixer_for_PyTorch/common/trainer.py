"""Trainer: a training or an evaluation, from its options. build.py makes its parts, engine.py has the loop."""

import math
import os
from functools import partial
from typing import Any, Dict, List, Optional

import numpy as np
import torch

from common import (
    build,
    data,
    effects,
    legacy,
    limits,
    messages,
    options,
    precision,
    profiling,
    report,
    throughput,
    transfer,
)
from common.device_data import BadImages
from common.distributed import Ranks
from common.engine import evaluate, train_one_epoch
from common.errors import DiskError, Interrupted, UserError
from common.losses import Losses
from common.progress import Progress
from common.run_logger import RunLogger, environment
from common.saver import Saver
from common.state import TrainState
from common.stop import Requests
from common.watchdog import Watchdog

WAITED_TOO_LONG = 10  # percent of the measured time, from which the summary says what to do


class Evaluator:
    """Counts the right answers of a model on the validation set, on all ranks or (--no-dist-eval) on each alone."""

    def __init__(
        self,
        args: options.Args,
        accelerator: Any,
        ranks: Ranks,
        requests: Requests,
        classes: List[str],
        bad: BadImages,
        at: Any,
    ):
        self.args, self.accelerator, self.requests, self.classes = args, accelerator, requests, classes
        self.ranks, self.primary = ranks if args.dist_eval else Ranks(environ={}), ranks.primary
        self.paths, self.targets = build.val_images(args, classes)
        self.answers = report.Answers(self.targets, accelerator.device) if args.eval_report else None
        numbered = self.targets if self.answers is None else np.arange(len(self.paths))
        self.loader = build.val_loader(args, accelerator, self.ranks, (self.paths, numbered), bad, at)

    def accuracy(self, model: Any, precision: Any, clock: Any = None) -> Optional[Dict[str, float]]:
        """-> what engine.evaluate gives; None when all ranks stop for a signal. Raises UserError."""
        options = {'precision': precision, 'device': self.accelerator.device, 'ranks': self.ranks, 'clock': clock}
        result = evaluate(model, self.loader, stopped=self.requests.told, answers=self.answers, **options)
        if self.requests.now():
            return None
        if not result['images']:
            raise UserError('the validation set has no readable image')
        if not math.isfinite(result['loss']):
            raise UserError(
                f'the loss on the validation set is {result["loss"]}; the weights of the model are not usable'
            )
        return result

    def report(self) -> List[str]:
        """Writes what --eval-report asks for. All ranks come here. -> the names of the files"""
        found = self.answers.gather(self.ranks)
        return report.write(self.args.output_dir, self.paths, self.targets, found, self.classes) if self.primary else []

    def note(self) -> str:
        """-> what is special about the images that are counted, for the log line."""
        counted, size, bad = (
            self.loader.loader.batch_sampler.size,
            len(self.loader.loader.dataset),
            len(self.loader.bad),
        )
        note = '' if counted == size else f', a sample of {size}'
        return note + (f', {bad} unreadable on rank 0' if bad else '')


class Trainer:
    """loaded: the checkpoint that --resume or --finetune names, as read, or None. classes: their names, in order."""

    def __init__(self, args: options.Args, ranks: Ranks, accelerator: Any, classes: List[str], loaded: Any, hooks: Any):
        self.args, self.ranks, self.accelerator, self.classes, self.hooks = args, ranks, accelerator, classes, hooks
        self.progress = Progress(ranks.primary)
        self.log = RunLogger(args.output_dir, ranks.primary, self.progress, args.tensorboard, args.case)
        self.requests = Requests(ranks)
        self.precision = precision.choose(args, accelerator)
        self.model = build.model(args, hooks, accelerator, ranks, classes, loaded, self.log.say)
        self.train_loader = self.state = None
        self.watch = Watchdog(ranks, self.requests, args.timeout, self._way_on, self._where)
        self.saver = Saver(args, ranks, classes, self.log.say, self.watch.at)
        bad = BadImages(args.skip_bad_images, ranks, partial(self.log.say, any_rank=True))
        self.evaluator = Evaluator(args, accelerator, ranks, self.requests, classes, bad, self.watch.at)
        if args.case != 'eval':
            self.train_loader = build.train_loader(args, accelerator, ranks, bad, self.watch.at)
            self._prepare_training(loaded)
        self._introduce()

    def _prepare_training(self, loaded: Any) -> None:
        args = self.args
        self.steps = self.train_loader.loader.batch_sampler.steps
        self.criterion = build.criterion(args, self.classes, self.accelerator)
        self.frozen = transfer.freeze(self.model) if args.freeze else []
        self.clip = precision.clipper(args.clip_grad, args.clip_mode)
        optimizer = build.optimizer(args, self.model, self.accelerator, self.hooks.layers)
        ema = build.average(args, self.model)  # before the precision changes the model: it stays in float32
        self.model, optimizer = self.precision.prepare(self.model, optimizer)
        schedule, self.epochs = build.schedule(args, self.hooks, optimizer, self.steps)
        self.net = build.network(args, self.model, self.precision, self.accelerator, self.ranks)
        self.state = TrainState(self.model, ema, optimizer, schedule, self.precision, self.steps)
        if args.resume:
            self.state.resume(loaded, args, self.ranks.world, self.log.say)
        if args.start_epoch is not None:
            self.state.start_at(args.start_epoch)
        self.saver.begin(self.state)
        self.losses = Losses(self.ranks, self.accelerator.device, args.print_freq, self.precision.skips)

    def _introduce(self) -> None:
        """Logs what this training or evaluation is, before it begins."""
        args, ranks, device = self.args, self.ranks, self.accelerator
        batch = args.batch_size * (ranks.local_world if args.batch_per_node else 1)  # as the command line counts
        fields = {name: getattr(args, name) for name in ('network', 'case', 'model', 'summary_also')}
        fields.update(ranks=ranks.world, device=device.name, device_kind=device.kind, precision=self.precision.words)
        self.log.event(
            'run', batch_size=batch, environment=environment(device), args=args.values(), origin=args.origin, **fields
        )
        parameters = sum(p.numel() for p in self.model.parameters()) / 1e6
        size = args.img_size if isinstance(args.img_size, int) else 'x'.join(map(str, args.img_size))
        fields.update(parameters=parameters, classes=args.num_classes, img_size=size)
        self.log.say(messages.RUN_LINE.format(**fields))
        lacking = legacy.missing_features(self.model, device.kind, args.channels_last, self.precision.words)
        for line in [*device.notes, *options.described(args), *args.notes, *effects.idle(self), *lacking]:
            self.log.say(line)
        if args.case == 'eval':
            return
        sizes = {'train_size': len(self.train_loader.loader.dataset), 'steps': self.steps, 'epochs': self.epochs}
        sizes.update(global_batch=args.batch_size * ranks.world, lr=args.lr, workers=args.workers)
        self.log.say(messages.SIZES_LINE.format(**sizes))
        self.log.say(build.kernels(self.model, self.state.optimizer))
        if self.state.epoch or self.state.step:
            self.log.say(messages.RESUMED_LINE.format(resume=args.resume, epoch=self.state.epoch, step=self.state.step))

    # ---- training

    def fit(self) -> None:
        """Trains from the first epoch to the last; evaluates and saves after each."""
        args, state = self.args, self.state
        self.clock = self._clock(self.steps, self.progress)
        self.accelerator.reset_peak_memory()
        traced, where = args.profile if self.ranks.primary else 0, os.path.join(args.output_dir, 'profile')
        self.profile = profiling.step_profile(self.accelerator, traced, self.clock.warmup_steps, where, self.log.say)
        if state.epoch >= self.epochs:
            here = f'The training of {args.resume} is at epoch {state.epoch} of {self.epochs}'
            self.log.say(f'{here}: nothing is left to train, it is evaluated.')
            self.evaluate(self.epochs - 1)
        try:
            while state.epoch < self.epochs:
                self._train_epoch(state.epoch)
                best = self.evaluate(state.epoch)
                state.end_epoch()
                self.saver.save_epoch(best, end=state.epoch >= self.epochs)
        finally:
            self.profile.stop()
        self.conclude(self.clock, self.ranks)

    def _train_epoch(self, epoch: int) -> None:
        """Trains from state.step to the end of the epoch. Raises Interrupted when all ranks stop for a signal."""
        args, state = self.args, self.state
        state.begin_epoch(epoch)
        self.train_loader.begin(epoch, state.step)
        self.save_due = False

        def seed_step(step):  # dropout and stochastic depth depend on the place in the training alone
            self.accelerator.seed(data.derive_seed('step', args.seed, epoch, step, self.ranks.rank))

        signum = 0
        if state.step < self.steps:
            signum = train_one_epoch(
                self.net,
                self.train_loader,
                self.criterion,
                state.optimizer,
                state.schedule,
                precision=self.precision,
                clock=self.clock,
                epoch=epoch,
                steps=self.steps,
                first_step=state.step,
                seed_step=seed_step,
                after_update=self._after_update,
                after_step=partial(self._after_step, epoch),
                changing=self.watch.changing,
                clip=self.clip,
                parts=args.grad_accum_steps,
                frozen=self.frozen,
            )
        last_signum, save = self.requests.settle()
        if state.step == self.steps:
            state.join(self.ranks.world, args.dist_bn)
        if signum or last_signum:
            self.stop_here(signum or last_signum)
        if self.save_due or save:
            self._save_between()

    def _after_update(self, step: int) -> None:
        if self.state.ema is not None:
            self.state.ema.update(self.model)
        self.state.step = step

    def _after_step(self, epoch: int, step: int, loss: torch.Tensor) -> int:
        """All ranks come here after the same step. -> the signal to stop for, or 0"""
        self.profile.step()
        printed = step % self.args.print_freq == 0 or step == self.steps
        if self.losses.add(loss) or printed:
            mean = self.losses.look(epoch, step)
            if printed:
                self._report(epoch, step, mean)
        signum, save = self.requests.agreed(self.saver.by_clock())
        self.save_due |= save or self.saver.by_step(step)
        if self.save_due and not signum and step < self.steps:
            self._save_between()
        return signum

    def _report(self, epoch: int, step: int, loss: float) -> None:
        """The log line of a step; all ranks come here at the same steps."""
        lap = self.clock.lap()
        left = (self.epochs - epoch) * self.steps - step
        lr = max(group['lr'] for group in self.state.optimizer.param_groups)
        place = {'epoch': epoch, 'step': step, 'steps': self.steps, 'lr': lr}
        lap.update(fps=lap['fps'] * self.ranks.world, loss=loss, eta=int(left * lap['step_ms'] / 1000))
        self.log.train(**place, **lap)

    # ---- evaluating

    def evaluate_only(self) -> None:
        clock = self._clock(len(self.evaluator.loader))
        self.evaluate(None, clock)
        if self.args.eval_report:
            self.log.say(f'Report: {", ".join(self.evaluator.report())} in {self.args.output_dir}')
        self.conclude(clock, self.evaluator.ranks)  # where each rank evaluates all images, each counts once

    def evaluate(self, epoch: Optional[int], clock: Any = None) -> bool:
        """Evaluates the model, and the averaged weights. -> whether the model is the best one so far."""
        ema = self.state.ema if self.state is not None else None
        result = self.evaluator.accuracy(self.model, self.precision, clock)
        average = self.evaluator.accuracy(ema.module, self.precision) if ema is not None and result else None
        if result is None or (average is None and ema is not None):
            self.stop_here(self.requests.now())
        best, so_far = False, {'best_acc1': None, 'best_epoch': None}
        if epoch is not None:
            best = self.state.note_accuracy(result['acc1'], epoch)
            so_far = {name: getattr(self.state, name) for name in so_far}
        note = self.evaluator.note()
        self.log.evaluation(note, epoch=epoch, weights='model', **so_far, **result)
        if average is not None:
            self.log.evaluation(f'{note}, averaged weights', epoch=epoch, weights='ema', **average)
        return best

    # ---- saving

    def _save_between(self) -> None:
        """In an epoch. The ranks wait for one another, so that it belongs to no step; a disk that is full may be free the next time."""
        self.save_due = False
        with self.clock.paused():
            try:
                self.saver.save()
            except DiskError as e:
                self.log.say(f'{e}. The training goes on.')
            self.requests.now()

    def stop_here(self, signum: int) -> None:
        """Saves and raises Interrupted, for a signal that all ranks stop for."""
        if self.args.case == 'eval':
            raise Interrupted(signum, 'during an evaluation; nothing was lost, start it again')
        raise Interrupted(signum, f'at {self.state.place}; {self.saver.way_on()}')

    def rescue(self) -> None:
        """After an error: saves the last whole step, where there is one that is not saved."""
        if self.saver.active and self.state is not None and self.saver.saved != self.state.place:
            self.log.say(f'The training ends at {self.state.place}; {self.watch.rescue()}.')

    # ---- the end

    def conclude(self, clock: Any, ranks: Ranks) -> None:
        """The last lines of the log: throughput, checkpoint, end."""
        measured = clock.result(ranks)
        data_percent = 100 * (measured['data_wait'] or 0)
        if data_percent > WAITED_TOO_LONG:
            known = {'data_percent': data_percent, 'workers': self.args.workers, 'cores': limits.cores()}
            measured['advice'] = messages.WAITED.format(**known)
        self.log.event('throughput', **measured)
        line = messages.NO_THROUGHPUT_LINE if measured['fps'] is None else messages.THROUGHPUT_LINE
        self.log.say(line.format(data_percent=data_percent, **measured))
        if 'advice' in measured:
            self.log.say(f'FPS: {measured["advice"]}.')
        evaluated = self.args.case == 'eval' and self.args.resume
        last = evaluated or (self.saver.file if self.saver.wanted else None)
        self.log.say(f'Checkpoint: {last}' if last else 'Checkpoint: none, as --no-checkpoint says')
        self.log.event('end', checkpoint=last, complete=True)

    def close(self) -> None:
        """Ends the workers, and lets go of the process group of `requests`."""
        self.watch.close()
        self.evaluator.loader.close()
        if self.train_loader is not None:
            self.train_loader.close()
        self.requests.close()

    def _way_on(self) -> str:
        return self.saver.way_on() if self.state is not None else 'nothing was lost, start it again'

    def _where(self) -> str:
        return self.state.place if self.state is not None else 'evaluation'

    def _clock(self, steps: int, progress: Optional[Progress] = None) -> throughput.StepClock:
        return throughput.StepClock(self.accelerator, throughput.warmup_steps(self.args.warmup_steps, steps), progress)
