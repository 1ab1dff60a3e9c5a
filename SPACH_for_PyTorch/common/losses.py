"""The losses of the steps, kept on the device until the host looks at them, which waits for it."""

import math
from typing import Any, List

import torch

from common.errors import UserError

LOOK = 100  # steps between looks, where they are printed less often


class Losses:
    """every: steps between looks, at most. skips: a loss scale leaves out steps that overflow, so only the last one counts."""

    def __init__(self, ranks: Any, device: torch.device, every: int, skips: bool):
        self.ranks, self.device, self.every, self.skips = ranks, device, min(every, LOOK), skips
        self.waiting: List[torch.Tensor] = []

    def add(self, loss: torch.Tensor) -> bool:
        """loss: a scalar tensor. -> whether it is time to look."""
        self.waiting.append(loss.detach())
        return len(self.waiting) >= self.every

    def look(self, epoch: int, step: int) -> float:
        """All ranks look after the same steps; step: how many are done. -> the last loss, the mean of the ranks.

        Raises UserError, on all ranks, for the first loss since the last look that is not finite.
        """
        losses = torch.stack(self.waiting).float().tolist()
        self.waiting = []
        seen = losses[-1:] if self.skips else losses
        bad = [place for place, loss in enumerate(seen) if not math.isfinite(loss)]
        world = self.ranks.world
        total, found = self.ranks.sum([0.0 if bad else losses[-1], len(bad)], self.device)
        if not found:
            return total / world
        # the first step, and in it the first rank, as one number
        mine = bad[0] * world + self.ranks.rank if bad else len(seen) * world
        place, rank = divmod(-int(self.ranks.max([-mine], self.device)[0]), world)
        raise UserError(
            f'the loss of rank {rank} is not finite at epoch {epoch}, step {step - len(seen) + place + 1}; lower --lr, clip by '
            '--clip-grad, or try --no-amp; the last checkpoint is untouched'
        )
