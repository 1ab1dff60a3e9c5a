"""Errors that the user can put right: printed as one sentence, without a traceback."""

import os
import shlex
import signal
import sys
import time
import traceback
from typing import Optional, TextIO

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


NO_MEMORY = 'the machine has not enough memory; lower --batch-size, --img-size or --workers'
NO_DEVICE_MEMORY = (
    'the device has not enough memory; lower --batch-size, or give --grad-checkpointing or --grad-accum-steps 4'
)
NO_SHARED_MEMORY = 'a DataLoader worker died, often for want of memory or of shared memory (docker run --shm-size); use fewer --workers'
TOO_MANY_FILES = 'too many files are open; raise the limit by `ulimit -n 65535`, or use fewer --workers'
RANK_ENDED = 'another rank ended before this one; its own message says why'
KNOWN = (  # part of the message of torch or of the operating system, in lower case; what it means. The first that fits is told
    ('out of memory', NO_DEVICE_MEMORY),
    ('_status_alloc_failed', NO_DEVICE_MEMORY),
    ('dataloader worker (pid', NO_SHARED_MEMORY),
    ('shared memory', NO_SHARED_MEMORY),
    ('</torch_', NO_SHARED_MEMORY),  # how torch calls its files there
    ('too many open files', TOO_MANY_FILES),
    ('of ancdata', TOO_MANY_FILES),
    ("can't allocate memory", NO_MEMORY),
    ('cannot allocate memory', NO_MEMORY),
    ('unable to allocate', NO_MEMORY),
    ('no space left on device', 'the disk is full; free space, or choose another --output-dir'),
    ('disk quota exceeded', 'the disk is full for this user; free space, or choose another --output-dir'),
    ('read-only file system', 'nothing can be written there; choose another --output-dir'),
    ('address already in use', 'the port is in use; set MASTER_PORT to another one, or end the run that has it'),
    ('connection closed by peer', RANK_ENDED),
    ('connection reset by peer', RANK_ENDED),
    ('bus error', NO_SHARED_MEMORY),
    ('broken pipe', RANK_ENDED),
    ('writev [', RANK_ENDED),
    ('connection refused', 'another process of this run has ended, or is not reachable (MASTER_ADDR, MASTER_PORT)'),
    ('timed out waiting', 'another rank did not answer in time: it hangs, or has ended; its own messages say why'),
    (
        'nccl error',
        'the cards of the ranks cannot reach each other; NCCL_DEBUG=INFO shows why, --dist-backend gloo avoids it',
    ),
    (
        'hccl',
        'the cards of the ranks cannot reach each other; `npu-smi info` shows the cards, the plog in ~/ascend/log why',
    ),
)


def explain(error: BaseException) -> Optional[str]:
    """-> the sentence to print for a UserError, or for an error whose cause is known; else None."""
    if isinstance(error, UserError):
        return str(error).strip()
    if isinstance(error, MemoryError):
        return f'{NO_MEMORY} ({said(error)})'
    if isinstance(error, BrokenPipeError):  # not a rank's, which torch tells as a RuntimeError
        return (
            f'what reads the output of this run has ended ({said(error)}); let it read to the end, or write to a file'
        )
    if not isinstance(error, (RuntimeError, OSError)):
        return None
    text = str(error).lower()
    meaning = next((meaning for part, meaning in KNOWN if part in text), None)
    if meaning is None and getattr(error, 'filename', None) is not None:
        meaning = 'a file or a folder cannot be used; check the path and your rights there'
    return meaning and f'{meaning} ({said(error)})'


def unexpected(error: BaseException) -> str:
    """-> the sentence after the traceback of an error that nobody foresaw."""
    return f'{said(error)}: this was not foreseen, and is a fault of the program; please report it with the traceback above'


def said(error: BaseException) -> str:
    """-> the first line of an error as a traceback ends with it, such as KeyError: 'a'."""
    lines = traceback.format_exception_only(type(error), error)[-1].strip().split('\n')
    line = lines[-1 if 'Original Traceback' in str(error) else 0]  # a DataLoader worker's error ends with it
    return line if len(line) <= 160 else line[:160].rsplit(' ', 1)[0] + ' ...'


def pasted(option: str, path: str) -> str:
    """-> --option=path, as a shell takes it."""
    return f'{option}={shlex.quote(path)}'


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
