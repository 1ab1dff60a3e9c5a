"""The one definition of FPS, and the clock of the loop.

FPS = images that all ranks processed in the measured window / wall seconds of that window. A window begins after the warm-up
steps (compilation, allocator, start of the workers; the first epoch only, later epochs have none) and ends with the epoch. The
device is synchronised at both ends; images and seconds belong to the same steps. Evaluations and checkpoints lie between
windows. There is one window per epoch; their sums give the FPS of the training.
"""

import contextlib
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence

from common.progress import Progress


class StepClock:
    """Times the steps of one rank, in seconds: for the throughput, for the log lines (`lap`) and for the progress bar.

    warmup_steps: how many steps to leave out at the beginning of the training.
    """

    def __init__(self, accelerator: Any, warmup_steps: int, progress: Optional[Progress] = None):
        self.accelerator, self.progress = accelerator, progress
        self.warmup_left = self.warmup_steps = warmup_steps
        self.steps = self.images = 0  # inside windows
        self.seconds = self.data_seconds = 0.0
        self.step_seconds: List[float] = []
        self.all_steps = self.all_images = 0  # warm-up included
        self.started = time.perf_counter()
        self.opened: Optional[float] = None

    def begin(self, words: str = '', steps: int = 0, done: int = 0) -> None:
        """Begins an epoch of `steps` steps, of which `done` are done; `words` name it on the progress bar."""
        if self.progress is not None:
            self.progress.begin(words, steps, done)
        if self.warmup_left == 0:
            self._open_window()
        self._start_lap()

    def _open_window(self) -> None:
        self.accelerator.synchronize()
        self.opened, self.marks = time.perf_counter(), [self.accelerator.mark()]

    def _start_lap(self) -> None:
        self.lap_start, self.lap_images, self.lap_steps, self.lap_waited = time.perf_counter(), 0, 0, 0.0

    def step(self, images: int, waited: float) -> None:
        """After each step: how many images it took, and for how many seconds it waited for them."""
        self.all_steps, self.all_images = self.all_steps + 1, self.all_images + images
        self.lap_steps, self.lap_images = self.lap_steps + 1, self.lap_images + images
        self.lap_waited += waited
        if self.progress is not None:
            self.progress.step()
        if self.opened is not None:
            self.steps, self.images = self.steps + 1, self.images + images
            self.data_seconds += waited
            self.marks.append(self.accelerator.mark())
            return
        self.warmup_left -= 1
        if self.warmup_left == 0:
            self._open_window()

    def lap(self) -> Dict[str, float]:
        """-> fps of this rank, step_ms and data_wait (0 to 1) since the last lap. The caller has waited for the device."""
        seconds = time.perf_counter() - self.lap_start
        step_ms, data_wait = 1000 * seconds / self.lap_steps, self.lap_waited / seconds
        found = {'fps': self.lap_images / seconds, 'step_ms': step_ms, 'data_wait': data_wait}
        self._start_lap()
        return found

    def end(self) -> None:
        """Ends an epoch; a window with steps in it is added to the training's."""
        if self.progress is not None:
            self.progress.end()
        self._close_window()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in it, such as saving, belongs to no window and no lap."""
        measuring = self.opened is not None
        self._close_window()
        yield
        if measuring:
            self._open_window()
        self._start_lap()

    def _close_window(self) -> None:
        if self.opened is None:
            return
        self.accelerator.synchronize()
        self.seconds += time.perf_counter() - self.opened
        self.step_seconds += [self.accelerator.seconds(a, b) for a, b in zip(self.marks, self.marks[1:])]
        self.opened = None

    def result(self, ranks: Any) -> Dict[str, Any]:
        """-> what was measured, over all ranks; None for what there was not enough of. Called by every rank.

        fps, fps_reason (why fps is None), fps_run (warm-up, evaluation and saving included), step_ms, step_ms_p50,
        step_ms_p95, data_wait (share of the window), steps, images, seconds, warmup_steps, peak_memory_mb.
        """
        device, memory_mb = self.accelerator.device, self.accelerator.peak_memory() / 2**20
        images, all_images = ranks.sum([self.images, self.all_images], device)
        all_seconds = time.perf_counter() - self.started
        seconds, all_seconds, memory_mb = ranks.max([self.seconds, all_seconds, memory_mb], device)
        names = ('fps', 'fps_reason', 'fps_run', 'step_ms', 'step_ms_p50', 'step_ms_p95', 'data_wait')
        found: Dict[str, Any] = dict.fromkeys(names)
        found.update(steps=self.steps, images=int(images), seconds=seconds)
        found.update(warmup_steps=self.warmup_steps, peak_memory_mb=memory_mb)
        if all_images:
            found['fps_run'] = all_images / all_seconds
        if not (self.steps and seconds > 0):
            reason = f'the run has {self.all_steps} steps and the first {self.warmup_steps} are warm-up'
            return {**found, 'fps_reason': reason}
        found.update(fps=images / seconds, step_ms=1000 * seconds / self.steps)
        found.update({f'step_ms_p{p}': 1000 * percentile(self.step_seconds, p) for p in (50, 95)})
        return {**found, 'data_wait': self.data_seconds / self.seconds}


def percentile(values: Sequence[float], percent: int) -> float:
    """-> the smallest value that at least `percent` % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def warmup_steps(asked: Optional[int], steps: int) -> int:
    """-> how many of `steps` steps are warm-up: as asked, else 20, or a fifth of a short epoch, but at least one."""
    return asked if asked is not None else max(1, min(20, steps // 5))
