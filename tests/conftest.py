"""What the tests share: a copied-away folder, small real data, and a way to run a script as a user does.

MODELZOO_PYTHON names the interpreter that runs the folders' scripts (default: the one that runs the tests); .ci/run
sets it to an environment made from the folder's requirements.txt alone.
"""
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')   # before torch: processes that share cores must not spin

TOP = Path(__file__).resolve().parent.parent
FOLDERS = sorted(path.name for path in TOP.glob('*_for_PyTorch'))
VAN = 'VAN-Classification_for_PyTorch'
PYTHON = os.environ.get('MODELZOO_PYTHON', sys.executable)
sys.path.insert(0, str(TOP))

# a run of a few seconds
SMALL = ['--model', 'van_b0', '--img-size=32', '--device', 'cpu', '--workers', '0', '--print-freq', '2']


def pytest_collection_modifyitems(items):
    """Quick tests first: those that start no process of a folder."""
    items.sort(key=lambda item: 'folder' in getattr(item, 'fixturenames', ()))


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """The whole digits data set; the path holds a blank, as users' paths do."""
    root = tmp_path_factory.mktemp('data') / 'hand written digits'
    subprocess.run([sys.executable, TOP / 'ci' / 'make_dataset.py', 'digits', root, '--size', '32'], check=True)
    return root


@pytest.fixture(scope='session')
def few_digits(digits, tmp_path_factory):
    """200 training and 93 validation images of it; 93 is no multiple of 8."""
    root = tmp_path_factory.mktemp('data') / 'few digits'
    for split, count in (('train', lambda name: 20), ('val', lambda name: 10 if name < '3' else 9)):
        for folder in sorted((digits / split).iterdir()):
            target = root / split / folder.name
            target.mkdir(parents=True)
            for image in sorted(folder.iterdir())[:count(folder.name)]:
                shutil.copy(image, target)
    return root


@pytest.fixture
def data(few_digits, tmp_path):
    """A copy of few_digits that a test may damage."""
    return Path(shutil.copytree(few_digits, tmp_path / 'my data'))


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """VAN's folder, copied alone to an empty directory."""
    ignore = shutil.ignore_patterns('__pycache__', 'output')
    return Path(shutil.copytree(TOP / VAN, tmp_path_factory.mktemp('server') / VAN, ignore=ignore))


class Result:
    """One run of a script: code, text (stdout and stderr), seconds, out (its output folder)."""

    def __init__(self, code, text, seconds, out):
        self.code, self.text, self.seconds, self.out = code, text, seconds, Path(out)

    @property
    def lines(self):
        return self.text.splitlines()

    @property
    def summary(self):
        """{Key: text} of the newest <CaseName>.log."""
        paths = sorted(self.out.glob('*_bs*_*p_*.log'), key=os.path.getmtime)
        return dict(line.split(' = ', 1) for line in paths[-1].read_text().splitlines()) if paths else {}


def environment(**more):
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'ASCEND_DEVICE_ID', 'RANK_SIZE', 'MASTER_PORT')}
    env.update(PYTHON=PYTHON, **more)
    return env


def start(script, *arguments, cwd=None, **env):
    """Starts a script of a folder in a process group of its own. -> subprocess.Popen"""
    return subprocess.Popen(['bash', str(script), *map(str, arguments)], cwd=cwd, env=environment(**env), text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def run(script, *arguments, out=None, cwd=None, timeout=300, **env):
    """Runs a script of a folder to its end. -> Result. out: its output folder, the script's default where None."""
    if out is not None:
        arguments += ('--output_dir=%s' % out,)
    begun = time.monotonic()
    process = start(script, *arguments, cwd=cwd, **env)
    try:
        text, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        text, _ = process.communicate()
        pytest.fail('%s did not end within %d s:\n%s' % (script, timeout, text[-3000:]))
    out = out or Path(cwd or '.', script).resolve().parent / 'output' / env.get('ASCEND_DEVICE_ID', '0')
    return Result(process.returncode, text, time.monotonic() - begun, out)
