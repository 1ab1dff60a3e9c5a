"""In which order the lines of a training may come: several ranks print the same lines, and a resumed process goes back.

The position of a training line is epoch * EPOCH + step, so positions of a training ascend.
"""

import bisect
import operator
from typing import Dict, List, Optional

EPOCH = 10**9
WINDOW = 4096  # positions that are remembered, to know again what other ranks print
ALTERNATING = 3  # jumps back that no line and no other rank explains; so many are the lines of two processes
FAR = 10  # lines that a rank may be behind, if not its output comes in long pieces
YOUNG = 16  # lines within which all ranks begin: when the first position comes again later, it is another training


class Series:
    """The positions of a training's lines so far, since its process began. Memory is bounded by WINDOW."""

    def __init__(self) -> None:
        self.window: List[int] = []  # the last positions, ascending
        self.times_seen: Dict[int, int] = {}  # position -> how often it came, where that is more than once
        self.first_key: Optional[int] = None
        self.last_key = -1
        self.closed = False  # an evaluation, an end or a failure came
        self.pending: Optional[str] = (
            None  # 'begin' or 'resume': the log announced a process, and no training line came since
        )
        self.jumps = 0
        self.fresh = 0  # lines since the last that did not go on

    def restart(self) -> None:
        """A process goes on with the training. Its lines may begin at any position."""
        first, jumps = self.first_key, self.jumps
        self.__init__()
        self.first_key, self.jumps = first, jumps

    def place(self, key: int) -> str:
        """What a training line at position `key` is.

        'next': the training goes on. 'again': the line of another rank, or a line printed twice. 'resume': a process
        goes on with this training from an earlier position. 'new': the first line of another training. 'odd': none of
        these.

        All ranks begin together at the same position. A resumed process begins at an earlier position, that of an
        epoch's first line if no line announced it, and the lines just before that one have not just been repeated, as
        they would have been by a rank that is a little behind.
        """
        if self.first_key is None:
            return 'next'
        if self.pending:
            return 'new' if self.pending == 'begin' and key <= self.first_key else 'resume'
        if key > self.last_key:
            return 'next'
        i = bisect.bisect_left(self.window, key)
        seen = i < len(self.window) and self.window[i] == key
        if seen and i == 0 and (self.young() or len(self.window) > WINDOW // 2):
            return self._again(key)
        if key <= self.first_key:
            return 'new'
        before = max((self.times_seen.get(k, 1) for k in self.window[max(0, i - 4) : i]), default=1)
        if key == self.last_key or before > (self.times_seen.get(key, 1) if seen else 1):
            if len(self.window) - i > FAR and 0 < self.fresh < FAR:
                self.jumps += 1
            return self._again(key)
        if not self.window or key % EPOCH <= self._distance():
            return 'resume'
        self.jumps += 1
        return 'odd'

    def _distance(self) -> int:
        """Steps between two lines."""
        pairs = zip(reversed(self.window), self.window[-2::-1])
        return next((max(1, b - a) for b, a in pairs if b // EPOCH == a // EPOCH), 1)

    def _again(self, key: int) -> str:
        self.times_seen[key] = self.times_seen.get(key, 1) + 1
        self.fresh = 0
        return 'again'

    def ascends(self, keys: List[int]) -> bool:
        """Whether all positions simply go on."""
        return not self.pending and keys[0] > self.last_key and all(map(operator.lt, keys, keys[1:]))

    def young(self) -> bool:
        """Whether the training has only just begun, so that other ranks may still be at their beginning."""
        return len(self.window) <= YOUNG and not self.closed

    def remember(self, keys: List[int]) -> None:
        self.window += keys
        if len(self.window) > 2 * WINDOW:
            self.window = self.window[-WINDOW:]
            self.times_seen = {k: n for k, n in self.times_seen.items() if k >= self.window[0]}
        self.last_key = keys[-1]
        self.first_key = keys[0] if self.first_key is None else self.first_key
        self.pending = None
        self.fresh += len(keys)
