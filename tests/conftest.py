"""What the tests share: a copied-away folder, small real data, and a way to run a script as a user does (ci/smoke.py's)."""
import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')   # before torch: processes that share cores must not spin

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a CI in the background of a shell; scripts that are started with it ignored could not be stopped by it
    signal.signal(signal.SIGINT, signal.default_int_handler)

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP), str(TOP / 'ci')]

import smoke  # noqa: E402

FOLDERS = sorted(path.name for path in TOP.glob('*_for_PyTorch'))
VAN = 'VAN-Classification_for_PyTorch'
start = smoke.start

# a run of a few seconds
SMALL = ['--model', 'van_b0', '--img-size=32', '--device', 'cpu', '--workers', '0', '--print-freq', '2']


@functools.wraps(smoke.run)
def run(script, *arguments, **options):
    result = smoke.run(script, *arguments, **options)
    assert result.code is not None, '%s did not end in time:\n%s' % (script, result.text[-3000:])
    return result


def pytest_collection_modifyitems(items):
    """Quick tests first: those that start no process of a folder."""
    items.sort(key=lambda item: 'folder' in getattr(item, 'fixturenames', ()))


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """The whole digits data set at 64 pixels."""
    root = tmp_path_factory.mktemp('data') / 'digits'
    subprocess.run([sys.executable, TOP / 'ci' / 'make_dataset.py', 'digits', root, '--size', '64'], check=True)
    return root


@pytest.fixture(scope='session')
def few_digits(tmp_path_factory):
    """200 training and 93 validation images; the path holds blanks, as users' paths do."""
    return smoke.make_digits(tmp_path_factory.mktemp('data') / 'few hand written digits')


@pytest.fixture
def data(few_digits, tmp_path):
    """A copy of few_digits that a test may damage."""
    return Path(shutil.copytree(few_digits, tmp_path / 'my data'))


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """VAN's folder, copied alone to an empty directory."""
    return smoke.copy_alone(VAN, tmp_path_factory.mktemp('server'))


@pytest.fixture(scope='session')
def npusim():
    """What to add to the environment of a process for it to have simulated NPUs (npusim/README.md).

    No test imports torch_npu itself: it would give every test of this process another device.
    """
    built = subprocess.run([sys.executable, TOP / 'tests' / 'npusim' / 'build.py'], capture_output=True, text=True)
    if built.returncode:
        pytest.skip(built.stderr.strip().splitlines()[-1])
    return dict(smoke.simulated(), OMP_NUM_THREADS='1')
