"""Gets torch_npu's wheel and builds the simulated CANN under it, once; prints the environment in which it is used:

    env $(python tests/cannsim/build.py) python -c 'import torch, torch_npu; print(torch.ones(2, device="npu:1"))'
    python tests/cannsim/build.py --torch-npu 2.12.0.post3       another version than the one that goes with this torch

Ends with 1 and one sentence where that is not possible: no C++ compiler, no wheel for this Python, another torch.
"""

import argparse
import concurrent.futures
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# the release of torch_npu that is taken for a torch; for another torch the newest that goes with it
VERSIONS = {'2.12.0': '2.12.0.post3'}
FLAGS = '-std=c++20 -O1 -fPIC -w -fvisibility=hidden'.split()
# whose headers are compiled with where a wheel's own are of a CANN that is older than what is simulated: torch_npu 2.1's
HEADERS = '2.7.1'
# looked for by these names; what CANN has in them is in libascendcl here
STUBS = 'libacl_op_compiler libnnopbase libgraph libacl_tdt_channel libmsprofiler libascend_hal'.split()
LIBRARIES = ['libascendcl', *STUBS, 'libge_runner', 'libhccl', 'libhcomm', 'libopapi']  # each needs earlier ones only
# the profiler's command, and a file that torch_npu wants beside it, both below ASCEND_HOME_PATH
MSPROF = Path('tools/profiler/bin/msprof')
MSPROF_SCRIPT = Path('tools/profiler/profiler_tool/analysis/msprof/msprof.py')


class BuildError(RuntimeError):
    """It cannot be built here; the message says why in a sentence."""


def cache():
    return Path(os.environ.get('CANNSIM_CACHE') or Path.home() / '.cache' / 'cannsim')


@contextlib.contextmanager
def only_one(target):
    """Of the processes that want to make target at once, one is here; the others wait, and find it made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f'{target.name}.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ---- torch and the wheel


def torch_folder():
    spec = importlib.util.find_spec('torch')
    if spec is None:
        raise BuildError(f'cannsim: torch is not installed for {sys.executable}')
    return Path(spec.origin).parent


def torch_version():
    """-> such as 2.12.0, without +cpu and its like"""
    text = (torch_folder() / 'version.py').read_text()
    return re.search(r"__version__ = '([\d.]+)", text).group(1)


def wanted_version(asked):
    """-> the version of torch_npu; its beginning is enough: 2.13.0 may be 2.13.0.post1"""
    torch = torch_version()
    version = asked or VERSIONS.get(torch, torch)
    if not f'{version}.'.startswith(f'{torch}.'):
        raise BuildError(f'cannsim: torch_npu {version} goes with another torch than {torch}, which is installed here')
    return version


def find_wheel(folder, version):
    """-> the newest wheel of this version, Python and machine in a folder, or None"""
    pattern = rf'torch_npu-{re.escape(version)}(?:\.post(\d+))?-cp{sys.version_info[0]}{sys.version_info[1]}-'
    found = [(int(match[1] or 0), path) for path in folder.glob('*.whl') if (match := re.match(pattern, path.name))]
    return max(((post, path) for post, path in found if platform.machine() in path.name), default=(0, None))[1]


def get_wheel(version):
    """-> a wheel in CANNSIM_WHEELS or the cache, downloaded if need be"""
    own = cache() / 'wheels'
    for folder in filter(None, [os.environ.get('CANNSIM_WHEELS'), own]):
        if found := find_wheel(Path(folder), version):
            return found
    with only_one(own):
        own.mkdir(parents=True, exist_ok=True)
        exact = version if '.post' in version else f'{version}.*'
        pip = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--dest', own]
        done = subprocess.run([*pip, f'torch_npu=={exact}'], capture_output=True, text=True)
        if found := find_wheel(own, version):
            return found
    said = [line for line in done.stderr.splitlines() if not line.startswith('WARNING')]
    reason = said[-1] if said else 'pip has said nothing'
    raise BuildError(f'cannsim: there is no wheel of torch_npu {version} for this Python and machine ({reason})')


def unpack(wheel):
    """-> the folder for PYTHONPATH"""
    target = cache() / 'site' / wheel.stem
    with only_one(target):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                zipfile.ZipFile(wheel).extractall(Path(folder) / 'site')
                os.replace(Path(folder) / 'site', target)
    return target


def headers(site):
    """-> the folder of CANN's headers: the wheel's own, where they have all that is simulated."""
    if not (site / 'torch_npu/include/acl/acl_rt.h').exists():
        site = unpack(get_wheel(HEADERS))
    return site / 'torch_npu' / 'include'


# ---- compilation


def cxx11_abi():
    """-> 0 where torch is built for the strings of an old g++ (before 2.7, on PyPI), else 1"""
    names = (torch_folder() / 'lib' / 'libc10.so').read_bytes()
    return int(b'_ZN3c105ErrorC1ENS_14SourceLocationENSt7__cxx11' in names)


def compiler():
    command = shlex.split(os.environ.get('CXX', 'g++'))
    if shutil.which(command[0]) is None:
        raise BuildError(f'cannsim: there is no C++ compiler {command[0]}; install g++, or name another one in CXX')
    return command


def sources():
    return sorted([*filter(Path.is_file, (HERE / 'src').rglob('*')), *HERE.glob('*.py')])


def key(wheel):
    """Changes with everything that the libraries depend on."""
    version = subprocess.run([*compiler(), '--version'], capture_output=True, text=True).stdout
    parts = [f'{path.relative_to(HERE)}\n'.encode() + path.read_bytes() for path in sources()]
    parts += [wheel.name.encode(), sys.version.encode(), version.encode()]
    parts += [str(torch_folder()).encode(), (torch_folder() / 'version.py').read_bytes()]
    return hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]


class Workshop:
    """One build in a folder of its own, into which the sources are copied."""

    def __init__(self, folder, site):
        self.src, self.site = folder / 'src', site
        self.lib, self.objects = folder / 'lib', folder / 'objects'
        shutil.copytree(HERE / 'src', self.src)
        self.lib.mkdir()
        self.objects.mkdir()
        torch, wheel = torch_folder(), headers(site)
        self.torch = [f'-L{torch}/lib', '-ltorch_cpu', '-lc10']
        self.flags = [*FLAGS, f'-D_GLIBCXX_USE_CXX11_ABI={cxx11_abi()}']
        self.includes = [f'-I{path}' for path in (wheel, wheel / 'acl', torch / 'include', self.src)]

    def run(self, command):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=self.src)
        if done.returncode:
            wrong = [line for line in done.stderr.splitlines() if 'error' in line or 'undefined' in line]
            wrong = '\n'.join(wrong[:20] or [done.stderr[-2000:]])
            raise BuildError(f'cannsim: it does not compile against torch and torch_npu of this version:\n{wrong}')

    def compile(self, path):
        """-> the object of a source"""
        target = self.objects / f'{path.parent.name}_{path.stem}.o'
        self.run([*compiler(), *self.flags, *self.includes, '-c', path, '-o', target])
        return target

    def compile_c(self, name, text):
        path = self.objects / f'{name}.c'
        path.write_text(text)
        self.run([*compiler(), '-x', 'c', '-O1', '-w', '-fPIC', '-c', path, '-o', path.with_suffix('.o')])
        return path.with_suffix('.o')

    def link(self, name, objects, *libraries):
        command = [*compiler(), '-shared', f'-Wl,-soname,{name}.so', '-Wl,--no-as-needed', *objects]
        self.run([*command, '-o', self.lib / f'{name}.so', f'-L{self.lib}', *libraries, '-lpthread'])

    def build(self):
        header = self.src / 'ops' / 'op.h'  # with it all of ATen, so it is compiled once; g++ finds op.h.gch beside it
        self.run([*compiler(), *self.flags, *self.includes, '-x', 'c++-header', header, '-o', f'{header}.gch'])
        paths = sorted(self.src.rglob('*.cpp'))
        with concurrent.futures.ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:
            objects = dict(zip(paths, pool.map(self.compile, paths)))
        self.link_all(
            {
                folder: [o for p, o in objects.items() if p.parent.name == folder]
                for folder in ('runtime', 'hccl', 'ops', 'src')
            }
        )

    def link_all(self, objects):
        from_here = importlib.util.spec_from_file_location('link_names', HERE / 'link_names.py')
        names = importlib.util.module_from_spec(from_here)
        from_here.loader.exec_module(names)
        package = self.site / 'torch_npu'
        wheel = [*package.glob('_C.*.so'), package / 'lib' / 'libtorch_npu.so', package / 'lib' / 'libtensorpipe.so']
        link = names.link_source(wheel, objects['runtime'] + objects['hccl'] + objects['ops'])
        aclnn = names.aclnn_source(package / 'lib' / 'libtorch_npu.so', objects['ops'])
        self.link('libascendcl', [*objects['runtime'], self.compile_c('link_names', link)])
        for name in STUBS:
            self.link(name, [], '-lascendcl')
        self.link('libge_runner', objects['src'], *self.torch)
        self.link('libhccl', objects['hccl'], '-lascendcl')
        self.link('libhcomm', [], '-lhccl')  # where torch_npu looks for groups
        self.link('libopapi', [*objects['ops'], self.compile_c('aclnn_names', aclnn)], *self.torch, '-lascendcl')


def settings_of(folder, site):
    """-> the environment variables"""
    cann = folder / 'cann'

    def with_own(path, name):
        return os.pathsep.join(filter(None, [str(path), os.environ.get(name)]))

    return {
        'PYTHONPATH': str(site),
        'LD_LIBRARY_PATH': with_own(folder / 'lib', 'LD_LIBRARY_PATH'),
        'PATH': with_own(cann / MSPROF.parent, 'PATH'),
        'ASCEND_HOME_PATH': str(cann),
        'ASCEND_TOOLKIT_HOME': str(cann),
        'ASCEND_OPP_PATH': str(cann / 'opp'),
    }


def lay_out(cann):
    """What ASCEND_HOME_PATH leads to: torch_npu and users' scripts look for these."""
    for name in ('runtime', 'compiler', 'opp', MSPROF.parent, MSPROF_SCRIPT.parent):
        (cann / name).mkdir(parents=True)
    (cann / MSPROF_SCRIPT).touch()
    (cann / MSPROF).write_text(f'#!{sys.executable}\n{(HERE / "msprof.py").read_text()}')
    (cann / MSPROF).chmod(0o755)
    lines = [
        'here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)',
        'export ASCEND_HOME_PATH=$here ASCEND_TOOLKIT_HOME=$here ASCEND_OPP_PATH=$here/opp',
        'export LD_LIBRARY_PATH=$here/../lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}',
        f'export PATH=$here/{MSPROF.parent}:$PATH',
    ]
    (cann / 'set_env.sh').write_text('\n'.join([*lines, '']))


def environment(version=None):
    """-> the environment variables with which a process uses the simulated CANN, built if it is not.

    Any number of processes may call this at once. Raises BuildError.
    """
    wheel = get_wheel(wanted_version(version))
    site = unpack(wheel)
    target = cache() / key(wheel)
    with only_one(target):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                made = Path(folder) / 'made'
                made.mkdir()
                workshop = Workshop(made, site)
                workshop.build()
                lay_out(made / 'cann')
                shutil.rmtree(workshop.src)
                shutil.rmtree(workshop.objects)
                os.replace(made, target)
    return settings_of(target, site)


def main():
    parser = argparse.ArgumentParser(description='Builds the simulated CANN and prints its environment.')
    parser.add_argument(
        '--torch-npu', metavar='VERSION', help='the one that goes with the installed torch, unless told'
    )
    try:
        settings = environment(parser.parse_args().torch_npu)
    except BuildError as e:
        sys.exit(str(e))
    for name, value in settings.items():
        print(f'{name}={value}')


if __name__ == '__main__':
    main()
