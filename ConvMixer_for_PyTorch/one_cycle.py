"""ConvMixer's learning rate: piecewise linear, per step."""

# (share of the run, share of the peak rate); upstream: timm/scheduler/onecycle_lr.py of its timm fork
POINTS = ((0.0, 0.0), (0.4, 1.0), (0.8, 0.05), (1.0, 0.0))


def one_cycle(progress, peak):
    """Learning rate after `progress` (0..1) of the run."""
    for (x0, y0), (x1, y1) in zip(POINTS, POINTS[1:]):
        if progress <= x1:
            return peak * (y0 + (y1 - y0) * (progress - x0) / (x1 - x0))
    return 0.0


class OneCycle:
    """A schedule in the form that common/hooks.py describes.

    The rate of a step is that of the moment when it ends, so that not the first but the last one is 0.
    """

    def __init__(self, optimizer, peak, total_steps):
        self.optimizer, self.peak, self.total_steps = optimizer, peak, total_steps
        self.step_update(0)

    def step(self, epoch, metric=None):
        """Nothing changes with an epoch alone."""

    def step_update(self, updates):
        """Sets the rate for the step after `updates` steps of the run."""
        lr = one_cycle(min(1.0, (updates + 1) / self.total_steps), self.peak)
        for group in self.optimizer.param_groups:
            group['lr'] = lr
