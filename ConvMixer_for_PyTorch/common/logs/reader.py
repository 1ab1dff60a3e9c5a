"""From the bytes of a file to lines and their forms: Reader. Fast, because logs may have gigabytes.

Training lines are collected in columns and handed over many at a time. Most lines are of the same form as the training
line before them, so that form is tried first; and where most of a block are, one regular expression cuts up the block.
"""

import operator
import re
from typing import Any, BinaryIO, Dict, Iterable, List, Tuple

from common.logs.forms import BY_NEED, DAMAGED, UNSURE, Form, match
from common.logs.series import EPOCH

BLOCK = 1 << 18  # bytes read at a time
LONGEST = 1 << 24  # bytes; a longer line is no line of a log
FEW = 300  # lines of a block that are of no form, after which the block is searched for what the forms need
MAX_EPOCH = 10**6
ANSI = re.compile(rb'\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))')  # colours and titles of a terminal
NO_END = 'the last line has no end; left out'
IS_DAMAGED = 'a damaged line; left out'


class Reader:
    """Reads a stream into a Log. Between blocks it keeps nothing but the beginning of a line."""

    def __init__(self, log):
        self.log = log
        self.form = None  # of the last training line
        self.columns = []  # training lines not yet handed over: for each group of the form the list of its values,
        self.rows = []  # and after these, for each line the tuple of its groups
        self.first_raw = self.last_raw = b''  # of those lines

    def read(self, stream: BinaryIO) -> None:
        rest, number = b'', 1
        while True:
            data = stream.read(BLOCK)
            if not data:
                break
            cut = max(data.rfind(b'\n'), data.rfind(b'\r')) + 1
            block, rest = (rest + data[:cut], data[cut:]) if cut else (b'', rest + data)
            if len(rest) > LONGEST:
                self.log.problem(number, f'a line of more than {LONGEST >> 20} MB; left out')
                rest = b''
            if block:
                self._scan(block, number)
                number += block.count(b'\n')
        if rest.strip():
            self._scan(rest, number, whole=False)

    def _scan(self, block: bytes, number: int, whole: bool = True) -> None:
        """Lines, the first of which has this number. whole: False for the last line of a file, if it has no end."""
        if b'\x1b' in block:
            block = ANSI.sub(b'', block)
        lines = block.split(b'\n')
        last = number + len(lines) - 1
        if b'\r' in block:
            lines = [(n, part) for n, raw in enumerate(lines, number) for part in raw.split(b'\r') if part]
            last = lines[-1][0] if lines else number
            self._scan_lines(lines, block, whole)
        elif not (whole and self._scan_quickly(block, lines, number)):
            self._scan_lines(enumerate(lines, number), block, whole)
        self._flush(last)

    def _scan_quickly(self, block: bytes, lines: List[bytes], number: int) -> bool:
        """The block in one pass, where most of its lines are of the form of the last training line.

        -> False, and nothing is done, where that is not so, or where a training line does not stand alone on its line.
        """
        form = self.form
        if form is None or not form.quick.match(self.last_raw + b'\n'):
            return False
        width = form.quick.groups + 1
        pieces = form.quick.split(block)  # what is between training lines, the groups of a line, what is between, ...
        others = pieces[::width]
        breaks = [i for i, other in enumerate(others) if other]
        if any(others[i][-1:] != b'\n' for i in breaks):
            return False
        columns, low, at = [pieces[i::width] for i in range(1, width)], 0, 0
        for high in sorted({*breaks, len(others) - 1}):
            if high > low:
                if self.form is not form:
                    self._flush(number + at)
                    self.form = form
                self._add([column[low:high] for column in columns], lines[at])
                low, at = high, at + high - low
                self.last_raw = lines[at - 1]
            more = others[high].count(b'\n')
            if more:
                self._scan_lines(enumerate(lines[at : at + more], number + at), others[high])
                at += more
        return True

    def _add(self, columns: List[List[bytes]], raw: bytes) -> None:
        """Training lines of the form of the last one. raw: the first of them."""
        if self.rows:
            self.rows += zip(*columns)
        elif self.columns:
            for column, more in zip(self.columns, columns):
                column += more
        else:
            self.first_raw, self.columns = raw, columns

    def _scan_lines(self, lines: Iterable[Tuple[int, bytes]], block: bytes, whole: bool = True) -> None:
        """Lines with their numbers, one by one. block: bytes that hold them all."""
        rows, others, active = self.rows, 0, BY_NEED
        need, search = (self.form.need, self.form.regex.search) if self.form is not None else (b'\n', None)
        for n, raw in lines:
            if need in raw:
                found = search(raw)
                if found is not None:
                    if not rows and not self.columns:
                        self.first_raw = raw
                    rows.append(found.groups())
                    self.last_raw = raw
                    continue
            form, found = match(raw, active)
            if form is None:
                others += 1
                if others == FEW:
                    active = [entry for entry in BY_NEED if entry[0] in block]
                if not whole or (found and DAMAGED.search(raw)):
                    self.log.problem(n, IS_DAMAGED if whole else NO_END)
            elif form.kind == 'train':
                self._flush(n)
                self.form, self.first_raw, self.last_raw = form, raw, raw
                need, search = form.need, form.regex.search
                rows.append(found.groups())
            else:
                self._other(form, found.groupdict(), raw, n, whole)

    def _other(self, form: Form, values: Dict[str, bytes], raw: bytes, number: int, whole: bool) -> None:
        """Any line but a training line."""
        if not whole and form.kind in UNSURE:
            self.log.problem(number, NO_END)
        elif self.log.is_cut(form):
            self.log.problem(number, IS_DAMAGED)
        elif form.kind != 'eval' or is_final(values):
            self._flush(number)
            self.log.handle(form, values, raw, number)

    def _flush(self, number: int) -> None:
        """Hands over the training lines read so far, up to this line number."""
        if not self.rows and not self.columns:
            return
        columns, self.columns = self.columns, []
        if self.rows:
            more = list(map(list, zip(*self.rows)))
            columns = list(map(operator.add, columns, more)) if columns else more
            self.rows.clear()
        try:
            named, keys = prepare(self.form, columns)
        except (ValueError, OverflowError):
            rows = list(zip(*columns))
            sound = [row for row in rows if is_sound(self.form, row)]
            left_out = f'{len(rows) - len(sound)} of the training lines up to here hold no sound numbers; left out'
            self.log.problem(number, left_out)
            if not sound:
                return
            named, keys = prepare(self.form, zip(*sound))
        self.log.train(self.form, named, keys, self.first_raw, self.last_raw)


def is_final(values: Dict[str, bytes]) -> bool:
    """Whether a line of an evaluation is its last; lines that count no steps are."""
    return not values.get('step') or int(values['step'][:9]) >= int(values['steps'][:9])


def prepare(form: Form, columns: Iterable[Any]) -> Tuple[Dict[str, list], List[int]]:
    """The values of each group of the form -> ({group: its values}, positions).

    Adds the columns total (steps of the epoch) and, for our own lines, time and data in seconds. ValueError or
    OverflowError where a line is not sound.
    """
    columns = dict(zip(sorted(form.regex.groupindex, key=form.regex.groupindex.get), columns))
    epochs, totals = ({value: int(value) for value in set(columns[name])} for name in ('epoch', 'steps'))
    steps, total = list(map(int, columns['step'])), list(map(totals.get, columns['steps']))
    if min(totals.values()) < 1 or max(totals.values()) >= EPOCH or max(epochs.values()) >= MAX_EPOCH:
        raise ValueError('an epoch of no length, or an impossible number')
    if any(map(operator.gt, steps, total)):
        raise ValueError('a step beyond its epoch')
    columns['total'] = total
    if 'step_ms' in columns:
        columns['time'] = [float(ms) / 1000 for ms in columns['step_ms']]
        waits, unit = (columns['data_wait'], 1) if 'data_wait' in columns else (columns['data_percent'], 100)
        columns['data'] = [seconds * float(wait) / unit for seconds, wait in zip(columns['time'], waits)]
    begins = {value: epoch * EPOCH for value, epoch in epochs.items()}
    return columns, list(map(operator.add, map(begins.get, columns['epoch']), steps))


def is_sound(form: Form, row: Tuple[bytes, ...]) -> bool:
    try:
        prepare(form, zip(row))
    except (ValueError, OverflowError):
        return False
    return True
