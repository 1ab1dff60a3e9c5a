"""ConvNeXt (Liu et al. 2022, https://arxiv.org/abs/2201.03545): the network is timm's, under timm's names."""

import timm

from common.variants import look_up

VARIANTS = {name: name for name in ('convnext_atto', 'convnext_femto', 'convnext_tiny')}


def create_model(name, num_classes=1000, img_size=224, drop_path=None, **kwargs):
    """Builds a ConvNeXt by timm's name. Any image size works, so that img_size changes nothing. Raises ValueError."""
    return timm.create_model(
        look_up(name, VARIANTS), num_classes=num_classes, drop_path_rate=drop_path or 0.0, **kwargs
    )
