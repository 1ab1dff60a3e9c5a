"""The average of the weights over the steps."""

from typing import Any

import torch
from timm.utils import ModelEmaV2
from torch import nn


class Average(ModelEmaV2):
    """timm's, which takes four kernels for each tensor; here a few for all, where torch can. Counters are copied.

    module: the averaged model.
    """

    def update(self, model: nn.Module) -> None:
        pairs = list(zip(self.module.state_dict().values(), model.state_dict().values()))
        # apex keeps the model in float16, and the average stays in float32
        if not hasattr(torch, '_foreach_copy_') or any(old.dtype != new.dtype for old, new in pairs):
            return super().update(model)
        with torch.no_grad():
            for change, wanted in ((self.approach, True), (torch._foreach_copy_, False)):
                chosen = [pair for pair in pairs if pair[0].is_floating_point() is wanted]
                if chosen:
                    change(*map(list, zip(*chosen)))

    def approach(self, old: Any, new: Any) -> None:
        torch._foreach_lerp_(old, new, 1.0 - self.decay)
