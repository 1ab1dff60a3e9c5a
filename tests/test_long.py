"""The long rows: what a newcomer and a deploying engineer do, from nothing."""
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import FOLDERS, TOP, VAN, run

pytestmark = pytest.mark.long


def test_quickstart(tmp_path):
    """In a copy of the tree, so that nothing lies ready: the digits are learnt, and the checkpoint is where it says."""
    tree = tmp_path / 'my zoo'
    shutil.copytree(TOP, tree, ignore=shutil.ignore_patterns('.git', '.venv*', 'build', 'output', '__pycache__'))
    done = subprocess.run(['bash', tree / 'ci' / 'quickstart.sh'], env=dict(os.environ, VENV=sys.prefix), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert float(re.search(r'^Final Train Accuracy : ([\d.]+)$', done.stdout, re.M).group(1)) >= 97, done.stdout
    assert os.path.isfile(re.search(r'^The checkpoint is (.*\.pth);', done.stdout, re.M).group(1))


@pytest.mark.parametrize('name', FOLDERS)
def test_the_folder_learns_the_digits(name, digits, tmp_path):
    """The command in the folder's README, word for word, reaches the accuracy that its table promises."""
    readme = (TOP / name / 'README.md').read_text()
    command = re.search(r'^bash \./test/train_full_1p\.sh --data_path=DIR (.*?[^\\])\n', readme, re.M | re.S).group(1)
    words = command.replace('\\\n', ' ').split()
    if name == VAN:          # test_quickstart has just run it
        assert ' '.join(words) in ' '.join((TOP / 'ci' / 'quickstart.sh').read_text().replace('\\\n', ' ').split())
        return
    result = run(TOP / name / 'test' / 'train_full_1p.sh', '--data_path=%s' % digits, *words, '--device=cpu', out=tmp_path / 'out',
                 timeout=900)
    assert result.code == 0, result.text
    assert float(result.summary['TrainAccuracy']) >= (93 if name.startswith('Vit') else 95)
