"""timm's RandAugment on what jpeg.py gives: the same numbers are drawn, and pixels differ by a level of rounding.

An image stays a tensor until an operation is drawn that wants one of Pillow. That is 5 of 15: a rotation, and what looks at the whole image
first. Where each number of a pixel decides alone, Pillow is asked for each of the 256 levels only. Shears and translations, which
in Pillow are the general transform of a plane, move rows or columns here, and sharpness is a sum of neighbours. All that takes 0.3 to 0.8
of Pillow's time (224 pixels, AVX-512).
"""

import functools
from typing import Any, Callable, List, Sequence, Tuple, Union

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from PIL import Image
from timm.data import auto_augment

AnyImage = Union[Image.Image, torch.Tensor]
LEVELS = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert('RGB')


def accelerate(transform: Any) -> None:
    """Changes the RandAugment in a transform of timm's. It then takes images of Pillow and tensors, and gives either."""
    for step in transform.transforms:
        for operation in step.ops if isinstance(step, auto_augment.RandAugment) else ():
            operation.aug_fn = functools.partial(FASTER.get(operation.aug_fn, by_pillow), operation.aug_fn)


# ---- an RGB image of Pillow, a uint8 CHW tensor, and uint8 HWC pixels


def as_image(image: AnyImage) -> Image.Image:
    return Image.fromarray(pixels_of(image)) if isinstance(image, torch.Tensor) else image


def as_tensor(image: AnyImage) -> torch.Tensor:
    return image if isinstance(image, torch.Tensor) else tensor_of(pixels_of(image))


def pixels_of(image: AnyImage) -> np.ndarray:
    if isinstance(image, torch.Tensor):
        return np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return np.array(image)


def tensor_of(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def levels_of(values: torch.Tensor) -> np.ndarray:
    """float32 -> uint8, cut off as Pillow does it (by numpy, which is four times as fast as torch)"""
    return values.clamp_(0, 255).numpy().astype(np.uint8)


# ---- (timm's function, an image, its arguments) -> an image


def by_pillow(function: Callable, image: AnyImage, *args: Any, **options: Any) -> Image.Image:
    return function(as_image(image), *args, **options)


def by_table(function: Callable, image: AnyImage, *args: Any, **options: Any) -> torch.Tensor:
    pixels = pixels_of(image)
    changed = bytearray(pixels).translate(table_of(function, *args))
    return tensor_of(np.frombuffer(changed, np.uint8).reshape(pixels.shape))


@functools.lru_cache(4096)  # more than there are of whole numbers
def table_of(function: Callable, *args: Any) -> bytes:
    """-> what timm's function makes of each level"""
    return function(LEVELS, *args).tobytes()[::3]


def moved(function: Callable, image: AnyImage, *args: Any, **options: Any) -> AnyImage:
    return function(Movable(image), *args, **options)


def sharpened(function: Callable, image: AnyImage, factor: float, **options: Any) -> AnyImage:
    """The difference to what Pillow calls SMOOTH, `factor` times. A pixel at the edge stays."""
    pixels = pixels_of(image)
    height, width, _ = pixels.shape
    if min(height, width) < 3:
        return function(as_image(image), factor, **options)
    values = torch.from_numpy(pixels.reshape(height, -1)).short()
    inner = values[1:-1, 3:-3]
    columns = values[:-2] + values[1:-1] + values[2:]
    total = (
        columns[:, :-6] + columns[:, 3:-3] + columns[:, 6:] + 4 * inner
    )  # of 9 pixels, 5 times the one in the middle
    smooth = total.float().add_(6.5).div_(13).floor_()
    result = levels_of(smooth.add(inner - smooth, alpha=factor))
    pixels = pixels.copy()
    pixels[1:-1, 1:-1] = result.reshape(height - 2, width - 2, 3)
    return tensor_of(pixels)


FASTER = {
    **dict.fromkeys(
        [getattr(auto_augment, name) for name in 'invert posterize solarize solarize_add brightness'.split()], by_table
    ),
    **dict.fromkeys([getattr(auto_augment, f'shear_{axis}') for axis in 'xy'], moved),
    **dict.fromkeys([getattr(auto_augment, f'translate_{axis}_{by}') for axis in 'xy' for by in ('abs', 'rel')], moved),
    auto_augment.sharpness: sharpened,
}


# ---- shears and translations


class Movable:
    """What timm's shears and translations ask of an image: its size, and an affine transform."""

    def __init__(self, image: AnyImage):
        self.pixels = pixels_of(image)
        self.size = self.pixels.shape[1::-1]

    def transform(
        self, size: Tuple[int, int], method: Any, data: Sequence[float], resample: int, fillcolor: Sequence[int]
    ) -> AnyImage:
        """(a, b, c, d, e, f): the pixel at x, y is the one at a x + b y + c, d x + e y + f; as Pillow's, but for a level of rounding."""
        a, b, c, d, e, f = data
        factors = cubic if resample == Image.BICUBIC else linear
        colour, (width, height) = np.array(fillcolor, np.uint8), size
        if (a, d, e, f) == (1, 0, 1, 0):
            by = b * (np.arange(height) + 0.5) + c
            return tensor_of(moved_rows(self.pixels, by, factors, np.tile(colour, width)))
        if (a, b, c, e) == (1, 0, 0, 1):
            by = d * (np.arange(width) + 0.5) + f
            columns = torch.from_numpy(self.pixels).permute(2, 1, 0).reshape(-1, height, 1)  # of each channel
            found = moved_rows(columns.numpy(), np.tile(by, 3), factors, np.repeat(colour, width)[:, None])
            result = np.empty_like(self.pixels)
            for k, channel in enumerate(found.reshape(3, width, height)):
                result[..., k] = channel.T  # twice as fast as all at once
            return tensor_of(result)
        return Image.fromarray(self.pixels).transform(size, method, data, resample=resample, fillcolor=fillcolor)


def moved_rows(pixels: np.ndarray, by: np.ndarray, factors: Callable, colour: np.ndarray) -> np.ndarray:
    """uint8 (height, width, channels) -> the same, each row read `by` pixels (height,) further right.

    Where there are none it has the colour, which broadcasts to (height, width * channels).
    """
    height, width, step = pixels.shape
    result = np.empty((height, width * step), np.uint8)
    result[:] = colour
    # of each row the first column that lies in the image, and the first behind it
    first, last = (np.ceil(edge - by - 0.5).clip(0, width).astype(np.int16) for edge in (0, width))
    low, high = int(first.min()), int(last.max())
    if low < high:
        inside = result[:, low * step : high * step]
        column = np.arange(low, high, dtype=np.int16).repeat(step)
        moved = levels_of(weighted(pixels, by, factors, low, high))
        if first.max() == low and last.min() == high:
            inside[:] = moved
        else:
            np.copyto(inside, moved, where=(column >= first[:, None]) & (column < last[:, None]))
    return result.reshape(pixels.shape)


def weighted(pixels: np.ndarray, by: np.ndarray, factors: Callable, low: int, high: int) -> torch.Tensor:
    """-> (height, (high - low) * channels), the columns from low to high of the moved rows, in float32"""
    height, width, step = pixels.shape
    whole = np.floor(by)
    taps = factors((by - whole).astype(np.float32)[:, None])
    before = len(taps) // 2 - 1
    # as far to both sides as the farthest row begins, but only next to the edge, whose pixels go on for two more, is what matters
    margin = int(np.abs(whole).max()) + 3
    wide = np.empty((height, width + 2 * margin, step), np.uint8)
    wide[:, margin:-margin] = pixels
    for k in (1, 2):
        wide[:, margin - k], wide[:, width + margin - 1 + k] = pixels[:, 0], pixels[:, -1]
    # each row begins at a place of its own
    begins = (np.arange(height) * wide.shape[1] + margin + low - before + whole.astype(np.int64)) * step
    length = (high - low + len(taps) - 1) * step
    rows = as_strided(wide, (wide.size - length + 1, length), (1, 1))[begins]
    values, count = torch.from_numpy(rows).float(), (high - low) * step
    total = values[:, :count] * torch.from_numpy(taps[0])
    for k in range(1, len(taps)):
        total.addcmul_(values[:, k * step : k * step + count], torch.from_numpy(taps[k]))
    return total


def linear(d: np.ndarray) -> List[np.ndarray]:
    """d: how far the place lies behind its pixel, 0 to 1 -> the factors of this pixel and the next one"""
    return [1 - d, d]


def cubic(d: np.ndarray) -> List[np.ndarray]:
    """The same of four pixels, from the one before on: Pillow's spline, with a slope of (next - last) at each pixel."""
    return [d * (d * (2 - d) - 1), 1 + d * d * (d - 2), d * (1 + d * (1 - d)), d * d * (d - 1)]
