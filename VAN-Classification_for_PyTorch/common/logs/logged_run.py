"""One training of a log, reduced while its lines are read. Memory does not grow with the log."""

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from common.logs.curve import Curve
from common.logs.forms import Form
from common.logs.series import BEHIND, EPOCH, Series
from common.logs.timing import Images, Timing
from common.logs.values import field, first, number

MODEL, EMA = 'model', 'ema'  # whose weights were evaluated
SOME = 50  # points of a curve without spikes that a block of lines adds
LINES = 64  # lines that are no training lines and are remembered, to know again what other ranks print


class Evaluation(NamedTuple):
    """Accuracies in percent. epoch: as the line states it, else that of the training lines. seconds: since the training
    began. number: of the line.
    """

    acc1: float
    acc5: Optional[float]
    loss: Optional[float]
    epoch: Optional[int]
    seconds: Optional[float]
    number: int


def draw(curve: Curve, printed: List[bytes], place: Callable[[int], float], some: bool) -> List[float]:
    """Adds what lines print, where they do, to a curve. some: of what has no spikes, some are enough. -> what was added"""
    at = [*range(0, len(printed) - 1, max(1, len(printed) // SOME)), len(printed) - 1] if some else range(len(printed))
    try:
        numbers = list(map(float, map(printed.__getitem__, at) if some else printed))
    except (TypeError, ValueError):  # some lines print none, or what is no number
        found = {i: number(printed[i]) for i in at}
        at = [i for i in at if found[i] is not None]
        numbers = [found[i] for i in at]
    curve.extend(numbers, lambda i: place(at[i]))
    return numbers


class LoggedRun:
    """One training: its lines in order (.series), and what they say. numbers.summary computes the rest.

    fields: {name: value} of what needs no further thought: what lines and events state, the last and the best of
    evaluations, losses.
    """

    def __init__(self, fields: Optional[Dict[str, Any]] = None):
        self.fields = dict(fields or {})
        self.tags: Set[str] = set()  # names of the forms of its lines, and which optional parts they had
        self.series = Series()
        self.said: Dict[int, int] = {}  # hash of a line that is no training line -> how many of those were before it
        self.first_time = self.last_time = None  # seconds, that the log states, of the process's first and last line
        self.passed = 0.0  # seconds that the processes before it took
        self.records = 0  # training lines
        self.done: List[Tuple[int, int]] = []  # epochs, ascending, and the steps of each that are done
        self.epoch: Optional[int] = None  # of the last training line
        self.loss, self.rate, self.lr, self.accuracy, self.eval_loss = (Curve() for _ in range(5))
        self.timing: Optional[Timing] = None
        self.steps: Optional[int] = None  # of an epoch
        self.images = Images()
        self.claims, self.claims_sum = 0, 0.0  # images per second that the log states: how many times, and their sum
        self.rising: List[Evaluation] = []  # of the model, each that was the best so far
        self.evaluated: Optional[int] = None  # epoch of the last evaluation
        self.waiting: Optional[Evaluation] = None  # its line does not say whose accuracy it is; the next one may
        self.has_labels = False

    def again(self, said: bytes) -> bool:
        """Whether a line that is no training line has just been there: of another rank, or printed twice."""
        line, now = hash(said), self.records
        before, self.said[line] = self.said.pop(line, None), now
        if len(self.said) > LINES:
            del self.said[next(iter(self.said))]  # the oldest
        may_be_of_a_rank = self.series.has_ranks or self.series.young()
        return before is not None and now - before < (BEHIND if may_be_of_a_rank else 2)  # an epoch's record counts one

    def resume(self, fields: Dict[str, Any]) -> None:
        """A process goes on with this training. fields: what it says of itself. Steps done again count once."""
        self.passed, self.first_time = self.seconds() or 0.0, None
        if self.timing is not None:
            self.timing.restart()
        self.fields.update(fields, seconds=None, resumed=self.fields.get('resumed', 0) + 1)
        self.series.restart()

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

    def end(self, status: str, reason: Optional[str] = None, weak: bool = False, ended: bool = False) -> None:
        """It came to its end, 'OK' or 'FAILED'. The first end counts: when a rank dies, the other ranks fail after it,
        and what a dying interpreter prints after a good end is none. weak: the reason only says that some process
        failed. ended: all that was to be done is done.
        """
        if self.fields.get('status') is None or (self.fields.get('weak') and not weak):
            self.fields.update(status=status, reason=reason, weak=weak)
        self.fields['ended'] = ended or self.fields.get('ended')
        self.series.closed = True

    def go_on(self) -> None:
        """The training went on: what looked like an end was none."""
        self.fields.update(status=None, reason=None, ended=False, weak=False)

    def train(self, form: Form, columns: Dict[str, list], keys: List[int]) -> None:
        """Lines of one form and one epoch at ascending positions. columns: {group of the form's regex: its values}."""
        self.epoch, self.steps = keys[0] // EPOCH, int(columns['steps'][-1])
        if form.timing and self.timing is None:
            self.timing = Timing(min(1, keys[0] % EPOCH) if form.first is None else form.first)
        before = self.epoch * EPOCH + (self.timing.first if self.timing else 1) - 1
        counts = [key - before for key in keys]
        while self.done and self.done[-1][0] >= self.epoch:
            self.done.pop()
        self.done.append((self.epoch, counts[-1]))
        self.records += len(keys)
        self.fields.setdefault('resumed', 0)
        if form.timing:
            self.timing.lines(form, self.epoch, counts, columns)
        if form.timing == 'running' and 'fps' in columns:
            self.images.add(columns['fps'], columns['time'])
        for name in ('peak_memory_mb', 'planned_epochs'):
            if columns.get(name, [None])[-1] is not None:
                self.fields[name] = field(name, columns[name][-1])

        def place(i: int) -> float:
            """On a curve, in epochs."""
            return self.epoch + keys[i] % EPOCH / self.steps

        losses = columns['loss']
        self.loss.extend(losses, place)
        finite = losses if math.isfinite(sum(losses)) else filter(math.isfinite, losses)
        least = min(finite, default=math.inf)
        self.fields.update(final_loss=losses[-1], min_loss=min(least, first(self.fields.get('min_loss'), math.inf)))
        for rates in filter(None, map(columns.get, ('fps', 'images'))):
            self._add_rates(form, rates, place)
        if 'lr' in columns:
            draw(self.lr, columns['lr'], place, some=True)
        self.go_on()

    def _add_rates(self, form: Form, rates: List[bytes], place: Callable[[int], float]) -> None:
        """Images per second, where a line has them. Means over windows count each, if above 0; of running means the last."""
        numbers = draw(self.rate, rates, place, some=form.timing == 'running')
        if form.timing == 'window':
            above = [rate for rate in numbers if rate > 0]
            self.claims, self.claims_sum = self.claims + len(above), self.claims_sum + sum(above)

    def evaluate(self, owner: str, new: Evaluation) -> None:
        self.evaluated = new.epoch
        if owner == EMA:
            self.fields['ema_acc1'] = new.acc1
            return
        self.fields.update(last_acc1=new.acc1, last_acc5=new.acc5, eval_loss=new.loss)
        self.best(new.acc1, new.epoch, new.seconds)
        if new.epoch is not None:
            self.accuracy.extend([new.acc1], lambda i: new.epoch)
            self.eval_loss.extend([first(new.loss, math.nan)], lambda i: new.epoch)
        if not self.rising or new.acc1 > self.rising[-1].acc1:
            self.rising.append(new)
        self.series.closed = True
        self.go_on()

    def best(self, acc1: float, epoch: Optional[int], seconds: Optional[float] = None, rounding: float = 0.0) -> None:
        """An accuracy of the model, which may be its best. rounding: how far it may be from what it was."""
        known = self.fields.get('best_acc1')
        if known is None or acc1 > known + rounding:
            self.fields.update(best_acc1=acc1, best_epoch=epoch, seconds_to_best=seconds)
