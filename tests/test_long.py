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


def test_every_script_of_every_folder_in_an_environment_of_requirements_txt_alone(tmp_path):
    """ci/smoke.py's 33 rows, in an environment made from the folders' requirements.txt (one file, five times) and nothing else."""
    assert len({(TOP / name / 'requirements.txt').read_bytes() for name in FOLDERS}) == 1
    subprocess.run([sys.executable, '-m', 'venv', tmp_path / 'venv'], check=True)
    python = tmp_path / 'venv' / 'bin' / 'python'
    subprocess.run([python, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', '-r',
                    TOP / FOLDERS[0] / 'requirements.txt'], check=True)
    done = subprocess.run([sys.executable, TOP / 'ci' / 'smoke.py', '--python', python, '--out', tmp_path / 'out'], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(done.stdout)
    shutil.rmtree(tmp_path / 'venv')     # 5 GB
    assert done.returncode == 0 and '33 of 33 rows are green' in done.stdout
