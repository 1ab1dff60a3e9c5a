"""What a user can put right: one sentence, no traceback."""
import os
import signal
import sys
import time

from common.log_formats import ERROR_MARK   # begins the sentence


class UserError(Exception):
    """A mistake in the command line, the data or the machine. The text names the thing, the value and the way out."""


class Interrupted(Exception):
    """The run was asked to stop by a signal and has saved what it had. `code` is the exit status, 128 + signal."""

    def __init__(self, signum, what):
        super().__init__('stopped by %s %s' % (signal.Signals(signum).name, what))
        self.code = 128 + signum


# What torch says -> what it means. The text of the exception is quoted after it.
KNOWN = (
    ('out of memory', 'the device has not enough memory; lower --batch-size or --img-size, or use --amp'),
    ('DataLoader worker', 'a loading process died, often for want of memory or of shared memory (docker run --shm-size); '
                          'use fewer --workers'),
    ('Connection closed by peer', 'another rank ended before this one; its own message says why'),
    ('Connection reset by peer', 'another rank ended before this one; its own message says why'),
)


def explain(error):
    """-> the sentence for a UserError, or for an exception of torch whose cause is known; else None."""
    text = str(error).strip()
    if isinstance(error, UserError):
        return text
    for sign, meaning in KNOWN:
        if sign in text:
            return '%s (%s)' % (meaning, text.split('\n')[0][:160])
    return None


def report(error):
    """Prints the sentence as the last thing on stderr.

    All ranks tend to make the same mistake: rank 0 says it once and torchrun stops the others while they wait here; a rank
    that errs alone speaks up after that.
    """
    if os.environ.get('RANK', '0') != '0':
        time.sleep(5)
    sys.stdout.flush()
    print('%s %s' % (ERROR_MARK, ' '.join(str(error).split())), file=sys.stderr, flush=True)
