"""SPACH, single-stage (upstream: models/spach/spach.py).

Paper: Zhao et al., "A Battle of Network Structures: An Empirical Study of CNN, Transformer, and MLP",
arXiv:2108.13002.
"""

import torch
import torch.nn as nn

from ..stochastic_depth import drop_path_layer
from .layers import ChannelMLP, DWConv, make_spatial_func, make_stem
from .misc import init_weights, layer_norm, reshape2n

GAMMA_INIT = 1e-4  # first size of the spatial branch: a new block is nearly DWConv + channel MLP


class MixingBlock(nn.Module):
    """Tokens (B, H * W, dim) -> same shape: mix places, then channels, each with a residual.

    spatial_func: a module on tokens, which several blocks may share, or None. The depthwise convolution runs beside it.
    """

    def __init__(self, dim, hw, spatial_func, channel_ratio, drop, drop_path):
        super().__init__()
        self.spatial_func = spatial_func
        if spatial_func is not None:
            self.norm1 = layer_norm(dim)
            self.gamma_1 = nn.Parameter(GAMMA_INIT * torch.ones(1, 1, dim))
        self.channel_func = ChannelMLP(dim, int(dim * channel_ratio), drop)
        self.norm2 = layer_norm(dim)
        self.drop_path = drop_path_layer(drop_path)
        self.cpe_net = DWConv(dim, hw)

    def forward(self, x):
        mixed = x
        if self.spatial_func is not None:
            mixed = x + self.drop_path(self.gamma_1 * self.spatial_func(self.norm1(x)))
        x = mixed + self.cpe_net(x)
        return x + self.drop_path(self.channel_func(self.norm2(x)))


def make_blocks(arch, dim, hw, drop_paths, shared, num_heads, token_ratio, channel_ratio, drop_rate):
    """List of mixing blocks on tokens (B, H * W, dim), hw = (H, W).

    arch: ((kind, count), ...), one drop path rate for each block; shared: all blocks use one spatial function.
    Raises ValueError where shared is asked for and arch has several kinds, or 'pass'.
    """
    if shared and (len(arch) != 1 or arch[0][0] == 'pass'):
        raise ValueError(
            'shared_spatial_func needs one kind of spatial function in a stage, attn or mlp, not {}'.format(
                ' and '.join(kind for kind, _ in arch)
            )
        )

    def spatial(kind):
        return make_spatial_func(kind, dim, num_heads, hw[0] * hw[1], token_ratio, drop_rate)

    kinds = [kind for kind, count in arch for _ in range(count)]
    funcs = [spatial(kinds[0])] * len(kinds) if shared else [spatial(kind) for kind in kinds]
    return [MixingBlock(dim, hw, func, channel_ratio, drop_rate, rate) for func, rate in zip(funcs, drop_paths)]


class Spach(nn.Module):
    """Images (B, in_chans, *img_size) -> logits (B, num_classes), all blocks at one resolution.

    net_arch: ((kind, count), ...) with kinds mlp, attn, pass; stem_type: conv1 or conv4; drop_rate: dropout of the
    MLPs; drop_path_rate: the same for every block; shared_spatial_func: one spatial function for all blocks.
    Weights depend on img_size where a kind is mlp.
    """

    def __init__(
        self,
        num_classes=1000,
        img_size=224,
        in_chans=3,
        hidden_dim=384,
        patch_size=16,
        net_arch=(('mlp', 12),),
        stem_type='conv1',
        num_heads=12,
        token_ratio=0.5,
        channel_ratio=2.0,
        drop_rate=0.0,
        drop_path_rate=0.0,
        shared_spatial_func=False,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.stem = make_stem(stem_type, img_size, patch_size, in_chans, hidden_dim)
        self.norm1 = layer_norm(hidden_dim)
        depth = sum(count for _, count in net_arch)
        self.blocks = nn.Sequential(
            *make_blocks(
                net_arch,
                hidden_dim,
                self.stem.stem_shape,
                [drop_path_rate] * depth,
                shared_spatial_func,
                num_heads,
                token_ratio,
                channel_ratio,
                drop_rate,
            )
        )
        self.norm2 = layer_norm(hidden_dim)
        self.head = nn.Linear(hidden_dim, num_classes)
        init_weights(self)

    def get_classifier(self):
        return self.head

    def forward_features(self, x):
        """Images (B, in_chans, *img_size) -> tokens (B, N, hidden_dim)."""
        x = self.norm1(reshape2n(self.stem(x)))
        return self.norm2(self.blocks(x))

    def forward(self, x):
        return self.head(self.forward_features(x).mean(dim=1))
