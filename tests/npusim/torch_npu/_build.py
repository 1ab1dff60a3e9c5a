"""Compiles csrc/ once for each source, torch and Python. Imports no torch, so that asking whether it is built is quick.

The compiler is called directly: torch.utils.cpp_extension would need setuptools, and ninja for nothing in one file.
"""

import fcntl
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / 'csrc'
FLAGS = [
    '-std=c++20',
    '-O1',
    '-fPIC',
    '-shared',
    '-w',
    '-DTORCH_EXTENSION_NAME=npusim_C',
    '-DUSE_DISTRIBUTED',
    '-DUSE_C10D_GLOO',
]


class BuildError(ImportError):
    """The extension cannot be built here; the message says why in a sentence."""


def torch_folder():
    spec = importlib.util.find_spec('torch')
    if spec is None:
        raise BuildError('npusim: torch is not installed for %s' % sys.executable)
    return Path(spec.origin).parent


def key():
    """Changes with everything that the library depends on."""
    parts = [path.read_bytes() for path in sorted(SOURCES.iterdir())]
    parts += [(torch_folder() / 'version.py').read_bytes(), sys.version.encode(), ' '.join(FLAGS).encode()]
    return hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]


def library():
    """Where the library of this source, torch and Python belongs, built or not."""
    cache = os.environ.get('NPUSIM_CACHE') or Path.home() / '.cache' / 'npusim'
    return Path(cache) / key() / 'npusim_C.so'


def build():
    """-> the path of the library, compiled if it is not there. Any number of processes may call this at once."""
    target = library()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait here for the first one
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                compile_to(Path(folder) / target.name)
                os.replace(Path(folder) / target.name, target)
    return target


def compile_to(path):
    torch, compiler = torch_folder(), shlex.split(os.environ.get('CXX', 'g++'))
    if shutil.which(compiler[0]) is None:
        raise BuildError('npusim: there is no C++ compiler %s; install g++, or name another one in CXX' % compiler[0])
    command = (
        compiler
        + FLAGS
        + [
            '-I%s/include' % torch,
            '-I%s/include/torch/csrc/api/include' % torch,
            '-I' + sysconfig.get_paths()['include'],
            str(SOURCES / 'module.cpp'),
            '-o',
            str(path),
            '-L%s/lib' % torch,
            '-ltorch',
            '-ltorch_cpu',
            '-ltorch_python',
            '-lc10',
            '-Wl,-rpath,%s/lib' % torch,
        ]
    )
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if 'error' in line or 'undefined' in line]
        raise BuildError(
            'npusim: csrc/ does not compile against the torch in %s:\n%s'
            % (torch, '\n'.join(errors[:20] or [done.stderr[-2000:]]))
        )


def load():
    """-> the built library as a module; torch must be imported."""
    spec = importlib.util.spec_from_file_location('npusim_C', build())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
