"""--grad-checkpointing: blocks keep nothing but their input, and are computed again when their gradients are due.

That takes about a third more time, and changes no number: random numbers are drawn again as they were, and what counts batches, as
batch norm does, counts each once.
"""

import contextlib
import inspect
import re
from typing import Any, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from common import drop_path

# before torch 1.11 there is one way only; today's default is the other one
OPTIONS = {'use_reentrant': False} if 'use_reentrant' in inspect.signature(checkpoint).parameters else {}


class Recomputed:
    """In place of a block's forward."""

    def __init__(self, block: nn.Module):
        self.block, self.plain = block, block.forward

    def __call__(self, *inputs: torch.Tensor) -> Any:
        if not torch.is_grad_enabled():
            return self.plain(*inputs)
        times, masks = [], drop_path.taken(self.block)

        def compute(*again):
            times.append(len(times))
            drop_path.put_back(masks)
            with uncounted(self.block) if len(times) > 1 else contextlib.nullcontext():
                return self.plain(*again)

        return checkpoint(compute, *inputs, **OPTIONS)


@contextlib.contextmanager
def uncounted(block: nn.Module) -> Iterator[None]:
    """What counts batches counts in copies meanwhile."""
    counting = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept = [dict(module._buffers) for module in counting]
    for module in counting:
        module._buffers.update({name: b.clone() for name, b in module._buffers.items() if b is not None})
    try:
        yield
    finally:
        for module, buffers in zip(counting, kept):
            module._buffers.update(buffers)


def recompute(model: nn.Module, names: str) -> int:
    """Makes the blocks, whose whole names this regular expression matches, recompute. -> how many there are"""
    blocks = [module for name, module in model.named_modules() if re.match(f'({names})$', name)]
    for block in blocks:
        block.forward = Recomputed(block)
    return len(blocks)
