"""Reading an image for a training: any decoder draws timm's numbers and gives timm's pixels, and Pillow has the last word."""

import io
import random

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from timm.data import create_transform

from common import augment, data, images, job, jpeg, limits
from common.errors import UserError

DECODERS = [name for name in jpeg.DECODERS if jpeg.usable(name)]
RAND = 'rand-m9-mstd0.5-inc1'


def photograph(number, size):
    photo = Image.fromarray(
        [skimage.data.astronaut, skimage.data.coffee, skimage.data.chelsea, skimage.data.rocket][number]()
    )
    return photo.resize(size, Image.BICUBIC)


@pytest.fixture(scope='module', params=[(500, 375), (1500, 1000)], ids='{0[0]}x{0[1]}'.format)
def photographs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('photographs')
    paths = [str(folder / f'{number}.jpg') for number in range(4)]
    for number, path in enumerate(paths):
        photograph(number, request.param).save(path, quality=92)
    return paths


def transform(training=True, **options):
    return create_transform(224, is_training=training, use_prefetcher=True, **{'interpolation': 'bicubic', **options})


def read(reader, path, number):
    """-> the pixels, and the random state afterwards: what was drawn."""
    image = reader(path, lambda: data.seed_host(number))
    return image.contiguous(), (random.getstate(), np.random.get_state()[1:3], torch.get_rng_state().tolist())


def away(a, b):
    """-> the mean absolute difference in grey levels"""
    return (a.int() - b.int()).abs().float().mean().item()


@pytest.mark.parametrize('simd', [True, False])
@pytest.mark.parametrize('recipe', [
    {'auto_augment': None, 'color_jitter': None, 'vflip': 0.5},
    {'auto_augment': RAND, 'interpolation': 'random'},
    {'color_jitter': 0.4, 'scale': (0.9, 1), 'ratio': (5, 6)},  # no such crop: the one at the centre
])  # fmt: skip
@pytest.mark.parametrize('decoder', DECODERS)
def test_a_decoder_gives_timms_training_image(photographs, decoder, recipe, simd, monkeypatch):
    """The same crop, flips and augmentation, within a grey level of Pillow's on average, and by this decoder indeed."""
    if not simd:
        monkeypatch.setattr(jpeg, 'SIMD_RESIZE', False)  # as on another processor, or another torch
    fast, plain = (images.Reader(transform(**recipe), name) for name in (decoder, 'pillow'))
    differences = []
    for number, path in enumerate(photographs * 2):
        expected, drawn = read(plain, path, number)
        with monkeypatch.context() as patch:
            patch.setattr(images, 'read_image', None)
            found, drawn_fast = read(fast, path, number)
        assert found.dtype == torch.uint8 and found.shape == (3, 224, 224) and repr(drawn_fast) == repr(drawn)
        differences.append(away(found, expected))
    assert sum(differences) / len(differences) < 1, differences  # another crop, of one image, would be 3


@pytest.mark.parametrize('decoder', DECODERS)
def test_an_evaluation_is_pillows_to_the_bit(photographs, decoder):
    for path in photographs:
        found, expected = (read(images.Reader(transform(False), name), path, 0)[0] for name in (decoder, 'pillow'))
        assert torch.equal(found, expected)


def both(function, image, *args, **options):
    """-> what augment.py makes of an image, and what timm's function does"""
    found = augment.FASTER[function](function, augment.as_tensor(image), *args, **options)
    return augment.pixels_of(found).astype(int), np.asarray(function(image, *args, **options), int)


def of(way):
    return pytest.mark.parametrize('f', [f for f, w in augment.FASTER.items() if w is way], ids=lambda f: f.__name__)


@pytest.mark.parametrize('resample', [Image.BILINEAR, Image.BICUBIC])
@of(augment.moved)
def test_moved_rows_are_those_of_pillow(f, resample):
    """A shear or a translation is a level away at most, also where nothing of the image is left."""
    image = photograph(2, (90, 60))
    for amount in (0, 0.3, -0.21, 1.5, -1.5):
        amount *= 60 if f.__name__.endswith('abs') else 1
        found, expected = both(f, image, amount, resample=resample, fillcolor=(10, 20, 30))
        assert abs(found - expected).max() <= 1 and abs(found - expected).mean() < 0.1


@of(augment.by_table)
def test_changed_levels_are_those_of_pillow(f):
    image, scale = photograph(2, (90, 60)), {'posterize': 8, 'brightness': 2}.get(f.__name__, 256)
    for share in (0, 0.1, 0.25, 0.5, 1):
        amount = share * scale if f.__name__ == 'brightness' else int(share * scale)
        found, expected = both(f, image, *([] if f.__name__ == 'invert' else [amount]))
        assert (found == expected).all()


@pytest.mark.parametrize('size', [(90, 60), (3, 3), (2, 40)])
def test_sharpness_is_that_of_pillow(size):
    for factor in (0, 0.1, 1, 1.9):
        found, expected = both(augment.auto_augment.sharpness, photograph(2, size), factor)
        assert abs(found - expected).max() <= 1 and abs(found - expected).mean() < 0.01


def saved(image, kind='JPEG', **options):
    stream = io.BytesIO()
    image.save(stream, kind, **{'quality': 92, **options})
    return stream.getvalue()


PHOTO = photograph(2, (320, 240))
EXIF = Image.Exif()
EXIF[0x0112] = 6  # to be shown upright, which nobody here does
ODD = {
    'progressive': saved(PHOTO, progressive=True),
    'restart markers': saved(PHOTO, restart_marker_rows=1),
    'no chroma lost': saved(PHOTO, subsampling=0),
    'chroma halved': saved(PHOTO, subsampling=1),
    'grey': saved(PHOTO.convert('L')),
    'CMYK': saved(PHOTO.convert('CMYK')),
    'EXIF': saved(PHOTO, exif=EXIF),
    'trailing bytes': saved(PHOTO) + bytes(100),
    'two pictures': saved(PHOTO, 'MPO', save_all=True, append_images=[PHOTO.rotate(180)]),
    'PNG': saved(PHOTO, 'PNG'),
    'one pixel': saved(PHOTO.resize((1, 1))),
    'thin': saved(PHOTO.resize((3, 500))),
    'thinner': saved(PHOTO.resize((2, 500))),  # refused
    'empty': b'',
    'header alone': saved(PHOTO)[:400],
    'cut': saved(PHOTO)[:-2000],
    'cut, with an end': saved(PHOTO)[:-5000] + b'\xff\xd9',
    'no rows': saved(PHOTO).replace(b'\x00\xf0\x01\x40', b'\x00\x00\x01\x40', 1),
    'no Huffman table': saved(PHOTO).replace(b'\xff\xc4\x00\x1f\x00', b'\xff\xc4\x00\x1f\x55', 1),
    'a hole': saved(PHOTO)[:5000] + bytes(500) + saved(PHOTO)[5500:],
}


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('kind', ODD)
def test_an_odd_or_damaged_file_is_what_pillow_makes_of_it(tmp_path, decoder, kind):
    """The same picture and the same numbers drawn, or the same sentence."""
    path = tmp_path / 'a.jpg'
    path.write_bytes(ODD[kind])

    def outcome(name):
        try:
            return read(images.Reader(transform(auto_augment=RAND), name), str(path), 5)
        except UserError as e:
            return str(e), None

    (expected, drawn), (found, drawn_fast) = outcome('pillow'), outcome(decoder)
    assert repr(drawn_fast) == repr(drawn)
    assert found == expected if isinstance(expected, str) else away(found, expected) < 1


@pytest.mark.parametrize('decoder', DECODERS)
def test_the_image_in_place_of_a_bad_one_has_its_numbers(tmp_path, decoder):
    """A file whose header is whole is known to be bad after the crop is drawn: the next one is drawn as if it had not been."""
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / '1.jpg').write_bytes(ODD['no Huffman table'])
    (tmp_path / 'a' / '2.jpg').write_bytes(saved(PHOTO))
    readers = [images.Reader(transform(auto_augment=None), name) for name in (decoder, 'pillow')]
    found, expected = (
        data.Images(*data.listed(str(tmp_path)), reader, seed=3, replace=1)[0, 0, 0] for reader in readers
    )
    assert found[1:] == expected[1:] and len(found[2]) == 1 and away(found[0], expected[0]) < 1


def test_which_decoder(monkeypatch):
    assert jpeg.chosen('pillow') == 'pillow' and jpeg.chosen('auto') in [*DECODERS, 'pillow']
    for name in jpeg.DECODERS:
        monkeypatch.setitem(jpeg.DECODERS, name, lambda *given: 1 / 0)
        with pytest.raises(UserError, match=f'--decoder {name} .*pip install {name}'):
            jpeg.chosen(name)
    assert jpeg.chosen('auto') == 'pillow'


@pytest.mark.parametrize('cores, groups, files', [
    (8, '0::/\n', {}),
    (8, '0::/\n', {'cpu.max': 'max 100000\n'}),
    (2, '0::/\n', {'cpu.max': '250000 100000\n'}),
    (1, '0::/\n', {'cpu.max': '50000 100000\n'}),
    (3, '0::/job/7\n', {'job/cpu.max': '300000 100000', 'job/7/cpu.max': '400000 100000'}),
    (4, '5:memory:/x\n4:cpu,cpuacct:/docker/7\n', {'cpu/cpu.cfs_quota_us': '400000', 'cpu/cpu.cfs_period_us': '100000'}),
    (8, '4:cpu:/\n0::/\n', {'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000', 'cpu.max': 'damaged'}),
])  # fmt: skip
def test_cores_of_a_container(tmp_path, monkeypatch, cores, groups, files):
    """Both versions of control groups: the least quota on the way down; without one, the cores that it may run on."""
    monkeypatch.setattr(limits.os, 'sched_getaffinity', lambda pid: set(range(8)), raising=False)
    (tmp_path / 'cgroup').write_text(groups)
    for name, content in files.items():
        path = tmp_path / 'fs' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert limits.cores(str(tmp_path / 'cgroup'), str(tmp_path / 'fs')) == cores
    assert limits.cores(str(tmp_path / 'none'), str(tmp_path / 'fs')) == 8


def test_no_more_threads_than_the_share_of_the_cores(monkeypatch):
    before = torch.get_num_threads()
    try:
        for have, cores, processes, threads in ((8, 4, 1, 4), (8, 6, 4, 1), (8, 2, 4, 1), (2, 8, 1, 2)):
            torch.set_num_threads(have)
            monkeypatch.setattr(limits, 'cores', lambda cores=cores: cores)
            job.share_cores(processes)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
