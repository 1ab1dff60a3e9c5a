"""The counters of the batch norms, which nothing reads: kept, as they are in upstream's checkpoints, by one addition for all."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Uncounted(nn.BatchNorm2d):
    """torch's with a momentum, but for the counter."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        state = self.running_mean, self.running_var, self.weight, self.bias
        return F.batch_norm(x, *state, True, self.momentum, self.eps)


class Counters:
    """all: those of all batch norms as one tensor, of which theirs are views."""

    def __init__(self, norms: Any):
        self.all = torch.stack([norm.num_batches_tracked for norm in norms])
        for place, norm in enumerate(norms):
            norm.num_batches_tracked = self.all[place]
        self.first = norms[0]

    def count(self, module: nn.Module, inputs: Any) -> None:
        """Before a forward pass (a hook of torch). A frozen network, whose classifier alone is trained, counts nothing."""
        if self.first.training:
            self.all.add_(1)


def count_together(model: nn.Module) -> None:
    """Changes the batch norms of a network in place, where it is on its device; its state has the same names and numbers."""
    norms = [
        m for m in model.modules() if type(m) is nn.BatchNorm2d and m.track_running_stats and m.momentum is not None
    ]
    if not norms:
        return
    model.register_forward_pre_hook(Counters(norms).count)
    for norm in norms:
        norm.__class__ = Uncounted
