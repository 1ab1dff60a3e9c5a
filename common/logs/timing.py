"""The time of the steps after the warm-up, from training lines of any kind. Seconds throughout."""

import bisect
import collections
import itertools
import operator
from typing import Any, List, Optional, Sequence

from common.logs import curve

VALUES = 20000  # distinct step times that are kept as printed; beyond, they are rounded to three digits
WINDOW = 20  # steps that a metric logger's means are over
WARMUP, WARMUP_SHARE = 20, 5  # as throughput.warmup_steps: 20 steps, in a short epoch a fifth of it, but one at least


class Times:
    """A distribution of step times. Percentiles are exact up to VALUES distinct times, beyond that to 0.5 %."""

    def __init__(self):
        self.counts = collections.Counter()  # text as printed -> how often

    def update(self, texts: Sequence[Any]) -> None:
        self.counts.update(texts)
        if len(self.counts) > VALUES:
            rounded = collections.Counter()
            for text, n in self.counts.items():
                rounded[b'%.2e' % float(text)] += n
            self.counts = rounded

    def percentile(self, percent: int) -> Optional[float]:
        """The smallest value that at least `percent` % of the values do not exceed; see throughput.percentile."""
        ordered = sorted((float(text), n) for text, n in self.counts.items())
        wanted = -(-sum(self.counts.values()) * percent // 100)
        for value, n in ordered:
            wanted -= n
            if wanted <= 0:
                return value
        return None


class Timing:
    """Sums over the steps after the warm-up: .steps, .seconds, and .data, the seconds of waiting for data.

    first: the number of an epoch's first step, 0 or 1. A total is (steps, seconds, seconds of waiting) since the epoch
    began; the sums take in, for each epoch, the last total minus the one at the end of the warm-up.
    """

    def __init__(self, first: int):
        self.first = first
        self.steps, self.seconds, self.data = 0, 0.0, 0.0
        self.all_seconds = 0.0  # of whole epochs, warm-up included
        self.times = Times()
        self.images_per_step = []  # by rate and time of the last line of each epoch
        self.epoch = self.warm_epoch = None  # the epoch of the last lines; the one that holds the warm-up
        self.start = self.last = None  # totals at the end of the epoch's warm-up, and at its last line
        self.rate = None  # (images per second, seconds) of the epoch's last line
        self.known = [{}, {}]  # totals of seconds and of waiting at the epoch's last lines, for over_window

    def restart(self) -> None:
        """A process began: it has a warm-up of its own."""
        self.close()
        self.warm_epoch = None

    def warmup(self, steps: int) -> int:
        return max(1, min(WARMUP, steps // WARMUP_SHARE)) if self.epoch == self.warm_epoch else 0

    def close(self) -> None:
        """Ends an epoch: adds its totals to the sums."""
        if self.rate is not None and len(self.images_per_step) < curve.MOST:
            self.images_per_step.append(self.rate[0] * self.rate[1])
        if self.last is not None:
            self.all_seconds += self.last[1]
            if self.start is not None and self.last[0] > self.start[0]:
                self.steps += self.last[0] - self.start[0]
                self.seconds += self.last[1] - self.start[1]
                self.data += self.last[2] - self.start[2]
        self.epoch = self.start = self.last = self.rate = None

    def open(self, epoch: int) -> None:
        self.close()
        self.epoch = epoch
        if self.warm_epoch is None:
            self.warm_epoch = epoch
        else:
            self.start = (0, 0.0, 0.0)
        self.last, self.known = (0, 0.0, 0.0), [{}, {}]

    def lines(self, timing: str, counts: List[int], steps: int, times: list, data: list, now: list) -> None:
        """Adds lines of one epoch.

        timing: see forms.Form. counts: steps done at each line; steps: of the whole epoch. times, data: as printed
        (bytes or numbers), of what `timing` says; now: what goes into the distribution of step times.
        """
        if timing == 'running':

            def total(i):
                return counts[i], counts[i] * float(times[i]), counts[i] * float(data[i])
        else:
            sums = self.over_window if timing == 'window' else self.over_gaps
            seconds, waited = sums(1, counts, times), sums(2, counts, data)

            def total(i):
                return counts[i], seconds[i], waited[i]

        low = 0
        if self.start is None:
            low = bisect.bisect_left(counts, self.warmup(steps))
            if low < len(counts):
                self.start = total(low)
                low = bisect.bisect_left(counts, counts[low] + (WINDOW if timing == 'window' else 1))
        self.times.update(now[low:])
        self.last = total(len(counts) - 1)

    def over_gaps(self, which: int, counts: List[int], means: list) -> List[float]:
        """-> totals at each line, from means over the steps since the line before. which: 1 seconds, 2 waiting."""
        gaps = map(operator.sub, counts, itertools.chain([self.last[0]], counts))
        parts = map(operator.mul, gaps, map(float, means))
        return list(itertools.accumulate(itertools.chain([self.last[which]], parts)))[1:]

    def over_window(self, which: int, counts: List[int], means: list) -> List[float]:
        """-> totals at each line, from means over the last WINDOW steps: the total WINDOW steps before, plus the mean
        times WINDOW. Where no line was printed there, the mean stands for the steps since the line before.
        """
        known, means = self.known[which - 1], list(map(float, means))
        count, total, found = self.last[0], self.last[which], []
        gap = counts[1] - counts[0] if len(counts) > 1 else WINDOW + 1
        even = WINDOW % gap == 0 and counts == list(range(counts[0], counts[-1] + 1, gap))
        # lines at even distances, as loggers print them, need no look-up from the line `start` on
        start = max(WINDOW // gap, bisect.bisect_right(counts, WINDOW)) if even else len(counts)
        for at, mean in zip(counts[:start], means):
            if at <= WINDOW:
                total = at * mean
            else:
                before = known.get(at - WINDOW)
                total = total + (at - count) * mean if before is None else before + WINDOW * mean
            known[at] = total
            found.append(total)
            count = at
        found += [WINDOW * mean for mean in means[start:]]
        lag = WINDOW // gap
        for i in range(start, min(start + lag, len(counts))):
            found[i] += found[i - lag]
            found[i::lag] = list(itertools.accumulate(found[i::lag]))
        known.update(zip(counts[-WINDOW:], found[-WINDOW:]))
        if len(known) > 1000 * WINDOW:
            self.known[which - 1] = {at: total for at, total in known.items() if at > counts[-1] - WINDOW}
        return found
