"""$name: the network is timm's, under timm's names."""

import timm

from common.variants import look_up

VARIANTS = {name: name for name in ('$model', '$other')}


def create_model(name, num_classes=1000, img_size=224, drop_path=None, **kwargs):
    """Builds a $name by timm's name. img_size: pixels, one number or (height, width). Raises ValueError."""
    wanted = {'num_classes': num_classes, 'drop_path_rate': drop_path or 0.0, **kwargs}
    try:
        return timm.create_model(look_up(name, VARIANTS), img_size=img_size, **wanted)
    except TypeError:  # no weight depends on the size
        return timm.create_model(look_up(name, VARIANTS), **wanted)
