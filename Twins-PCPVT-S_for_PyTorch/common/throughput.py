"""The one definition of FPS.

FPS = images that all ranks processed in the measured window / wall seconds of that window. A window begins after the
warm-up steps (compilation, allocator, start of the workers; the first epoch only, later epochs have none to pay) and
ends with the epoch; the device is synchronised at both ends; images and seconds belong to the same steps. Evaluations
and checkpoints lie between windows. A run has one window per epoch, and their sums give its FPS.
"""
import time


class Throughput:
    """Counts the steps of one rank. Times in seconds.

    warmup_steps: how many steps to leave out at the beginning of the run.
    """

    def __init__(self, accelerator, warmup_steps):
        self.accelerator = accelerator
        self.warmup_left = self.warmup_steps = warmup_steps
        self.steps = self.images = 0             # inside windows
        self.seconds = self.data_seconds = 0.
        self.step_seconds = []
        self.all_steps = self.all_images = 0     # warm-up included
        self.started = time.perf_counter()
        self._opened = None

    def open(self):
        """Begins an epoch."""
        if self.warmup_left == 0:
            self._open_window()

    def _open_window(self):
        self.accelerator.synchronize()
        self._opened = time.perf_counter()
        self._marks = [self.accelerator.mark()]

    def step(self, images, waited):
        """After each step: how many images it took, and for how long its data was waited for."""
        self.all_steps += 1
        self.all_images += images
        if self._opened is None:
            self.warmup_left -= 1
            if self.warmup_left == 0:
                self._open_window()
            return
        self.steps += 1
        self.images += images
        self.data_seconds += waited
        self._marks.append(self.accelerator.mark())

    def close(self):
        """Ends an epoch; a window with steps in it is added to the run."""
        if self._opened is None:
            return
        self.accelerator.synchronize()
        self.seconds += time.perf_counter() - self._opened
        self.step_seconds += [self.accelerator.seconds(a, b) for a, b in zip(self._marks, self._marks[1:])]
        self._opened = None

    def result(self, ranks):
        """-> what the run measured, over all ranks; None for what there was not enough of. Called by every rank.

        fps, fps_reason (why fps is None), fps_run (warm-up, evaluation and saving included), step_ms, step_ms_p50,
        step_ms_p95, data_wait (share of the window), steps, images, seconds, warmup_steps, peak_memory_mb.
        """
        device = self.accelerator.device
        images, all_images = ranks.sum([self.images, self.all_images], device)
        seconds, run_seconds, peak = ranks.max(
            [self.seconds, time.perf_counter() - self.started, self.accelerator.peak_memory() / 2. ** 20], device)
        measured = self.steps > 0 and seconds > 0
        reason = None if measured else 'the run has %d steps and the first %d are warm-up' % (self.all_steps, self.warmup_steps)
        return {
            'fps': images / seconds if measured else None,
            'fps_reason': reason,
            'fps_run': all_images / run_seconds if all_images else None,
            'step_ms': 1000 * seconds / self.steps if measured else None,
            'step_ms_p50': 1000 * percentile(self.step_seconds, 50) if measured else None,
            'step_ms_p95': 1000 * percentile(self.step_seconds, 95) if measured else None,
            'data_wait': self.data_seconds / self.seconds if measured else None,
            'steps': self.steps, 'images': int(images), 'seconds': seconds,
            'warmup_steps': self.warmup_steps, 'peak_memory_mb': peak,
        }


def percentile(values, percent):
    """The smallest value that at least `percent` % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def warmup_steps(asked, steps):
    """How many of `steps` steps are warm-up: as asked, else 20, in a short epoch a fifth, but one at least."""
    return asked if asked is not None else max(1, min(20, steps // 5))
