"""Twins (Chu et al. 2021, https://arxiv.org/abs/2104.13840): Twins-PCPVT and Twins-SVT.

The network is timm's (timm.models.twins), under the names of Meituan-AutoML/Twins, gvt.py at 4700293a: pcpvt_* is
Twins-PCPVT, alt_gvt_* is Twins-SVT. State-dict keys, their order and the logits are upstream's, so that its checkpoints
load strictly. No weight depends on the image size.
"""

import inspect

from timm.models import twins

from common.compat import to_2tuple
from common.variants import entry_point, look_up

# Per stage: channels, heads, MLP expansion, blocks, and for SVT the side of the attention windows in tokens (the first,
# third, ... block of a stage is local, the others are global; without wss all are global).
VARIANTS = {
    'pcpvt_small_v0': dict(
        embed_dims=(64, 128, 320, 512), num_heads=(1, 2, 5, 8), mlp_ratios=(8, 8, 4, 4), depths=(3, 4, 6, 3)
    ),
    'pcpvt_base_v0': dict(
        embed_dims=(64, 128, 320, 512), num_heads=(1, 2, 5, 8), mlp_ratios=(8, 8, 4, 4), depths=(3, 4, 18, 3)
    ),
    'pcpvt_large_v0': dict(
        embed_dims=(64, 128, 320, 512), num_heads=(1, 2, 5, 8), mlp_ratios=(8, 8, 4, 4), depths=(3, 8, 27, 3)
    ),
    'alt_gvt_small': dict(
        embed_dims=(64, 128, 256, 512),
        num_heads=(2, 4, 8, 16),
        mlp_ratios=(4, 4, 4, 4),
        depths=(2, 2, 10, 4),
        wss=(7, 7, 7, 7),
    ),
    'alt_gvt_base': dict(
        embed_dims=(96, 192, 384, 768),
        num_heads=(3, 6, 12, 24),
        mlp_ratios=(4, 4, 4, 4),
        depths=(2, 2, 18, 2),
        wss=(7, 7, 7, 7),
    ),
    'alt_gvt_large': dict(
        embed_dims=(128, 256, 512, 1024),
        num_heads=(4, 8, 16, 32),
        mlp_ratios=(4, 4, 4, 4),
        depths=(2, 2, 18, 2),
        wss=(7, 7, 7, 7),
    ),
}
SMALLEST_SIDE = 32  # pixels: the last of the four stages (strides 4, 2, 2, 2) then has one token a side


def _dropout(rate):
    """Arguments for upstream's drop_rate (after the embeddings and inside the blocks), as this timm spells them."""
    if 'pos_drop_rate' in inspect.signature(twins.Twins.__init__).parameters:
        return dict(pos_drop_rate=rate, proj_drop_rate=rate)  # timm 1.x: drop_rate became the head's alone
    return dict(drop_rate=rate)


def _move_last(module, name):
    child = getattr(module, name)
    delattr(module, name)
    setattr(module, name, child)


class Twins(twins.Twins):
    """timm's Twins with its parameters in upstream's order.

    forward: (N, in_chans, H, W) images -> (N, num_classes) logits, H and W at least 32; no_weight_decay() names all of
    pos_block, upstream's exemption beyond biases and norms. drop_rate is upstream's (see _dropout).
    wss: side of the attention windows per stage, in tokens; None: global attention only. A map that is no multiple of
    the window is padded with zeros, where upstream's network stops with an error (it takes multiples of 224 only).
    """

    def __init__(self, wss=None, drop_rate=0.0, **kwargs):
        super().__init__(wss=wss, **dict(_dropout(drop_rate), **kwargs))
        # An optimizer's state is stored by position, so that a resumed one needs upstream's order of parameters.
        _move_last(self, 'pos_block')
        if wss is not None:
            _move_last(self, 'blocks')
            for stage in self.blocks:
                for block in stage:
                    _move_last(block, 'attn')


def _check_image_size(name, img_size):
    height, width = to_2tuple(img_size)
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f'{name} needs images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, got {height}x{width}'
        )


def create_model(name, num_classes=1000, img_size=224, drop_path=None, **kwargs):
    """Builds a Twins by name.

    img_size: pixels, one number or (height, width); checked, and without influence on the weights.
    drop_path: stochastic depth at the last block (linear from 0 at the first), None = 0. Further keywords go to Twins.
    Raises ValueError for a name that is not known and for an image size that cannot work.
    """
    settings = look_up(name, VARIANTS)
    _check_image_size(name, img_size)
    settings = dict(settings, num_classes=num_classes)
    if drop_path is not None:
        settings['drop_path_rate'] = drop_path
    # img_size stays timm's 224: it serves nothing but an assertion that refuses 200, which works.
    return Twins(**dict(settings, **kwargs))


# Upstream's entry points
pcpvt_small_v0 = entry_point(create_model, 'pcpvt_small_v0')
pcpvt_base_v0 = entry_point(create_model, 'pcpvt_base_v0')
pcpvt_large_v0 = entry_point(create_model, 'pcpvt_large_v0')
alt_gvt_small = entry_point(create_model, 'alt_gvt_small')
alt_gvt_base = entry_point(create_model, 'alt_gvt_base')
alt_gvt_large = entry_point(create_model, 'alt_gvt_large')
