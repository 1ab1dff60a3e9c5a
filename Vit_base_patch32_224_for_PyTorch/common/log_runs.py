"""What becomes of a run's lines while they are read: sums, extremes, thinned curves. Memory does not grow with the log.

Step times in seconds, accuracies in percent, FPS in images per second. log_parser.py feeds a Run and asks it for a summary.
"""

import bisect
import collections
import itertools
import math
import operator

CURVE = 2000  # points that a curve keeps at most; every second goes when there are more
VALUES = 20000  # distinct step times that are kept as printed; beyond, they are rounded to three digits
WINDOW = 4096  # positions that a run remembers, to know again what other ranks print
LAG = 8  # lines that one rank may be behind another
YOUNG = 16  # lines within which ranks begin: later the same position again is another run
EPOCH = 10**9  # a position is epoch * EPOCH + step
LAST = 20  # steps that a metric logger's means are over
WARMUP, WARMUP_SHARE = 20, 5  # as throughput.warmup_steps: 20 steps, in a short epoch a fifth, but one at least


class Curve:
    """At most CURVE points, evenly thinned, of however many come; and the last."""

    def __init__(self):
        self.points, self.every, self.seen, self.last = [], 1, 0, None

    def extend(self, n, point):
        """n more points, of which point(i) makes the i-th."""
        self.points += map(point, range(-self.seen % self.every, n, self.every))
        self.seen += n
        self.last = point(n - 1)
        while len(self.points) > CURVE:
            self.points = self.points[::2]
            self.every *= 2

    def all(self):
        return self.points + ([self.last] if self.last is not None and self.points[-1] != self.last else [])


class Times:
    """Step times in seconds, as printed. Percentiles are exact up to VALUES distinct times, beyond that to three digits (0.5 %)."""

    def __init__(self):
        self.counts, self.coarse = collections.Counter(), False

    def update(self, texts):
        self.counts.update(texts)
        if len(self.counts) > VALUES:
            rounded = collections.Counter()
            for text, n in self.counts.items():
                rounded[b'%.2e' % float(text)] += n
            self.counts, self.coarse = rounded, True

    def percentile(self, percent):
        """The smallest value that at least `percent` % of the values do not exceed, or None; see throughput.percentile."""
        ordered = sorted((float(text), n) for text, n in self.counts.items())
        wanted = -(-sum(self.counts.values()) * percent // 100)
        for value, n in ordered:
            wanted -= n
            if wanted <= 0:
                return value
        return None


class Steps:
    """Wall time of the steps after the warm-up, from lines that state it in one of the ways of log_formats.Line.timing."""

    def __init__(self, first):
        self.first = first  # number of an epoch's first step
        self.steps, self.seconds, self.data = 0, 0.0, 0.0  # measured
        self.images_rate = []  # images per step, by time and rate of the last line of each epoch
        self.all_seconds = 0.0  # warm-up included
        self.times = Times()
        self.warm_epoch = self.epoch = self.mark = self.tail = None
        self.rate = None  # images a second and seconds of the epoch's last line
        self.known = [{}, {}]  # sums at the epoch's last lines, for timing 'window'

    def restart(self):
        """A process began: it has a warm-up of its own."""
        self.close()
        self.warm_epoch = None

    def warmup(self, steps):
        return max(1, min(WARMUP, steps // WARMUP_SHARE)) if self.epoch == self.warm_epoch else 0

    def close(self):
        """Ends an epoch: its window is added up."""
        if self.rate is not None and len(self.images_rate) < CURVE:
            self.images_rate.append(self.rate[0] * self.rate[1])
        if self.tail is not None:
            self.all_seconds += self.tail[1]
            if self.mark is not None and self.tail[0] > self.mark[0]:
                self.steps += self.tail[0] - self.mark[0]
                self.seconds += self.tail[1] - self.mark[1]
                self.data += self.tail[2] - self.mark[2]
        self.epoch = self.mark = self.tail = self.rate = None

    def open(self, epoch):
        self.close()
        self.epoch = epoch
        if self.warm_epoch is None:
            self.warm_epoch = epoch
        else:
            self.mark = (0, 0.0, 0.0)
        self.tail, self.known, self.rate = (0, 0.0, 0.0), [{}, {}], None

    def lines(self, timing, counts, steps, times, data, now):
        """Lines of one epoch: the number of steps so far, of the epoch, and what was printed (bytes or numbers)."""
        if timing == 'running':

            def total(i):
                return counts[i], counts[i] * float(times[i]), counts[i] * float(data[i])
        else:
            sums = self.over_window if timing == 'window' else self.over_gaps
            seconds, waited = sums(1, counts, times), sums(2, counts, data)

            def total(i):
                return counts[i], seconds[i], waited[i]

        low = 0
        if self.mark is None:
            low = bisect.bisect_left(counts, self.warmup(steps))
            if low < len(counts):
                self.mark = total(low)
                low = bisect.bisect_left(counts, counts[low] + (LAST if timing == 'window' else 1))
        self.times.update(now[low:])
        self.tail = total(len(counts) - 1)

    def over_gaps(self, which, counts, means):
        """-> the sum since the epoch began at each line, from means over the steps since the line before."""
        gaps = map(operator.sub, counts, itertools.chain([self.tail[0]], counts))
        return list(
            itertools.accumulate(itertools.chain([self.tail[which]], map(operator.mul, gaps, map(float, means))))
        )[1:]

    def over_window(self, which, counts, means):
        """The same from means over the last LAST steps: each adds to the sum of so many steps ago.

        Where no line was printed there, it stands for the steps since the line before.
        """
        known, means = self.known[which - 1], list(map(float, means))
        count, total, found = self.tail[0], self.tail[which], []
        gap = counts[1] - counts[0] if len(counts) > 1 else LAST + 1
        even = LAST % gap == 0 and counts == list(
            range(counts[0], counts[-1] + 1, gap)
        )  # as a logger prints: the fast way
        start = max(LAST // gap, bisect.bisect_right(counts, LAST)) if even else len(counts)
        for at, mean in zip(counts[:start], means):
            if at <= LAST:
                total = at * mean
            else:
                before = known.get(at - LAST)
                total = total + (at - count) * mean if before is None else before + LAST * mean
            known[at] = total
            found.append(total)
            count = at
        found += [LAST * mean for mean in means[start:]]
        for i in range(
            start, min(start + LAST // gap, len(counts))
        ):  # each of the others adds to the one LAST steps before it
            found[i] += found[i - LAST // gap]
            found[i :: LAST // gap] = list(itertools.accumulate(found[i :: LAST // gap]))
        known.update(zip(counts[-LAST:], found[-LAST:]))
        if len(known) > 1000 * LAST:
            self.known[which - 1] = {at: total for at, total in known.items() if at > counts[-1] - LAST}
        return found


class Run:
    """One run of a log, reduced while it is read. `fields` is what the log states outright; summary() in Log computes the rest."""

    def __init__(self, fields=None):
        self.fields, self.tags, self.segments = dict(fields or {}), set(), 1
        self.window, self.again, self.first_key, self.last_key = [], {}, None, -1  # positions
        self.closed = False  # an evaluation, an end or a failure came since the segment began
        self.pending, self.pending_fields, self.marks = (
            None,
            {},
            [],
        )  # 'begin' or 'resume' was read, and no record since
        self.said, self.measured, self.best_claim = {}, {}, None
        self.records = self.steps = self.epochs = self.count = 0
        self.epoch, self.epoch_steps = None, 0
        self.loss, self.rate = Curve(), Curve()
        self.first_loss = self.final_loss = self.min_loss = None
        self.timing, self.evals, self.best = None, Curve(), None
        self.claims, self.last_claim = [0, 0.0], None
        self.stated = []  # (epoch, accuracy) of the last evaluations that gave their epoch
        self.claimed, self.claim_epoch, self.claim_records = [], None, 0
        self.eval_key = self.coarse = self.last_eval = None
        self.eval_records = 0
        self.clock0 = self.clock = None
        self.passed = 0.0  # seconds of the segments before this one
        self.targets = []  # (accuracy, seconds) of each new best
        self.ids = None

    # ---- where a record belongs

    def place(self, key):
        """-> 'next', 'again' (another rank's, or a line printed twice), 'resume' or 'new' (run), for a training line's position.

        Ranks start together and from the same place; a resumed run starts inside, where no other rank has just been.
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
            return self.note(key)
        if key <= self.first_key:
            return 'new'
        if not self.window or i == 0:
            return 'resume'
        before = max(self.again.get(k, 1) for k in self.window[max(0, i - 4) : i])
        if key == self.last_key or before > (self.again.get(key, 1) if seen else 1):
            return self.note(key)
        return 'resume'

    def repeated(self, keys):
        """Positions that go on, but for some that come several times in a row: -> the indices of the first of each, else None.

        What place() says of each is clear then.
        """
        clear = not self.pending and len(self.window) > 1 and self.first_key < keys[0] >= self.last_key
        if not clear or not all(map(operator.le, keys, keys[1:])):
            return None
        chosen = []
        for i, (key, before) in enumerate(zip(keys, [self.last_key] + keys)):
            if key != before:
                chosen.append(i)
            else:
                self.note(key)
        if chosen:
            self.remember([keys[i] for i in chosen])
        return chosen

    def young(self):
        return len(self.window) <= YOUNG and not self.closed

    def fresh(self):
        return not self.records and not self.evals.seen and not self.window

    def note(self, key):
        self.again[key] = self.again.get(key, 1) + 1
        return 'again'

    def remember(self, keys):
        self.window += keys
        if len(self.window) > 2 * WINDOW:
            self.window = self.window[-WINDOW:]
            self.again = {k: n for k, n in self.again.items() if k >= self.window[0]}
        self.last_key = keys[-1]
        self.first_key = keys[0] if self.first_key is None else self.first_key
        self.pending = None

    def resume(self, key=None):
        """A process goes on with this run, at `key` where it is known: what it does over again counts once."""
        self.segments += 1
        if self.timing is not None:
            self.timing.restart()
        if key is not None and self.epoch is not None and key // EPOCH <= self.epoch:
            back = self.epoch - key // EPOCH
            self.steps -= self.count + (self.epoch_steps * back if back else 0)
            self.epochs -= back + 1
            self.epoch, self.count = None, 0
        self.fields.update(self.pending_fields, resumed=True)
        self.window, self.again, self.last_key, self.closed, self.pending, self.pending_fields = (
            [],
            {},
            -1,
            False,
            None,
            {},
        )
        self.passed = self.seconds() or 0.0
        self.clock0 = self.clock = None

    # ---- training

    def train(self, form, columns, keys):
        """Lines of one form in ascending positions. columns: {group: tuple of bytes}."""
        if self.timing is None:
            first = keys[0] % EPOCH if form.first is None else form.first
            self.timing = Steps(first if first in (0, 1) else 0)
        low, total = 0, columns['total']
        while low < len(keys):
            high = bisect.bisect_left(keys, (keys[low] // EPOCH + 1) * EPOCH, low)
            self.epoch_lines(form, columns, keys, low, high)
            low = high
        losses, at = list(map(float, columns['loss'])), range(len(keys))
        finite = losses
        if not math.isfinite(sum(losses)):
            at = [i for i in at if math.isfinite(losses[i])]
            finite = [losses[i] for i in at]

        def place(i):
            return keys[i] // EPOCH + keys[i] % EPOCH / total[i]

        if finite:
            self.loss.extend(len(at), lambda i: (place(at[i]), finite[i]))
            self.first_loss = finite[0] if self.first_loss is None else self.first_loss
            self.min_loss = min(finite) if self.min_loss is None else min(self.min_loss, min(finite))
        self.final_loss = losses[-1]
        self.records += len(keys)
        for name in ('fps', 'images'):
            rates = columns.get(name)
            if rates is not None and rates.count(None) < len(rates):
                there = [i for i in range(len(keys)) if rates[i] is not None] if None in rates else range(len(keys))
                self.rates(form, [rates[i] for i in there], columns['time'][there[-1]], lambda i: place(there[i]))

    def epoch_lines(self, form, columns, keys, low, high):
        """Those from low to high, which are of one epoch: steps and times."""
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
        times = columns['time'][low:high]
        self.timing.lines(
            form.timing,
            counts,
            total,
            times,
            columns['data'][low:high],
            columns['now'][low:high] if 'now' in columns else times,
        )

    def rates(self, form, rates, time, place):
        """What the lines say of images per second."""
        self.rate.extend(len(rates), lambda i: (place(i), float(rates[i])))
        if form.claim == 'mean':
            above = [rate for rate in map(float, rates) if rate > 0]
            self.claims = [self.claims[0] + len(above), self.claims[1] + sum(above)]
        elif form.claim is not None:
            self.last_claim = float(rates[-1]) if form.claim == 'last' else None
            self.timing.rate = (float(rates[-1]), float(time))

    # ---- the rest

    def seconds(self):
        """Since the run began, without the pauses between its segments: by the clock, else the sum of its steps, else None."""
        if self.clock0 is not None:
            return self.passed + self.clock - self.clock0
        if self.timing is None:
            return None
        return (self.timing.all_seconds + (self.timing.tail or (0, 0))[1]) or None

    def tick(self, clock):
        if clock is not None:
            self.clock0 = clock if self.clock0 is None else self.clock0
            self.clock = clock

    def evaluation(self, acc1, acc5=None, loss=None, epoch=None, coarse=False):
        """Accuracies in percent. One that repeats the last at the same place is another rank's word."""
        place = (self.last_key, epoch)
        if epoch is not None and (epoch, acc1) in self.stated:
            return
        self.stated = self.stated[-YOUNG:] + ([] if epoch is None else [(epoch, acc1)])
        epoch = self.epoch if epoch is None else epoch
        behind = self.eval_key == place or epoch is not None and self.records - self.eval_records < LAG
        if self.last_eval == (acc1, acc5, loss) and behind:
            return
        if (
            coarse
            and self.coarse is False
            and (self.eval_key == place or behind and abs(acc1 - self.last_eval[0]) < 0.06)
        ):
            return
        self.last_eval, self.eval_records, self.eval_key, self.coarse = (acc1, acc5, loss), self.records, place, coarse
        self.fields.update(last_acc1=acc1, last_acc5=acc5, last_epoch=epoch, eval_loss=loss)
        self.evals.extend(1, lambda i: (epoch, acc1))
        self.closed = True
        self.alive()
        if self.best is None or acc1 > self.best[0]:
            self.best = (acc1, epoch, self.seconds())
            self.targets.append((acc1, self.seconds()))

    def claim(self, fps, raw):
        """A figure that the log states between its training lines: once an epoch, and not again what a rank says that is behind."""
        if self.epoch is None:
            again = raw in self.claimed
        else:
            again = (
                self.claim_epoch == self.epoch or self.claimed[-1:] == [raw] and self.records - self.claim_records < LAG
            )
        if not again:
            self.claims = [self.claims[0] + 1, self.claims[1] + fps]
            self.claimed = self.claimed[-YOUNG:] + [raw]
            self.claim_epoch, self.claim_records = self.epoch, self.records

    def fail(self, reason):
        """Of several reasons the first counts: a rank that dies takes the others down, and they complain after it."""
        if self.fields.get('status') is None:
            self.fields.update(status='FAILED', reason=reason)
        self.closed = True

    def alive(self):
        """A record came: what looked like a failure before it was none."""
        if self.fields.get('status') == 'FAILED':
            self.fields.update(status=None, reason=None)

    # ---- the run in numbers

    def batch(self, asked=None):
        """Images of all ranks per step: as asked, as the log states it, or as a line's rate and time multiply to. Or None."""
        given = asked or self.fields.get('global_batch')
        if given is None and self.timing is not None and self.timing.images_rate:
            given = round(sum(self.timing.images_rate) / len(self.timing.images_rate))
        return given or None

    def throughput(self, asked):
        """fps, fps_source ('measured' by CONTRACT section 4, 'claimed' by the log, None), fps_claimed, fps_reason and step times."""
        timing, said, batch = self.timing, self.said, self.batch(asked)
        mean = self.claims[1] / self.claims[0] if self.claims[0] else None
        claimed = self.measured.get('fps') or said.get('fps') or mean or self.last_claim
        found = dict.fromkeys(
            (
                'fps',
                'fps_source',
                'fps_reason',
                'step_ms',
                'step_ms_p50',
                'step_ms_p95',
                'data_wait',
                'measured_steps',
                'fps_run',
                'peak_memory_mb',
            )
        )
        found.update(
            fps_claimed=claimed, global_batch=batch, fps_reason=self.fields.get('fps_reason') or said.get('fps_reason')
        )
        if timing is not None and timing.steps and timing.seconds > 0:
            found.update(
                step_ms=1000 * timing.seconds / timing.steps,
                data_wait=timing.data / timing.seconds,
                measured_steps=timing.steps,
            )
            found.update(
                ('step_ms_p%d' % p, None if timing.times.percentile(p) is None else 1000 * timing.times.percentile(p))
                for p in (50, 95)
            )
        found.update((name, said[name]) for name in found if said.get(name) is not None and name != 'fps')
        found.update((name, value) for name, value in self.measured.items() if value is not None)
        fps = self.measured.get('fps')
        if fps is None and said.get('fps') and said.get('status') is not None:  # a summary of this collection
            fps = said['fps']
        if (
            fps is None
            and batch
            and timing is not None
            and timing.steps
            and timing.seconds > 0
            and not found['fps_reason']
        ):
            fps = batch * timing.steps / timing.seconds
        if fps is not None:
            return dict(found, fps=fps, fps_source='measured')
        if found['fps_reason'] is None:
            found['fps_reason'] = self.no_fps(batch)
            if claimed is not None:
                found.update(fps=claimed, fps_source='claimed')
        return found

    def no_fps(self, batch):
        """Why nothing was measured."""
        if self.timing is None:
            return 'the log has no step times'
        if not self.timing.steps or self.timing.seconds <= 0:
            return 'the log has no step times after the warm-up'
        return None if batch else 'the log does not say how many images a step has; give --batch'

    def accuracy(self):
        """The last evaluation and the best. What the log calls its best counts where it is better than any evaluation in it."""
        said, (best, epoch, seconds) = self.said, self.best or (None, None, None)
        last = self.fields.get('last_acc1')
        claim, claim_epoch = self.best_claim or (said.get('best_acc1'), said.get('best_epoch'))
        if claim is not None and (best is None or claim > best + 0.006):  # it may be printed with two decimals
            best, epoch, seconds = claim, claim_epoch, None
        last = said.get('last_acc1') if last is None else last
        if best is None:
            best = last
        ema = self.fields.get('ema_acc1')
        return {
            'best_acc1': best,
            'best_epoch': None if epoch is None else int(epoch),
            'last_acc1': last,
            'last_acc5': self.fields.get('last_acc5'),
            'last_epoch': self.fields.get('last_epoch'),
            'ema_acc1': said.get('ema_acc1') if ema is None else ema,
            'eval_loss': self.fields.get('eval_loss'),
            'seconds_to_best': seconds,
        }

    def losses(self):
        final = self.final_loss if self.records or self.final_loss is not None else self.said.get('final_loss')
        finite = final is not None and math.isfinite(final)
        return {
            'first_loss': self.first_loss,
            'final_loss': final if finite else None,
            'min_loss': self.said.get('min_loss') if self.min_loss is None else self.min_loss,
        }

    def verdict(self, numbers):
        """-> (status, reason): 'FAILED' and why; 'OK' where the log says that the run ended well; None where it says neither."""
        status, reason = self.fields.get('status'), self.fields.get('reason')
        if status is None:
            status, reason = self.said.get('status'), self.said.get('reason')
        if status is None and self.said.get('failure'):
            return 'FAILED', self.said['failure']
        if status != 'FAILED' and self.final_loss is not None and not math.isfinite(self.final_loss):
            return 'FAILED', 'the last loss is no number'
        stated = self.fields.get('fps_reason') or self.records
        if (
            status is None
            and not stated
            and numbers['fps'] is None
            and numbers['best_acc1'] is None
            and numbers['final_loss'] is None
        ):
            return 'FAILED', 'the log holds no step, accuracy or throughput'
        return status, reason

    def summary(self, batch=None, target_acc=None, model_flops=None, peak_tflops=None):
        """All numbers of the run; None for what the log does not give.

        batch: see batch(). target_acc (percent): for seconds_to_target. model_flops: of one image's forward pass; peak_tflops: of
        all devices of the run together, in 1e12 operations a second; with both, mfu is the share of the peak (0..1), where
        training counts as three forward passes.
        """
        if self.timing is not None:
            self.timing.close()
        self_said = {
            name: self.fields.get(name) if self.fields.get(name) is not None else self.said.get(name)
            for name in (
                'network',
                'case',
                'case_name',
                'model',
                'device',
                'device_kind',
                'ranks',
                'batch_size',
                'precision',
                'torch',
                'checkpoint',
            )
        }
        numbers = dict(self_said, **self.throughput(batch))
        numbers.update(self.accuracy())
        numbers.update(self.losses())
        status, reason = self.verdict(numbers)
        numbers.update(
            steps=self.steps or None,
            logged_steps=self.records or None,
            epochs=self.epochs or None,
            seconds=self.seconds(),
            resumed=self.segments - 1 + bool(self.fields.get('resumed') and self.segments == 1),
        )
        if numbers['seconds'] is None:
            numbers['seconds'] = self.said.get('seconds')
        reached = [seconds for acc1, seconds in self.targets if target_acc is not None and acc1 >= target_acc]
        numbers['seconds_to_target'] = reached[0] if reached else None
        passes = 1 if numbers['case'] == 'eval' else 3
        known = model_flops and peak_tflops and numbers['fps']
        numbers['mfu'] = numbers['fps'] * passes * model_flops / (peak_tflops * 1e12) if known else None
        return dict(numbers, status=status, reason=reason)
