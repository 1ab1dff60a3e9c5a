"""Trainer: a training or an evaluation, from its options. build.py makes its parts, engine.py has the loop."""

import math
from functools import partial
from typing import Any, Dict, List, Optional

import torch
from timm.utils import distribute_bn

from common import build, data, effects, legacy, messages, options, precision, profiling, throughput
from common.checkpoint import CheckpointFolder
from common.device_data import BadImages
from common.distributed import Ranks, StopRequest
from common.engine import evaluate, train_one_epoch
from common.errors import Interrupted, UserError
from common.progress import Progress
from common.run_logger import RunLogger, environment


class Evaluator:
    """Counts the right answers of a model on the validation set, on all ranks or (--no-dist-eval) on each alone."""

    def __init__(self, args: options.Args, accelerator: Any, ranks: Ranks, stop: StopRequest, bad: BadImages):
        self.accelerator, self.stop = accelerator, stop
        self.ranks = ranks if args.dist_eval else Ranks(environ={})
        self.loader = build.val_loader(args, accelerator, self.ranks, bad)

    def accuracy(self, model: Any, precision: Any, clock: Any = None) -> Optional[Dict[str, float]]:
        """-> what engine.evaluate gives; None when this rank was told to stop. Raises UserError."""
        device, stopped = self.accelerator.device, lambda: self.stop.signum
        result = evaluate(
            model, self.loader, precision=precision, device=device, ranks=self.ranks, clock=clock, stopped=stopped
        )
        if result is not None and not result['images']:
            raise UserError('the validation set has no readable image')
        if result is not None and not math.isfinite(result['loss']):
            raise UserError(
                f'the loss on the validation set is {result["loss"]}; the weights of the model are not usable'
            )
        return result

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
        self.stop = StopRequest(ranks)
        self.checkpoints = CheckpointFolder(args.output_dir, self.log.say)
        self.precision = precision.choose(args, accelerator)
        self.model = build.model(args, hooks, accelerator, ranks, classes, loaded, self.log.say)
        self.train_loader = self.ema = None
        self.epoch = self.step = 0  # where to go on
        self.accuracies: List[float] = []  # of the epochs so far
        self.best_acc1 = self.best_epoch = None
        bad = BadImages(args.skip_bad_images, ranks, partial(self.log.say, any_rank=True))
        self.evaluator = Evaluator(args, accelerator, ranks, self.stop, bad)
        if args.case != 'eval':
            self.train_loader = build.train_loader(args, accelerator, ranks, bad)
            self._prepare_training()
            if args.resume:
                self._resume(loaded)
            if args.start_epoch is not None:
                self.epoch, self.step = args.start_epoch, 0
            self.accuracies = [*self.accuracies, *[0.0] * self.epoch][: self.epoch]
        self._introduce()

    def _prepare_training(self) -> None:
        args = self.args
        self.steps = self.train_loader.loader.batch_sampler.steps
        self.criterion = build.criterion(args)
        self.clip = precision.clipper(args.clip_grad, args.clip_mode)
        optimizer = build.optimizer(args, self.model, self.accelerator)
        self.ema = build.average(args, self.model)  # before the precision changes the model: it stays in float32
        self.model, self.optimizer = self.precision.prepare(self.model, optimizer)
        with build.blame(f'--sched {args.sched}'):
            self.schedule, self.epochs = self.hooks.schedule(args, self.optimizer, self.steps)
        self.net = build.network(args, self.model, self.accelerator, self.ranks)

    def _resume(self, loaded: Dict[str, Any]) -> None:
        """Takes over what the checkpoint has: the training goes on with the same step and the same random numbers."""
        args = self.args
        if loaded.get('format') != 1 or 'optimizer' not in loaded:
            self.log.say('The checkpoint has weights and no state of a training: this one begins at epoch 0 with them.')
        else:
            self.epoch = loaded['epoch']
            seen = loaded['step'] * loaded['global_batch']  # in images: the batch may have changed
            self.step = min(seen // (args.batch_size * self.ranks.world), self.steps)
            self.accuracies = loaded.get('accuracies') or []
            self.best_acc1, self.best_epoch = loaded.get('best_acc1'), loaded.get('best_epoch')
            for epoch in range(1, self.epoch):  # a plateau schedule depends on every accuracy so far
                self.schedule.step(epoch, self.accuracies[epoch - 1] if self.accuracies else 0.0)
            build.resume_optimizer(self.optimizer, loaded, args)
            self.precision.load_state_dict(loaded.get('scaler'))
            if self.ema is not None and loaded.get('state_dict_ema'):
                self.ema.module.load_state_dict(loaded['state_dict_ema'])
        self.checkpoints.keep(args.resume)

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
        fields.update(parameters=parameters, classes=args.num_classes, img_size=args.img_size)
        self.log.say(messages.RUN_LINE.format(**fields))
        lacking = legacy.missing_features(self.model, device.kind, args.channels_last, self.precision.words)
        for line in [*device.notes, *options.described(args), *args.notes, *effects.idle(self), *lacking]:
            self.log.say(line)
        if args.case == 'eval':
            return
        sizes = {'train_size': len(self.train_loader.loader.dataset), 'steps': self.steps, 'epochs': self.epochs}
        sizes.update(global_batch=args.batch_size * ranks.world, lr=args.lr, workers=args.workers)
        self.log.say(messages.SIZES_LINE.format(**sizes))
        self.log.say(build.kernels(self.model, self.optimizer))
        if self.epoch or self.step:
            self.log.say(messages.RESUMED_LINE.format(resume=args.resume, epoch=self.epoch, step=self.step))

    # ---- training

    def fit(self) -> None:
        """Trains from the first epoch to the last; evaluates and saves after each."""
        args, where = self.args, self.checkpoints.path('profile')
        self.clock = self._clock(self.steps, self.progress)
        self.accelerator.reset_peak_memory()
        traced = args.profile if self.ranks.primary else 0
        self.profile = profiling.step_profile(self.accelerator, traced, self.clock.warmup_steps, where, self.log.say)
        if self.epoch >= self.epochs:
            here = f'The training of {args.resume} is at epoch {self.epoch} of {self.epochs}'
            self.log.say(f'{here}: nothing is left to train, it is evaluated.')
            self.evaluate(self.epochs - 1)
        try:
            while self.epoch < self.epochs:
                self._train_epoch(self.epoch)
                if self.ranks.world > 1 and args.dist_bn != 'none':
                    distribute_bn(self.model, self.ranks.world, args.dist_bn == 'reduce')
                best = self.evaluate(self.epoch)
                self.epoch, self.step = self.epoch + 1, 0
                self.save(best)
        finally:
            self.profile.stop()
        self.conclude(self.clock, self.ranks)

    def _train_epoch(self, epoch: int) -> None:
        """Trains from self.step to the end of the epoch. Raises Interrupted when all ranks stop for a signal."""
        args = self.args
        if epoch:  # timm's schedules set the rates of epoch 0 when they are made
            self.schedule.step(epoch, self.accuracies[-1])
        self.schedule.step_update(epoch * self.steps + self.step)
        self.train_loader.begin(epoch, self.step)

        def seed_step(step):  # dropout and stochastic depth depend on the place in the training alone
            self.accelerator.seed(data.derive_seed('step', args.seed, epoch, step, self.ranks.rank))

        def after_update():
            if self.ema is not None:
                self.ema.update(self.model)
            self.profile.step()

        signum, self.step = train_one_epoch(
            self.net,
            self.train_loader,
            self.criterion,
            self.optimizer,
            self.schedule,
            precision=self.precision,
            clock=self.clock,
            epoch=epoch,
            steps=self.steps,
            first_step=self.step,
            seed_step=seed_step,
            after_update=after_update,
            report=lambda step, loss: self._report(epoch, step, loss),
            stop=self.stop.agreed,
            clip=self.clip,
        )
        signum = signum or self.stop.settle()
        if signum:
            self.stop_here(signum)

    def _report(self, epoch: int, step: int, loss: torch.Tensor) -> None:
        """The log line of a step, every --print-freq steps; all ranks come here at the same steps."""
        if step % self.args.print_freq and step != self.steps:
            return
        total = self.ranks.sum([loss.item()], self.accelerator.device)[0]  # .item() waits for the device
        mean = total / self.ranks.world
        if not math.isfinite(mean):
            raise UserError(
                f'the loss is {mean} at epoch {epoch}, step {step}; lower --lr, clip by --clip-grad, or try --no-amp; the '
                'last checkpoint is untouched'
            )
        lap = self.clock.lap()
        left = (self.epochs - epoch) * self.steps - step
        place = {'epoch': epoch, 'step': step, 'steps': self.steps, 'lr': self.optimizer.param_groups[0]['lr']}
        lap.update(fps=lap['fps'] * self.ranks.world, loss=mean, eta=int(left * lap['step_ms'] / 1000))
        self.log.train(**place, **lap)

    def stop_here(self, signum: int) -> None:
        """Saves and raises Interrupted, for a signal that all ranks stop for."""
        if self.args.case == 'eval':
            raise Interrupted(signum, 'during an evaluation; nothing was lost, start it again')
        self._save_last()
        last = self.checkpoints.path('checkpoint.pth')
        raise Interrupted(signum, f'at epoch {self.epoch}, step {self.step}; go on with --resume={last}')

    # ---- evaluating

    def evaluate_only(self) -> None:
        clock = self._clock(len(self.evaluator.loader))
        self.evaluate(None, clock)
        self.conclude(clock, self.evaluator.ranks)  # where each rank evaluates all images, each counts once

    def evaluate(self, epoch: Optional[int], clock: Any = None) -> bool:
        """Evaluates the model, and the averaged weights. -> whether the model is the best one so far."""
        result = self.evaluator.accuracy(self.model, self.precision, clock)
        average = self.evaluator.accuracy(self.ema.module, self.precision) if self.ema is not None else None
        if result is None or (average is None and self.ema is not None):
            self.stop_here(self.stop.signum)
        if epoch is not None:
            self.accuracies = [*self.accuracies[:epoch], result['acc1']]
        best = epoch is not None and (self.best_acc1 is None or result['acc1'] > self.best_acc1)
        if best:
            self.best_acc1, self.best_epoch = result['acc1'], epoch
        note = self.evaluator.note()
        so_far = {'best_acc1': self.best_acc1, 'best_epoch': self.best_epoch}
        self.log.evaluation(note, epoch=epoch, weights='model', **so_far, **result)
        if average is not None:
            self.log.evaluation(f'{note}, averaged weights', epoch=epoch, weights='ema', **average)
        return best

    # ---- writing

    def save(self, best: bool) -> None:
        """After an epoch: checkpoint.pth every --save-freq epochs and at the end, model_best.pth where it is the best."""
        due = self.epoch >= self.epochs or self.epoch % self.args.save_freq == 0
        if due:
            self._save_last()
        if best and self.ranks.primary:
            if due:
                self.checkpoints.link('checkpoint.pth', 'model_best.pth')
            else:
                self.checkpoints.save(self.state(), 'model_best.pth')

    def _save_last(self) -> None:
        if self.ranks.primary:
            self.checkpoints.save(self.state(), 'checkpoint.pth')

    def state(self) -> Dict[str, Any]:
        """-> what a checkpoint holds, see checkpoint.py."""
        args = {k: list(v) if isinstance(v, tuple) else v for k, v in self.args.values().items()}
        return {
            'format': 1,
            'arch': self.args.model,
            'epoch': self.epoch,
            'step': self.step,
            'global_batch': self.args.batch_size * self.ranks.world,
            'state_dict': self.precision.weights(self.model, self.optimizer),
            'state_dict_ema': self.ema.module.state_dict() if self.ema is not None else None,
            'optimizer': self.optimizer.state_dict(),
            'scaler': self.precision.state_dict(),
            'best_acc1': self.best_acc1,
            'best_epoch': self.best_epoch,
            'accuracies': self.accuracies,
            'classes': self.classes,
            'args': args,
        }

    def conclude(self, clock: Any, ranks: Ranks) -> None:
        """The last lines of the log: throughput, checkpoint, end."""
        measured = clock.result(ranks)
        self.log.event('throughput', **measured)
        line = messages.NO_THROUGHPUT_LINE if measured['fps'] is None else messages.THROUGHPUT_LINE
        self.log.say(line.format(data_percent=100 * (measured['data_wait'] or 0), **measured))
        last = self.args.resume if self.args.case == 'eval' else self.checkpoints.path('checkpoint.pth')
        self.log.say(f'Checkpoint: {last}')
        self.log.event('end', checkpoint=last, complete=True)

    def close(self) -> None:
        """Ends the workers, and lets go of the process group of `stop`."""
        self.evaluator.loader.close()
        if self.train_loader is not None:
            self.train_loader.close()
        self.stop.close()

    def _clock(self, steps: int, progress: Optional[Progress] = None) -> throughput.StepClock:
        return throughput.StepClock(self.accelerator, throughput.warmup_steps(self.args.warmup_steps, steps), progress)
