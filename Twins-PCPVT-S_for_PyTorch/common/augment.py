"""timm's RandAugment on what jpeg.py gives: the same numbers are drawn, and pixels differ by a level of rounding.

An image stays a tensor until an operation is drawn that wants one of Pillow. Shears and translations, which are 4 of 15 operations and
take more than half of the time, move the rows or the columns of an image; that is 2 to 5 times as fast as Pillow's general transform.
"""

from functools import partial
from typing import Any, Callable, List, Sequence, Tuple, Union

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from PIL import Image
from timm.data import auto_augment

NAMES = 'shear_x shear_y translate_x_rel translate_y_rel translate_x_abs translate_y_abs'
MOVES = [getattr(auto_augment, name) for name in NAMES.split()]


def accelerate(transform: Any) -> None:
    """Changes the RandAugment in a transform of timm's."""
    for step in transform.transforms:
        for operation in step.ops if isinstance(step, auto_augment.RandAugment) else ():
            operation.aug_fn = partial(on_image, operation.aug_fn)


def on_image(function: Callable, image: Union[Image.Image, torch.Tensor], *args: Any, **options: Any) -> Image.Image:
    image = as_image(image)
    return function(Rows(image) if function in MOVES else image, *args, **options)


def as_image(image: Union[Image.Image, torch.Tensor]) -> Image.Image:
    """-> an RGB image of Pillow, of one or of a uint8 CHW tensor"""
    return Image.fromarray(image.permute(1, 2, 0).numpy()) if isinstance(image, torch.Tensor) else image


class Rows:
    """What timm's shears and translations ask of an image: its size, and an affine transform."""

    def __init__(self, image: Image.Image):
        self.image, self.size = image, image.size

    def transform(self, size: Tuple[int, int], method: Any, data: Sequence[float], **options: Any) -> Image.Image:
        """(a, b, c, d, e, f): the pixel at x, y is the one at a x + b y + c, d x + e y + f; as Pillow's, but for a level of rounding."""
        a, b, c, d, e, f = data
        image, (width, height) = self.image, size
        if (a, d, e, f) == (1, 0, 1, 0):
            return moved(image, b * (np.arange(height) + 0.5) + c, **options)
        if (a, b, c, e) == (1, 0, 0, 1):
            turned = moved(image.transpose(Image.TRANSPOSE), d * (np.arange(width) + 0.5) + f, **options)
            return turned.transpose(Image.TRANSPOSE)
        return image.transform(size, method, data, **options)


def moved(image: Image.Image, by: np.ndarray, resample: int, fillcolor: Tuple[int, int, int]) -> Image.Image:
    """-> each row of an RGB image read `by` pixels (height,) further right, in colour `fillcolor` where there are none."""
    width, height = image.size
    factors = cubic if resample == Image.BICUBIC else linear
    whole = np.floor(by)
    taps = factors((by - whole).astype(np.float32)[:, None, None])
    first = 1 - len(taps) // 2
    # the pixels on both sides are those at the edge, as many as the farthest row needs
    margin = int(np.abs(whole).max()) + 3
    pixels = np.frombuffer(image.tobytes('raw', 'RGBX'), np.uint32).reshape(height, width)
    wide = np.empty((height, width + 2 * margin), np.uint32)
    wide[:, :margin], wide[:, margin:-margin], wide[:, -margin:] = pixels[:, :1], pixels, pixels[:, -1:]
    # each row begins at a place of its own
    begins = np.arange(height) * wide.shape[1] + margin + first + whole.astype(np.int64)
    length = width + len(taps) - 1
    rows = as_strided(wide, (wide.size - length + 1, length), (4, 4))[begins]
    values = torch.from_numpy(rows.view(np.uint8).reshape(height, length, 4)).float()
    result = values[:, :width] * torch.from_numpy(taps[0])
    for k in range(1, len(taps)):
        result.addcmul_(values[:, k : k + width], torch.from_numpy(taps[k]))
    result = result.clamp_(0, 255).to(torch.int32).to(torch.uint8).numpy()
    # the first column that lies in the image, and the first behind it
    start, end = (np.ceil(edge - by - 0.5).clip(0, width).astype(np.int16)[:, None] for edge in (0, width))
    x = np.arange(width, dtype=np.int16)
    colour = np.array((*fillcolor, 255), np.uint8).view(np.uint32)
    np.copyto(result.view(np.uint32)[..., 0], colour, where=(x < start) | (x >= end))
    return Image.frombuffer('RGBX', image.size, result, 'raw', 'RGBX', 0, 1).convert('RGB')


def linear(d: np.ndarray) -> List[np.ndarray]:
    """d: how far the place lies behind its pixel, 0 to 1 -> the factors of this pixel and the next one"""
    return [1 - d, d]


def cubic(d: np.ndarray) -> List[np.ndarray]:
    """The same of four pixels, from the one before on: Pillow's spline, with a slope of (next - last) at each pixel."""
    return [d * (d * (2 - d) - 1), 1 + d * d * (d - 2), d * (1 + d * (1 - d)), d * d * (d - 1)]
