"""CIFAR-10's archive for Python as an ImageFolder, offline and without running code from it.

    python -m common.cifar10 cifar-10-python.tar.gz OUT        writes OUT/train/CLASS/*.png (50,000) and OUT/val/CLASS/*.png (10,000)

The archive is that of https://www.cs.toronto.edu/~kriz/cifar.html (163 MB). About a minute on one core.
"""

import argparse
import os
import pickle
import shutil
import sys
import tarfile
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from PIL import Image

from common.errors import UserError, report

BATCHES = {'train': [f'data_batch_{k}' for k in range(1, 6)], 'val': ['test_batch']}
NAMES = 'batches.meta'


class Array:
    """A numpy array of bytes, as a pickle describes it."""

    def __init__(self, *description: Any):
        self.content = b''

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.content = state[-1] if isinstance(state[-1], bytes) else state[-1].encode('latin1')


class Described(Array):
    """A type of numpy's, whose description is not needed: the images are bytes."""

    def __setstate__(self, state: Sequence[Any]) -> None:
        pass


class Unpickler(pickle.Unpickler):
    """Makes lists, dicts, text and arrays of bytes, and refuses the rest, which could run code."""

    def find_class(self, module: str, name: str) -> Any:
        kinds = {'_reconstruct': Array, 'ndarray': Described, 'dtype': Described}
        if module.split('.')[0] == 'numpy' and name in kinds:
            return kinds[name]
        if (module, name) == ('_codecs', 'encode'):
            return lambda text, encoding: text.encode('latin1')
        raise pickle.UnpicklingError(f'it names {module}.{name}')


def parts(archive: str) -> Dict[str, Dict[bytes, Any]]:
    """-> {name of a file in the archive: the dict in it}. Raises UserError."""
    wanted, found = {NAMES, *BATCHES['train'], *BATCHES['val']}, {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = os.path.basename(member.name)
                if member.isfile() and name in wanted:
                    found[name] = Unpickler(tar.extractfile(member), encoding='bytes').load()
    except (OSError, EOFError, tarfile.TarError, pickle.UnpicklingError, ValueError, AttributeError, KeyError) as e:
        reason = str(e).split(':')[0]
        raise UserError(f'{archive} cannot be read ({reason}); give cifar-10-python.tar.gz, whole') from e
    if wanted - set(found):
        raise UserError(f'{archive} has no {sorted(wanted - set(found))[0]}; give cifar-10-python.tar.gz')
    return found


def write(archive: str, out: str) -> int:
    """-> the number of images. OUT appears when it is complete. Raises UserError, OSError."""
    if os.path.exists(out):
        raise UserError(f'{out} exists; give the name of a new directory')
    found, partial, count = parts(archive), f'{out}.partial', 0
    try:
        classes = [name.decode() for name in found[NAMES][b'label_names']]
        for split, names in BATCHES.items():
            for folder in classes:
                os.makedirs(os.path.join(partial, split, folder))
            for name in names:
                images = (
                    np.frombuffer(found[name][b'data'].content, np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                )
                for number, (image, label) in enumerate(zip(images, found[name][b'labels'])):
                    Image.fromarray(image).save(
                        os.path.join(partial, split, classes[label], f'{name}_{number:05d}.png')
                    )
                count += len(images)
        os.rename(partial, out)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as e:
        raise UserError(
            f'{archive} is not as CIFAR-10 is ({type(e).__name__}: {e}); give cifar-10-python.tar.gz'
        ) from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m common.cifar10', description=__doc__.split('\n')[0])
    parser.add_argument('archive', help='cifar-10-python.tar.gz')
    parser.add_argument('out', help='directory to create')
    args = parser.parse_args(argv)
    try:
        print(f'{write(args.archive, args.out)} images: {args.out}')
    except (UserError, OSError) as e:
        report(e)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
