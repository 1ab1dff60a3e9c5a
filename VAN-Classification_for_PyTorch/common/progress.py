"""A progress bar on the terminal, apart from the log: tqdm's where it is installed, nothing where no terminal is."""
import os
import sys

try:
    from tqdm import tqdm
    tqdm.monitor_interval = 0        # no thread of its own: workers are forked from this process
except ImportError:
    tqdm = None


def find_terminal():
    """-> the terminal to draw on, or None.

    Under launch.sh stdout is a pipe to the log; it says by PROGRESS_TTY=1 that its own stdout is a terminal.
    """
    if sys.stderr.isatty():
        return sys.stderr
    if os.environ.get('PROGRESS_TTY') != '1':
        return None
    try:
        return open('/dev/tty', 'w')
    except OSError:
        return None


class Progress:
    """The bar of one epoch, of the primary rank. Without a terminal every method does nothing."""

    def __init__(self, primary):
        self.terminal = find_terminal() if primary and tqdm is not None else None
        self.bar = None

    def begin(self, words, steps, done):
        if self.terminal is not None:
            self.bar = tqdm(desc=words, total=steps, initial=done, file=self.terminal, unit='step', leave=False,
                            dynamic_ncols=True)

    def step(self):
        if self.bar is not None:
            self.bar.update()

    def clear(self):
        """Makes room for a line of the log on the same terminal."""
        if self.bar is not None:
            self.bar.clear()

    def end(self):
        if self.bar is not None:
            self.bar.close()
            self.bar = None
