"""Log: what one file holds. Lines are handed to the training that they belong to."""

from typing import Any, BinaryIO, Dict, List, Optional

from common.logs import numbers
from common.logs.evaluations import MODEL
from common.logs.forms import Form, describe
from common.logs.handlers import HANDLERS
from common.logs.logged_run import LoggedRun
from common.logs.reader import Reader
from common.logs.series import ALTERNATING
from common.logs.values import stamp

MAX_RUNS = 50  # the last ones are kept
MAX_PROBLEMS = 100
BAD_VALUES = (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError)
UNKNOWN_OWNER = 'an accuracy, and no line says whether it is that of the averaged weights; left out'
MIXED = 'lines of two processes stand among each other; what they add up to cannot be told'


class Log:
    """A file that was read.

    runs: its trainings, the last MAX_RUNS of .begun. problems: list of 'PATH:LINE: what'. format: a name of
    forms.FORMATS or None. unreadable: why there was nothing to read, as a sentence, or None.
    batch: images of all ranks per step, for logs that do not say it.
    """

    def __init__(self, path: str, batch: Optional[int] = None):
        self.path, self.batch = path, batch
        self.problems: List[str] = []
        self.more_problems = 0
        self.runs, self.begun = [LoggedRun()], 1
        self.unreadable: Optional[str] = None
        self.ignored_at: Optional[int] = None  # the line that told of an exception that Python ignores
        self.csv_columns: List[str] = []
        self.csv_owner = MODEL  # whose accuracies a summary.csv holds

    @property
    def run(self) -> LoggedRun:
        """The training that the lines belong to at present."""
        return self.runs[-1]

    @property
    def format(self) -> Optional[str]:
        known = describe(self.run.tags)
        return known.name if known else None

    def problem(self, number: int, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f'{self.path}:{number}: {text}')
        else:
            self.more_problems += 1

    def read(self, stream: BinaryIO, head: bytes = b'') -> 'Log':
        """Reads a binary stream to its end, in bounded memory. head: what has been read of it already. -> itself"""
        Reader(self).read(stream, head)
        self.settle_evaluations(at_end=True)
        if self.more_problems:
            self.problems.append(f'{self.path}: {self.more_problems} more problems')
        return self

    def summary(self, run: int = -1, target_acc: Optional[float] = None) -> Dict[str, Any]:
        """A training in numbers (see numbers.summary), with .path, .problems and how many `runs` there were.

        run: which one: 1 the first, -1 the last. IndexError where there is none such, or it is no longer kept.
        target_acc: percent; seconds_to_target is then the time when an evaluation of the model first reached it.
        """
        at = run - 1 - self.begun if run > 0 else run
        if not -len(self.runs) <= at < 0:
            raise IndexError(f'{self.path}: there is no run {run}; there are {self.begun}, {len(self.runs)} are kept')
        found = dict(numbers.summary(self.runs[at], self.batch, target_acc), path=self.path, runs=self.begun)
        found['problems'] = self.problems + [f'{self.path}: {text}' for text in found['problems']]
        return found

    # ---- trainings

    def begin(self) -> None:
        """Another training begins."""
        self.settle_evaluations(at_end=True)
        self.runs.append(LoggedRun(self.run.pending_fields))
        self.begun += 1
        del self.runs[:-MAX_RUNS]

    def settle(self, raw: bytes) -> None:
        """A record that is no training line came. If a process was announced before it, it is its first."""
        if self.run.series.pending == 'begin':
            self.begin()
        elif self.run.series.pending == 'resume':
            self.run.resume()
        self.run.tick(stamp(raw))

    def settle_evaluations(self, at_end: bool = False) -> None:
        """No label of an evaluation comes any more: training lines did, or the log is at its end."""
        evaluations, known = self.run.evaluations, describe(self.run.tags) if at_end else None
        due = known is not None and known.name in ('deit', 'swin') and evaluations.best is None
        for left_out in evaluations.settle(due) if evaluations.unlabelled else ():
            self.problem(left_out.number, UNKNOWN_OWNER)

    def evaluated(self, new: bool) -> None:
        """After a line of an evaluation, which is a new one of the model or not."""
        if new:
            self.run.series.closed = True
            self.run.go_on()

    # ---- lines

    def handle(self, form: Form, values: Dict[str, bytes], raw: bytes, number: int) -> None:
        """Takes any line but a training line. values: groups of the form's regex."""
        try:
            HANDLERS[form.kind](self, values, raw, number)
        except BAD_VALUES as e:
            self.problem(number, f'a line that holds no {form.name} ({type(e).__name__})')
            return
        self._tag(form, values)

    def train(self, form: Form, columns: Dict[str, list], keys: List[int], number: int) -> None:
        """Takes training lines of one form, in the order of the log. columns: {group of the regex: its values}."""
        if self.run.series.ascends(keys):
            self.run.series.remember(keys)
            self._take(form, columns, keys)
        else:
            self._sort_out(form, columns, keys, number)
        for at in (0, -1):
            clock, before = columns.get('clock'), columns.get('stamp')
            self.run.tick(float(clock[at]) if clock else stamp(before[at]) if before and before[at] else None)

    def _sort_out(self, form: Form, columns: Dict[str, list], keys: List[int], number: int) -> None:
        """Lines that do not simply go on: of several ranks, printed twice, of another training or of a resumed one."""
        chosen: List[int] = []

        def take() -> None:
            picked = {name: [column[i] for i in chosen] for name, column in columns.items()}
            self._take(form, picked, [keys[i] for i in chosen])
            chosen.clear()

        for i, key in enumerate(keys):
            where = self.run.series.place(key)
            if self.run.series.jumps >= ALTERNATING and not self.run.mixed:
                self.run.mixed = True
                self.problem(number, MIXED)
            if where in ('again', 'odd'):
                continue
            if where != 'next':
                take()
                if where == 'new':
                    self.begin()
                else:
                    self.run.resume(key)
            self.run.series.remember([key])
            chosen.append(i)
        take()

    def _take(self, form: Form, columns: Dict[str, list], keys: List[int]) -> None:
        if keys:
            self.settle_evaluations()
            self.run.train(form, columns, keys)
            self._tag(form, {name: column[0] for name, column in columns.items()})

    def _tag(self, form: Form, values: Dict[str, Any]) -> None:
        """Notes the line's form, and which optional parts it had, by which the format is told."""
        self.run.tags.add(form.name)
        self.run.tags.update(f'{form.name}:{name}' for name, value in values.items() if value is not None)
