"""An image file: its pixels, or the sentence that says why there are none; and what a transform of timm's makes of it.

A training has its JPEGs read by jpeg.py. Pillow reads all else, and what jpeg.py refuses.
"""

import contextlib
import os
from typing import Any, Callable

import torch
from PIL import Image, UnidentifiedImageError
from timm.data.auto_augment import RandAugment
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import RandomHorizontalFlip, RandomVerticalFlip

from common import augment, jpeg
from common.errors import UserError, shown

TAKE_TENSORS = (RandomHorizontalFlip, RandomVerticalFlip, RandAugment)  # the last one as augment.py changes it
WAY_OUT = '; repair or remove it, or go on without such images by --skip-bad-images'


# ---- any file


def read_image(path: str) -> Image.Image:
    """-> RGB image. Raises UserError for a file that cannot be decoded."""
    try:
        if not os.path.isfile(path):  # opening a named pipe would wait for good
            raise OSError('it is not a file' if os.path.exists(path) else 'it does not exist')
        with open(path, 'rb') as file:
            return as_rgb(Image.open(file))
    except Exception as e:  # the decoders raise whatever their parsers do
        unknown = isinstance(e, UnidentifiedImageError)
        reason = 'it is of no format that Pillow knows' if unknown else ' '.join(str(e).split()) or type(e).__name__
        raise UserError(shown(f'image {path} cannot be read ({reason}){WAY_OUT}')) from e


def as_rgb(image: Image.Image) -> Image.Image:
    """-> the image with 8 bits a channel, of 16 the upper ones, and laid on white where it is transparent.

    Raises ValueError for one whose numbers have no known range, or that resizing would blow up.
    """
    if jpeg.too_thin(image.size):
        raise ValueError(f'its sides are {image.size[0]} and {image.size[1]} pixels, more than 1 to {jpeg.LONGEST}')
    if image.format == 'EPS':
        raise ValueError('it is PostScript, which is a program')
    bits = getattr(image, 'tag_v2', {}).get(258, (16,))  # TIFF's BitsPerSample
    if (image.mode.startswith('I;16') and bits == (16,)) or (image.mode == 'I' and image.format in ('PNG', 'PPM')):
        return image.convert('I').point(lambda value: value * (1 / 256)).convert('L').convert('RGB')
    if image.mode[0] in 'IF':
        raise ValueError(f'its numbers, of mode {image.mode}, have no known range; save it with 8 bits')
    if image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return image.convert('RGB')


# ---- from a file to what timm's transform makes of it


class Reader:
    """[path, begin] -> uint8 CHW, as `transform`, which timm has made, gives it. Raises UserError as read_image does.

    begin: is called before anything is drawn; sets the random numbers. decoder: 'pillow', or a name in jpeg.DECODERS for JPEGs of which
    the transform takes a random crop. With all of them the same numbers are drawn; `pillow` alone gives timm's pixels to the bit.
    """

    def __init__(self, transform: Any, decoder: str):
        self.transform, self.decoder = transform, decoder
        self.crop, self.rest = transform.transforms[0], transform.transforms[1:]
        self.fast = decoder in jpeg.DECODERS and isinstance(self.crop, RandomResizedCropAndInterpolation)
        if self.fast:
            augment.accelerate(transform)

    def __call__(self, path: str, begin: Callable[[], None]) -> torch.Tensor:
        begin()
        if not self.fast:
            return torch.as_tensor(self.transform(read_image(path)))
        image = None
        with contextlib.suppress(Exception):  # whatever it is: Pillow reads the file, or says what is wrong with it
            image = jpeg.random_crop(path, self.crop, self.decoder)
        if image is None:
            begin()
            image = self.crop(read_image(path))
        for step in self.rest[:-1]:  # the last one only makes a tensor
            image = step(image if isinstance(step, TAKE_TENSORS) else augment.as_image(image))
        return augment.as_tensor(image)
