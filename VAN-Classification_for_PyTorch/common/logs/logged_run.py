"""One training of a log, reduced while its lines are read. Memory does not grow with the log."""

import bisect
import math
from typing import Any, Callable, Dict, List, Optional, Set

from common.logs.curve import Curve
from common.logs.evaluations import LAG, Evaluation, Evaluations
from common.logs.forms import Form
from common.logs.series import EPOCH, YOUNG, Series
from common.logs.timing import Images, Timing


class LoggedRun:
    """One training: its lines in order (.series), and what they say. numbers.summary computes the rest.

    fields: what lines, events and summaries state outright, {name: value}.
    """

    def __init__(self, fields: Optional[Dict[str, Any]] = None):
        self.fields = dict(fields or {})
        self.tags: Set[str] = set()  # names of the forms of its lines, and which optional parts they had
        self.segments = 1  # processes, one after the other
        self.mixed = False  # lines of two processes stand among each other
        self.series, self.evaluations, self.images = Series(), Evaluations(), Images()
        self.pending_fields: Dict[str, Any] = {}  # of a process that was announced, and may belong to the next training
        self.marks: List[Any] = []  # the last announcements, to know again those of other ranks
        self.rank: Optional[bytes] = None  # the first that spoke, in logs whose lines name their rank
        # times that the log states, in seconds: of the process's first and last line; and what the processes before
        # it took
        self.first_time = self.last_time = None
        self.passed = 0.0
        self.records = 0  # training lines
        self.done: Dict[int, int] = {}  # epoch -> its steps that are done
        self.epoch: Optional[int] = None  # of the last training line
        self.loss, self.rate = Curve(), Curve()
        self.first_loss = self.last_loss = self.min_loss = None
        self.timing: Optional[Timing] = None
        # images per second that the log states: how many times and their sum; of running means the last counts
        self.claims, self.claims_sum, self.last_claim = 0, 0.0, None
        self.claim_lines: List[tuple] = []  # the last lines that stated it: line, epoch, training lines before it

    # ---- processes: where this training begins, and where it goes on

    def announce(self, kind: str, fields: Dict[str, Any], text: Any = None) -> None:
        """A line that a process prints when it begins (kind 'begin') or goes on from a checkpoint ('resume').

        The lines after it decide whether another training begins or this one goes on. Where this one has only just
        begun, the line is another rank's, and so is the same text when it comes again.
        """
        series = self.series
        if not self.records and not self.evaluations.recent:
            self.fields.update(fields, resumed=kind == 'resume' or self.fields.get('resumed'))
        elif text not in self.marks and (not series.young() or kind == 'resume'):
            series.pending = kind if series.pending != 'resume' else series.pending
            self.pending_fields.update(fields)
        if text is not None:
            self.marks = self.marks[-YOUNG:] + [text]

    def resume(self, key: Optional[int] = None) -> None:
        """A process goes on with this training, at position `key` if that is known: steps done again count once."""
        self.passed, self.first_time = self.seconds() or 0.0, None
        self.segments += 1
        if self.timing is not None:
            self.timing.restart()
        if key is not None:
            self.done = {epoch: steps for epoch, steps in self.done.items() if epoch < key // EPOCH}
        self.fields.pop('seconds', None)
        self.fields.update(self.pending_fields, resumed=True)
        self.pending_fields, self.evaluations.recent = {}, []
        self.series.restart()

    def current_fields(self) -> Dict[str, Any]:
        """The fields of the process that has been announced last."""
        return self.pending_fields if self.series.pending else self.fields

    def is_first_rank(self, rank: Optional[bytes]) -> bool:
        """Whether a line is of the rank that spoke first. Lines that name no rank are."""
        self.rank = rank if self.rank is None else self.rank
        return rank is None or rank == self.rank

    def tick(self, time: Optional[float]) -> None:
        """A line states a time, in seconds."""
        if time is not None:
            self.first_time = time if self.first_time is None else self.first_time
            self.last_time = time

    def seconds(self) -> Optional[float]:
        """Since the training began, without the pauses before a process was resumed: by the times of lines, as the log
        states it, or the sum of the steps; else None.
        """
        if self.first_time is not None:
            return self.passed + self.last_time - self.first_time
        if self.fields.get('seconds') is not None:
            return self.passed + self.fields['seconds']
        return self.timing.seconds() if self.timing is not None else None

    # ---- what the lines say

    def train(self, form: Form, columns: Dict[str, list], keys: List[int]) -> None:
        """Lines of one form at ascending positions. columns: {group of the form's regex: its values}."""
        low, total = 0, columns['total']
        while low < len(keys):
            high = bisect.bisect_left(keys, (keys[low] // EPOCH + 1) * EPOCH, low)
            self._train_epoch(form, {name: column[low:high] for name, column in columns.items()}, keys[low:high])
            low = high

        def place(i: int) -> float:
            return keys[i] // EPOCH + keys[i] % EPOCH / total[i]

        self._add_losses(list(map(float, columns['loss'])), place)
        self.records += len(keys)
        for name in ('peak_memory_mb', 'planned_epochs'):
            if columns.get(name, [None])[-1] is not None:
                self.fields[name] = int(columns[name][-1])
        for name in ('fps', 'images'):
            at = [i for i, rate in enumerate(columns.get(name, ())) if rate is not None]
            self._add_rates(form, [columns[name][i] for i in at], lambda i, at=at: place(at[i]))
        self.go_on()

    def _train_epoch(self, form: Form, columns: Dict[str, list], keys: List[int]) -> None:
        """Steps and times of lines that are of one epoch."""
        epoch, first = keys[0] // EPOCH, form.first
        if form.timing and self.timing is None:
            self.timing = Timing(min(1, keys[0] % EPOCH) if first is None else first, self.images)
        before = epoch * EPOCH + (self.timing.first if self.timing else 1) - 1
        counts = [key - before for key in keys]
        self.epoch, self.done[epoch] = epoch, counts[-1]
        if form.timing:
            self.timing.lines(form, epoch, counts, columns['total'][-1], columns)

    def _add_losses(self, losses: List[float], place: Callable[[int], float]) -> None:
        """place(i): where line i stands on a curve, in epochs."""
        at, finite = range(len(losses)), losses
        if not math.isfinite(sum(losses)):
            at = [i for i in at if math.isfinite(losses[i])]
            finite = [losses[i] for i in at]
        if finite:
            self.loss.extend(len(at), lambda i: (place(at[i]), finite[i]))
            self.first_loss = finite[0] if self.first_loss is None else self.first_loss
            self.min_loss = min(finite) if self.min_loss is None else min(self.min_loss, min(finite))
        self.last_loss = losses[-1]

    def _add_rates(self, form: Form, rates: List[bytes], place: Callable[[int], float]) -> None:
        """Images per second of training lines: means over windows, of which all above 0 count, or running means."""
        if rates:
            self.rate.extend(len(rates), lambda i: (place(i), float(rates[i])))
            above = [rate for rate in map(float, rates) if rate > 0] if form.timing == 'window' else []
            self.claims, self.claims_sum = self.claims + len(above), self.claims_sum + sum(above)
            self.last_claim = float(rates[-1]) if form.timing == 'running' else None

    def evaluation(
        self, number: int, acc1: float, acc5: Any, loss: Any, epoch: Any = None, coarse: bool = False
    ) -> Evaluation:
        """An evaluation of the line with this number, which may state its epoch."""
        where = (self.series.last_key, self.records, self.seconds(), number)
        return Evaluation(acc1, acc5, loss, self.epoch if epoch is None else epoch, epoch is not None, *where, coarse)

    def claim(self, fps: float, raw: bytes) -> bool:
        """A line between the training lines states the rate of an epoch. -> False where it is that of another rank:
        there is one an epoch, and the same line within LAG training lines is no other.
        """
        for line, epoch, records in self.claim_lines:
            if epoch == self.epoch is not None or (raw == line and self.records - records < LAG):
                return False
        self.claim_lines = self.claim_lines[-YOUNG:] + [(raw, self.epoch, self.records)]
        self.claims, self.claims_sum = self.claims + 1, self.claims_sum + fps
        return True

    def end(self, status: str, reason: Optional[str] = None, weak: bool = False) -> None:
        """It came to its end, 'OK' or 'FAILED'. The first end counts: when a rank dies, the other ranks fail after it,
        and what a dying interpreter prints after a good end is none. weak: the reason only says that some process
        failed.
        """
        if self.fields.get('status') is None or (self.fields.get('weak') and not weak):
            self.fields.update(status=status, reason=reason, weak=weak)
        self.series.closed = True

    def go_on(self) -> None:
        """The training went on: what looked like an end was none."""
        if self.fields.get('status') is not None:
            self.fields.update(status=None, reason=None, ended=False, weak=False)
