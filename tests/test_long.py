"""The long rows: what a newcomer and a deploying engineer do, from nothing."""
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import FOLDERS, TOP

pytestmark = pytest.mark.long


def test_quickstart(tmp_path):
    """In a copy of the tree, so that nothing lies ready: the digits are learnt, and the checkpoint is where it says."""
    tree = tmp_path / 'my zoo'
    shutil.copytree(TOP, tree, ignore=shutil.ignore_patterns('.git', '.venv', 'build', 'output', '__pycache__'))
    done = subprocess.run(['bash', tree / 'ci' / 'quickstart.sh'], env=dict(os.environ, VENV=sys.prefix), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert float(re.search(r'^Final Train Accuracy : ([\d.]+)$', done.stdout, re.M).group(1)) >= 97, done.stdout
    assert os.path.isfile(re.search(r'^The checkpoint is (.*\.pth);', done.stdout, re.M).group(1))


@pytest.mark.parametrize('name', FOLDERS)
def test_requirements_are_complete(name, tmp_path):
    """An environment made from the folder's requirements.txt, and nothing else, runs every script of the folder."""
    subprocess.run([sys.executable, '-m', 'venv', tmp_path / 'venv'], check=True)
    python = tmp_path / 'venv' / 'bin' / 'python'
    subprocess.run([python, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', '-r', TOP / name / 'requirements.txt'],
                   check=True)
    done = subprocess.run([sys.executable, '-m', 'pytest', 'tests/test_scripts.py'], cwd=TOP,
                          env=dict(os.environ, MODELZOO_PYTHON=str(python)), text=True, capture_output=True)
    shutil.rmtree(tmp_path / 'venv')     # 5 GB
    assert done.returncode == 0, done.stdout + done.stderr
