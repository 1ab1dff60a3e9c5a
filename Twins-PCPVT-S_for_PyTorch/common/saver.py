"""When a training saves, and what it says of it."""

import contextlib
import time
from typing import Any, Callable, Iterator, List

from common.checkpoint import CheckpointFolder, finite
from common.errors import UserError, pasted
from common.watchdog import DISK

SHARE = 0.01  # of a training's time that saves by the clock may take, unless --save-minutes is given


class Saver:
    """Saves the TrainState, which the trainer gives it, on rank 0. at: see Watchdog.at."""

    def __init__(
        self, args: Any, ranks: Any, classes: List[str], say: Callable[[str], None], at: Callable[[str], None]
    ):
        self.args, self.ranks, self.classes, self.say, self.at = args, ranks, classes, say, at
        self.folder = CheckpointFolder(args.output_dir, say, args.keep)
        self.wanted = args.case != 'eval' and args.save_checkpoint
        self.active = self.wanted and ranks.primary
        self.file = args.resume  # what there is to go on with
        self.state, self.saved = None, ''
        self.time, self.cost = time.monotonic(), 0.0  # of the last save, in seconds
        if self.active:
            self.folder.remove_partial()

    def begin(self, state: Any) -> None:
        """The training begins; what is in a checkpoint, or takes no time to make again, is not saved."""
        self.state, self.saved = state, state.place
        if self.args.resume:
            self.folder.continues(self.args.resume)

    def by_step(self, step: int) -> bool:
        """Whether it is time to, by --save-steps; step: of the epoch."""
        return self.wanted and self.args.save_steps > 0 and step % self.args.save_steps == 0

    def by_clock(self) -> bool:
        """Whether it is time to, by --save-minutes."""
        least = 0.0 if self.args.given('save_minutes') else self.cost / SHARE
        due = time.monotonic() - self.time >= max(60 * self.args.save_minutes, least)
        return self.active and self.args.save_minutes > 0 and due

    def save(self, last: bool = True, best: bool = False) -> None:
        """Raises UserError, and writes nothing, where the training has numbers that are not finite; DiskError of the disk."""
        if not self.active:
            return
        content = self.state.checkpoint(self.args, self.classes, self.ranks.world)
        if not finite(content):
            raise UserError(
                f'the weights have numbers that are not finite at {self.state.place}, and are not saved; lower --lr, clip by '
                '--clip-grad, or try --no-amp; the last checkpoint is untouched'
            )
        with self._timed():
            self.folder.save(content, last, best)
        if last:
            self.saved, self.file = self.state.place, self.folder.path('checkpoint.pth')

    def save_epoch(self, best: bool, end: bool) -> None:
        """After an epoch: checkpoint.pth every --save-freq epochs and at the end, model_best.pth where it is the best."""
        last = end or self.state.epoch % self.args.save_freq == 0
        if last or best:
            self.save(last, best)

    def way_on(self) -> str:
        """For a run that has to end, from whichever thread: saves what is not saved. -> how to go on, in words"""
        if not self.active or self.state is None:
            return 'rank 0 saves' if self.wanted else 'nothing is saved, as --no-checkpoint says'
        failed = ''
        try:
            if self.saved != self.state.place:
                self.save()
        except Exception as e:  # whatever a lost device or a full disk raises: the run ends for another reason
            failed = f'its state could not be saved ({e}); '
        return failed + (f'go on with {pasted("--resume", self.file)}' if self.file else 'there is no checkpoint yet')

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        begun = time.monotonic()
        self.at(DISK)
        yield
        self.at('')
        self.time = time.monotonic()
        self.cost = self.time - begun
