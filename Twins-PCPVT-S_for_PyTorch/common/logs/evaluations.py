"""The evaluations of a training: whose weights they had, the last and the best, without those of other ranks."""

from typing import Dict, List, NamedTuple, Optional, Tuple

from common.logs.curve import Curve

LAG = 8  # training lines that one rank may be behind another
MODEL, EMA = 'model', 'ema'
COARSE = 0.0501  # percent; how far an accuracy that is printed with one decimal may be from the one in full


class Evaluation(NamedTuple):
    """Accuracies in percent, and where the line stands.

    epoch: as the line states it, else that of the training lines; stated: which of the two. key, records: position of
    the last training line, and how many there were. seconds: since the training began. coarse: printed with one
    decimal.
    """

    acc1: float
    acc5: Optional[float]
    loss: Optional[float]
    epoch: Optional[int]
    stated: bool
    key: int
    records: int
    seconds: Optional[float]
    number: int
    coarse: bool = False

    def again(self, old: 'Evaluation') -> bool:
        """Whether this is an old one again: of another rank, printed twice, or in another line with less digits."""
        near = self.key == old.key or self.records - old.records < LAG or self.stated
        coarse = self.coarse and (abs(self.acc1 - old.acc1) <= COARSE)
        return near and (coarse or (self[:3] == old[:3] and (not self.stated or self.epoch == old.epoch)))


class Evaluations:
    """last: of the 'model' and of the 'ema'. best: the model's. best_claim: (accuracy, epoch) that the log calls its
    best.
    curve: (epoch, accuracy) of the model. rising: (accuracy, seconds) of each that was the best so far.

    A line that does not say whose accuracy it is waits in .unlabelled for one that does.
    """

    def __init__(self) -> None:
        self.curve, self.rising = Curve(), []
        self.best: Optional[Evaluation] = None
        self.best_claim: Optional[Tuple[float, Optional[int]]] = None
        self.last: Dict[str, Evaluation] = {}
        self.recent: List[Tuple[str, Evaluation]] = []
        self.unlabelled: List[Evaluation] = []
        self.has_labels = False

    def add(self, owner: str, new: Evaluation) -> bool:
        """-> whether it is a new one of the model."""
        if any(owner == whose and new.again(old) for whose, old in self.recent):
            return False
        self.recent = self.recent[-LAG:] + [(owner, new)]
        self.last[owner] = new
        if owner == EMA:
            return False
        self.curve.extend(1, lambda i: (new.epoch, new.acc1))
        if self.best is None or new.acc1 > self.best.acc1:
            self.best = new
            self.rising.append((new.acc1, new.seconds))
        return True

    def add_unlabelled(self, new: Evaluation) -> None:
        if not any(new.again(old) for old in [old for _, old in self.recent] + self.unlabelled):
            self.unlabelled = self.unlabelled[-LAG:] + [new]

    def label(self, owner: str, label: Evaluation) -> bool:
        """Takes a line that says whose accuracy it is, with few decimals. -> whether it is a new one of the model."""
        self.has_labels = True
        for i in reversed(range(len(self.unlabelled))):
            if abs(self.unlabelled[i].acc1 - label.acc1) <= COARSE:
                labelled = self.unlabelled[i]
                del self.unlabelled[: i + 1]
                return self.add(owner, labelled)
        return self.add(owner, label)

    def settle(self, labels_are_due: bool) -> List[Evaluation]:
        """No label comes any more. What still waits is the model's, unless this log's labels tell, or would have told.

        -> those that are left out for that
        """
        waiting, self.unlabelled = self.unlabelled, []
        if self.has_labels or labels_are_due:
            return waiting
        for new in waiting:
            self.add(MODEL, new)
        return []
