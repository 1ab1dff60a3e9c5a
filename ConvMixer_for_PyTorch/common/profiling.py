"""--profile: a trace of some training steps, by the profiler of the device's framework."""
import os

import torch


class StepProfile:
    """Records `steps` steps after `wait` ones and one of the profiler's own warm-up; the trace lies in `folder`.

    The format is the profiler's: Chrome and TensorBoard read torch's, MindStudio Insight torch_npu's. Profiled steps are slower.
    """

    def __init__(self, accelerator, steps, wait, folder):
        self.folder = folder
        found = accelerator.profiler()
        if found is None:
            self.profile = OldProfile(accelerator.kind, steps, wait, folder)
        else:
            module, activities = found
            self.profile = module.profile(
                activities=activities, schedule=module.schedule(wait=wait, warmup=1, active=steps, repeat=1),
                on_trace_ready=module.tensorboard_trace_handler(folder), record_shapes=True)
            self.profile.start()

    def step(self):
        """After each training step."""
        self.profile.step()

    def close(self):
        """At the end of training; writes what there is where the run was shorter."""
        self.profile.stop()


class OldProfile:
    """The same for torch before 1.9, by torch.autograd.profiler; the vendor's builds take use_npu as torch's take use_cuda."""

    def __init__(self, kind, steps, wait, folder):
        self.first, self.last, self.count = wait + 1, wait + 1 + steps, 0
        self.path = os.path.join(folder, 'trace.json')
        os.makedirs(folder, exist_ok=True)
        self.recorder = torch.autograd.profiler.profile(**({} if kind == 'cpu' else {'use_' + kind: True}))
        self.recording = False

    def step(self):
        self.count += 1
        if self.count == self.first:
            self.recorder.__enter__()
            self.recording = True
        elif self.count == self.last:
            self.stop()

    def stop(self):
        if self.recording:
            self.recording = False
            self.recorder.__exit__(None, None, None)
            self.recorder.export_chrome_trace(self.path)
