"""In which order the lines of a training may come: several ranks print the same lines, and a resumed process goes back.

The position of a training line is epoch * EPOCH + step, so positions of a training ascend.
"""

import bisect
from typing import List, Optional, Tuple

EPOCH = 10**9
WINDOW = 4096  # lines that are remembered, to know again what other ranks print
ALTERNATING = 3  # lines that neither go on nor are another rank's; so many are the lines of two processes
FAR = 10  # lines that a rank may be behind, if not its output comes in long pieces
GAP = 4  # lines of a rank that may be missing
YOUNG = 16  # lines within which all ranks begin: when the first position comes again later, it is another training


class Series:
    """The positions of a training's lines since its process began. Memory is bounded by WINDOW."""

    def __init__(self) -> None:
        self.first: Optional[int] = None  # of the whole training
        self.strays = 0  # lines that no rank and no resumed process explains
        self.restart()

    def restart(self) -> None:
        """A process begins, or goes on with the training. Its lines may begin at any position."""
        self.lines: List[int] = []  # the last ones, ascending
        self.ranks: List[int] = []  # the last line of each rank that repeats what one before it has printed, ascending
        self.alone = 0  # lines since one was repeated
        self.closed = False  # an evaluation, an end or a failure came

    def begun(self) -> bool:
        return bool(self.lines) or self.closed

    def young(self) -> bool:
        """Whether the process has only just begun, so that other ranks may still be at their beginning."""
        return len(self.lines) <= YOUNG and not self.closed

    def take(self, keys: List[int], start: int) -> Tuple[List[int], int, str]:
        """Takes training lines at the positions `keys`, from the one with number `start` on.

        -> the numbers of those that go on with the training in one epoch, without what is repeated or stray; the number
        of the line before which they end, and what that one is: the first of a 'new' training, or of a process that is
        to 'resume' this one; '' for another epoch's and at the end of keys.
        """
        chosen, lines, end = [], self.lines, (keys[start] // EPOCH + 1) * EPOCH
        if len(lines) > 2 * WINDOW:
            del lines[:-WINDOW]
            del self.ranks[: bisect.bisect(self.ranks, lines[0])]
        self.first = keys[start] if self.first is None else self.first
        last = lines[-1] if lines else -1
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
                self.alone += 1
            else:
                return chosen, i, ''
        return chosen, len(keys), ''

    def _not_next(self, key: int) -> str:
        """What a line is that does not go on: 'new', 'resume', or '', which is to be left out.

        All ranks begin together at the same position, or where one repeats another's last line. A resumed process
        begins at an earlier position, that of an epoch's first line if no line announced it, and no rank has just
        printed the lines before that one.
        """
        at, rank = bisect.bisect_left(self.lines, key), bisect.bisect_left(self.ranks, key) - 1
        if rank >= 0 and self.ranks[rank] >= self.lines[max(0, at - GAP)]:
            self.ranks[rank] = key
            self.strays += len(self.lines) - at > FAR and 0 < self.alone < FAR
        elif key == self.lines[-1] or (key == self.lines[0] and self.young()):
            bisect.insort(self.ranks, key)
        elif key <= self.first:
            return 'new'
        elif key % EPOCH <= self._distance():
            return 'resume'
        else:
            self.strays += 1
            return ''
        self.alone = 0
        return ''

    def _distance(self) -> int:
        """Steps between two lines."""
        last = self.lines[-GAP:]
        return max((b - a for a, b in zip(last, last[1:]) if a // EPOCH == b // EPOCH), default=1)
