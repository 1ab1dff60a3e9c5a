"""Mixing of places: attention, MLP, depthwise convolution (upstream: models/spach/layers/spatial_func.py).

SPACH paper: Zhao et al., "A Battle of Network Structures", arXiv:2108.13002.
"""

import torch.nn as nn

from ..misc import Reshape2HW, Reshape2N
from .channel_func import ChannelMLP


def softmax_attention(q, k, v, scale):
    """softmax(scale * q k^T) v for q, k, v of shape (B, heads, N, channels of a head)."""
    weights = (q * scale) @ k.transpose(-2, -1)
    return weights.softmax(dim=-1) @ v


class SpatialAttention(nn.Module):
    """Tokens (B, N, C) -> (B, N, C): multi-head self-attention; its weights do not depend on N."""

    fused_attn = False  # timm's name, for the log: it is written out

    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(self.attend(q, k, v).transpose(1, 2).reshape(batch, tokens, dim))

    def attend(self, q, k, v):
        return softmax_attention(q, k, v, self.scale)


class SpatialMLP(ChannelMLP):
    """Tokens (B, N, C) -> (B, N, C): the channel MLP turned on the token axis; its weights fix N."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class DWConv(nn.Module):
    """Tokens (B, H * W, C) -> same shape: 3x3 depthwise convolution (the paper's convolutional position encoding)."""

    def __init__(self, dim, hw):
        super().__init__()
        self.net = nn.Sequential(Reshape2HW(hw), nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim), Reshape2N())

    def forward(self, x):
        return self.net(x)


def make_spatial_func(kind, dim, num_heads, num_tokens, token_ratio, drop):
    """kind 'attn' or 'mlp' -> module on tokens (B, num_tokens, dim); 'pass' -> None (DWConv alone mixes places)."""
    if kind == 'pass':
        return None
    if kind == 'attn':
        return SpatialAttention(dim, num_heads)
    if kind == 'mlp':
        return SpatialMLP(num_tokens, int(num_tokens * token_ratio), drop)
    raise ValueError(f'unknown spatial function {kind!r}; known: attn, mlp, pass')
