"""From the bytes of a file to lines and their forms. Fast, because logs may have gigabytes.

Most lines of a log are training lines of one form, so one regular expression cuts a whole block of lines into their
numbers, in columns; what is between those lines is looked at line by line.
"""

import codecs
import gzip
import itertools
import json
import re
import sys
import zlib
from typing import Any, BinaryIO, Iterator, Optional, Tuple

from common.logs.forms import DAMAGED, TRAIN_FORMS, UNSURE, UNSURE_END, Form, candidates_of, match

BLOCK = 1 << 17  # bytes read at a time
LONGEST = 1 << 22  # bytes; a longer line is no line of a log
ANSI = re.compile(rb'\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\))')  # colours and titles of a terminal
WRAPPED = re.compile(rb'(?m)^\{[^\n]{0,200}?"(?:log|message|msg)": ?"')  # a JSON object of Docker around a line
# What Kubernetes, srun, torchrun, mpirun or PyTorch write before a line, and the time of code bases that print it
BEFORE = re.compile(
    rb'(?:\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:\d\d)? (?:std(?:out|err) [FP] )?| *\d{1,5}: |'
    rb'\[(?:default|rank)?\d+\]: ?|\[\d+,\d+\]<std(?:out|err)>: ?|\[\d\d:\d\d:\d\d[.\d]*\] )+'
)
CANNOT_READ = (EOFError, OSError, zlib.error)  # of a damaged gzip file
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def open_log(path: str) -> BinaryIO:
    """Opens a file, or standard input for '-'; gzip is unpacked. OSError."""
    stream = sys.stdin.buffer if path == '-' else open(path, 'rb')  # noqa: SIM115 the caller closes it
    return gzip.GzipFile(fileobj=stream) if stream.peek(2)[:2] == b'\x1f\x8b' else stream


class Reader:
    """Reads a stream into a Log. Between blocks it keeps nothing but the beginning of a line."""

    def __init__(self, log: Any):
        self.log = log
        self.form: Optional[Form] = None  # of the last training lines

    def read(self, stream: BinaryIO, head: bytes = b'') -> None:
        """Reads it to its end. head: what has been read of it already. UTF-16 with a mark becomes UTF-8."""
        rest, number, data = b'', 1, head or self._more(stream, 1)
        utf_16 = codecs.getincrementaldecoder('utf-16')('replace') if data[:2] in UTF_16_MARKS else None
        while data:
            rest += utf_16.decode(data).encode() if utf_16 else data
            data = self._more(stream, number)
            cut = rest.rfind(b'\n') + 1 or (rest.rfind(b'\r') + 1 if len(rest) > BLOCK or not data else 0)
            number += self._scan(rest[:cut], number)
            rest = rest[cut:]
            if len(rest) > LONGEST:
                self.log.problem(number, f'a line of more than {LONGEST >> 20} MB; left out')
                rest = b''
        if rest:
            self._scan(UNSURE_END.sub(b'', rest) + b'\n', number, whole=False)

    def _more(self, stream: BinaryIO, number: int) -> bytes:
        """The next bytes; of a damaged gzip file, what is there before the damage."""
        try:
            return stream.read1(BLOCK)
        except CANNOT_READ as e:
            self.log.problem(number, f'the file cannot be read further ({type(e).__name__}: {e})')
            return b''

    def _scan(self, block: bytes, number: int, whole: bool = True) -> int:
        """Lines, the first of which has this number. whole: False for the last line of a file, if it has no end.

        -> how many lines it were
        """
        block = plain(block)
        candidates = (self.form, *TRAIN_FORMS)  # that of the last block is tried first
        form = next((form for form in candidates if form and form.need in block and form.regex.search(block)), None)
        self.form, others, columns, low, begun = form or self.form, [block], [], 0, number
        if form:
            pieces, width = form.regex.split(block), form.regex.groups + 1
            others, *columns = [pieces[i::width] for i in range(width)]
        for high in itertools.compress(range(len(others)), others):
            for known, found, raw, at in self._known(others[high], number + high, whole):
                if high > low:
                    self.log.train_lines(form, [column[low:high] for column in columns], at)
                    low = high
                if known.kind == 'train':
                    self.log.train_lines(known, [[value] for value in found.groups()], at)
                else:
                    self.log.handle(known, found, raw, at)
            number += others[high].count(b'\n')
        number += len(others) - 1
        if len(others) - 1 > low:
            self.log.train_lines(form, [column[low:] for column in columns], number)
        return number - begun

    def _known(self, block: bytes, number: int, whole: bool) -> Iterator[Tuple[Form, Any, bytes, int]]:
        """The lines, without those that the block's form has found, that have a form: their form, the match, the line
        and its number. Damaged lines are reported.
        """
        candidates = candidates_of(block, bool(self.log.csv_columns))
        for at, raw in enumerate(block.split(b'\n')[:-1], number) if candidates or not whole else ():
            before = BEFORE.match(raw)
            bare = (raw[before.end() :] if before else raw).rstrip()
            form, found, near = match(bare, candidates)
            if form is not None and (whole or form.kind not in UNSURE):
                yield form, found, raw, at
            elif (bare and not whole) or (near and form is None and DAMAGED.search(bare)):
                self.log.problem(at, f'{"a damaged line" if whole else "the last line has no end"}; left out')


def plain(block: bytes) -> bytes:
    """Lines without what terminals, containers and other systems add to them. A carriage return ends a line too."""
    if b'\x1b' in block:
        block = ANSI.sub(b'', block)
    if b'\r' in block:
        block = block.replace(b'\r\n', b'\n').replace(b'\r', b'\n')
    may_be_wrapped = b'{' in block and (b'"log":' in block or b'"message":' in block or b'"msg":' in block)
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
