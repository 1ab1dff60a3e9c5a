"""What a user can put right: one sentence, no traceback."""
import sys

MARK = '[Error]'  # begins the sentence; the launch script and the log parser look for it


class UserError(Exception):
    """A mistake in the command line, the data or the machine. The text names the thing, the value and the way out."""


class Interrupted(Exception):
    """The run was asked to stop by a signal and has saved what it had. `code` is the exit status, 128 + signal."""

    def __init__(self, signum):
        super().__init__('stopped by signal %d' % signum)
        self.code = 128 + signum


def report(error):
    """Prints the sentence as the last thing on stderr."""
    sys.stdout.flush()
    print('%s %s' % (MARK, ' '.join(str(error).split())), file=sys.stderr, flush=True)
