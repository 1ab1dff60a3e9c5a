"""What Twins changes on an Ascend NPU; `--npu-patch all|none|NAME,...` chooses.

Stochastic depth draws on the device already. timm's attention has its own path to scaled_dot_product_attention; the patch
takes torch_npu's kernel instead. Layer norms read transposed views of the patch embeddings.
"""

import torch.nn.functional as F
from timm.models.twins import GlobalSubSampleAttn, LocallyGroupedAttn
from torch import nn

from common.npu_patches import FAST_GELU, INT32_TARGETS, contiguous_inputs, fuse_attention


class FusedGlobalAttention(GlobalSubSampleAttn):
    """(B, H * W, C) -> the same: attention to a map that a strided convolution has made smaller."""

    def forward(self, x, size):
        batch, tokens, width = x.shape
        heads, channels = self.num_heads, width // self.num_heads
        q = self.q(x).reshape(batch, tokens, heads, channels).transpose(1, 2)
        if self.sr is not None:
            x = self.sr(x.transpose(1, 2).reshape(batch, width, *size))
            x = self.norm(x.flatten(2).transpose(1, 2))
        k, v = self.kv(x).reshape(batch, -1, 2, heads, channels).permute(2, 0, 3, 1, 4).unbind(0)
        out = self.fused(q, k, v, self.scale, self.attn_drop.p if self.training else 0.0)
        return self.proj_drop(self.proj(out.transpose(1, 2).reshape(batch, tokens, width)))


class FusedLocalAttention(LocallyGroupedAttn):
    """(B, H * W, C) -> the same: attention inside windows of ws x ws tokens; the map is padded to whole windows."""

    def forward(self, x, size):
        batch, tokens, width = x.shape
        (high, wide), side = size, self.ws
        rows, columns = -(-high // side), -(-wide // side)
        x = F.pad(x.reshape(batch, high, wide, width), (0, 0, 0, columns * side - wide, 0, rows * side - high))
        x = x.reshape(batch, rows, side, columns, side, width).transpose(2, 3)
        qkv = self.qkv(x).reshape(batch * rows * columns, side * side, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = self.fused(q, k, v, self.scale, self.attn_drop.p if self.training else 0.0)
        out = out.transpose(1, 2).reshape(batch, rows, columns, side, side, width).transpose(2, 3)
        out = out.reshape(batch, rows * side, columns * side, width)[:, :high, :wide]
        return self.proj_drop(self.proj(out.reshape(batch, tokens, width)))


PATCHES = [
    fuse_attention({GlobalSubSampleAttn: FusedGlobalAttention, LocallyGroupedAttn: FusedLocalAttention}),
    contiguous_inputs(nn.LayerNorm),
    INT32_TARGETS,
    FAST_GELU,
]
