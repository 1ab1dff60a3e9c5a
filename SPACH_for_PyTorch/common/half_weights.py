"""Weights in half precision for one forward pass, made together: autocast has a kernel for each weight, there and back."""

from typing import Dict, Iterator, Tuple

import torch
from torch import nn

CAST = (nn.Linear, nn.Conv2d)  # the modules whose weights autocast makes half
TOGETHER = 48  # weights of one cast; torch_npu's kernel takes as many, and gradients need not wait for all the others


def possible() -> bool:
    """Whether this torch can: from 2.1 on."""
    return hasattr(torch, '_foreach_copy_') and hasattr(torch, 'func')


class Cast(torch.autograd.Function):
    """(dtype, *weights) -> the weights in that dtype; their gradients come back in the weights' own."""

    @staticmethod
    def forward(ctx, dtype, *weights):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*weights)
        halves = [torch.empty_like(weight, dtype=dtype) for weight in weights]
        torch._foreach_copy_(halves, list(weights))
        return tuple(halves)

    @staticmethod
    def backward(ctx, *gradients):
        pairs = zip(ctx.saved_tensors, gradients)
        wide = [None if gradient is None else torch.empty_like(weight) for weight, gradient in pairs]
        there = [pair for pair in zip(wide, gradients) if pair[1] is not None]
        torch._foreach_copy_(*map(list, zip(*there)))
        return (None, *wide)


class HalfWeights(nn.Module):
    """A model in training whose linear layers and convolutions get their weights in half precision.

    The model itself keeps its float32 weights, which are trained; the numbers are those of autocast.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype = model, dtype
        named = list(cast_weights(model))
        self.parts = [tuple(zip(*named[start : start + TOGETHER])) for start in range(0, len(named), TOGETHER)]

    def forward(self, images):
        halves: Dict[str, torch.Tensor] = {}
        for names, weights in self.parts:
            halves.update(zip(names, Cast.apply(self.dtype, *weights)))
        # A weight that two modules share is replaced in one, and autocast serves the other.
        return torch.func.functional_call(self.model, halves, (images,), tie_weights=False)


def cast_weights(model: nn.Module) -> Iterator[Tuple[str, torch.Tensor]]:
    """-> (name, weight) of what is cast"""
    for prefix, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False) if isinstance(module, CAST) else ():
            if weight.dtype == torch.float32:
                yield (f'{prefix}.{name}' if prefix else name), weight
