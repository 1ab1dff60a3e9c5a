"""Stochastic depth (Huang et al., arXiv:1603.09382) as the three networks use it."""

import torch.nn as nn

from common.compat import DropPath


def drop_path_layer(rate):
    """Drops the whole branch of a sample with probability rate in training; nothing at all for rate 0."""
    return DropPath(rate) if rate > 0.0 else nn.Identity()


def linear_rates(rate, num_blocks):
    """num_blocks rates that grow evenly from 0 at the first block to rate at the last."""
    return [rate * i / max(num_blocks - 1, 1) for i in range(num_blocks)]
