"""Vision Transformer (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929).

The network is timm's (timm.models.vision_transformer), built with the names, keys and initial values that timm had at
20b2d4b6 (July 2021), so that checkpoints of that time load strictly into every timm this collection runs with.
weights.py brings weights of another image size, and the original JAX release's, to these models.
"""

import inspect
from collections import OrderedDict

from timm.models import vision_transformer as timm_vit
from torch import nn

from common.compat import to_2tuple, trunc_normal_
from common.variants import entry_point, look_up

TINY = dict(embed_dim=192, depth=12, num_heads=3)
SMALL = dict(embed_dim=384, depth=12, num_heads=6)
BASE = dict(embed_dim=768, depth=12, num_heads=12)
LARGE = dict(embed_dim=1024, depth=24, num_heads=16)
HUGE = dict(embed_dim=1280, depth=32, num_heads=16)
IN21K = dict(num_classes=21843)
MIIL = dict(qkv_bias=False)  # Alibaba-MIIL/ImageNet21K; its 21k set has 11221 classes

# name: arguments of VisionTransformer; img_size is 224 pixels and num_classes 1000 where nothing else is said.
VARIANTS = {
    'vit_tiny_patch16_224': dict(TINY, patch_size=16),
    'vit_tiny_patch16_384': dict(TINY, patch_size=16, img_size=384),
    'vit_small_patch32_224': dict(SMALL, patch_size=32),
    'vit_small_patch32_384': dict(SMALL, patch_size=32, img_size=384),
    'vit_small_patch16_224': dict(SMALL, patch_size=16),
    'vit_small_patch16_384': dict(SMALL, patch_size=16, img_size=384),
    'vit_base_patch32_224': dict(BASE, patch_size=32),
    'vit_base_patch32_384': dict(BASE, patch_size=32, img_size=384),
    'vit_base_patch16_224': dict(BASE, patch_size=16),
    'vit_base_patch16_384': dict(BASE, patch_size=16, img_size=384),
    'vit_large_patch32_224': dict(LARGE, patch_size=32),
    'vit_large_patch32_384': dict(LARGE, patch_size=32, img_size=384),
    'vit_large_patch16_224': dict(LARGE, patch_size=16),
    'vit_large_patch16_384': dict(LARGE, patch_size=16, img_size=384),
    'vit_base_patch32_sam_224': dict(BASE, patch_size=32, representation_size=768),
    'vit_base_patch16_sam_224': dict(BASE, patch_size=16, representation_size=768),
    'vit_base_patch16_224_miil': dict(**BASE, **MIIL, patch_size=16),
    'vit_tiny_patch16_224_in21k': dict(**TINY, **IN21K, patch_size=16),
    'vit_small_patch32_224_in21k': dict(**SMALL, **IN21K, patch_size=32),
    'vit_small_patch16_224_in21k': dict(**SMALL, **IN21K, patch_size=16),
    'vit_base_patch32_224_in21k': dict(**BASE, **IN21K, patch_size=32),
    'vit_base_patch16_224_in21k': dict(**BASE, **IN21K, patch_size=16),
    'vit_large_patch32_224_in21k': dict(**LARGE, **IN21K, patch_size=32, representation_size=1024),
    'vit_large_patch16_224_in21k': dict(**LARGE, **IN21K, patch_size=16),
    'vit_huge_patch14_224_in21k': dict(**HUGE, **IN21K, patch_size=14, representation_size=1280),
    'vit_base_patch16_224_miil_in21k': dict(**BASE, **MIIL, patch_size=16, num_classes=11221),
    'deit_tiny_patch16_224': dict(TINY, patch_size=16),
    'deit_small_patch16_224': dict(SMALL, patch_size=16),
    'deit_base_patch16_224': dict(BASE, patch_size=16),
    'deit_base_patch16_384': dict(BASE, patch_size=16, img_size=384),
}


# ---- the network


def _dropout(rate):
    """Arguments for the pin's drop_rate (after the embeddings and inside the blocks), as this timm spells them."""
    if 'pos_drop_rate' in inspect.signature(timm_vit.VisionTransformer.__init__).parameters:
        return dict(pos_drop_rate=rate, proj_drop_rate=rate)  # timm 1.x: drop_rate became the head's alone
    return dict(drop_rate=rate)


class VisionTransformer(timm_vit.VisionTransformer):
    """timm's ViT with the pin's optional representation layer and its initial class token.

    forward: (N, in_chans, H, W) images of img_size -> (N, num_classes) logits.
    representation_size: width of a tanh layer (pre_logits.fc) before the head, None = no such layer.
    drop_rate is the pin's (see _dropout). Further keywords go to timm's class.
    """

    def __init__(self, num_classes=1000, representation_size=None, drop_rate=0.0, **kwargs):
        super().__init__(num_classes=num_classes, **dict(_dropout(drop_rate), **kwargs))
        self.pre_logits = nn.Identity()
        if representation_size:
            self._add_representation(representation_size, num_classes)
        if not kwargs.get('weight_init'):
            trunc_normal_(self.cls_token, std=0.02)  # timm 1.x: 1e-6

    def _add_representation(self, size, num_classes):
        del self.head  # registered anew after pre_logits, where the pin has it
        self.pre_logits = nn.Sequential(OrderedDict([('fc', nn.Linear(self.embed_dim, size)), ('act', nn.Tanh())]))
        self.num_features = self.head_hidden_size = size
        self.head = nn.Linear(size, num_classes) if num_classes > 0 else nn.Identity()
        for layer in (self.pre_logits.fc, self.head):
            if isinstance(layer, nn.Linear):
                trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward_head(self, x, pre_logits: bool = False):
        """(N, tokens, C) -> (N, num_classes), for timm 1.x; 0.4 has no such method and applies pre_logits itself."""
        # timm's own steps and pre_logits, written out because torch.jit.script knows no super().
        x = self.pre_logits(self.head_drop(self.fc_norm(self.pool(x))))
        return x if pre_logits else self.head(x)


def _settings(name, num_classes, img_size):
    """Arguments of VisionTransformer for a variant and what was asked of it."""
    settings = dict(dict(img_size=224, num_classes=1000), **look_up(name, VARIANTS))
    if num_classes is not None and num_classes != settings['num_classes']:
        # As at the pin: the representation layer belongs to the classes it was trained with.
        settings.update(num_classes=num_classes, representation_size=None)
    if img_size is not None:
        settings['img_size'] = img_size
    return settings


def create_model(name, num_classes=None, img_size=None, drop_path=None, **kwargs):
    """Builds a ViT by name.

    num_classes: None = the variant's own: 1000, or those of ImageNet-21k for *_in21k.
    img_size: pixels, one number or (height, width); None = the variant's own, 224 or 384. The position embedding, and
    so the checkpoint, depends on it.
    drop_path: stochastic depth at the last block (linear from 0 at the first), None = 0.
    Further keywords go to VisionTransformer. Raises ValueError for a name that is not known, and for images smaller
    than one patch.
    """
    settings = _settings(name, num_classes, img_size)
    if drop_path is not None:
        settings['drop_path_rate'] = drop_path
    settings.update(kwargs)
    height, width = settings['img_size'] = tuple(to_2tuple(settings['img_size']))
    patch = settings['patch_size']
    if min(height, width) < patch:
        raise ValueError(f'{name} needs images of at least {patch}x{patch} pixels, got {height}x{width}')
    return VisionTransformer(**settings)


# Upstream's entry points
vit_tiny_patch16_224 = entry_point(create_model, 'vit_tiny_patch16_224')
vit_tiny_patch16_384 = entry_point(create_model, 'vit_tiny_patch16_384')
vit_small_patch32_224 = entry_point(create_model, 'vit_small_patch32_224')
vit_small_patch32_384 = entry_point(create_model, 'vit_small_patch32_384')
vit_small_patch16_224 = entry_point(create_model, 'vit_small_patch16_224')
vit_small_patch16_384 = entry_point(create_model, 'vit_small_patch16_384')
vit_base_patch32_224 = entry_point(create_model, 'vit_base_patch32_224')
vit_base_patch32_384 = entry_point(create_model, 'vit_base_patch32_384')
vit_base_patch16_224 = entry_point(create_model, 'vit_base_patch16_224')
vit_base_patch16_384 = entry_point(create_model, 'vit_base_patch16_384')
vit_large_patch32_224 = entry_point(create_model, 'vit_large_patch32_224')
vit_large_patch32_384 = entry_point(create_model, 'vit_large_patch32_384')
vit_large_patch16_224 = entry_point(create_model, 'vit_large_patch16_224')
vit_large_patch16_384 = entry_point(create_model, 'vit_large_patch16_384')
vit_base_patch32_sam_224 = entry_point(create_model, 'vit_base_patch32_sam_224')
vit_base_patch16_sam_224 = entry_point(create_model, 'vit_base_patch16_sam_224')
vit_base_patch16_224_miil = entry_point(create_model, 'vit_base_patch16_224_miil')
vit_tiny_patch16_224_in21k = entry_point(create_model, 'vit_tiny_patch16_224_in21k')
vit_small_patch32_224_in21k = entry_point(create_model, 'vit_small_patch32_224_in21k')
vit_small_patch16_224_in21k = entry_point(create_model, 'vit_small_patch16_224_in21k')
vit_base_patch32_224_in21k = entry_point(create_model, 'vit_base_patch32_224_in21k')
vit_base_patch16_224_in21k = entry_point(create_model, 'vit_base_patch16_224_in21k')
vit_large_patch32_224_in21k = entry_point(create_model, 'vit_large_patch32_224_in21k')
vit_large_patch16_224_in21k = entry_point(create_model, 'vit_large_patch16_224_in21k')
vit_huge_patch14_224_in21k = entry_point(create_model, 'vit_huge_patch14_224_in21k')
vit_base_patch16_224_miil_in21k = entry_point(create_model, 'vit_base_patch16_224_miil_in21k')
deit_tiny_patch16_224 = entry_point(create_model, 'deit_tiny_patch16_224')
deit_small_patch16_224 = entry_point(create_model, 'deit_small_patch16_224')
deit_base_patch16_224 = entry_point(create_model, 'deit_base_patch16_224')
deit_base_patch16_384 = entry_point(create_model, 'deit_base_patch16_384')
