"""A random crop of a JPEG, decoded no further than it takes, and resized in uint8 by vector instructions.

The crop is drawn from the header, as timm draws it. Then a decoder that is faster than Pillow's stops below the crop or, where the crop
is far larger than what is made of it, gives an image of half the size. What is not an ordinary JPEG is refused by an
exception, whichever: images.py has Pillow read it.
"""

import collections
import io
import math
import os
import random
import struct
from typing import Any, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image

from common.compat import SIMD_RESIZE
from common.errors import UserError

LONGEST = 200  # times its shorter side. An evaluation brings that one to the size of the model: 1 x 20000 would take gigabytes
RESAMPLE = {'bilinear': Image.BILINEAR, 'bicubic': Image.BICUBIC}
# From how many pixels of a crop for one of the result, along the side where they are fewest, half the size will do: where a photograph has
# detail in its last pixel, the result is then 1 grey level away, and 1.5 at 2.0
HALVE = 2.5

# at: where the header has the number of rows
Frame = collections.namedtuple('Frame', 'at rows columns')
# A side of a crop in the decoded image: the pixel where resizing begins, how many results before the crop's first that is, and the
# length of the crop
Side = collections.namedtuple('Side', 'first before length')


def too_thin(size: Tuple[int, int]) -> bool:
    return max(size) > LONGEST * min(size)


# ---- decoders: (a JPEG, its frame, the rows that are needed, 1 or 2 for half the size) -> uint8 HWC, of these rows at least


def by_simplejpeg(data: bytearray, frame: Frame, rows: int, part: int) -> np.ndarray:
    """Writes into the header that the image ends soon after the rows that are needed, and there the decoder stops.

    Those are the same to the bit; the last ones would not be, whose colours are interpolated with the rows below.
    """
    import simplejpeg

    rows = min(rows + 4, frame.rows)
    data[frame.at : frame.at + 2] = rows.to_bytes(2, 'big')
    least = {'min_height': -(-rows // 2), 'min_width': -(-frame.columns // 2)} if part == 2 else {}
    # not strict: it goes on where Pillow does, and says nothing of the rows that it is kept from
    return simplejpeg.decode_jpeg(data, strict=False, **least)


def by_torchvision(data: bytearray, frame: Frame, rows: int, part: int) -> np.ndarray:
    """All rows, because an image that ends too soon would be a warning on stderr, in their whole size."""
    from torchvision.io import decode_jpeg

    return decode_jpeg(torch.from_numpy(np.frombuffer(data, np.uint8))).permute(1, 2, 0).numpy()


DECODERS = {'simplejpeg': by_simplejpeg, 'torchvision': by_torchvision}  # the fastest first


def usable(name: str) -> bool:
    """Whether a decoder is there and works."""
    stream = io.BytesIO()
    Image.new('RGB', (8, 8)).save(stream, 'JPEG')
    data = bytearray(stream.getvalue())
    try:
        return DECODERS[name](data, frame_of(data), 8, 1).shape == (8, 8, 3)
    except Exception:  # ImportError, or whatever a library raises that does not fit the others
        return False


def chosen(name: str) -> str:
    """--decoder -> the name of one that is there. Raises UserError where it is not."""
    if name == 'auto':
        return next((name for name in DECODERS if usable(name)), 'pillow')
    if name in DECODERS and not usable(name):
        raise UserError(f'--decoder {name} does not work here; pip install {name}, or leave the option out')
    return name


# ---- the file


def content(path: str) -> bytearray:
    """-> a JPEG. Raises ValueError for another file, and for a JPEG that has no end because it is cut."""
    if not os.path.isfile(path):
        raise ValueError('it is not a file')
    with open(path, 'rb', buffering=0) as file:
        data = bytearray(os.fstat(file.fileno()).st_size)
        file.readinto(data)
    if not (data.startswith(b'\xff\xd8') and data.endswith(b'\xff\xd9')):
        raise ValueError('it is not a whole JPEG')
    return data


def frame_of(data: bytearray) -> Frame:
    """Reads the header of a JPEG. Raises ValueError unless it has three channels of 8 bits and a size that Pillow takes without a word."""
    at = 2
    while data[at] == 0xFF:  # its segments, each with a marker and a length
        marker, length = struct.unpack_from('>xBH', data, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, rows, columns, channels = struct.unpack_from('>BHHB', data, at + 4)
            small = rows * columns <= (Image.MAX_IMAGE_PIXELS or 0) and not too_thin((columns, rows))
            if (bits, channels) == (8, 3) and small:
                return Frame(at + 5, rows, columns)
            break
        at += 2 + length
    raise ValueError('it is another kind of JPEG')


class Header(Image.Image):
    """What timm's random crop asks of an image, its size, of a JPEG that is not decoded."""

    size = (0, 0)

    def __init__(self, frame: Frame):
        self.size = (frame.columns, frame.rows)


# ---- the crop


def random_crop(path: str, crop: Any, decoder: str) -> Any:
    """What timm's RandomResizedCropAndInterpolation makes of a JPEG: uint8 CHW or, without vector instructions, an image of Pillow."""
    data = content(path)
    frame = frame_of(data)
    top, left, height, width = crop.get_params(Header(frame), crop.scale, crop.ratio)
    how = crop.interpolation
    how = random.choice(how) if isinstance(how, (tuple, list)) else how
    how = getattr(how, 'value', how)  # torchvision's name, or Pillow's number
    sides = [Side(top, 0, height), Side(left, 0, width)]
    halves = [halved(side, out) for side, out in zip(sides, crop.size)]
    part = 2 if decoder == 'simplejpeg' and SIMD_RESIZE and None not in halves else 1
    pixels = DECODERS[decoder](data, frame, top + height, part)
    if len(pixels) * part < top + height or pixels.shape[1:] != (-(-frame.columns // part), 3):
        raise ValueError('its size is not that of its header')
    return resized(pixels, halves if part == 2 else sides, crop.size, how)


def halved(side: Side, out: int) -> Optional[Side]:
    """The same side in an image of half the size; None where the crop is too small for that.

    The crop may then begin in the middle of a pixel, but torch resizes from a whole one on. So it begins some results earlier, where
    those come to lie at a pixel, nearly; and None where they do not.
    """
    if side.length < HALVE * out:
        return None
    step = side.length / 2 / out
    for before in range(32):
        first = side.first / 2 - before * step
        if abs(first - round(first)) < 0.03:
            return Side(round(first), before, side.length / 2)
    return None


def resized(pixels: np.ndarray, sides: Sequence[Side], size: Tuple[int, int], how: Any) -> Any:
    """uint8 HWC, the crop in it, (height, width), an interpolation -> as random_crop"""
    low = [max(0, side.first) for side in sides]
    high = [math.ceil(side.first + side.before * side.length / out + side.length) for side, out in zip(sides, size)]
    pixels = np.ascontiguousarray(pixels[low[0] : high[0], low[1] : high[1]])
    if not SIMD_RESIZE:
        return Image.fromarray(pixels).resize(size[::-1], RESAMPLE.get(how, how))
    missing = [max(0, -side.first) for side in sides]  # in front of the image, for results that are not kept
    if any(missing):
        pixels = np.pad(pixels, [(n, 0) for n in missing] + [(0, 0)], 'edge')
    # reshape, because torch looks at the strides of the batch too: they have to be those of channels_last
    batch = torch.from_numpy(pixels.reshape(1, *pixels.shape).transpose(0, 3, 1, 2))
    resize = {'bilinear': torch.ops.aten._upsample_bilinear2d_aa, 'bicubic': torch.ops.aten._upsample_bicubic2d_aa}[how]
    results = [out + side.before for side, out in zip(sides, size)]
    # what F.interpolate(antialias=True) calls, which takes sizes or scales, not both
    image = resize(batch, results, False, *(out / side.length for side, out in zip(sides, size)))[0]
    before = [side.before for side in sides]
    return image[:, before[0] :, before[1] :] if any(before) else image
