"""A progress bar on the terminal, apart from the log. Needs tqdm and a terminal; without them there is no bar."""

import os
import sys
from typing import Optional, TextIO

try:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no monitor thread: DataLoader workers are forked from this process
except ImportError:
    tqdm = None


def find_terminal() -> Optional[TextIO]:
    """-> the terminal to draw on, or None.

    Under launch.sh stdout and stderr are a pipe to the log; PROGRESS_TTY=1 says that launch.sh itself has a terminal.
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
    """The bar of one epoch, drawn by the primary rank. Where there is no terminal, every method does nothing."""

    def __init__(self, primary: bool):
        self.terminal = find_terminal() if primary and tqdm is not None else None
        self.bar = None

    def begin(self, title: str, steps: int, done: int) -> None:
        if self.terminal is not None:
            self.bar = tqdm(
                desc=title, total=steps, initial=done, unit='step', file=self.terminal, leave=False, dynamic_ncols=True
            )

    def step(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def clear(self) -> None:
        """Removes the bar from the screen until the next step, so that a line of the log can be printed there."""
        if self.bar is not None:
            self.bar.clear()

    def end(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
