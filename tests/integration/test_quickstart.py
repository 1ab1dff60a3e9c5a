"""What a newcomer and a deploying engineer do, from nothing: the digits are learnt."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from helpers import FOLDERS, TOP, describe, run

pytestmark = pytest.mark.long
FIRST = 'SPACH_for_PyTorch'  # what the quick start trains


def test_quickstart(tmp_path):
    """In a copy of the tree, so that nothing lies ready; the checkpoint is where it says."""
    tree = tmp_path / 'my zoo'
    shutil.copytree(TOP, tree, ignore=shutil.ignore_patterns('.git', '.venv*', 'build', 'output', '__pycache__'))
    environment = dict(os.environ, VENV=sys.prefix)
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}
    done = subprocess.run(['bash', tree / 'ci' / 'quickstart.sh'], env=environment, text=True, **pipes)
    assert done.returncode == 0, done.stdout
    accuracy = float(re.search(r'^Final Train Accuracy : ([\d.]+)$', done.stdout, re.M).group(1))
    assert accuracy >= describe(FIRST)['digits_accuracy'], done.stdout
    assert os.path.isfile(re.search(r'^The checkpoint is (.*\.pth);', done.stdout, re.M).group(1))


@pytest.fixture(scope='module')
def first_digits(tmp_path_factory):
    """0 to 4 of the digits"""
    place = tmp_path_factory.mktemp('digits') / '0-4'
    command = [sys.executable, TOP / 'ci' / 'make_dataset.py', 'digits', place, '--size=64', '--only=0-4']
    subprocess.run(command, check=True)
    return place


@pytest.mark.parametrize('name', FOLDERS)
def test_the_folder_learns_the_digits_and_is_fine_tuned(name, digits, first_digits, tmp_path):
    """The command in the folder's README, word for word, reaches the accuracy that it promises. Two epochs of
    train_finetune_1p.sh, as it is, are then enough for a new head.
    """
    readme = (TOP / name / 'README.md').read_text()
    command = re.search(r'^bash \./test/train_full_1p\.sh --data_path=DIR (.*?[^\\])\n', readme, re.M | re.S).group(1)
    words = command.replace('\\\n', ' ').split()
    if name == FIRST:  # the quick start's command is this one
        assert ' '.join(words) in ' '.join((TOP / 'ci' / 'quickstart.sh').read_text().replace('\\\n', ' ').split())
    script = TOP / name / 'test' / 'train_full_1p.sh'
    result = run(script, f'--data_path={digits}', *words, '--device=cpu', out=tmp_path / 'out', timeout=1800)
    assert result.code == 0, result.text
    assert float(result.summary['TrainAccuracy']) >= describe(name)['digits_accuracy']
    words = [
        f'--data_path={first_digits}',
        f'--finetune_pth={tmp_path}/out/model_best.pth',
        '--batch-size=16',
        '--epochs=2',
    ]
    tuned = run(script.parent / 'train_finetune_1p.sh', *words, '--device=cpu', out=tmp_path / 'tuned', timeout=900)
    assert float(tuned.summary['TrainAccuracy']) >= 80, tuned.text
