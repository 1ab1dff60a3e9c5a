"""TrainState: what is trained and how far it is; what a checkpoint holds of it, and how a resumed training takes it over."""

from typing import Any, Callable, Dict, List, Optional

from timm.utils import distribute_bn

from common import build

Say = Callable[[str], None]


class TrainState:
    """model, its average (ema, or None), optimizer, schedule: being trained. steps: of an epoch.

    epoch, step: where to go on; step == steps: what is left of the epoch is its evaluation. joined: see join. accuracies: of the
    epochs so far, in percent.
    """

    def __init__(self, model: Any, ema: Any, optimizer: Any, schedule: Any, precision: Any, steps: int):
        self.model, self.ema, self.optimizer, self.schedule = model, ema, optimizer, schedule
        self.precision, self.steps = precision, steps
        self.epoch = self.step = 0
        self.joined = False
        self.accuracies: List[float] = []
        self.best_acc1: Optional[float] = None
        self.best_epoch: Optional[int] = None

    @property
    def place(self) -> str:
        return f'epoch {self.epoch}, step {self.step}'

    # ---- going on

    def begin_epoch(self, epoch: int) -> None:
        if epoch:  # timm's schedules set the rates of epoch 0 when they are made
            self.schedule.step(epoch, self.accuracies[-1])
        self.schedule.step_update(epoch * self.steps + self.step)

    def join(self, world: int, how: str) -> None:
        """Before an evaluation: makes the batch norm statistics of the ranks one, 'reduce' or 'broadcast'; 'none' leaves them.

        Those of the average become rank 0's, which are in the checkpoints; a resumed training has no others.
        """
        if world > 1 and how != 'none' and not self.joined:
            distribute_bn(self.model, world, how == 'reduce')
            if self.ema is not None:
                distribute_bn(self.ema.module, world, False)
        self.joined = True

    def note_accuracy(self, acc1: float, epoch: int) -> bool:
        """-> whether it is the best so far."""
        self.accuracies = [*self.accuracies[:epoch], acc1]
        best = self.best_acc1 is None or acc1 > self.best_acc1 or epoch == self.best_epoch  # evaluated again
        if best:
            self.best_acc1, self.best_epoch = acc1, epoch
        return best

    def end_epoch(self) -> None:
        self.epoch, self.step, self.joined = self.epoch + 1, 0, False

    def start_at(self, epoch: int) -> None:
        """Begins there, whatever was trained before."""
        self.epoch, self.step, self.joined = epoch, 0, False
        self.accuracies = [*self.accuracies, *[0.0] * epoch][:epoch]

    # ---- checkpoints

    def checkpoint(self, args: Any, classes: List[str], world: int) -> Dict[str, Any]:
        """-> what a checkpoint holds, see checkpoint.py."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in args.values().items()}
        return {
            'format': 1,
            'arch': args.model,
            'epoch': self.epoch,
            'step': self.step,
            'joined': self.joined,
            'global_batch': args.batch_size * world,
            'state_dict': self.precision.weights(self.model, self.optimizer),
            'state_dict_ema': self.ema.module.state_dict() if self.ema is not None else None,
            'optimizer': self.optimizer.state_dict(),
            'scaler': self.precision.state_dict(),
            'best_acc1': self.best_acc1,
            'best_epoch': self.best_epoch,
            'accuracies': self.accuracies,
            'classes': classes,
            'args': plain,
        }

    def resume(self, loaded: Dict[str, Any], args: Any, world: int, say: Say) -> None:
        """Takes over what the checkpoint has: the training goes on with the same step and the same random numbers."""
        if loaded.get('format') != 1 or 'epoch' not in loaded:
            say('The checkpoint has weights and no state of a training: this one begins at epoch 0 with them.')
            return
        self.epoch = loaded['epoch']
        seen = loaded['step'] * loaded['global_batch']  # in images: the batch may have changed
        self.step = min(seen // (args.batch_size * world), self.steps)
        self.joined = loaded.get('joined', False) and self.step == self.steps
        self.best_acc1, self.best_epoch = loaded.get('best_acc1'), loaded.get('best_epoch')
        self.accuracies = [*(loaded.get('accuracies') or []), *[0.0] * self.epoch][: self.epoch]
        for epoch in range(1, self.epoch):  # a plateau schedule depends on every accuracy so far
            self.schedule.step(epoch, self.accuracies[epoch - 1])
        if 'optimizer' in loaded:
            build.resume_optimizer(self.optimizer, loaded, args)
        else:
            say('The checkpoint has no optimizer, as the best one has none: its moments begin anew.')
        self.precision.load_state_dict(loaded.get('scaler'))
        if self.ema is not None and loaded.get('state_dict_ema'):
            self.ema.module.load_state_dict(loaded['state_dict_ema'])
        elif self.ema is not None:
            say('The checkpoint has no averaged weights: the average begins with its weights.')
