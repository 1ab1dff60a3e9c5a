"""Stochastic depth whose masks are drawn once for a network: a launch for each block costs more than the few numbers in it."""

from typing import Any, Dict, List

import torch
from torch import nn

from common.compat import DropPath

USES = 2  # of a drop path in one forward pass: some networks share one for the two branches of a block


class Draw:
    """The masks of one forward pass: (drop paths, uses of each, images), each of which serves once.

    A mask is 0 with the probability of its path, and otherwise so large that the mean is 1.
    """

    def __init__(self, paths: Any):
        self.keep = [[[1.0 - path.drop_prob]] * USES for path in paths]
        self.chances: Dict[torch.device, torch.Tensor] = {}  # `keep` on a device
        self.masks: Dict[torch.dtype, torch.Tensor] = {}
        self.used: List[int] = []  # of each path

    def begin(self, module: nn.Module, inputs: Any) -> None:
        """Before a forward pass (a hook of torch): draws, where the network is in training."""
        if not module.training:
            return
        images = inputs[0]
        if images.device not in self.chances:
            self.chances[images.device] = torch.tensor(self.keep, device=images.device)
        keep = self.chances[images.device]
        self.masks = {keep.dtype: torch.bernoulli(keep.expand(-1, -1, len(images))).div_(keep)}
        self.used = [0] * len(self.keep)

    def take(self, path: int, like: torch.Tensor) -> Any:
        """-> the next mask (N, 1, ...) of a path, for a tensor (N, ...); None where none is left, or not for so many."""
        first = next(iter(self.masks.values()), None)
        if first is None or self.used[path] == USES or first.shape[2] != len(like):
            return None
        if like.dtype not in self.masks:
            self.masks[like.dtype] = first.to(like.dtype)
        self.used[path] += 1
        return self.masks[like.dtype][path, self.used[path] - 1].view(-1, *[1] * (like.dim() - 1))


class DrawnAhead(DropPath):
    """timm's, with a mask that was drawn before; without one it draws by itself."""

    def forward(self, x):
        mask = self.draw.take(self.place, x) if self.training else None
        return super().forward(x) if mask is None else x * mask


def taken(block: nn.Module) -> List[Any]:
    """-> which masks the drop paths of a block have taken so far, for put_back"""
    paths = [m for m in block.modules() if isinstance(m, DrawnAhead) and m.draw.used]
    return [(path.draw.used, path.place, path.draw.used[path.place]) for path in paths]


def put_back(places: List[Any]) -> None:
    """The block is computed again, and takes the same masks."""
    for used, place, number in places:
        used[place] = number


def draw_together(model: nn.Module) -> None:
    """Changes the drop paths of a network in place; it has the same parameters under the same names."""
    paths = [m for m in model.modules() if type(m) is DropPath and 0 < m.drop_prob < 1]
    if not paths:
        return
    draw = Draw(paths)
    for place, path in enumerate(paths):
        path.__class__ = DrawnAhead
        path.draw, path.place = draw, place
    model.register_forward_pre_hook(draw.begin)
