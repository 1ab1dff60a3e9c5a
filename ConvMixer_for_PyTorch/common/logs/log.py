"""Log: what one file holds. Lines are handed to the training that they belong to."""

import math
import operator
import re
from typing import Any, BinaryIO, Dict, List, Optional, Sequence

from common.logs import numbers
from common.logs.forms import Form, describe
from common.logs.handlers import HANDLERS
from common.logs.logged_run import MODEL, LoggedRun
from common.logs.reader import Reader
from common.logs.series import EPOCH
from common.logs.values import fields, floats, real, stamp

MAX_RUNS = 50  # the last ones are kept
MAX_PROBLEMS = 100
BAD_VALUES = (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError)
# Kinds of which a process may print the same line again; any other is then that of another rank
MAY_COME_AGAIN = {'begin', 'facts', 'summary'}
BEFORE_RECORDS = MAY_COME_AGAIN | {'resume', 'event', 'ignored', 'header'}  # of these a process begins with


def those(column: list, chosen: Sequence[int]) -> list:
    """The values of some lines, ascending; of lines that follow each other, quickly."""
    begin, end = chosen[0], chosen[-1] + 1
    return column[begin:end] if end - begin == len(chosen) else [column[i] for i in chosen]


def numbers_of(form: Form, columns: Dict[str, list]) -> Optional[List[int]]:
    """Puts numbers in place of the form's reals. -> the steps of the lines; None where one is beyond its epoch, or where
    what should be a number is none.
    """
    try:
        columns.update([(name, floats(columns[name])) for name in form.reals if name in columns])
    except ValueError:
        return None
    steps = list(map(int, columns['step']))
    if max(steps) > min(map(int, set(columns['steps']))) and any(map(operator.gt, steps, map(int, columns['steps']))):
        return None
    return steps


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
        self.announced: Optional[Dict[str, Any]] = None  # what a process that has no lines yet says of itself
        self.unreadable: Optional[str] = None
        self.ignored_at = -math.inf  # the line that told of an exception that Python ignores
        self.csv_columns: List[str] = []

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
        self.settle_evaluation(at_end=True)
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

    def announce(self, resumed: bool) -> None:
        """A process says that it begins, or, if `resumed`, that it goes on from a checkpoint.

        Where a process has only just begun, the line is another rank's. Else the lines after it decide whether another
        training begins or this one goes on.
        """
        if not self.run.series.begun():
            self.run.fields['resumed'] = self.run.fields.get('resumed') or int(resumed)
        elif resumed:
            self.resume()
        elif not self.run.series.young() and self.announced is None:
            self.announced = {}

    def state(self, values: Dict[str, Any]) -> None:
        """Takes the fields among what a process says of itself."""
        (self.run.fields if self.announced is None else self.announced).update(fields(values))

    def resume(self) -> None:
        """A process goes on with the training."""
        self.run.resume(self.announced or {})
        self.announced = None

    def begin(self) -> None:
        """Another training begins."""
        self.settle_evaluation(at_end=True)
        self.runs.append(LoggedRun(self.announced))
        self.announced = None
        self.begun += 1
        del self.runs[:-MAX_RUNS]

    def settle(self, time: Optional[float]) -> None:
        """A record that is no training line came. If a process was announced before it, it is its first."""
        if self.announced is not None:
            self.begin()
        self.run.tick(time)

    def settle_evaluation(self, at_end: bool = False) -> None:
        """No label of an evaluation comes any more: other lines did, or the log is at its end."""
        run, waiting = self.run, self.run.waiting
        if waiting is not None:
            run.waiting = None
            if run.has_labels or (at_end and self.format in ('deit', 'swin') and not run.rising):
                what = 'an accuracy, and no line says whether it is that of the averaged weights; left out'
                self.problem(waiting.number, what)
            else:
                run.evaluate(MODEL, waiting)

    def handle(self, form: Form, found: 're.Match[bytes]', raw: bytes, number: int) -> None:
        """Takes any line but a training line. found: the match of the form's regex."""
        if form.kind not in MAY_COME_AGAIN and self.run.again(found.group()):
            return
        values = found.groupdict()
        try:
            if form.kind not in BEFORE_RECORDS:
                self.settle(stamp(raw))
            HANDLERS[form.kind](self, form, values, number)
            self._tag(form, values)
        except BAD_VALUES as e:
            self.problem(number, f'a line that holds no {form.name} ({type(e).__name__})')

    def train_lines(self, form: Form, columns: List[list], number: int) -> None:
        """Takes training lines of one form, in the order of the log, all but those that cannot be.
        columns: of the groups of its regex. number: of a line near them.
        """
        groups = sorted(form.regex.groupindex, key=form.regex.groupindex.get)
        named = {name: c for name, c in zip(groups, columns) if c[0] is not None or c.count(None) < len(c)}
        steps = numbers_of(form, named)
        if steps is None:
            lines = [{name: column[i : i + 1] for name, column in named.items()} for i in range(len(columns[0]))]
            sound = [i for i, line in enumerate(lines) if numbers_of(form, line) is not None]
            what = f'{len(lines) - len(sound)} training lines up to here have impossible steps or numbers; left out'
            self.problem(number, what)
            return self.train_lines(form, [[column[i] for i in sound] for column in columns], number) if sound else None
        begins = {epoch: int(epoch) * EPOCH for epoch in set(named['epoch'])}
        return self.train(form, named, list(map(operator.add, map(begins.get, named['epoch']), steps)))

    def train(self, form: Form, columns: Dict[str, list], keys: List[int]) -> None:
        """Gives training lines to the training that they belong to. columns: {group: its values}; keys: positions."""
        first, start = self.run.series.first, 0
        if self.announced is not None and (first is None or keys[0] <= first):
            self.begin()
        elif self.announced is not None:
            self.resume()
        while start < len(keys):
            chosen, start, what = self.run.series.take(keys, start)
            if chosen:
                self.settle_evaluation()
                self._take(form, {name: those(column, chosen) for name, column in columns.items()}, those(keys, chosen))
            if what == 'new':
                self.begin()
            elif what == 'resume':
                self.resume()

    def _take(self, form: Form, columns: Dict[str, list], keys: List[int]) -> None:
        clock, before = columns.get('clock'), columns.get('before')
        for at in (0, -1):
            self.run.tick(real(clock[at]) if clock else stamp(before[at]) if before else None)
        self.run.train(form, columns, keys)
        self._tag(form, {name: column[0] for name, column in columns.items()})

    def _tag(self, form: Form, values: Dict[str, Any]) -> None:
        """Notes the line's form, and which optional parts it had, by which the format is told."""
        self.run.tags.add(form.name)
        self.run.tags.update(f'{form.name}:{name}' for name, value in values.items() if value is not None)
