"""ConvMixer: patch embedding, then depthwise and pointwise convolutions at one resolution.

Paper: Trockman, Kolter, "Patches Are All You Need?", arXiv:2201.09792.
Names and state-dict keys follow locuslab/convmixer, convmixer.py: the network is one nn.Sequential,
so that its keys are numbers ("0.weight", "3.0.fn.0.weight", ...) and upstream's checkpoints load strictly.
"""

import re

import torch.nn as nn

from common.variants import entry_point, look_up

# name -> arguments of ConvMixer. Upstream registers 768/32 with GELU; the weights that were published for it
# were trained with ReLU (as timm's convmixer_768_32 is). The keys are the same, so only the name can tell.
VARIANTS = {
    'convmixer_1536_20': dict(dim=1536, depth=20, kernel_size=9, patch_size=7),
    'convmixer_768_32': dict(dim=768, depth=32, kernel_size=7, patch_size=7),
    'convmixer_768_32_relu': dict(dim=768, depth=32, kernel_size=7, patch_size=7, activation=nn.ReLU),
    'convmixer_1024_20_ks9_p14': dict(dim=1024, depth=20, kernel_size=9, patch_size=14),
}
FREE_NAME = re.compile(r'convmixer_(\d+)_(\d+)_ks(\d+)_p(\d+)$')


class Residual(nn.Module):
    """x + fn(x); fn keeps the shape."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


def _conv_act_norm(conv, activation, dim):
    """The unit that the network repeats: convolution, activation, batch norm (in this order)."""
    return [conv, activation(), nn.BatchNorm2d(dim)]


def _mixer_layer(dim, kernel_size, activation):
    """(B, dim, h, w) -> same shape: mix places (depthwise, with a residual), then channels (1x1, without one)."""
    # Odd kernels only: k // 2 then equals padding='same', which torch < 1.9 does not have.
    depthwise = nn.Conv2d(dim, dim, kernel_size, groups=dim, padding=kernel_size // 2)
    pointwise = nn.Conv2d(dim, dim, kernel_size=1)
    return nn.Sequential(
        Residual(nn.Sequential(*_conv_act_norm(depthwise, activation, dim))),
        *_conv_act_norm(pointwise, activation, dim),
    )


class ConvMixer(nn.Sequential):
    """Images (B, 3, H, W) -> logits (B, n_classes); any H, W >= patch_size.

    dim: channels; depth: mixer layers; activation: a class, instantiated once per use.
    Raises ValueError where kernel_size is even (the residual needs an output of the input's size).
    """

    def __init__(self, dim, depth, kernel_size=9, patch_size=7, n_classes=1000, activation=nn.GELU):
        if kernel_size % 2 == 0:
            raise ValueError(f'ConvMixer needs an odd kernel_size, got {kernel_size}')
        patches = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)
        super().__init__(
            *_conv_act_norm(patches, activation, dim),
            *[_mixer_layer(dim, kernel_size, activation) for _ in range(depth)],
            nn.AdaptiveAvgPool2d((1, 1)),
            nn.Flatten(),
            nn.Linear(dim, n_classes),
        )

    def get_classifier(self):
        return self[-1]


def _config(name):
    match = FREE_NAME.match(name)
    if match is not None and name not in VARIANTS:
        return dict(zip(('dim', 'depth', 'kernel_size', 'patch_size'), map(int, match.groups())))
    return look_up(name, VARIANTS)


def create_model(name, num_classes=1000, img_size=224, drop_path=None, drop_rate=0.0, **kwargs):
    """Build a variant by name, or convmixer_<dim>_<depth>_ks<kernel>_p<patch>. kwargs replace arguments of ConvMixer.

    img_size is accepted for the sake of one interface and changes nothing: no weight depends on it.
    Raises ValueError for an unknown name, and for dropout of either kind: this network has no place for it.
    """
    config = _config(name)
    for option, value in (('drop_path', drop_path), ('drop_rate', drop_rate)):
        if value:
            raise ValueError(f'{name} has no dropout and no stochastic depth: {option} must be 0, got {value}')
    return ConvMixer(**dict(dict(config, n_classes=num_classes), **kwargs))


def timm_names(model):
    """-> {name in timm's convmixer: name in the model}. (timm's convmixer_768_32 is convmixer_768_32_relu here.)"""
    depth = sum(isinstance(layer, nn.Sequential) for layer in model)

    def in_timm(name):
        place, rest = name.split('.', 1)
        if int(place) < 3:
            return f'stem.{name}'
        return f'blocks.{int(place) - 3}.{rest}' if int(place) < 3 + depth else f'head.{rest}'

    return {in_timm(name): name for name in model.state_dict()}


# Upstream's entry points
convmixer_1536_20 = entry_point(create_model, 'convmixer_1536_20')
convmixer_768_32 = entry_point(create_model, 'convmixer_768_32')
convmixer_768_32_relu = entry_point(create_model, 'convmixer_768_32_relu')
convmixer_1024_20_ks9_p14 = entry_point(create_model, 'convmixer_1024_20_ks9_p14')
