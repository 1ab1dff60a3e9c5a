"""Every variant in one table, and create_model (upstream: models/registry.py, whose factory names are kept)."""

from common.variants import entry_point, look_up

from .shiftvit import ShiftViT
from .smlp import sMLPNet
from .spach import Spach, SpachMS

HEAD_DIM = 32  # channels of an attention head (in SpachMS: of its first stage)


def _spach(dim, channel_ratio, kind, depth):
    """Single-stage: depth blocks of one kind on patches of 16 pixels."""
    return Spach, dict(
        patch_size=16,
        hidden_dim=dim,
        num_heads=dim // HEAD_DIM,
        token_ratio=0.5,
        channel_ratio=channel_ratio,
        net_arch=((kind, depth),),
    )


def _spach_ms(dim, channel_ratio, *stages):
    """Multi-stage on patches of 4 pixels. A stage is ((kind, depth), ...)."""
    return SpachMS, dict(
        patch_size=4,
        hidden_dim=dim,
        num_heads=dim // HEAD_DIM,
        token_ratio=0.5,
        channel_ratio=channel_ratio,
        net_arch=stages,
    )


def _pure(kind, *depths):
    """Four stages of one kind, except that the first, whose resolution is high, is always 'pass' (DWConv alone)."""
    kinds = ('pass', kind, kind, kind)
    return [((k, depth),) for k, depth in zip(kinds, depths)]


def _smlp(dim, depths, drop_path_rate):
    return sMLPNet, dict(dim=dim, depths=depths, alpha=3, patch_size=4, drop_path_rate=drop_path_rate)


def _shift(dim, depths, mlp_ratio, drop_path_rate):
    """A group of channels that move together has 8 channels in the first stage."""
    return ShiftViT, dict(
        embed_dim=dim, depths=depths, mlp_ratio=mlp_ratio, n_div=dim // 8, drop_path_rate=drop_path_rate
    )


# name -> (class, its arguments). The drop path rates of sMLPNet and ShiftViT belong to the variant.
VARIANTS = {
    # ---------------------------------- channels, MLP ratio, kind, depth
    'spach_xxs_patch16_224_mlp': _spach(384, 2.0, 'mlp', 12),
    'spach_xxs_patch16_224_conv': _spach(384, 2.0, 'pass', 12),
    'spach_xxs_patch16_224_attn': _spach(192, 2.0, 'attn', 12),
    'spach_xs_patch16_224_mlp': _spach(384, 2.0, 'mlp', 24),
    'spach_xs_patch16_224_conv': _spach(384, 2.0, 'pass', 24),
    'spach_xs_patch16_224_attn': _spach(384, 2.0, 'attn', 12),
    'spach_s_patch16_224_mlp': _spach(512, 3.0, 'mlp', 24),
    'spach_s_patch16_224_conv': _spach(512, 3.0, 'pass', 24),
    'spach_s_patch16_224_attn': _spach(512, 3.0, 'attn', 12),
    # ---------------------------------- channels, MLP ratio, stages
    'spach_ms_xxs_patch4_224_conv': _spach_ms(64, 2.0, *_pure('pass', 2, 2, 6, 2)),
    'spach_ms_xxs_patch4_224_mlp': _spach_ms(64, 2.0, *_pure('mlp', 2, 2, 6, 2)),
    'spach_ms_xxs_patch4_224_attn': _spach_ms(32, 2.0, *_pure('attn', 2, 2, 6, 2)),
    'spach_ms_xs_patch4_224_conv': _spach_ms(96, 2.0, *_pure('pass', 3, 4, 12, 3)),
    'spach_ms_xs_patch4_224_mlp': _spach_ms(96, 2.0, *_pure('mlp', 3, 4, 12, 3)),
    'spach_ms_xs_patch4_224_attn': _spach_ms(64, 2.0, *_pure('attn', 3, 4, 12, 3)),
    'spach_ms_s_patch4_224_conv': _spach_ms(128, 3.0, *_pure('pass', 3, 4, 12, 3)),
    'spach_ms_s_patch4_224_mlp': _spach_ms(128, 3.0, *_pure('mlp', 3, 4, 12, 3)),
    'spach_ms_s_patch4_224_attn': _spach_ms(96, 3.0, *_pure('attn', 3, 4, 12, 3)),
    'spach_ms_xs_patch4_224_hybrid': _spach_ms(
        96, 2.0, (('pass', 3),), (('pass', 4),), (('pass', 2), ('attn', 10)), (('pass', 1), ('attn', 2))
    ),
    'spach_ms_s_patch4_224_hybrid': _spach_ms(
        128, 3.0, (('pass', 3),), (('pass', 2), ('attn', 2)), (('pass', 2), ('attn', 10)), (('pass', 1), ('attn', 2))
    ),
    # ---------------------------------- channels, depths, drop path
    'smlpnet_tiny': _smlp(80, (2, 8, 14, 2), 0.0),
    'smlpnet_small': _smlp(96, (2, 10, 24, 2), 0.2),
    'smlpnet_base': _smlp(112, (2, 10, 24, 2), 0.3),
    # ---------------------------------- channels, depths, MLP ratio, drop path
    'shiftvit_light_tiny': _shift(96, (2, 2, 6, 2), 4, 0.2),
    'shiftvit_r4_tiny': _shift(96, (2, 2, 12, 3), 4, 0.2),
    'shiftvit_r2_tiny': _shift(96, (6, 8, 18, 6), 2, 0.2),
    'shiftvit_light_small': _shift(96, (2, 2, 18, 2), 4, 0.4),
    'shiftvit_r4_small': _shift(96, (2, 6, 24, 4), 4, 0.4),
    'shiftvit_r2_small': _shift(96, (10, 18, 36, 10), 2, 0.4),
    'shiftvit_light_base': _shift(128, (2, 2, 18, 2), 4, 0.5),
    'shiftvit_r4_base': _shift(128, (4, 6, 22, 4), 4, 0.5),
    'shiftvit_r2_base': _shift(128, (10, 18, 36, 10), 2, 0.6),
}
SPACH_OPTIONS = {'stem_type': 'conv1', 'shared_spatial_func': False}  # and the values that mean "as the model is"


def _without_spach_options(name, kwargs):
    """kwargs of a model that has no SPACH_OPTIONS: their defaults are dropped, other values refused."""
    for option, default in SPACH_OPTIONS.items():
        if kwargs.get(option, default) != default:
            raise ValueError(f'{option} is an option of the spach_* models; {name} has none')
    return {key: value for key, value in kwargs.items() if key not in SPACH_OPTIONS}


def create_model(name, num_classes=1000, img_size=224, drop_path=None, **kwargs):
    """Build a variant by name; kwargs replace arguments of its class (stem_type, shared_spatial_func, drop_rate, ...).

    drop_path: stochastic depth rate; None takes the variant's own, 0 for the spach_* models (upstream's main.py asks
    for 0.1). Constant over the blocks of a single-stage SPACH, growing evenly from 0 to it in the others.
    Raises ValueError for an unknown name, listing the known ones.
    """
    model_class, config = look_up(name, VARIANTS)
    if model_class not in (Spach, SpachMS):
        kwargs = _without_spach_options(name, kwargs)
    if model_class is sMLPNet and kwargs.pop('drop_rate', 0.0):
        raise ValueError(f'{name} has no dropout: drop_rate must be 0')
    if drop_path is not None:
        kwargs['drop_path_rate'] = drop_path
    return model_class(**dict(config, num_classes=num_classes, img_size=img_size, **kwargs))


# Upstream's entry points
spach_xxs_patch16_224_mlp = entry_point(create_model, 'spach_xxs_patch16_224_mlp')
spach_xxs_patch16_224_conv = entry_point(create_model, 'spach_xxs_patch16_224_conv')
spach_xxs_patch16_224_attn = entry_point(create_model, 'spach_xxs_patch16_224_attn')
spach_xs_patch16_224_mlp = entry_point(create_model, 'spach_xs_patch16_224_mlp')
spach_xs_patch16_224_conv = entry_point(create_model, 'spach_xs_patch16_224_conv')
spach_xs_patch16_224_attn = entry_point(create_model, 'spach_xs_patch16_224_attn')
spach_s_patch16_224_mlp = entry_point(create_model, 'spach_s_patch16_224_mlp')
spach_s_patch16_224_conv = entry_point(create_model, 'spach_s_patch16_224_conv')
spach_s_patch16_224_attn = entry_point(create_model, 'spach_s_patch16_224_attn')
spach_ms_xxs_patch4_224_conv = entry_point(create_model, 'spach_ms_xxs_patch4_224_conv')
spach_ms_xxs_patch4_224_mlp = entry_point(create_model, 'spach_ms_xxs_patch4_224_mlp')
spach_ms_xxs_patch4_224_attn = entry_point(create_model, 'spach_ms_xxs_patch4_224_attn')
spach_ms_xs_patch4_224_conv = entry_point(create_model, 'spach_ms_xs_patch4_224_conv')
spach_ms_xs_patch4_224_mlp = entry_point(create_model, 'spach_ms_xs_patch4_224_mlp')
spach_ms_xs_patch4_224_attn = entry_point(create_model, 'spach_ms_xs_patch4_224_attn')
spach_ms_s_patch4_224_conv = entry_point(create_model, 'spach_ms_s_patch4_224_conv')
spach_ms_s_patch4_224_mlp = entry_point(create_model, 'spach_ms_s_patch4_224_mlp')
spach_ms_s_patch4_224_attn = entry_point(create_model, 'spach_ms_s_patch4_224_attn')
spach_ms_xs_patch4_224_hybrid = entry_point(create_model, 'spach_ms_xs_patch4_224_hybrid')
spach_ms_s_patch4_224_hybrid = entry_point(create_model, 'spach_ms_s_patch4_224_hybrid')
smlpnet_tiny = entry_point(create_model, 'smlpnet_tiny')
smlpnet_small = entry_point(create_model, 'smlpnet_small')
smlpnet_base = entry_point(create_model, 'smlpnet_base')
shiftvit_light_tiny = entry_point(create_model, 'shiftvit_light_tiny')
shiftvit_r4_tiny = entry_point(create_model, 'shiftvit_r4_tiny')
shiftvit_r2_tiny = entry_point(create_model, 'shiftvit_r2_tiny')
shiftvit_light_small = entry_point(create_model, 'shiftvit_light_small')
shiftvit_r4_small = entry_point(create_model, 'shiftvit_r4_small')
shiftvit_r2_small = entry_point(create_model, 'shiftvit_r2_small')
shiftvit_light_base = entry_point(create_model, 'shiftvit_light_base')
shiftvit_r4_base = entry_point(create_model, 'shiftvit_r4_base')
shiftvit_r2_base = entry_point(create_model, 'shiftvit_r2_base')
