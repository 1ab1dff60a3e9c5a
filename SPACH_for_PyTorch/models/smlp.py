"""sMLPNet: token mixing by MLPs along rows and columns only.

Paper: Tang et al., "Sparse MLP for Image Recognition: Is Self-Attention Really Necessary?",
arXiv:2109.05422. Upstream: models/smlp.py.
"""

import torch
import torch.nn as nn

from .stochastic_depth import drop_path_layer, linear_rates


class Permute(nn.Module):
    """x.permute(order)."""

    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(*self.order)

    def extra_repr(self):
        return str(self.order)


class FeedForward(nn.Module):
    """(..., dim) -> (..., dim): two linear layers, GELU between."""

    def __init__(self, dim, hidden_dim, dropout=0.0):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, hidden_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x):
        return self.net(x)


class BN_Activ_Conv(nn.Module):
    """(B, C, H, W) -> same shape: batch norm, GELU, 3x3 depthwise convolution."""

    def __init__(self, channels):
        super().__init__()
        self.BN = nn.BatchNorm2d(channels)
        self.Activation = nn.GELU()
        self.Conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False)

    def forward(self, x):
        return self.Conv(self.Activation(self.BN(x)))


class DWConvBlock(nn.Module):
    """BN_Activ_Conv under the name that upstream's keys have."""

    def __init__(self, channels):
        super().__init__()
        self.conv_merge = BN_Activ_Conv(channels)

    def forward(self, x):
        return self.conv_merge(x)


class sMLPBlock(nn.Module):
    """(B, channels, size, size) -> same shape: x, x mixed within rows and x mixed within columns, fused by 1x1.

    The 1x1 convolutions proj_h and proh_w (sic) are linear layers over an axis that is moved to where a convolution
    has its channels; upstream's names say the axis that is kept: proj_h mixes along W, proh_w along H.
    """

    def __init__(self, size, channels):
        super().__init__()
        self.activation = nn.GELU()
        self.BN = nn.BatchNorm2d(channels)
        self.proj_h = nn.Conv2d(size, size, kernel_size=1)
        self.proh_w = nn.Conv2d(size, size, kernel_size=1)
        self.fuse = nn.Conv2d(channels * 3, channels, kernel_size=1, bias=False)

    def forward(self, x):
        x = self.activation(self.BN(x))
        along_w = self.proj_h(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        along_h = self.proh_w(x.transpose(1, 2)).transpose(1, 2)
        return self.fuse(torch.cat([x, along_w, along_h], dim=1))


def _token_mix(dim, size):
    return nn.Sequential(DWConvBlock(dim), sMLPBlock(size, dim))


def _channel_mix(dim, alpha):
    return nn.Sequential(Permute(0, 2, 3, 1), nn.LayerNorm(dim), FeedForward(dim, dim * alpha), Permute(0, 3, 1, 2))


class sMLPNet(nn.Module):
    """Images (B, in_chans, img_size, img_size) -> logits (B, num_classes); the weights depend on img_size.

    dim: channels of the first stage, doubled by each later one; depths: blocks of each stage; alpha: how much wider
    the channel MLP is inside; drop_path_rate: rate of the last block, growing evenly from 0 at the first.
    Raises ValueError where img_size is no multiple of patch_size, or not square.
    """

    def __init__(
        self,
        num_classes=1000,
        img_size=224,
        in_chans=3,
        dim=80,
        alpha=3,
        patch_size=4,
        depths=(2, 8, 14, 2),
        drop_path_rate=0.0,
    ):
        super().__init__()
        height, width = img_size if isinstance(img_size, (tuple, list)) else (img_size, img_size)
        if height != width or height % patch_size:
            raise ValueError(f'sMLPNet takes square images of a multiple of {patch_size} pixels, not {height}x{width}')
        self.num_classes = num_classes
        self.depths = tuple(depths)
        self.to_patch_embedding = nn.ModuleList()
        self.token_mix = nn.ModuleList()
        self.channel_mix = nn.ModuleList()
        self.drop_path = nn.ModuleList(drop_path_layer(r) for r in linear_rates(drop_path_rate, sum(depths)))
        size = height // patch_size
        self._add_stage(in_chans, dim, patch_size, depths[0], size, alpha)
        for depth in depths[1:]:
            dim, size = dim * 2, size // 2
            self._add_stage(dim // 2, dim, 2, depth, size, alpha)
        self.batch_norm = nn.BatchNorm2d(dim)
        self.mlp_head = nn.Sequential(nn.Linear(dim, num_classes))

    def _add_stage(self, in_dim, dim, patch_size, depth, size, alpha):
        """One embedding, depth blocks on (B, dim, size, size)."""
        self.to_patch_embedding.append(
            nn.Sequential(nn.Conv2d(in_dim, dim, kernel_size=patch_size, stride=patch_size, bias=False))
        )
        self.token_mix.extend([_token_mix(dim, size) for _ in range(depth)])
        self.channel_mix.extend([_channel_mix(dim, alpha) for _ in range(depth)])

    def get_classifier(self):
        return self.mlp_head[0]

    def forward_features(self, x):
        """Images -> (B, 8 * dim)."""
        blocks = zip(self.token_mix, self.channel_mix, self.drop_path)
        for embed, depth in zip(self.to_patch_embedding, self.depths):
            x = embed(x)
            for _ in range(depth):
                token_mix, channel_mix, drop_path = next(blocks)
                x = x + drop_path(token_mix(x))
                x = x + drop_path(channel_mix(x))
        return self.batch_norm(x).mean(dim=(2, 3))

    def forward(self, x):
        return self.mlp_head(self.forward_features(x))
