"""The time of the steps after the warm-up, from training lines of any kind. Seconds throughout."""

import bisect
import collections
import math
import operator
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from common.logs.forms import Form
from common.logs.values import first

VALUES = 20000  # distinct step times that are kept; beyond, there are no percentiles
WINDOW = 20  # steps that a metric logger's means are over
WARMUP, WARMUP_SHARE = 20, 5  # as throughput.warmup_steps: 20 steps, in a short epoch a fifth of it, but one at least
SAMPLES = 8  # lines of a block that are asked how many images a step has


def rounding(printed: bytes) -> float:
    """How far a printed number may be from what it was: half of its last digit."""
    return 0.5 * 10.0 ** -len(printed.partition(b'.')[2])


class Images:
    """How many images a step has, by lines that print both a rate and the time of the same steps.

    Printed numbers are rounded, so each line leaves a range. What counts is the one whole number in all of them.
    """

    def __init__(self) -> None:
        self.low, self.high = 0.0, math.inf

    def add(self, rates: List[bytes], seconds: List[bytes]) -> None:
        """Takes some of the lines, as they all say the same."""
        for i in range(0, len(rates), len(rates) // SAMPLES + 1):
            a, b, half, ulp = float(rates[i]), float(seconds[i]), rounding(rates[i]), rounding(seconds[i])
            if a > 0:
                self.low, self.high = max(self.low, (a - half) * (b - ulp)), min(self.high, (a + half) * (b + ulp))

    def multiple_of(self, one: int) -> Optional[int]:
        """The only multiple of `one` that all lines allow, or None."""
        if not 0 < self.high < math.inf:
            return None
        least = one * max(1, math.ceil(self.low / one))
        return least if least <= self.high < least + one else None

    def excludes(self, number: int) -> bool:
        """Whether the lines clearly say another number (they may miss by 10 %, as some leave out steps)."""
        return self.high < math.inf and not 0.9 * self.low <= number <= 1.1 * self.high


class Total(NamedTuple):
    """What some steps took, and how long they waited for data. share: seconds divided by the images of a step, where
    lines print rates, which tell it more exactly than their times.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    share: float = 0.0

    def plus(self, other: 'Total') -> 'Total':
        return Total(*map(operator.add, self, other))

    def minus(self, other: 'Total') -> 'Total':
        return Total(*map(operator.sub, self, other))


class Timing:
    """Sums over the steps after the warm-up (.counted) and over all (.all).

    first: the number of an epoch's first step, 0 or 1.
    """

    def __init__(self, first: int):
        self.first = first
        self.counted, self.all, self.done = Total(), Total(), 0  # done: steps, also those that no window covers
        self.times: Any = collections.Counter()  # of steps as printed; None: some have no line
        self.has_waits = True  # the lines say how long the steps waited for data
        self.rounding = 0.0  # of the printed times
        self.warm: Optional[int] = None  # how many steps the first process's warm-up had
        self.restart()

    def restart(self) -> None:
        """A process begins: it has a warm-up of its own."""
        self.epoch: Optional[int] = None  # of the last lines
        self.is_warm = False
        # Since the epoch began: total at the last line, and the steps done there; the same at the last line whose
        # window follows that of the line before
        self.last, self.count, self.window = Total(), 0, (0, Total())

    def lines(self, form: Form, epoch: int, counts: List[int], columns: Dict[str, list]) -> None:
        """Adds lines of one epoch. counts: steps done at each line. columns: as printed."""
        if epoch != self.epoch:
            self.is_warm = self.epoch is not None
            self.epoch, self.last, self.count, self.window = epoch, Total(), 0, (0, Total())
        if form.timing != 'interval':
            self.has_waits = columns.get('data', [None])[0] is not None
            self.rounding = rounding(columns['time'][-1])
        total, low, before = getattr(self, f'_{form.timing}')(counts, columns), 0, self.last
        if not self.is_warm:
            low = bisect.bisect_left(counts, max(1, min(WARMUP, int(columns['steps'][-1]) // WARMUP_SHARE))) + 1
            self.is_warm = low <= len(counts)
            before = total(low - 1) if self.is_warm else before
            self.warm = first(self.warm, counts[low - 1] if self.is_warm else None)
        if form.timing != 'running' or counts[-1] - self.count != len(counts) or len(self.times or ()) > VALUES:
            self.times = None
        elif self.times is not None:
            self.times.update(columns['now'][low:])
        last = total(len(counts) - 1)
        self.all, self.done = self.all.plus(last).minus(self.last), self.done + counts[-1] - self.count
        if self.is_warm:
            self.counted = self.counted.plus(last).minus(before)
        self.last, self.count = last, counts[-1]

    # These give the total since the epoch began, at line i of a block

    def _running(self, counts: List[int], columns: Dict[str, list]) -> Callable[[int], Total]:
        """`time`, `data` and `fps` are means since the epoch began."""

        def total(i: int) -> Total:
            n, rate = counts[i], float(columns['fps'][i]) if 'fps' in columns else 0.0
            wait = float(columns['data'][i] or 0) if self.has_waits else 0.0
            return Total(n, n * float(columns['time'][i]), n * wait, n / rate if rate else 0.0)

        return total

    def _interval(self, counts: List[int], columns: Dict[str, list]) -> Callable[[int], Total]:
        """`step_ms` is the mean since the line before; `data_wait` or `data_percent`: how much of it was waiting."""
        shares, whole = (columns['data_wait'], 1) if 'data_wait' in columns else (columns['data_percent'], 100)
        done, before = self.count, self.last
        times = list(map(operator.mul, map(operator.sub, counts, [done, *counts]), map(float, columns['step_ms'])))
        waits = list(map(operator.mul, times, map(float, shares)))

        def total(i: int) -> Total:
            n = i + 1
            return before.plus(Total(counts[i] - done, sum(times[:n]) / 1000, sum(waits[:n]) / 1000 / whole))

        return total

    def _window(self, counts: List[int], columns: Dict[str, list]) -> Callable[[int], Total]:
        """`time` and `data` are means of the last WINDOW steps. Lines whose windows follow each other add up; of the lines
        between them, each stands for the steps since.
        """
        followers = [self.window]  # steps done, and the total there

        def total(i: int) -> Total:
            done, before = followers[bisect.bisect(followers, (counts[i], (math.inf,))) - 1]
            n = min(counts[i] - done, WINDOW)
            return before.plus(Total(n, n * float(columns['time'][i]), n * float(columns['data'][i])))

        i = bisect.bisect_left(counts, self.window[0] + WINDOW if self.window[0] else 0)
        while i < len(counts):
            followers.append((counts[i], total(i)))
            i = bisect.bisect_left(counts, counts[i] + WINDOW, i + 1)
        self.window = followers[-1]
        return total

    def seconds(self) -> Optional[float]:
        """Of all steps so far."""
        return self.all.seconds * self.done / self.all.steps if self.all.steps else None

    def percentile_ms(self, percent: int) -> Optional[float]:
        """The smallest step time that at least `percent` % of them do not exceed; None where steps are not known."""
        wanted = -(-sum((self.times or {}).values()) * percent // 100)
        for seconds, n in sorted((float(text), n) for text, n in (self.times or {}).items()):
            wanted -= n
            if wanted <= 0:
                return 1000 * seconds
        return None
