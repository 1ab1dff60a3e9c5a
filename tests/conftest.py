"""Fixtures: small real data, a copied-away folder, simulated Ascend cards."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a CI in the background of a shell; scripts that are started with it ignored could not be stopped by it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # the same under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

sys.path.insert(0, str(Path(__file__).resolve().parent))

import helpers
from cannsim import build

sys.path.insert(0, str(helpers.TOP / 'ci'))
sys.path.insert(0, str(helpers.TOP))

from common import limits

# before torch: processes that share cores must not spin, nor wait for threads that have no core; it costs four times and more
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
if 'PYTEST_XDIST_WORKER_COUNT' in os.environ:
    os.environ.setdefault(
        'OMP_NUM_THREADS', str(max(1, limits.cores() // int(os.environ['PYTEST_XDIST_WORKER_COUNT'])))
    )


def pytest_collection_modifyitems(items):
    """Quick tests first: those that start no process of a folder."""
    items.sort(key=lambda item: 'folder' in getattr(item, 'fixturenames', ()))


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """The whole digits data set at 64 pixels."""
    root = tmp_path_factory.mktemp('data') / 'digits'
    subprocess.run([sys.executable, helpers.TOP / 'ci' / 'make_dataset.py', 'digits', root, '--size', '64'], check=True)
    return root


@pytest.fixture(scope='session')
def few_digits(tmp_path_factory):
    """200 training and 93 validation images; the path holds blanks, as users' paths do."""
    return helpers.make_digits(tmp_path_factory.mktemp('data') / 'few hand written digits')


@pytest.fixture
def data(few_digits, tmp_path):
    """A copy of few_digits that a test may damage."""
    return Path(shutil.copytree(few_digits, tmp_path / 'my data'))


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """VAN's folder, copied alone to an empty directory."""
    return helpers.copy_alone(helpers.VAN, tmp_path_factory.mktemp('server'))


@pytest.fixture(scope='session')
def npu():
    """What to add to the environment of a process for it to have simulated NPUs (cannsim/README.md).

    No test imports torch_npu itself: it would give every test of this process another device.
    """
    try:
        return helpers.simulated()
    except build.BuildError as e:
        pytest.skip(str(e))
