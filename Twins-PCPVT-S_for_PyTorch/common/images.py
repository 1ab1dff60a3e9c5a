"""One image file: its pixels, or the sentence that says why there are none; and how a JPEG is read fast for a training.

A training uses a crop of an image. The fast way draws it from the header, as timm does, decodes the JPEG down to the end of the crop by
a decoder that is faster than Pillow's, and resizes the crop in uint8. Pillow reads all else, and whatever the fast way fails at.
"""

import collections
import io
import os
import random
import struct
from typing import Any, Callable, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import RandomHorizontalFlip, RandomVerticalFlip

from common import rows
from common.compat import SIMD_RESIZE
from common.errors import UserError, shown

WAY_OUT = '; repair or remove it, or go on without such images by --skip-bad-images'
LONGEST = 200  # times its shorter side. An evaluation brings that one to the size of the model: 1 x 20000 would take gigabytes
RESAMPLE = {'bilinear': Image.BILINEAR, 'bicubic': Image.BICUBIC}


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
    if too_thin(image.size):
        raise ValueError(f'its sides are {image.size[0]} and {image.size[1]} pixels, more than 1 to {LONGEST}')
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


def too_thin(size: Tuple[int, int]) -> bool:
    return max(size) > LONGEST * min(size)


# ---- decoders of a JPEG: (its bytes, its frame, the rows that are needed) -> uint8 HWC, of these rows at least

# at: where the header has the number of rows
Frame = collections.namedtuple('Frame', 'at rows columns')


def by_simplejpeg(data: bytearray, frame: Frame, rows: int) -> np.ndarray:
    """Writes into the header that the image ends soon after the rows that are needed, and there the decoder stops.

    Those are the same to the bit; the last ones would not be, whose colours are interpolated with the rows below.
    """
    import simplejpeg

    data[frame.at : frame.at + 2] = min(rows + 16, frame.rows).to_bytes(2, 'big')
    # not strict: it goes on where Pillow does, and says nothing of the rows that it is kept from
    return simplejpeg.decode_jpeg(data, strict=False)


def by_torchvision(data: bytearray, frame: Frame, rows: int) -> np.ndarray:
    """All rows: an image that ends too soon is a warning on stderr."""
    from torchvision.io import decode_jpeg

    return decode_jpeg(torch.from_numpy(np.frombuffer(data, np.uint8))).permute(1, 2, 0).numpy()


DECODERS = {'simplejpeg': by_simplejpeg, 'torchvision': by_torchvision}  # the fastest first


def usable(name: str) -> bool:
    """Whether a decoder is there and works."""
    stream = io.BytesIO()
    Image.new('RGB', (8, 8)).save(stream, 'JPEG')
    data = bytearray(stream.getvalue())
    try:
        return DECODERS[name](data, frame_of(data), 8).shape == (8, 8, 3)
    except Exception:  # ImportError, or whatever a library raises that does not fit the others
        return False


def chosen(name: str) -> str:
    """--decoder -> the name of one that is there. Raises UserError where it is not."""
    if name == 'auto':
        return next((name for name in DECODERS if usable(name)), 'pillow')
    if name in DECODERS and not usable(name):
        raise UserError(f'--decoder {name} does not work here; pip install {name}, or leave the option out')
    return name


# ---- from a file to what timm's transform makes of it


class Reader:
    """[path, begin] -> uint8 CHW, as `transform`, which timm has made, gives it. Raises UserError as read_image does.

    begin: is called before anything is drawn; sets the random numbers. decoder: 'pillow', or a name in DECODERS for JPEGs of which the
    transform takes a random crop. With all of them it draws the same numbers, and a pixel is the same, but for a level now and then.
    """

    def __init__(self, transform: Any, decoder: str):
        self.transform, self.decode = transform, DECODERS.get(decoder)
        self.crop, self.rest = transform.transforms[0], transform.transforms[1:]
        self.fast = self.decode is not None and isinstance(self.crop, RandomResizedCropAndInterpolation)
        if self.fast:
            rows.accelerate(transform)
        # what takes a tensor as well as an image of Pillow; the last step makes one of the other
        self.tensors = all(isinstance(step, (RandomHorizontalFlip, RandomVerticalFlip)) for step in self.rest[:-1])

    def __call__(self, path: str, begin: Callable[[], None]) -> torch.Tensor:
        begin()
        image = self._cropped(path) if self.fast else None
        if image is None:
            begin()
            return torch.as_tensor(self.transform(read_image(path)))
        for step in self.rest[:-1] if isinstance(image, torch.Tensor) else self.rest:
            image = step(image)
        return torch.as_tensor(image)

    def _cropped(self, path: str) -> Any:
        """-> the random crop, a tensor or an image of Pillow as the next step can take it; None where Pillow has to read the file."""
        try:
            data = jpeg_in(path)
            frame = frame_of(data)
            top, left, height, width = self.crop.get_params(Header(frame), self.crop.scale, self.crop.ratio)
            how = self.crop.interpolation
            how = random.choice(how) if isinstance(how, (tuple, list)) else how
            pixels = self.decode(data, frame, top + height)
            if len(pixels) < top + height or pixels.shape[1:] != (frame.columns, 3):
                return None
            pixels = np.ascontiguousarray(pixels[top : top + height, left : left + width])
            return resized(pixels, self.crop.size, getattr(how, 'value', how), self.tensors)
        except Exception:  # whatever it is: Pillow reads the file, or says what is wrong with it
            return None


class Header(Image.Image):
    """What timm's random crop asks of an image, its size, of a JPEG that is not decoded."""

    size = (0, 0)

    def __init__(self, frame: Frame):
        self.size = (frame.columns, frame.rows)


def jpeg_in(path: str) -> bytearray:
    """-> the content of a file. Raises ValueError unless it is a JPEG with an end: one that is cut has none."""
    if not os.path.isfile(path):
        raise ValueError('it is not a file')
    with open(path, 'rb', buffering=0) as file:
        start = file.read(2)
        data = bytearray(start + file.read()) if start == b'\xff\xd8' else b''
    if not data.endswith(b'\xff\xd9'):
        raise ValueError('it is not a whole JPEG')
    return data


def frame_of(data: bytearray) -> Frame:
    """Reads the header of a JPEG. Raises ValueError unless it has three channels of 8 bits and a size that Pillow takes without a word."""
    at = 2
    while data[at] == 0xFF:  # its segments, each with a marker and a length
        marker, length = struct.unpack_from('>xBH', data, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, rows, columns, channels = struct.unpack_from('>BHHB', data, at + 4)
            if (
                (bits, channels) != (8, 3)
                or too_thin((columns, rows))
                or rows * columns > (Image.MAX_IMAGE_PIXELS or 0)
            ):
                break
            return Frame(at + 5, rows, columns)
        at += 2 + length
    raise ValueError('it is another kind of JPEG')


def resized(pixels: np.ndarray, size: Any, how: Any, tensor: bool) -> Any:
    """uint8 HWC, (height, width), an interpolation -> an image of Pillow or, where it is no detour, a tensor CHW."""
    if not SIMD_RESIZE:
        return Image.fromarray(pixels).resize(size[::-1], RESAMPLE.get(how, how))
    # reshape, because torch looks at the strides of the batch too: they have to be those of channels_last
    batch = torch.from_numpy(pixels.reshape(1, *pixels.shape).transpose(0, 3, 1, 2))
    image = F.interpolate(batch, size, mode=how, align_corners=False, antialias=True)[0]
    return image if tensor else Image.fromarray(image.permute(1, 2, 0).numpy())
