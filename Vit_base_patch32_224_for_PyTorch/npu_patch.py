"""What ViT changes on an Ascend NPU; `--npu-patch all|none|NAME,...` chooses.

Stochastic depth draws on the device already. timm's attention has its own path to scaled_dot_product_attention; the patch
takes torch_npu's kernel instead.
"""

from timm.models.vision_transformer import Attention

from common.npu_patches import FAST_GELU, INT32_TARGETS, fuse_attention


class FusedAttention(Attention):
    """(B, N, C) -> the same, without a mask, and without the query and key norms that none of our variants has."""

    def forward(self, x, *mask, **options):
        if mask or any(value is not None and value is not False for value in options.values()):
            return super().forward(x, *mask, **options)
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = self.fused(q, k, v, self.scale, self.attn_drop.p if self.training else 0.0)
        return self.proj_drop(self.proj(out.transpose(1, 2).reshape(batch, tokens, width)))


PATCHES = [fuse_attention({Attention: FusedAttention}), INT32_TARGETS, FAST_GELU]
