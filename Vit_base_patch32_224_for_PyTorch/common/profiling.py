"""--profile: a trace of some training steps, by the profiler of the device's framework."""

from typing import Any, Callable

from common import legacy


class NoProfile:
    def step(self) -> None:
        """After each step: nothing is recorded."""

    def stop(self) -> None:
        """At the end: there is nothing to write."""


def step_profile(accelerator: Any, steps: int, wait: int, folder: str, say: Callable[[str], None]) -> Any:
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
        return legacy.StepProfile(accelerator.kind, steps, wait, folder)
    module, activities = found
    schedule, handler = (
        module.schedule(wait=wait, warmup=1, active=steps, repeat=1),
        module.tensorboard_trace_handler(folder),
    )
    profile = module.profile(activities=activities, schedule=schedule, on_trace_ready=handler, record_shapes=True)
    profile.start()
    return profile
