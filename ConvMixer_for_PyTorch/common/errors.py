"""Errors that the user can put right: printed as one sentence, without a traceback."""

import os
import shlex
import signal
import sys
import time
from typing import Optional

from common.messages import ERROR_MARK


class UserError(Exception):
    """A mistake in the command line, the data or the machine. The text names the thing, the value and the way out."""


class DiskError(UserError):
    """A file could not be written."""


class Interrupted(Exception):
    """A signal asked the training to stop, and its state is saved. `code`: the exit status, 128 + the signal."""

    def __init__(self, signum: int, what: str):
        super().__init__(f'stopped by {signal.Signals(signum).name} {what}')
        self.code = 128 + signum


KNOWN = (  # part of torch's message, what it means
    ('out of memory', 'the device has not enough memory; lower --batch-size or --img-size, or use --amp'),
    (
        'DataLoader worker',
        'a DataLoader worker died, often for want of memory or of shared memory (docker run --shm-size); '
        'use fewer --workers',
    ),
    ('Connection closed by peer', 'another rank ended before this one; its own message says why'),
    ('Connection reset by peer', 'another rank ended before this one; its own message says why'),
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


def pasted(option: str, path: str) -> str:
    """-> --option=path, as a shell takes it."""
    return f'{option}={shlex.quote(path)}'


def shown(text: str) -> str:
    """-> text that can be printed: what is not UTF-8 in the name of a file as an escape, such as \\xfc."""
    return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')


def report(error: object) -> None:
    """Prints the sentence as the last line on stderr.

    A mistake is often the same on all ranks. So that it is printed once, the other ranks wait: rank 0 prints it and
    ends, and torchrun stops them. An error that only another rank has is printed after the wait.
    """
    if os.environ.get('RANK', '0') != '0':
        time.sleep(5)
    sys.stdout.flush()
    sentence = shown(' '.join(str(error).split()))
    print(f'{ERROR_MARK} {sentence}', file=sys.stderr, flush=True)
