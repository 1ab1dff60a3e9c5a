"""An unpickler for torch.load that makes data and nothing else, with every torch: pickle's own runs what a file tells it to."""

import argparse
import collections
import pathlib
import pickle
from typing import Any, Callable, Dict, Sequence, Tuple

import numpy as np
import torch


class Refused(pickle.UnpicklingError):
    """The name of a class or function that no plain data needs."""


class NumpyType:
    """What a pickle says of a numpy.dtype. (numpy's own class believes a pickle, and could read beyond its memory.)"""

    def __init__(self, code: str, *flags: Any):
        self.code = code

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.code = state[1].replace('|', '') + self.code


def numpy_number(kind: NumpyType, content: bytes) -> Any:
    return np.frombuffer(content, kind.code)[0]


def latin1(text: str, encoding: str) -> bytes:
    """For _codecs.encode: bytes, as pickles before protocol 3 have them."""
    return text.encode('latin1')


def known_makers() -> Dict[Tuple[str, str], Callable[..., Any]]:
    """-> {(module, name) in a pickle: what makes the object}."""
    known = {('_codecs', 'encode'): latin1, ('numpy', 'dtype'): NumpyType}
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        known[module, 'scalar'] = numpy_number
    for kind in (collections.OrderedDict, collections.defaultdict, collections.Counter, collections.deque):
        known['collections', kind.__name__] = kind
    for kind in (set, frozenset, complex, list, dict, int, float, str):
        known['builtins', kind.__name__] = known['__builtin__', kind.__name__] = kind
    for module in ('pathlib', 'pathlib._local'):  # the second: Python 3.13. A path of the other system must not be made
        known.update({(module, name): pathlib.PurePosixPath for name in ('Path', 'PosixPath', 'PurePosixPath')})
        known.update({(module, name): pathlib.PureWindowsPath for name in ('WindowsPath', 'PureWindowsPath')})
    known.update({('torch', kind.__name__): kind for kind in (torch.Size, torch.device)})
    for name in ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter'):
        known['torch._utils', name] = getattr(torch._utils, name)
    return known


class PlainUnpickler(pickle.Unpickler):
    """Makes data: tensors, numbers, strings, paths, containers and argparse's Namespace. Raises Refused for the rest.

    Whatever it hands to a pickle, the pickle may call with any arguments, and set its attributes. So a class is handed out
    as a function of positional arguments (torch's storages take an address by keyword), and Namespace as a class of the moment.
    """

    makers = known_makers()

    def find_class(self, module: str, name: str) -> Any:
        if module == 'torch':
            found = getattr(torch, name, None)
            if isinstance(found, torch.dtype):
                return found
            if isinstance(found, type) and name.endswith('Storage'):
                return lambda *arguments: found(*arguments)
        if (module, name) == ('argparse', 'Namespace'):
            return type('Namespace', (argparse.Namespace,), {})
        make = self.makers.get((module, name))
        if make is None:
            raise Refused(f'{module}.{name}')
        return lambda *arguments: make(*arguments)


class PlainPickle:
    """The part of the module pickle that torch.load asks for."""

    Unpickler = PlainUnpickler

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        return PlainUnpickler(file, **options).load()
