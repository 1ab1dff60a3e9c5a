"""The evaluations of a training: those of other ranks left out, the last and the best kept."""

from typing import NamedTuple, Optional

from common.logs.curve import Curve
from common.logs.series import YOUNG
from common.logs.training import LAG


class Evaluation(NamedTuple):
    """Accuracies in percent. epoch: as the line states it, or None; coarse: printed with one decimal."""

    acc1: float
    acc5: Optional[float] = None
    loss: Optional[float] = None
    epoch: Optional[int] = None
    coarse: bool = False


class Evaluations:
    def __init__(self):
        self.curve = Curve()  # of (epoch, accuracy)
        self.best = None  # (accuracy, epoch, seconds since the training began)
        self.rising = []  # (accuracy, seconds) of each evaluation that was the best so far
        self.best_claim = None  # (accuracy, epoch) that the log calls its best
        self.stated = []  # (epoch, accuracy) of the last evaluations whose line states the epoch
        self.last = None
        self.last_place, self.last_records = None, 0

    def is_repeat(self, new: Evaluation, epoch: Optional[int], place: tuple, records: int) -> bool:
        """Whether an evaluation is the last one again: printed by another rank, or in another line with less digits.

        epoch: of the training lines, where the line itself states none; place: where the line stands among them;
        records: how many there were.
        """
        if new.epoch is not None and (new.epoch, new.acc1) in self.stated:
            return True
        self.stated = self.stated[-YOUNG:] + ([] if new.epoch is None else [(new.epoch, new.acc1)])
        last, same_place = self.last, self.last_place == place
        near = same_place or (epoch is not None and records - self.last_records < LAG)
        if last is None or not near:
            return False
        if last[:3] == new[:3]:
            return True
        return new.coarse and not last.coarse and (same_place or abs(new.acc1 - last.acc1) < 0.06)

    def add(self, new: Evaluation, epoch: Optional[int], place: tuple, records: int, seconds: Optional[float]) -> None:
        self.last, self.last_place, self.last_records = new, place, records
        self.curve.extend(1, lambda i: (epoch, new.acc1))
        if self.best is None or new.acc1 > self.best[0]:
            self.best = (new.acc1, epoch, seconds)
            self.rising.append((new.acc1, seconds))
