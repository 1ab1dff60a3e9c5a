"""The time of the steps after the warm-up, from training lines of any kind. Seconds throughout."""

import bisect
import collections
import math
import operator
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from common.logs.forms import Form

VALUES = 20000  # distinct step times that are kept; beyond, there are no percentiles
WINDOW = 20  # steps that a metric logger's means are over
WARMUP, WARMUP_SHARE = 20, 5  # as throughput.warmup_steps: 20 steps, in a short epoch a fifth of it, but one at least
SAMPLES = 8  # lines of a block that are asked how many images a step has


def rounding(printed: Any) -> float:
    """How far a printed number may be from what it was: half of its last digit. Of a number of JSON: 0."""
    return 0.5 * 10.0 ** -len(printed.partition(b'.')[2]) if isinstance(printed, bytes) else 0.0


class Images:
    """How many images a step has, by lines that print both a rate and the time of the same steps.

    Printed numbers are rounded, so each line leaves a range. What counts is the one whole number in all of them.
    """

    def __init__(self) -> None:
        self.low, self.high = 0.0, math.inf

    def add(self, rate: bytes, seconds: bytes) -> None:
        a, b, half, ulp = float(rate), float(seconds), rounding(rate), rounding(seconds)
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
    """What some steps took. share: seconds divided by the images of a step, where lines print rates, which tell it more
    exactly than their times; unsure: how many seconds the rounding of the printed times leaves open.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    share: float = 0.0
    unsure: float = 0.0

    def plus(self, other: 'Total') -> 'Total':
        return Total(*map(operator.add, self, other))

    def minus(self, other: 'Total') -> 'Total':
        return Total(*map(operator.sub, self, other))._replace(unsure=self.unsure + other.unsure)


class Timing:
    """Sums over the steps after the warm-up (.counted) and over all (.all).

    first: the number of an epoch's first step, 0 or 1. A total is that since the epoch began; the sums take in, for
    each epoch, the last total minus the one at the end of the warm-up.
    """

    def __init__(self, first: int, images: Images):
        self.first, self.images = first, images
        self.counted, self.all, self.done = Total(), Total(), 0  # done: steps, also those that no window covers
        self.times: Any = collections.Counter()  # of steps as printed; None: some have no line
        self.has_waits = True  # the lines say how long the steps waited for data
        self.epoch = self.warm_epoch = None  # the epoch of the last lines; the one that holds the warm-up
        self.start = None  # total at the end of the epoch's warm-up
        self.last, self.count = Total(), 0  # total at the epoch's last line, and the steps done there
        self.window = (0, Total())  # the same at its last line whose window follows that of the line before

    def restart(self) -> None:
        """A process began: it has a warm-up of its own."""
        self.close()
        self.warm_epoch = None

    def close(self) -> None:
        """Ends an epoch: adds its totals to the sums."""
        self.all, self.done = self.all.plus(self.last), self.done + self.count
        if self.start is not None and self.last.steps > self.start.steps:
            self.counted = self.counted.plus(self.last.minus(self.start))
        self.epoch, self.start, self.last, self.count, self.window = None, None, Total(), 0, (0, Total())

    def lines(self, form: Form, epoch: int, counts: List[int], steps: int, columns: Dict[str, list]) -> None:
        """Adds lines of one epoch. counts: steps done at each line; steps: of the whole epoch. columns: as printed."""
        if epoch != self.epoch:
            self.close()
            self.epoch, self.warm_epoch = epoch, epoch if self.warm_epoch is None else self.warm_epoch
            self.start = None if epoch == self.warm_epoch else Total()
        if form.timing == 'running' and 'fps' in columns:
            for i in range(0, len(counts), len(counts) // SAMPLES + 1):
                self.images.add(columns['fps'][i], columns['time'][i])
        self.has_waits = form.timing == 'interval' or columns.get('data', [None])[0] is not None
        total, low = getattr(self, f'_{form.timing}')(counts, columns), 0
        if self.start is None:
            low = bisect.bisect_left(counts, max(1, min(WARMUP, steps // WARMUP_SHARE)))
            if low < len(counts):
                self.start = total(low)
                low += 1
        if form.timing != 'running' or counts[-1] - self.count != len(counts) or len(self.times or ()) > VALUES:
            self.times = None
        elif self.times is not None:
            self.times.update(columns['now'][low:])
        self.last, self.count = total(len(counts) - 1), counts[-1]

    def _running(self, counts: List[int], columns: Dict[str, list]) -> Callable[[int], Total]:
        """`time` is the mean since the epoch began, so each line is a total by itself."""

        def total(i: int) -> Total:
            n, time, rate, wait = (column[i] if column else None for column in (counts, *map(columns.get, NAMES)))
            share = n / float(rate) if rate and float(rate) > 0 else 0.0
            return Total(n, n * float(time), n * float(wait or 0), share, n * rounding(time))

        return total

    def _interval(self, counts: List[int], columns: Dict[str, list]) -> Callable[[int], Total]:
        """`step_ms` is the mean since the line before; `data_wait` or `data_percent`: how much of it was waiting."""
        gaps, before = list(map(operator.sub, counts, [self.count] + counts)), self.last
        shares, whole = (columns['data_wait'], 1) if 'data_wait' in columns else (columns['data_percent'], 100)
        means = list(map(float, columns['step_ms']))
        waits = list(map(operator.mul, means, map(float, shares)))

        def total(i: int) -> Total:
            ms, waited = (sum(map(operator.mul, gaps[: i + 1], values)) for values in (means, waits))
            return before.plus(Total(sum(gaps[: i + 1]), ms / 1000, waited / 1000 / whole))

        return total

    def _window(self, counts: List[int], columns: Dict[str, list]) -> Callable[[int], Total]:
        """`time` is the mean of the last WINDOW steps. Lines whose windows follow each other add up; of the lines
        between them, the last stands for the steps since.
        """
        times, waits, followers = columns['time'], columns['data'], [self.window]
        (at, before), half = self.window, rounding(times[0])

        def added(before: Total, steps: int, i: int) -> Total:
            unsure = half * math.sqrt(WINDOW * steps)  # the roundings of many windows cancel each other
            return before.plus(Total(steps, steps * float(times[i]), steps * float(waits[i]), 0.0, unsure))

        for i, count in enumerate(counts):
            if count - at >= WINDOW or not at:
                before = added(before, min(count - at, WINDOW), i)
                at = count
                followers.append((at, before))
        self.window = followers[-1]

        def total(i: int) -> Total:
            at, before = followers[bisect.bisect(followers, (counts[i], (math.inf,))) - 1]
            return added(before, min(counts[i] - at, WINDOW), i)

        return total

    def seconds(self) -> Optional[float]:
        """Of all steps so far."""
        timed = self.all.plus(self.last)
        return timed.seconds * (self.done + self.count) / timed.steps if timed.steps else None

    def percentile_ms(self, percent: int) -> Optional[float]:
        """The smallest step time that at least `percent` % of them do not exceed; None where steps are not known."""
        wanted = -(-sum((self.times or {}).values()) * percent // 100)
        for seconds, n in sorted((float(text), n) for text, n in (self.times or {}).items()):
            wanted -= n
            if wanted <= 0:
                return 1000 * seconds
        return None


NAMES = ('time', 'fps', 'data')  # columns of lines with running means
