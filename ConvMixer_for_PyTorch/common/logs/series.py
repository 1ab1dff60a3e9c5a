"""In which order the lines of a training may come: several ranks print the same lines, and a resumed process goes back.

The position of a training line is epoch * EPOCH + step, so positions of a training ascend.
"""

import bisect
import operator
from typing import List, Optional, Sequence, Tuple

EPOCH = 10**9
ALTERNATING = 3  # lines that neither go on nor are another rank's; so many are the lines of two processes
BEHIND = 10  # lines that a rank may be behind another
YOUNG = 16  # lines within which all ranks begin: when the first position comes again later, it is another training


class Series:
    """The positions of a training's lines since its process began."""

    def __init__(self) -> None:
        self.first: Optional[int] = None  # of the whole training
        self.strays = 0  # lines that no rank and no resumed process explains
        self.restart()

    def restart(self) -> None:
        """A process begins, or goes on with the training. Its lines may begin at any position."""
        self.lines: List[int] = []  # the last ones, ascending
        self.has_ranks = False  # another rank prints the same lines
        self.closed = False  # an evaluation, an end or a failure came

    def begun(self) -> bool:
        return bool(self.lines) or self.closed

    def young(self) -> bool:
        """Whether the process has only just begun, so that other ranks may still be at their beginning."""
        return len(self.lines) <= YOUNG and not self.closed

    def take(self, keys: List[int], start: int) -> Tuple[Sequence[int], int, str]:
        """Takes training lines at the positions `keys`, from the one with number `start` on.

        -> the numbers of those that go on with the training in one epoch, without what is repeated or stray; the number
        of the line before which they end, and what that one is: the first of a 'new' training, or of a process that is
        to 'resume' this one; '' for another epoch's and at the end of keys.
        """
        chosen, lines, end = [], self.lines, (keys[start] // EPOCH + 1) * EPOCH
        del lines[: -YOUNG - 1]
        self.first = keys[start] if self.first is None else self.first
        last = lines[-1] if lines else -1
        ahead = keys[start:]
        if last < ahead[0] and all(map(operator.lt, ahead, ahead[1:])):  # nearly always, and so many times as fast
            stop = bisect.bisect_left(keys, end, start)
            lines.extend(keys[start:stop])
            return range(start, stop), stop, ''
        for i in range(start, len(keys)):
            key = keys[i]
            if key <= last:
                what = self._not_next(key)
                if what:
                    return chosen, i, what
            elif key < end:
                last = key
                chosen.append(i)
                lines.append(key)
            else:
                return chosen, i, ''
        return chosen, len(keys), ''

    def _not_next(self, key: int) -> str:
        """What a line is that does not go on: 'new', 'resume', or '', which is to be left out.

        A rank shows itself at the beginning, or by repeating the last line. A resumed process that no line announced
        begins with the first line of an epoch.
        """
        first, last = self.lines[0], self.lines[-BEHIND:]
        if key >= last[0] and (self.has_ranks or key == last[-1] or (key == first and self.young())):
            self.has_ranks = True
            return ''
        if key <= self.first:
            return 'new'
        if key % EPOCH <= max((b - a for a, b in zip(last, last[1:]) if a // EPOCH == b // EPOCH), default=1):
            return 'resume'
        self.strays += 1
        return ''
