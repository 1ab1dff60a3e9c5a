"""Images and folders as they are found: each is used as it is meant, or refused by its path, and --skip-bad-images skips it."""

import io
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features
from torchvision.datasets import ImageFolder

from common import data, images
from common.errors import UserError
from helpers import SMALL, VAN, explains, run, train

QUICK = [*SMALL, '--batch-size=20', '--epochs=1', '--max-steps=1']


def encoded(array, kind, **options):
    stream = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, depth=8, colour=0, rows=b''):
    """A PNG whose header says so."""

    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


def dds(pixels):
    """A DDS file of a format of pixels by its name."""
    header = struct.pack('<4s7I44x', b'DDS ', 124, 0x1007, 8, 8, 0, 0, 0)
    return header + struct.pack('<2I4s5I20x', 32, 4, pixels, 0, 0, 0, 0, 0) + bytes(100)


def read(content, path):
    path.write_bytes(content)
    return np.asarray(images.read_image(str(path)))


# ---- one image

RAMP = np.arange(1024).reshape(32, 32)


@pytest.mark.parametrize('name, content', [
    ('a.png', lambda: encoded((RAMP * 64).astype('uint16'), 'PNG')),
    ('a.tiff', lambda: encoded((RAMP * 64).astype('uint16'), 'TIFF')),
    ('a.tif', lambda: encoded(Image.frombytes('I;16B', (32, 32), (RAMP * 64).astype('>u2').tobytes()), 'TIFF')),
    ('a.pgm', lambda: b'P5 32 32 65535\n' + (RAMP * 64).astype('>u2').tobytes()),
    ('a.jpg', lambda: encoded((RAMP * 64).astype('uint16'), 'PNG')),  # what is in a file counts
])  # fmt: skip
def test_16_bits_keep_their_picture(tmp_path, name, content):
    """As the same picture with 8 bits, as PIL reads 16 bits of colour too; not white."""
    assert np.array_equal(read(content(), tmp_path / name), np.repeat((RAMP // 4).astype('uint8')[..., None], 3, 2))


def test_transparency_is_laid_on_white(tmp_path):
    clear = np.zeros((2, 2, 4), 'uint8')  # black, and not to be seen
    clear[0, 0], clear[1, 1] = (10, 20, 30, 255), (0, 0, 0, 127)
    expected = [[[10, 20, 30], [255] * 3], [[255] * 3, [128] * 3]]
    grey = (
        Image.fromarray(clear[..., 2:].copy(), 'LA') if hasattr(Image, 'LA') else Image.fromarray(clear).convert('LA')
    )
    palette = Image.new('P', (2, 2), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert read(encoded(clear, 'PNG'), tmp_path / 'rgba.png').tolist() == expected
    assert read(encoded(clear, 'WEBP', lossless=True, exact=True), tmp_path / 'a.webp').tolist() == expected
    assert read(encoded(grey, 'PNG'), tmp_path / 'la.png')[0, 1].tolist() == [255] * 3
    assert read(encoded(palette, 'PNG', transparency=1), tmp_path / 'p.png').tolist() == [[[255] * 3] * 2] * 2
    rgb = Image.new('RGB', (2, 2), (1, 2, 3))
    assert read(encoded(rgb, 'PNG', transparency=(1, 2, 3)), tmp_path / 'rgb.png').tolist() == [[[255] * 3] * 2] * 2
    assert read(encoded(rgb, 'PNG'), tmp_path / 'plain.png').tolist() == [[[1, 2, 3]] * 2] * 2


def avif_cut():
    if not features.check('avif'):
        pytest.skip('Pillow without AVIF')
    return encoded(Image.new('RGB', (64, 64)), 'AVIF')[:-3] + bytes(3)


BAD = {
    'empty': lambda: b'',
    'text': lambda: b'<!DOCTYPE html>',
    'cut JPEG': lambda: encoded(RAMP.astype('uint8'), 'JPEG')[:300],
    'float TIFF': lambda: encoded(RAMP.astype('float32'), 'TIFF'),
    'int TIFF': lambda: encoded(RAMP.astype('int32'), 'TIFF'),
    'AVIF': avif_cut,  # RuntimeError
    'QOI': lambda: b'qoif' + struct.pack('>2I', 9, 9) + b'\x04\x00\x80',  # IndexError
    'DDS': lambda: dds(b'XXXX'),  # NotImplementedError
    'PostScript': lambda: b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n%%EOF\n',
    'thin': lambda: png(1, 20000, rows=bytes(40000)),
    'wide': lambda: png(20000, 1, rows=bytes(20001)),
    'bomb': lambda: png(50000, 50000, depth=1),
    'no pixels': lambda: png(0, 0),
}


@pytest.mark.parametrize('kind', BAD)
def test_what_cannot_be_read_is_named_and_can_be_skipped(tmp_path, kind):
    path = tmp_path / 'bad one.jpg'
    with pytest.raises(UserError) as told:
        read(BAD[kind](), path)
    said = str(told.value)
    assert str(path) in said and '--skip-bad-images' in said and '\n' not in said


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe.jpg')
    (tmp_path / 'nowhere.jpg').symlink_to('gone.jpg')
    for name, words in (('pipe.jpg', 'not a file'), ('nowhere.jpg', 'does not exist')):
        with pytest.raises(UserError, match=words):
            images.read_image(str(tmp_path / name))


# ---- folders


def tree(root, *names):
    """Files with these names below a split; -> the split"""
    for name in names:
        path = root / 'split' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root / 'split'


def found(split):
    paths, targets = data.image_folder(str(split))
    return [(os.path.relpath(path, split), target) for path, target in zip(paths, targets)]


def test_the_order_is_that_of_torchvision(tmp_path):
    """By which a run of an earlier version goes on with the same images."""
    names = [
        'b/2.jpg',
        'b/10.JPEG',
        'a/z.png',
        'a/x/1.jpg',
        'a/x-y/1.jpg',
        'a/x/y/0.webp',
        'a/B.jpg',
        'a/a.jpg',
        'c/d.jpg/e.jpg',
    ]
    split = tree(tmp_path, *names, 'a/notes.txt', 'readme.jpg')
    (split / 'link').symlink_to(tmp_path / 'elsewhere')
    tree(tmp_path / 'elsewhere', 'k.jpg')
    paths, targets = data.image_folder(str(split))
    assert list(zip(paths, targets)) == ImageFolder(str(split)).samples and len(paths) == 10


def test_what_is_hidden_is_no_class_and_no_image(tmp_path):
    split = tree(tmp_path, 'a/1.jpg', 'a/._1.jpg', 'a/.thumbs/1.jpg', '.ipynb_checkpoints/1.jpg', 'b/1.jpg')
    assert found(split) == [('a/1.jpg', 0), ('b/1.jpg', 1)]
    shutil.rmtree(split / 'a')
    tree(tmp_path, 'a/._1.jpg')
    with pytest.raises(UserError, match='holds no image'):
        found(split)


@pytest.mark.parametrize('link, to', [
    ('a/loop', '.'), ('a/up', '..'), ('a/far', '../..'), ('a/root', '/'), ('a/sub/back', '..'), ('a/sub/self', '.'),
    ('a/other', '../b'), ('a/into', '../b/sub'), ('loop', '.'), ('up', '..'), ('a/again', 'sub'),
])  # fmt: skip
def test_a_link_that_counts_images_twice_is_refused(tmp_path, link, to):
    split = tree(tmp_path, 'a/1.jpg', 'a/sub/1.jpg', 'b/1.jpg', 'b/sub/1.jpg')
    (split / link).symlink_to(to)
    if to == '../b/sub':  # seen from the other class, these images are of class b, and of class a too
        (split / 'b' / 'sub' / 'back').symlink_to('../../a')
    with pytest.raises(UserError, match=r'counted again.*remove the link'):
        found(split)


def test_links_that_lead_elsewhere_are_followed(tmp_path):
    """Images, classes and folders of a class; two classes may be one folder."""
    split = tree(tmp_path, 'a/1.jpg')
    tree(tmp_path / 'store', '1.jpg', 'deep/2.jpg')
    store = tmp_path / 'store' / 'split'
    for link, to in (('a/2.jpg', store / '1.jpg'), ('a/more', store / 'deep'), ('b', store), ('c', store)):
        (split / link).symlink_to(to)
    assert found(split) == [
        ('a/1.jpg', 0), ('a/2.jpg', 0), ('a/more/2.jpg', 0), ('b/1.jpg', 1), ('b/deep/2.jpg', 1), ('c/1.jpg', 2), ('c/deep/2.jpg', 2),
    ]  # fmt: skip


def test_links_in_a_circle_end(tmp_path):
    split = tree(tmp_path, 'a/1.jpg')
    for place, other in (('x', 'y'), ('y', 'x')):
        tree(tmp_path / place, '1.jpg')
        (tmp_path / place / 'split' / 'to').symlink_to(tmp_path / other / 'split')
    (split / 'a' / 'out').symlink_to(tmp_path / 'x' / 'split')
    with pytest.raises(UserError, match='counted again'):
        found(split)
    (split / 'a' / 'out').unlink()
    (split / 'a' / 'me').symlink_to('me')
    with pytest.raises(UserError, match=r'a cannot be read.*me'):
        found(split)


# ---- real runs


def bad(data, split, name, number=0, content=b'not an image'):
    image = sorted((data / split / name).iterdir())[number]
    image.unlink()
    image.write_bytes(content)
    return image


@pytest.mark.parametrize('link, to', [('train/0/loop', '.'), ('val/3/up', '..')])
def test_a_run_refuses_a_link(data, tmp_path, link, to):
    (data / link).symlink_to(to)
    explains(train(VAN, data, *QUICK, out=tmp_path / 'out'), str(data / link), 'remove the link')


def test_a_run_with_all_that_may_lie_in_a_folder(data, tmp_path):
    """Hidden files and folders, an image of 16 bits, a transparent one: nothing of it is lost or said to be bad."""
    for split in ('train', 'val'):
        shutil.copytree(data / split / '0', data / split / '.ipynb_checkpoints')
        (data / split / '0' / '._0.jpg').write_bytes(b'AppleDouble')
    bad(data, 'val', '0', 0, encoded((RAMP * 64).astype('uint16'), 'PNG'))
    bad(data, 'val', '0', 1, encoded(np.zeros((32, 32, 4), 'uint8'), 'PNG'))
    result = train(VAN, data, *QUICK, out=tmp_path / 'out')
    assert result.code == 0 and result.events('eval')[-1]['images'] == 93, result.text
    assert any(line.startswith('200 training images') for line in result.lines) and 'cannot be read' not in result.text


def test_every_decoders_error_can_be_skipped(data, tmp_path):
    kinds = ['AVIF', 'QOI', 'DDS', 'thin', 'float TIFF', 'PostScript']
    images = [bad(data, 'val', str(n), content=BAD[kind]()) for n, kind in enumerate(kinds)]
    os.remove(images[0])
    os.mkfifo(images[0])
    result = train(VAN, data, *QUICK, '--skip-bad-images', '--workers=1', out=tmp_path / 'out')
    assert result.code == 0 and result.events('eval')[-1]['images'] == 93 - len(images), result.text
    for image in images:
        assert sum(str(image) in line for line in result.lines) == 1, result.text


@pytest.mark.parametrize('ranks', [1, 2])
def test_the_limit_of_bad_images_is_that_of_the_run(data, tmp_path, ranks):
    """Of both splits and all ranks: 3 in the training set and 2 in the validation set are 5."""
    for split, name in (('train', '0'), ('train', '3'), ('train', '7'), ('val', '2'), ('val', '8')):
        bad(data, split, name)
    words = [*SMALL, f'--batch-size={40 // ranks}', '--epochs=2', '--skip-bad-images']
    result = train(VAN, data, *words, '5', ranks=ranks, out=tmp_path / 'a')
    told = [line for line in result.lines if 'skipped, ' in line]
    assert result.code == 0 and len(told) == 5 and sum('5 of at most 5' in line for line in told) == 1, result.text
    result = train(VAN, data, *words, '4', ranks=ranks, out=tmp_path / 'b')
    assert result.code == 1 and 'more than 4 images cannot be read (--skip-bad-images 4)' in result.text, result.text


def test_a_batch_is_never_short_of_images(data, tmp_path):
    """More bad ones in a row than a batch holds; a set without a good one ends the run."""
    for image in (data / 'train').rglob('*.jpg'):
        if image.parent.name != '9':
            image.write_bytes(b'not an image')
    words = [*SMALL, '--batch-size=8', '--epochs=1', '--reprob=0', '--skip-bad-images']
    result = train(VAN, data, *words, '1000', '--max-steps=4', ranks=2, out=tmp_path / 'a')
    assert result.code == 0 and result.events('train')[-1]['step'] == 4, result.text
    for image in (data / 'train' / '9').iterdir():
        image.write_bytes(b'not an image')
    explains(train(VAN, data, *words, '1000', out=tmp_path / 'b'), 'training set has no readable image')


def test_names_that_are_not_utf8(folder, data, tmp_path):
    """Of the data set, of a class and of an image; the terminal takes UTF-8 alone. The checkpoint is evaluated."""
    image = sorted((data / 'val' / '0').iterdir())[0]
    os.rename(image, os.fsencode(image.parent) + b'/\xfc.jpg')
    with open(os.fsencode(image.parent) + b'/\xfc.jpg', 'wb') as file:
        file.write(b'not an image')
    for split in ('train', 'val'):
        os.rename(data / split / '9', os.fsencode(data / split) + b'/gr\xfcn')
    root, strict = os.fsdecode(os.fsencode(tmp_path) + b'/gr\xfcn'), {'PYTHONIOENCODING': 'utf-8:strict'}
    os.rename(data, root)
    words = [*SMALL, '--batch-size=8', '--epochs=1', '--max-steps=2', '--skip-bad-images']
    script, out = folder / 'test' / 'train_full_1p.sh', tmp_path / os.fsdecode(b'out \xfc')
    result = run(script, f'--data_path={root}', *words, out=out, **strict)
    assert result.code == 0 and r'\xfc.jpg cannot be read' in result.text, result.text
    script, words = folder / 'test' / 'train_eval_1p.sh', [f'--resume={out}/checkpoint.pth', '--device=cpu']
    again = run(script, f'--data_path={root}', *words, out=tmp_path / 'b', **strict)
    assert again.code == 1 and r'\xfc.jpg cannot be read' in again.lines[-1] and 'Traceback' not in again.text, (
        again.text
    )
