"""What SPACH, sMLPNet and ShiftViT change on an Ascend NPU; `--npu-patch all|none|NAME,...` chooses.

Stochastic depth draws on the device already. Tokens and images are transposed views of one another here, which linear
layers, convolutions and layer norms then read.
"""

from torch import nn

from common.npu_patches import FAST_GELU, INT32_TARGETS, contiguous_inputs, fuse_attention
from models.spach.layers.spatial_func import SpatialAttention


class FusedSpatialAttention(SpatialAttention):
    def attend(self, q, k, v):
        return self.fused(q, k, v, self.scale)


PATCHES = [
    fuse_attention({SpatialAttention: FusedSpatialAttention}),
    contiguous_inputs(nn.Linear, nn.Conv2d, nn.LayerNorm),
    INT32_TARGETS,
    FAST_GELU,
]
