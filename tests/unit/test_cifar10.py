"""common/cifar10.py: the archive's images as files, and nothing of it is run."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from common import cifar10

NAMES = ['airplane', 'automobile']


def archive(path, protocol, odd=None):
    """A small one in the form of CIFAR-10's. odd: {name of a file in it: what it holds instead}"""
    images = np.random.RandomState(0).randint(0, 256, (4, 3072)).astype(np.uint8)
    batch = {b'data': images, b'labels': [0, 1, 0, 1], b'batch_label': b'one'}
    files = {'batches.meta': {b'label_names': [name.encode() for name in NAMES]}}
    files.update({name: batch for names in cifar10.BATCHES.values() for name in names}, **(odd or {}))
    with tarfile.open(path, 'w:gz') as tar:
        for name, held in files.items():
            content = pickle.dumps(held, protocol)
            info = tarfile.TarInfo(f'cifar-10-batches-py/{name}')
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return images


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_every_image_is_in_the_folder_of_its_class(tmp_path, protocol, capsys):
    images = archive(tmp_path / 'a.tgz', protocol)
    assert cifar10.main([str(tmp_path / 'a.tgz'), str(tmp_path / 'out')]) == 0
    assert '24 images' in capsys.readouterr().out
    for split, count in (('train', 10), ('val', 2)):
        for name in NAMES:
            assert len(list((tmp_path / 'out' / split / name).iterdir())) == count
    found = np.asarray(Image.open(tmp_path / 'out' / 'val' / 'automobile' / 'test_batch_00003.png'))
    assert (found == images[3].reshape(3, 32, 32).transpose(1, 2, 0)).all()


class Evil:
    def __reduce__(self):
        return os.system, ('echo run > hacked',)


@pytest.mark.parametrize(
    'odd, word',
    [
        ({'data_batch_3': Evil()}, 'system'),
        ({'test_batch': {b'data': 3}}, 'test.tgz'),
        ({'batches.meta': []}, 'test.tgz'),
    ],
)
def test_another_archive_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, odd, word):
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / 'test.tgz', 2, odd)
    assert cifar10.main(['test.tgz', 'out']) == 1
    said = capsys.readouterr().err
    assert said.startswith('[Error] ') and word in said and said.count('\n') == 1
    assert os.listdir(tmp_path) == ['test.tgz']


def test_what_is_no_archive_and_what_is_there_already(tmp_path, capsys):
    (tmp_path / 'text').write_text('no archive')
    assert cifar10.main([str(tmp_path / 'text'), str(tmp_path / 'out')]) == 1
    assert cifar10.main([str(tmp_path / 'text'), str(tmp_path)]) == 1
    assert [line[:8] for line in capsys.readouterr().err.splitlines()] == ['[Error] '] * 2
