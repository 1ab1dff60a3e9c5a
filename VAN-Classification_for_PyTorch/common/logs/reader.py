"""From the bytes of a file to lines and their forms. Fast, because logs may have gigabytes.

Most lines of a log are training lines of one form, so one regular expression cuts a whole block of lines into their
numbers, in columns; what is between those lines is looked at line by line.
"""

import codecs
import gzip
import json
import re
import sys
import zlib
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

from common.logs.forms import CSV_ROW, DAMAGED, SURE, TRAIN_FORMS, UNSURE_END, Form, candidates_of, match
from common.logs.series import EPOCH

BLOCK = 1 << 18  # bytes read at a time
LONGEST = 1 << 22  # bytes; a longer line is no line of a log
ANSI = re.compile(rb'\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\))')  # colours and titles of a terminal
WRAPPED = re.compile(rb'(?m)^\{[^\n]{0,200}?"(?:log|message|msg)": ?"')  # a JSON object of Docker around a line
# What Kubernetes, srun, torchrun, mpirun or PyTorch write before a line, and the time of code bases that print it
BEFORE = re.compile(
    rb'(?:\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:\d\d)? (?:std(?:out|err) [FP] )?| *\d{1,5}: |'
    rb'\[(?:default|rank)?\d+\]: ?|\[\d+,\d+\]<std(?:out|err)>: ?|\[\d\d:\d\d:\d\d[.\d]*\] )+'
)
NO_END = 'the last line has no end; left out'
IS_DAMAGED = 'a damaged line; left out'
CANNOT_READ = (EOFError, OSError, UnicodeError, zlib.error)  # of a damaged gzip file


def open_log(path: str) -> BinaryIO:
    """Opens a file, or standard input for '-': gzip is unpacked, UTF-16 with a mark becomes UTF-8. OSError."""
    stream = sys.stdin.buffer if path == '-' else open(path, 'rb')  # noqa: SIM115 the caller closes it
    if stream.peek(2)[:2] == b'\x1f\x8b':
        stream = gzip.GzipFile(fileobj=stream)
    try:
        mark = stream.peek(2)[:2]
    except CANNOT_READ:  # reading it says so
        mark = b''
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        stream = codecs.EncodedFile(stream, 'utf-8', 'utf-16', 'replace')
    return stream


class Reader:
    """Reads a stream into a Log. Between blocks it keeps nothing but the beginning of a line."""

    def __init__(self, log: Any):
        self.log = log
        self.form: Optional[Form] = None  # of the last training lines

    def read(self, stream: BinaryIO, head: bytes = b'') -> None:
        rest, number, data = head, 1, b' '
        recoded = isinstance(stream, codecs.StreamRecoder)
        read = stream.read if recoded else stream.read1  # of a damaged gzip file, what is there before the damage
        while data:
            try:
                data = read(BLOCK)
            except CANNOT_READ as e:
                self.log.problem(number, f'the file cannot be read further ({type(e).__name__}: {e})')
                data = b''
            rest += data
            cut = rest.rfind(b'\n') + 1 or (rest.rfind(b'\r') + 1 if len(rest) > BLOCK or not data else 0)
            block, rest = rest[:cut], rest[cut:]
            if len(rest) > LONGEST:
                self.log.problem(number, f'a line of more than {LONGEST >> 20} MB; left out')
                rest = b''
            number += self._scan(block, number)
        self._scan(rest, number, whole=False)

    def _scan(self, block: bytes, number: int, whole: bool = True) -> int:
        """Lines, the first of which has this number. whole: False for the last line of a file, if it has no end.

        -> how many lines it were
        """
        block = plain(block)
        form = self._form_of(block) if whole else None
        others, *columns = divided(form, block) if form else [[block]]
        low, begun = 0, number
        for high in [i for i, other in enumerate(others) if other]:
            lines, candidates = others[high].split(b'\n'), candidates_of(others[high])
            says_nothing = whole and not (candidates or self.log.csv_columns)
            for at, raw in () if says_nothing else enumerate(lines[:-1] if whole else lines, number + high):
                known, found, line = self._known(raw, at, whole, candidates)
                if known is not None:
                    self._hand_over(form, [column[low:high] for column in columns], at)
                    low = high
                    if known.kind == 'train':
                        self._hand_over(known, [[value] for value in found.groups()], at)
                    else:
                        self.log.handle(known, found.groupdict(), line, at)
            number += len(lines) - 1
        number += len(others) - 1
        self._hand_over(form, [column[low:] for column in columns], number)
        return number - begun

    def _form_of(self, block: bytes) -> Optional[Form]:
        """The form of training lines that the block has; the last one is tried first."""
        for form in (self.form,) + TRAIN_FORMS:
            if form is not None and form.need in block and form.regex.search(block):
                self.form = form
                return form
        return None

    def _known(self, raw: bytes, number: int, whole: bool, candidates: Any) -> Tuple[Optional[Form], Any, bytes]:
        """Any line but those that the block's form has found -> its form or None, the match, the line itself. A
        damaged line is reported.
        """
        before = BEFORE.match(raw)
        bare = (raw[before.end() :] if before else raw).rstrip()
        form, found, near = match(bare, candidates)
        if self.log.csv_columns and form is None:
            found = CSV_ROW.regex.match(bare)
            form = CSV_ROW if found else None
        if form is not None and (whole or form.name in SURE):
            return form, found, bare if bare[:1] in b'{0123456789' else raw
        line = (raw if whole else UNSURE_END.sub(b'', raw)) + b'\n'
        for form in TRAIN_FORMS if near else ():
            found = form.regex.match(line) if form.need in raw else None
            if found:
                return form, found, raw
        if (bare and not whole) or (near and DAMAGED.search(bare)):
            self.log.problem(number, IS_DAMAGED if whole else NO_END)
        return None, None, raw

    def _hand_over(self, form: Optional[Form], columns: List[list], number: int) -> None:
        """Gives training lines to the log, all but those of a step beyond their epoch. number: of a line near them."""
        if not (columns and columns[0]):
            return
        named, keys = prepare(form, columns)
        sound = [i for i, key in enumerate(keys) if key % EPOCH <= named['total'][i]]
        if len(sound) < len(keys):
            self.log.problem(
                number, f'{len(keys) - len(sound)} training lines up to here have impossible steps; left out'
            )
            named, keys = {name: [column[i] for i in sound] for name, column in named.items()}, [keys[i] for i in sound]
        if keys:
            self.log.train(form, named, keys, number)


def divided(form: Form, block: bytes) -> List[list]:
    """-> what is before, between and after the training lines of a form, and the values of each of its groups."""
    pieces, width = form.regex.split(block), form.regex.groups + 1
    return [pieces[i::width] for i in range(width)]


def plain(block: bytes) -> bytes:
    """Lines without what terminals, containers and other systems add to them. A carriage return ends a line too."""
    if b'\x1b' in block:
        block = ANSI.sub(b'', block)
    if b'\r' in block:
        block = block.replace(b'\r\n', b'\n').replace(b'\r', b'\n')
    may_be_wrapped = (b'"log":' in block or b'"message":' in block or b'"msg":' in block) and b'{' in block
    if may_be_wrapped and WRAPPED.search(block):
        block = b'\n'.join(map(unwrapped, block.split(b'\n')))
    return block


def unwrapped(line: bytes) -> bytes:
    """A JSON object of a container's log -> its time and the line that it holds; any other line as it is."""
    try:
        said = json.loads(line.decode('utf-8', 'replace')) if line[:1] == b'{' else None
        held = next(said[name] for name in ('log', 'message', 'msg') if isinstance(said.get(name), str))
        time = next((said[name] for name in ('time', 'timestamp') if isinstance(said.get(name), str)), '')
        return f'{time}{" " if time else ""}{held}'.rstrip().encode('utf-8', 'replace')
    except (ValueError, RecursionError, AttributeError, TypeError, StopIteration):
        return line


def prepare(form: Form, columns: List[list]) -> Tuple[Dict[str, list], List[int]]:
    """The values of each group of the form -> ({group: its values}, positions).

    Adds the column total, the steps of the epoch.
    """
    named = dict(zip(sorted(form.regex.groupindex, key=form.regex.groupindex.get), columns))
    begins, totals = ({value: int(value) for value in set(named[name])} for name in ('epoch', 'steps'))
    named['total'] = list(map(totals.get, named['steps']))
    return named, [begins[epoch] * EPOCH + int(step) for epoch, step in zip(named['epoch'], named['step'])]
