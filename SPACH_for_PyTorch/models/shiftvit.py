"""ShiftViT: a vision transformer whose attention is replaced by moving some channels by one pixel.

Paper: Wang et al., "When Shift Operation Meets Vision Transformer", arXiv:2201.10801.
Upstream: models/shiftvit.py.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from common.compat import trunc_normal_

from .stochastic_depth import drop_path_layer, linear_rates


def group_norm(dim):
    """Layer norm's stand-in for (B, C, H, W): all channels and places in one group."""
    return nn.GroupNorm(num_groups=1, num_channels=dim)


def shift_feat(x, n_div):
    """(B, C, H, W) -> same shape: four groups of C // n_div channels move left, right, up, down; zeros come in."""
    group = x.shape[1] // n_div
    left, right, up, down, rest = x.split([group] * 4 + [x.shape[1] - 4 * group], dim=1)
    return torch.cat(
        [
            F.pad(left[:, :, :, 1:], (0, 1, 0, 0)),
            F.pad(right[:, :, :, :-1], (1, 0, 0, 0)),
            F.pad(up[:, :, 1:], (0, 0, 0, 1)),
            F.pad(down[:, :, :-1], (0, 0, 1, 0)),
            rest,
        ],
        dim=1,
    )


class Mlp(nn.Module):
    """(B, C, H, W) -> same shape: two 1x1 convolutions, GELU between; dropout after each."""

    def __init__(self, dim, hidden_dim, drop=0.0):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, kernel_size=1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden_dim, dim, kernel_size=1)
        self.drop = nn.Dropout(drop)

    def forward(self, x):
        x = self.drop(self.act(self.fc1(x)))
        return self.drop(self.fc2(x))


class ShiftViTBlock(nn.Module):
    """(B, dim, H, W) -> same shape: shift (no residual around it), then the MLP with a residual."""

    def __init__(self, dim, n_div, mlp_ratio, drop, drop_path):
        super().__init__()
        self.n_div = n_div
        self.drop_path = drop_path_layer(drop_path)
        self.norm2 = group_norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop)

    def forward(self, x):
        x = shift_feat(x, self.n_div)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """(B, dim, H, W) -> (B, 2 * dim, H // 2, W // 2)."""

    def __init__(self, dim):
        super().__init__()
        self.reduction = nn.Conv2d(dim, 2 * dim, kernel_size=2, stride=2, bias=False)
        self.norm = group_norm(dim)

    def forward(self, x):
        return self.reduction(self.norm(x))


class BasicLayer(nn.Module):
    """One stage: a block for each drop path rate, then PatchMerging except after the last stage."""

    def __init__(self, dim, n_div, mlp_ratio, drop, drop_paths, downsample):
        super().__init__()
        self.blocks = nn.ModuleList(ShiftViTBlock(dim, n_div, mlp_ratio, drop, rate) for rate in drop_paths)
        self.downsample = PatchMerging(dim) if downsample else nn.Identity()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.downsample(x)


class PatchEmbed(nn.Module):
    """Images (B, in_chans, H, W) -> patches (B, embed_dim, H // patch_size, W // patch_size)."""

    def __init__(self, patch_size, in_chans, embed_dim):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = group_norm(embed_dim)

    def forward(self, x):
        return self.norm(self.proj(x))


class ShiftViT(nn.Module):
    """Images (B, in_chans, H, W) -> logits (B, num_classes).

    embed_dim: channels of the first stage, doubled by each later one; depths: blocks of each stage; n_div: 4 / n_div of
    the channels move; drop_rate: dropout; drop_path_rate: rate of the last block, growing evenly from 0 at the first.
    img_size changes nothing, no weight depends on it: any image of 32 pixels or more is taken.
    """

    def __init__(
        self,
        num_classes=1000,
        img_size=224,
        in_chans=3,
        patch_size=4,
        embed_dim=96,
        depths=(2, 2, 6, 2),
        mlp_ratio=4,
        n_div=12,
        drop_rate=0.0,
        drop_path_rate=0.1,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        self.pos_drop = nn.Dropout(drop_rate)
        rates = iter(linear_rates(drop_path_rate, sum(depths)))
        last = len(depths) - 1
        self.layers = nn.ModuleList(
            BasicLayer(
                embed_dim * 2**stage,
                n_div,
                mlp_ratio,
                drop_rate,
                [next(rates) for _ in range(depth)],
                downsample=stage < last,
            )
            for stage, depth in enumerate(depths)
        )
        num_features = embed_dim * 2**last
        self.norm = group_norm(num_features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(num_features, num_classes)
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module):
        """Norms keep torch's ones and zeros."""
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def get_classifier(self):
        return self.head

    def forward_features(self, x):
        """Images -> (B, 8 * embed_dim)."""
        x = self.pos_drop(self.patch_embed(x))
        for layer in self.layers:
            x = layer(x)
        return self.avgpool(self.norm(x)).flatten(1)

    def forward(self, x):
        return self.head(self.forward_features(x))
