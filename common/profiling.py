"""--profile: a trace of some training steps, by the profiler of the device's framework."""

import os
from typing import Any, Callable

from common import legacy

Say = Callable[[str], None]


class NoProfile:
    def step(self) -> None:
        """After each step: nothing is recorded."""

    def stop(self) -> None:
        """At the end: there is nothing to write."""


class StepProfile:
    """A running profiler, which is looked after: torch_npu's logs what goes wrong, and goes on without a trace."""

    def __init__(self, profiler: Any, steps: int, folder: str, say: Say):
        self.profiler, self.missing, self.folder, self.say = profiler, steps, folder, say
        self.before = files_below(folder)

    def step(self) -> None:
        self.missing -= 1
        self.profiler.step()

    def stop(self) -> None:
        """Writes the trace, and says so where there is none."""
        self.profiler.stop()
        if files_below(self.folder) == self.before:
            ended = (
                f'the run ended {self.missing} steps too early' if self.missing > 0 else 'its own lines above say why'
            )
            self.say(f'The profiler has written no trace to {self.folder}: {ended}.')


def files_below(folder: str) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def step_profile(accelerator: Any, steps: int, wait: int, folder: str, say: Say) -> Any:
    """-> a started profiler, with step() and stop(), which writes to `folder`; for 0 steps one that does nothing.

    It records `steps` steps after `wait` steps and one of its own warm-up. The trace has the profiler's format: Chrome and
    TensorBoard read torch's, MindStudio Insight torch_npu's. Recorded steps are slower.
    """
    if not steps:
        return NoProfile()
    which = f'Steps {wait + 2} to {wait + 1 + steps}'
    say(f'{which} are profiled, which slows them and lowers FPS; the trace will be in {folder}.')
    found = accelerator.profiler()
    if found is None:
        profiler = legacy.StepProfile(accelerator.kind, steps, wait, folder)
    else:
        module, activities = found
        options = {'on_trace_ready': module.tensorboard_trace_handler(folder), 'record_shapes': True}
        schedule = module.schedule(wait=wait, warmup=1, active=steps, repeat=1)
        profiler = module.profile(activities=activities, schedule=schedule, **options)
        profiler.start()
    return StepProfile(profiler, wait + 1 + steps, folder, say)
