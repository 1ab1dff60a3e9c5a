"""What the training lines of one training add up to: steps, epochs, losses, rates and times."""

import bisect
import math
from typing import Callable, Dict, List, Optional

from common.logs.curve import Curve
from common.logs.forms import Form
from common.logs.series import EPOCH, YOUNG
from common.logs.timing import Timing

LAG = 8  # lines that one rank may be behind another


class Claims:
    """The images per second that a log states. Their mean counts, or the last where the form of the lines says so."""

    def __init__(self):
        self.number, self.sum = 0, 0.0
        self.last = None
        self.raw = []  # the last lines that stated one
        self.epoch, self.records = None, 0  # of the last line that stated one

    def mean(self) -> Optional[float]:
        return self.sum / self.number if self.number else None

    def add_lines(self, how: str, rates: List[bytes]) -> None:
        """The rates of training lines. how: see forms.Form.claim."""
        if how == 'mean':
            above = [rate for rate in map(float, rates) if rate > 0]
            self.number += len(above)
            self.sum += sum(above)
        elif how is not None:
            self.last = float(rates[-1]) if how == 'last' else None

    def add(self, fps: float, raw: bytes, epoch: Optional[int], records: int) -> None:
        """The rate of a line between the training lines. There is one an epoch; more of the same epoch, or the same
        line within LAG training lines, are those of other ranks and do not count.
        """
        if epoch is None:
            again = raw in self.raw
        else:
            again = self.epoch == epoch or (self.raw[-1:] == [raw] and records - self.records < LAG)
        if not again:
            self.number, self.sum = self.number + 1, self.sum + fps
            self.raw = self.raw[-YOUNG:] + [raw]
            self.epoch, self.records = epoch, records


class Training:
    """The training lines of one training, reduced while they are read."""

    def __init__(self):
        self.records = self.steps = self.epochs = 0  # lines, steps, epochs
        self.epoch, self.epoch_steps, self.count = None, 0, 0  # of the last line: epoch, its length, steps of it done
        self.loss, self.rate, self.claims = Curve(), Curve(), Claims()
        self.first_loss = self.last_loss = self.min_loss = None
        self.timing = None

    def restart(self, key: Optional[int] = None) -> None:
        """A process goes on with the training, at position `key` if that is known: steps done again count once."""
        if self.timing is not None:
            self.timing.restart()
        if key is not None and self.epoch is not None and key // EPOCH <= self.epoch:
            back = self.epoch - key // EPOCH
            self.steps -= self.count + (self.epoch_steps * back if back else 0)
            self.epochs -= back + 1
            self.epoch, self.count = None, 0

    def add(self, form: Form, columns: Dict[str, list], keys: List[int]) -> None:
        """Lines of one form at ascending positions. columns: {group of the form's regex: its values}."""
        if self.timing is None:
            first = keys[0] % EPOCH if form.first is None else form.first
            self.timing = Timing(first if first in (0, 1) else 0)
        low, total = 0, columns['total']
        while low < len(keys):
            high = bisect.bisect_left(keys, (keys[low] // EPOCH + 1) * EPOCH, low)
            self._add_epoch(form, columns, keys, low, high)
            low = high

        def place(i):
            return keys[i] // EPOCH + keys[i] % EPOCH / total[i]

        self._add_losses(list(map(float, columns['loss'])), place)
        self.records += len(keys)
        for name in ('fps', 'images'):
            rates = columns.get(name)
            if rates is not None and rates.count(None) < len(rates):
                self._add_rates(form, rates, columns['time'], place)

    def _add_epoch(self, form: Form, columns: Dict[str, list], keys: List[int], low: int, high: int) -> None:
        """Steps and times of the lines from low to high, which are of one epoch."""
        epoch, total = keys[low] // EPOCH, columns['total'][high - 1]
        before = epoch * EPOCH + self.timing.first - 1
        counts = [key - before for key in keys[low:high]]
        if epoch != self.epoch:
            self.epoch, self.count = epoch, 0
            self.epochs += 1
        if epoch != self.timing.epoch:
            self.timing.open(epoch)
        self.steps += counts[-1] - self.count
        self.count, self.epoch_steps = counts[-1], total
        times, now = columns['time'][low:high], columns.get('now', columns['time'])[low:high]
        self.timing.lines(form.timing, counts, total, times, columns['data'][low:high], now)

    def _add_losses(self, losses: List[float], place: Callable[[int], float]) -> None:
        """place(i): where line i stands on a curve, in epochs."""
        at, finite = range(len(losses)), losses
        if not math.isfinite(sum(losses)):
            at = [i for i in at if math.isfinite(losses[i])]
            finite = [losses[i] for i in at]
        if finite:
            self.loss.extend(len(at), lambda i: (place(at[i]), finite[i]))
            self.first_loss = finite[0] if self.first_loss is None else self.first_loss
            self.min_loss = min(finite) if self.min_loss is None else min(self.min_loss, min(finite))
        self.last_loss = losses[-1]

    def _add_rates(self, form: Form, rates: list, times: list, place: Callable[[int], float]) -> None:
        """Images per second; None for lines that state none."""
        at = [i for i, rate in enumerate(rates) if rate is not None] if None in rates else range(len(rates))
        stated = [rates[i] for i in at]
        self.rate.extend(len(stated), lambda i: (place(at[i]), float(stated[i])))
        self.claims.add_lines(form.claim, stated)
        if form.claim not in (None, 'mean'):
            self.timing.rate = (float(stated[-1]), float(times[at[-1]]))
