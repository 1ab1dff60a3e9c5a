"""From image to patches (upstream: models/spach/layers/stem.py)."""

import torch.nn as nn

from common.compat import to_2tuple


def _conv1(in_chans, embed_dim, patch_size):
    """One convolution as large as its stride."""
    return nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)


def _conv4(in_chans, embed_dim, patch_size, hidden_chans=64):
    """Three convolutions at half the image's size, then patches half as large."""
    layers, chans = [], in_chans
    for kernel_size, stride in ((7, 2), (3, 1), (3, 1)):
        layers += [
            nn.Conv2d(chans, hidden_chans, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(hidden_chans),
            nn.ReLU(),
        ]
        chans = hidden_chans
    return nn.Sequential(*layers, _conv1(hidden_chans, embed_dim, patch_size // 2))


STEMS = {'conv1': _conv1, 'conv4': _conv4}


class Stem(nn.Module):
    """Images (B, in_chans, H, W) -> patches (B, embed_dim, H // patch_size, W // patch_size).

    Raises ValueError where an image is not of the size that the network was built for.
    """

    def __init__(self, proj, img_size, patch_size):
        super().__init__()
        self.img_size = to_2tuple(img_size)
        self.stem_shape = (self.img_size[0] // patch_size, self.img_size[1] // patch_size)
        self.proj = proj

    def forward(self, x):
        if tuple(x.shape[2:]) != tuple(self.img_size):
            raise ValueError(
                f'images of {x.shape[2]}x{x.shape[3]} pixels given to a model built for {self.img_size[0]}x{self.img_size[1]} (img_size)'
            )
        return self.proj(x)


def make_stem(stem_type, img_size, patch_size, in_chans, embed_dim):
    """The stem of type conv1 or conv4."""
    if stem_type not in STEMS:
        raise ValueError(f'unknown stem_type {stem_type!r}; known: {", ".join(sorted(STEMS))}')
    return Stem(STEMS[stem_type](in_chans, embed_dim, patch_size), img_size, patch_size)
