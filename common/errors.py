"""Errors that the user can put right: printed as one sentence, without a traceback."""

import os
import signal
import sys
import time
from typing import Optional, TextIO

from common.messages import ERROR_MARK


class UserError(Exception):
    """A mistake in the command line, the data or the machine. The text names the thing, the value and the way out."""


class Interrupted(Exception):
    """A signal asked the training to stop, and its state is saved. `code`: the exit status, 128 + the signal."""

    def __init__(self, signum: int, what: str):
        super().__init__(f'stopped by {signal.Signals(signum).name} {what}')
        self.code = 128 + signum


RANK_ENDED = 'another rank ended before this one; its own message says why'
TOO_MANY_FILES = (
    'too many files are open for the limit of this shell; raise it (ulimit -n 65536), or use fewer --workers'
)
NO_SHARED_MEMORY = (
    'the shared memory (/dev/shm) is too small for the DataLoader workers; enlarge it (docker run --shm-size), or use '
    'fewer --workers'
)

KNOWN = (  # part of torch's or the system's message, what it means; the first that is found
    ('Too many open files', TOO_MANY_FILES),
    ('received 0 items of ancdata', TOO_MANY_FILES),
    ('unable to allocate shared memory', NO_SHARED_MEMORY),
    ('unable to write to file </torch_', NO_SHARED_MEMORY),
    ('Bus error', NO_SHARED_MEMORY),
    ('No space left on device', 'a file system is full, the disk or /dev/shm; make room on it'),
    (
        'DataLoader worker (pid',
        'a DataLoader worker died, often for want of memory or of shared memory (docker run --shm-size); '
        'use fewer --workers',
    ),
    ('out of memory', 'the device has not enough memory; lower --batch-size or --img-size, or use --amp'),
    ('Connection closed by peer', RANK_ENDED),
    ('Connection reset by peer', RANK_ENDED),
    ('writev [', RANK_ENDED),
)


def explain(error: BaseException) -> Optional[str]:
    """-> the sentence to print for a UserError, or for an error of torch whose cause is known; else None."""
    text = str(error).strip()
    if isinstance(error, UserError):
        return text
    for part, meaning in KNOWN:
        if part in text:
            first_line = text.split('\n')[0][:160]
            return f'{meaning} ({first_line})'
    return None


def killed_by(name: str) -> str:
    """name: of a signal. -> what to say of a process that it has ended"""
    hint = ' (often: the memory ran out; fewer --workers or a smaller --batch-size)' if name == 'SIGKILL' else ''
    return f'was killed by {name}{hint}'


def shown(text: str) -> str:
    """-> text that can be printed: what is not UTF-8 in the name of a file as an escape, such as \\xfc."""
    return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')


def say(text: str, stream: Optional[TextIO] = None, end: str = '\n') -> None:
    """Prints a line at once. Where it cannot be written (nobody reads any more, the disk is full), the run goes on without it."""
    stream = sys.stdout if stream is None else stream
    try:
        print(shown(text), file=stream, end=end, flush=True)
    except OSError as e:
        drop_unwritten(stream, for_good=isinstance(e, BrokenPipeError))


def drop_unwritten(stream: TextIO, for_good: bool) -> None:
    """Lets go of what a stream could not write: Python would try again at its end, and fail then. for_good: of all that comes, too."""
    place = stream.fileno()
    kept, nowhere = os.dup(place), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, place)
    stream.flush()
    if not for_good:
        os.dup2(kept, place)
    os.close(kept)
    os.close(nowhere)


def report(error: object) -> None:
    """Prints the sentence as the last line on stderr.

    A mistake is often the same on all ranks. So that it is printed once, the other ranks wait: rank 0 prints it and
    ends, and torchrun stops them. An error that only another rank has is printed after the wait.
    """
    if os.environ.get('RANK', '0') != '0':
        time.sleep(5)
    say('', end='')
    say(f'{ERROR_MARK} {" ".join(str(error).split())}', sys.stderr)
