"""ci/make_dataset.py: real images in a fixed split, the same at every call, and an OUT that is whole or not there."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import make_dataset
from helpers import TOP

# sha256 of the sorted names of the digits, each with a line feed: results of all time share this split
DIGITS_NAMES = 'a534d1d1343237d331786c18e78353670658f002f7a0c69a0ef58c8ddfe54e66'
FEW = ('imagenet-like', '--classes', '2', '--per-class', '1')


def make(out, kind, *words):
    """-> the line that sums it up, {name below OUT: bytes of the file}"""
    said = make_dataset.create(make_dataset.parse_args([kind, str(out), *words]))
    return said, {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob('*') if path.is_file()}


def test_digits_are_scikit_learns_in_the_split_of_all_time(tmp_path):
    from sklearn.datasets import load_digits

    said, files = make(tmp_path / 'a', 'digits', '--size', '64')
    assert '1797 images (train 1438, val 359 = 44 x 8 + 7), 10 classes' in said
    assert hashlib.sha256(''.join(f'{name}\n' for name in sorted(files)).encode()).hexdigest() == DIGITS_NAMES
    digits = load_digits()
    for name in sorted(files)[::50]:
        label, index = int(name.split('/')[1]), int(name[-8:-4])
        pixels = np.asarray(Image.open(tmp_path / 'a' / name), dtype=float)
        blocks = pixels.mean(axis=-1).reshape(8, 8, 8, 8).mean(axis=(1, 3))  # what each source pixel has become
        assert digits.target[index] == label
        assert np.corrcoef(blocks.ravel(), digits.images[index].ravel())[0, 1] > 0.95
    assert make(tmp_path / 'b', 'digits')[1] == files
    assert set(make(tmp_path / 'c', 'digits', '--seed', '1')[1]) != set(files)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp('photos') / 'set'
    return root, make(root, 'imagenet-like', '--classes', '14', '--per-class', '6', '--val-per-class', '3')[1]


def test_photos_cost_what_imagenets_cost(photos):
    """Number of files, pixels and bytes; all different, so that no image of val is in train."""
    root, files = photos
    assert len(files) == 14 * 9 and len(set(files.values())) == len(files)
    counts = {folder: len(list(folder.iterdir())) for folder in root.glob('*/n*')}
    assert all(count == {'train': 6, 'val': 3}[folder.parent.name] for folder, count in counts.items())
    assert 90e3 < np.mean([len(content) for content in files.values()]) < 130e3
    assert {Image.open(root / name).size for name in files} == {(500, 375), (375, 500)}


def test_photos_can_be_learnt(photos):
    """The nearest mean of a class, at 2 x 2 pixels, finds many times what chance finds (classes 0 and 12 share a photograph)."""

    def load(split):  # -> (classes, images, values)
        images = [sorted(folder.iterdir()) for folder in sorted((photos[0] / split).iterdir())]
        small = [[np.asarray(Image.open(path).resize((2, 2), Image.Resampling.BOX)) for path in row] for row in images]
        return np.array(small, dtype=float).reshape(len(small), len(small[0]), -1)

    centres, val = load('train').mean(axis=1), load('val')
    found = ((val[:, :, None] - centres) ** 2).sum(axis=-1).argmin(axis=-1)
    assert (found == np.arange(len(val))[:, None]).mean() > 5 / len(val)


def test_photos_depend_on_the_seed_and_not_on_the_threads(tmp_path):
    one, three, seed = (make(tmp_path / str(n), *FEW, '--workers', str(n), '--seed', str(n // 4))[1] for n in (1, 3, 4))
    assert one == three and one.keys() == seed.keys() and not set(one.values()) & set(seed.values())


def test_what_lies_in_out_is_left_alone(tmp_path):
    out = tmp_path / 'set'
    out.write_text('mine')
    with pytest.raises(make_dataset.Failure, match='is a file'):
        make(out, *FEW)
    out.unlink()
    out.mkdir()
    files = make(out, *FEW)[1]
    with pytest.raises(make_dataset.Failure, match='is not empty'):
        make(out, 'digits')
    assert os.listdir(tmp_path) == ['set'] and {name: (out / name).read_bytes() for name in files} == files


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_half_way(number, tmp_path):
    """No OUT. Told to stop it leaves nothing and says so; killed it leaves its partial folder."""
    endless = ('imagenet-like', tmp_path / 'set', '--classes', '10', '--per-class', '4000')
    command = [sys.executable, TOP / 'ci' / 'make_dataset.py', *endless]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not list(tmp_path.rglob('*.jpg')):
        time.sleep(0.02)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    if number == signal.SIGKILL:
        assert [name.startswith('.set.partial-') for name in os.listdir(tmp_path)] == [True]
    else:
        assert (process.returncode, os.listdir(tmp_path)) == (128 + number, [])
        assert error.count('\n') == 1 and number.name in error and 'run the command again' in error


MISTAKES = {
    '--size': ('digits', '--size', '0'),
    '--classes': ('imagenet-like', '--per-class', '1'),
    '--class': (*FEW, '--class', '3'),
    'another disk': ('imagenet-like', '--classes', '1000', '--per-class', '1000000000'),
}


@pytest.mark.parametrize('said', MISTAKES)
def test_a_mistake_is_one_sentence(said, tmp_path, capsys):
    with pytest.raises((make_dataset.Failure, SystemExit)) as caught:
        make(tmp_path / 'set', *MISTAKES[said])
    error = capsys.readouterr().err or f'{caught.value}\n'
    assert error.count('\n') == 1 and said in error and os.listdir(tmp_path) == []
