"""One training of a log, reduced while its lines are read. Memory does not grow with the log."""

from typing import Any, Dict, List, Optional

from common.logs.evaluations import Evaluation, Evaluations
from common.logs.forms import Form
from common.logs.series import YOUNG, Series
from common.logs.training import Training


class Clock:
    """Seconds by the times that a log states, without the pauses before a process was resumed."""

    def __init__(self):
        self.first = self.last = None
        self.passed = 0.0  # seconds of the processes before this one

    def tick(self, time: Optional[float]) -> None:
        if time is not None:
            self.first = time if self.first is None else self.first
            self.last = time

    def seconds(self) -> Optional[float]:
        return None if self.first is None else self.passed + self.last - self.first


class LoggedRun:
    """One training: its lines in order (.series), and what they say. numbers.summary computes the rest.

    fields: what the log states outright; stated: values of a summary; measured: throughput by our own trainer.
    """

    def __init__(self, fields: Optional[Dict[str, Any]] = None):
        self.fields, self.stated, self.measured = dict(fields or {}), {}, {}
        self.tags = set()  # names of the forms of its lines, and traits: they tell the format
        self.segments = 1  # processes, one after the other
        self.series, self.training, self.evaluations, self.clock = Series(), Training(), Evaluations(), Clock()
        self.pending_fields = {}  # of a process that was announced, and may belong to the next training
        self.marks = []  # the last announcements, to know again those of other ranks
        self.rank = None  # the first that spoke, in logs whose lines name their rank

    # ---- processes: where this training begins, and where it goes on

    def announce(self, kind: str, fields: Dict[str, Any], text: Any = None) -> None:
        """A line that a process prints when it begins (kind 'begin') or goes on from a checkpoint ('resume').

        The lines after it decide whether another training begins or this one goes on. Where this one has only just
        begun, the line is another rank's, and so is the same text when it comes again.
        """
        series = self.series
        if self.is_empty():
            self.fields.update(fields)
            if kind == 'resume':
                self.fields['resumed'] = True
        elif text not in self.marks and (not series.young() or kind == 'resume'):
            series.pending = kind if series.pending != 'resume' else series.pending
            self.pending_fields.update(fields)
        if text is not None:
            self.marks.append(text)
            del self.marks[:-YOUNG]

    def is_empty(self) -> bool:
        return not self.training.records and not self.evaluations.curve.seen and not self.series.window

    def resume(self, key: Optional[int] = None) -> None:
        """A process goes on with this training, at position `key` if that is known."""
        self.segments += 1
        self.training.restart(key)
        self.fields.update(self.pending_fields, resumed=True)
        self.pending_fields = {}
        self.series.restart()
        passed = self.seconds() or 0.0
        self.clock = Clock()
        self.clock.passed = passed

    def current_fields(self) -> Dict[str, Any]:
        """The fields of the process that has been announced last."""
        return self.pending_fields if self.series.pending else self.fields

    def is_first_rank(self, rank: Optional[bytes]) -> bool:
        """Whether a line is of the rank that spoke first. Lines that name no rank are."""
        if rank is not None and self.rank is None:
            self.rank = rank
        return rank is None or rank == self.rank

    # ---- what the lines say

    def train(self, form: Form, columns: Dict[str, list], keys: List[int]) -> None:
        self.training.add(form, columns, keys)
        self.forget_failure()

    def evaluation(self, new: Evaluation) -> None:
        place = (self.series.last_key, new.epoch)
        epoch, records = self.training.epoch if new.epoch is None else new.epoch, self.training.records
        if self.evaluations.is_repeat(new, epoch, place, records):
            return
        self.evaluations.add(new, epoch, place, records, self.seconds())
        self.fields.update(last_acc1=new.acc1, last_acc5=new.acc5, last_epoch=epoch, eval_loss=new.loss)
        self.series.closed = True
        self.forget_failure()

    def claim(self, fps: float, raw: bytes) -> None:
        self.training.claims.add(fps, raw, self.training.epoch, self.training.records)

    def fail(self, reason: str) -> None:
        """The first of several reasons counts: when a rank dies, the other ranks fail after it."""
        if self.fields.get('status') is None:
            self.fields.update(status='FAILED', reason=reason)
        self.series.closed = True

    def forget_failure(self) -> None:
        """The training went on: what looked like a failure was none."""
        if self.fields.get('status') == 'FAILED':
            self.fields.update(status=None, reason=None)

    def seconds(self) -> Optional[float]:
        """Since the training began: by the clock, else the sum of its steps, else None."""
        if self.clock.first is not None:
            return self.clock.seconds()
        timing = self.training.timing
        if timing is None:
            return None
        return (timing.all_seconds + (timing.last or (0, 0))[1]) or None
