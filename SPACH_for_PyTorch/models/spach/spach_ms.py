"""SPACH-MS, four stages: each later one has half the resolution and twice the channels.

Paper: arXiv:2108.13002. Upstream: models/spach/spach_ms.py.
"""

import torch.nn as nn

from ..stochastic_depth import linear_rates
from .layers import make_stem
from .misc import DownsampleConv, init_weights, layer_norm, reshape2n
from .spach import make_blocks


class SpachMS(nn.Module):
    """Images (B, in_chans, *img_size) -> logits (B, num_classes).

    net_arch: four stages, each ((kind, count), ...); hidden_dim: channels of the first stage; num_heads: in every
    stage (the heads grow); drop_path_rate: rate of the last block, growing evenly from 0 at the first;
    shared_spatial_func: one spatial function for each stage after the first. Other arguments: see Spach.
    """

    def __init__(
        self,
        num_classes=1000,
        img_size=224,
        in_chans=3,
        hidden_dim=64,
        patch_size=4,
        net_arch=(),
        stem_type='conv1',
        num_heads=2,
        token_ratio=0.5,
        channel_ratio=2.0,
        drop_rate=0.0,
        drop_path_rate=0.0,
        shared_spatial_func=False,
    ):
        super().__init__()
        if len(net_arch) != 4:
            raise ValueError(f'net_arch needs 4 stages, got {len(net_arch)}')
        self.num_classes = num_classes
        self.stem = make_stem(stem_type, img_size, patch_size, in_chans, hidden_dim)
        self.norm1 = layer_norm(hidden_dim)
        depths = [sum(count for _, count in arch) for arch in net_arch]
        rates = iter(linear_rates(drop_path_rate, sum(depths)))
        dim, hw = hidden_dim, self.stem.stem_shape
        for stage, (arch, depth) in enumerate(zip(net_arch, depths)):
            modules = []
            if stage > 0:
                modules = [DownsampleConv(dim, dim * 2, hw)]
                dim, hw = dim * 2, (hw[0] // 2, hw[1] // 2)
            modules += make_blocks(
                arch,
                dim,
                hw,
                [next(rates) for _ in range(depth)],
                shared_spatial_func and stage > 0,
                num_heads,
                token_ratio,
                channel_ratio,
                drop_rate,
            )
            self.add_module(f'layer{stage + 1}', nn.Sequential(*modules))
        self.norm2 = layer_norm(dim)
        self.head = nn.Linear(dim, num_classes)
        init_weights(self)

    def get_classifier(self):
        return self.head

    def forward_features(self, x):
        """Images (B, in_chans, *img_size) -> tokens of the last stage (B, N / 64, 8 * hidden_dim)."""
        x = self.norm1(reshape2n(self.stem(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.norm2(x)

    def forward(self, x):
        return self.head(self.forward_features(x).mean(dim=1))
