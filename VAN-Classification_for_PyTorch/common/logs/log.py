"""Log: what one file holds. Lines are handed to the training that they belong to."""

from typing import Any, BinaryIO, Dict, List, NamedTuple, Optional

from common.logs import formats, numbers
from common.logs.forms import CUT_LINES, Form
from common.logs.handlers import HANDLERS
from common.logs.logged_run import LoggedRun
from common.logs.reader import Reader
from common.logs.values import stamp

MAX_RUNS = 100  # the last ones are kept
MAX_PROBLEMS = 100
TRAITS_WITHIN = 100  # training lines in which traits are looked for
BAD_VALUES = (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError)


class Lines(NamedTuple):
    """Training lines of one form, as they stand in the log."""

    form: Form
    columns: Dict[str, list]  # group of the form's regex -> its values
    keys: List[int]  # positions
    raw: bytes  # the first line

    def select(self, chosen: List[int]) -> 'Lines':
        columns = {name: [column[i] for i in chosen] for name, column in self.columns.items()}
        return self._replace(columns=columns, keys=[self.keys[i] for i in chosen])


class Log:
    """A file that was read.

    runs: its trainings, the last MAX_RUNS of .begun. problems: list of 'PATH:LINE: what'. format: a name of
    formats.FORMATS or None. unreadable: why there was nothing to read, as a sentence, or None.
    batch: images of all ranks per step, for logs that do not say it.
    """

    def __init__(self, path: str, batch: Optional[int] = None):
        self.path, self.batch = path, batch
        self.problems, self.more_problems = [], 0
        self.runs, self.begun = [LoggedRun()], 1
        self.unreadable = None

    @property
    def run(self) -> LoggedRun:
        """The training that the lines belong to at present."""
        return self.runs[-1]

    @property
    def format(self) -> Optional[str]:
        return formats.describe(self.run.tags)[0]

    def problem(self, number: int, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f'{self.path}:{number}: {text}')
        else:
            self.more_problems += 1

    def read(self, stream: BinaryIO) -> 'Log':
        """Reads a binary stream to its end, in bounded memory. -> itself"""
        Reader(self).read(stream)
        if self.more_problems:
            self.problems.append(f'{self.path}: {self.more_problems} more problems')
        return self

    def summary(self, **options: Any) -> Dict[str, Any]:
        """The last training in numbers (options: see numbers.summary), with its format and curves, what the FPS of such
        a log is, how many trainings there were, and the problems.
        """
        run = self.run
        name, meaning = formats.describe(run.tags)
        found = {'path': self.path, 'format': name, 'status': None, 'runs': self.begun}
        found.update(numbers.summary(run, batch=self.batch, **options))
        found.update(
            fps_meaning=meaning if found['fps_claimed'] is not None else None,
            loss_curve=run.training.loss.all(),
            fps_curve=run.training.rate.all(),
            evaluations=run.evaluations.curve.all(),
            problems=self.problems,
        )
        return found

    # ---- trainings

    def begin(self) -> None:
        """Another training begins."""
        self.runs.append(LoggedRun(self.run.pending_fields))
        self.begun += 1
        del self.runs[:-MAX_RUNS]

    def settle(self) -> None:
        """A record that is no training line came. If a process was announced before it, it is its first."""
        if self.run.series.pending == 'begin':
            self.begin()
        elif self.run.series.pending == 'resume':
            self.run.resume()

    # ---- lines

    def is_cut(self, form: Form) -> bool:
        """Whether a line of this form is a cut line of another form, as this training prints them."""
        return form.name in CUT_LINES and not CUT_LINES[form.name].isdisjoint(self.run.tags)

    def handle(self, form: Form, values: Dict[str, bytes], raw: bytes, number: int) -> None:
        """Takes any line but a training line. values: groups of the form's regex."""
        try:
            HANDLERS[form.kind](self, values, raw, number)
        except BAD_VALUES as e:
            self.problem(number, f'a line that holds no {form.name} ({type(e).__name__})')
            return
        self._tag(form, raw)

    def train(self, form: Form, columns: Dict[str, list], keys: List[int], first: bytes, last: bytes) -> None:
        """Takes training lines of one form, in the order of the log; the first and the last of them also as they are."""
        lines, series = Lines(form, columns, keys, first), self.run.series
        if series.ascends(keys):
            series.remember(keys)
            self._take(lines)
        else:
            chosen = series.without_repeats(keys)
            if chosen is None:
                self._sort_out(lines)
            else:
                self._take(lines.select(chosen))
        if 'clock' in columns:
            times = [float(columns['clock'][0]), float(columns['clock'][-1])]
        else:
            times = [stamp(first), stamp(last)]
        for time in times:
            self.run.clock.tick(time)

    def _sort_out(self, lines: Lines) -> None:
        """Lines that do not simply go on: of several ranks, printed twice, of another training or of a resumed one."""
        chosen = []
        for i, key in enumerate(lines.keys):
            where = self.run.series.place(key)
            if where == 'again':
                continue
            if where != 'next':
                self._take(lines.select(chosen))
                chosen = []
                if where == 'new':
                    self.begin()
                else:
                    self.run.resume(key)
            self.run.series.remember([key])
            chosen.append(i)
        self._take(lines.select(chosen))

    def _take(self, lines: Lines) -> None:
        if lines.keys:
            self.run.train(lines.form, lines.columns, lines.keys)
            self._tag(lines.form, lines.raw)

    def _tag(self, form: Form, raw: bytes) -> None:
        """Notes the line's form and traits, by which the format is told."""
        run = self.run
        if form.name not in run.tags or (len(run.tags) < 8 and run.training.records < TRAITS_WITHIN):
            run.tags.add(form.name)
            for name, need, regex in formats.TRAITS:
                if need in raw and regex.search(raw):
                    run.tags.add(name)
