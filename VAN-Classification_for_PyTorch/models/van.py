"""Visual Attention Network (Guo et al. 2022, https://arxiv.org/abs/2202.09741).

Module, parameter and factory names are those of Visual-Attention-Network/VAN-Classification at e19779b, so that its
checkpoints load strictly and give the same logits. The network is convolutional: any image size works.
"""

import math

import torch
from torch import nn

from common.compat import DropPath, to_2tuple, trunc_normal_
from common.variants import entry_point, look_up

# name: (channels of the four stages, MLP expansion, blocks)   - paper, table 2; b4-b6 from upstream's registry
VARIANTS = {
    'van_b0': ((32, 64, 160, 256), (8, 8, 4, 4), (3, 3, 5, 2)),
    'van_b1': ((64, 128, 320, 512), (8, 8, 4, 4), (2, 2, 4, 2)),
    'van_b2': ((64, 128, 320, 512), (8, 8, 4, 4), (3, 3, 12, 3)),
    'van_b3': ((64, 128, 320, 512), (8, 8, 4, 4), (3, 5, 27, 3)),
    'van_b4': ((64, 128, 320, 512), (8, 8, 4, 4), (3, 6, 40, 3)),
    'van_b5': ((96, 192, 480, 768), (8, 8, 4, 4), (3, 3, 24, 3)),
    'van_b6': ((96, 192, 384, 768), (8, 8, 4, 4), (6, 6, 90, 6)),
}
# Upstream's names until July 2022, and the ModelZoo's.
ALIASES = {'van_tiny': 'van_b0', 'van_small': 'van_b1', 'van_base': 'van_b2', 'van_large': 'van_b3'}


class DWConv(nn.Module):
    """3x3 depth-wise convolution between the two MLP layers: (N, C, H, W) -> the same."""

    def __init__(self, dim):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x):
        return self.dwconv(x)


class Mlp(nn.Module):
    """Feed-forward part of a block, as 1x1 convolutions: (N, C, H, W) -> the same."""

    def __init__(self, dim, hidden, drop=0.0):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.dwconv = DWConv(hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.drop = nn.Dropout(drop)

    def forward(self, x):
        x = self.drop(self.act(self.dwconv(self.fc1(x))))
        return self.drop(self.fc2(x))


class LKA(nn.Module):
    """Large kernel attention (paper, section 3.1): a 21x21 receptive field from a 5x5, a dilated 7x7 and a 1x1."""

    def __init__(self, dim):
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, groups=dim, dilation=3)
        self.conv1 = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return x * self.conv1(self.conv_spatial(self.conv0(x)))


class Attention(nn.Module):
    """LKA between two 1x1 projections, with its own short cut."""

    def __init__(self, dim):
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.activation = nn.GELU()
        self.spatial_gating_unit = LKA(dim)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return x + self.proj_2(self.spatial_gating_unit(self.activation(self.proj_1(x))))


class Block(nn.Module):
    """Attention and MLP, each behind a batch norm and scaled per channel before it joins the residual."""

    def __init__(self, dim, mlp_ratio, drop=0.0, drop_path=0.0):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = Attention(dim)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop)
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), 1e-2))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), 1e-2))

    def forward(self, x):
        x = x + self.drop_path(self.layer_scale_1[:, None, None] * self.attn(self.norm1(x)))
        return x + self.drop_path(self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x)))


class OverlapPatchEmbed(nn.Module):
    """Strided convolution whose windows overlap: (N, Cin, H, W) -> (N, C, H/stride, W/stride)."""

    def __init__(self, in_chans, dim, patch_size, stride):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, to_2tuple(patch_size), stride=stride, padding=patch_size // 2)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x):
        return self.norm(self.proj(x))


def init_weights(module):
    """Linear: truncated normal, std 0.02. Convolution: normal, std sqrt(2 / fan_out), fan_out per group."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2.0 / fan_out))
        nn.init.zeros_(module.bias)


class VAN(nn.Module):
    """Four stages (patch_embed{i}, block{i}, norm{i}), a mean over positions and a linear head.

    forward: (N, in_chans, H, W) images -> (N, num_classes) logits.
    drop_path_rate rises linearly from 0 at the first block to the given value at the last.
    """

    def __init__(self, embed_dims, mlp_ratios, depths, in_chans=3, num_classes=1000, drop_rate=0.0, drop_path_rate=0.0):
        super().__init__()
        self.num_classes, self.num_stages = num_classes, len(depths)
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths)).tolist())
        for i, (dim, ratio, depth) in enumerate(zip(embed_dims, mlp_ratios, depths), start=1):
            patch, stride = (7, 4) if i == 1 else (3, 2)
            setattr(self, f'patch_embed{i}', OverlapPatchEmbed(in_chans, dim, patch, stride))
            setattr(self, f'block{i}', nn.ModuleList(Block(dim, ratio, drop_rate, next(rates)) for _ in range(depth)))
            setattr(self, f'norm{i}', nn.LayerNorm(dim, eps=1e-6))
            in_chans = dim
        self.head = nn.Linear(in_chans, num_classes) if num_classes > 0 else nn.Identity()
        self.apply(init_weights)

    def get_classifier(self):
        return self.head

    def reset_classifier(self, num_classes):
        """Replaces the head by a fresh one of another number of classes (0: features only)."""
        dim = self.norm4.normalized_shape[0]
        self.num_classes = num_classes
        self.head = nn.Linear(dim, num_classes) if num_classes > 0 else nn.Identity()
        self.head.apply(init_weights)

    def forward_features(self, x):
        """(N, in_chans, H, W) -> (N, C): the mean over the positions of the last stage."""
        for i in range(1, self.num_stages + 1):
            x = getattr(self, f'patch_embed{i}')(x)
            for block in getattr(self, f'block{i}'):
                x = block(x)
            # LayerNorm wants the channels last; as a view, no copy is made before the norm.
            x = getattr(self, f'norm{i}')(x.permute(0, 2, 3, 1))
            if i < self.num_stages:
                x = x.permute(0, 3, 1, 2).contiguous()
        return x.mean(dim=(1, 2))

    def forward(self, x):
        return self.head(self.forward_features(x))


def create_model(name, num_classes=1000, img_size=224, drop_path=None, **kwargs):
    """Builds a VAN by name (van_b0..b6, van_tiny/small/base/large).

    img_size is accepted for the collection's common interface; the weights do not depend on it.
    drop_path: stochastic depth at the last block, None = 0. Further keywords go to VAN.
    Raises ValueError for a name that is not known.
    """
    embed_dims, mlp_ratios, depths = look_up(
        name, dict(VARIANTS, **{old: VARIANTS[new] for old, new in ALIASES.items()})
    )
    return VAN(embed_dims, mlp_ratios, depths, num_classes=num_classes, drop_path_rate=drop_path or 0.0, **kwargs)


# Upstream's entry points
van_b0 = entry_point(create_model, 'van_b0')
van_b1 = entry_point(create_model, 'van_b1')
van_b2 = entry_point(create_model, 'van_b2')
van_b3 = entry_point(create_model, 'van_b3')
van_b4 = entry_point(create_model, 'van_b4')
van_b5 = entry_point(create_model, 'van_b5')
van_b6 = entry_point(create_model, 'van_b6')
van_tiny = entry_point(create_model, 'van_tiny')
van_small = entry_point(create_model, 'van_small')
van_base = entry_point(create_model, 'van_base')
van_large = entry_point(create_model, 'van_large')
