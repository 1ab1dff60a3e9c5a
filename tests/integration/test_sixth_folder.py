"""A new model is a new folder: laid by ci/new_model.py in a copy of the collection, it passes the same tests without an edit outside itself.

And test_every_script.py itself: what is broken is red, and nothing else is.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import test_every_script

from helpers import TOP

NAME = 'ConvNeXt_for_PyTorch'
NOT_COPIED = shutil.ignore_patterns('.*', 'build', 'output', '__pycache__')


def python(tree, *words):
    """-> exit status, what it said"""
    env = {key: value for key, value in os.environ.items() if not key.startswith('PYTEST_')}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout[-20000:]


def rows(tree, *words):
    words = (
        '-p',
        'no:cacheprovider',
        'tests/integration/test_every_script.py',
        '--folders',
        'ConvNeXt',
        '--scripts',
        *words,
    )
    return python(tree, '-m', 'pytest', *words)


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    tree = shutil.copytree(TOP, tmp_path_factory.mktemp('zoo') / 'zoo', ignore=NOT_COPIED)
    code, said = python(tree, 'ci/new_model.py', 'ConvNeXt', '--timm=convnext_atto', '--other=convnext_femto')
    assert code == 0 and NAME in said, said
    return tree


def test_a_name_that_is_taken_and_a_model_that_timm_lacks_are_refused(tree):
    for words, said in ((['--timm=convnext_atto'], 'exists'), (['--timm=no_such_model'], 'no_such_model')):
        code, text = python(tree, 'ci/new_model.py', 'ConvNeXt', *words, '--other=convnext_femto')
        assert code == 2 and said in text.splitlines()[-1], text


def test_it_is_a_folder_like_the_others(tree):
    tests = ('tests/unit/test_tree.py', 'tests/unit/test_readmes.py')
    code, said = python(tree, '-m', 'pytest', '-vv', '-p', 'no:cacheprovider', *tests)
    assert code == 0 and said.count(f'{NAME}/README.md] PASSED') == 5 and said.count(f'[{NAME}] PASSED') == 2, said


def test_its_scripts_train_and_evaluate(tree):
    code, said = rows(tree, 'full_8p', 'eval_1p')
    assert code == 0 and '2 of 2 rows are green' in said, said


def test_what_is_broken_is_red(tree):
    model = tree / NAME / 'convnext.py'
    model.write_text(f'{model.read_text()}\nraise RuntimeError("broken on purpose")\n')
    code, said = rows(tree, 'performance_1p')
    assert code == 1 and '0 of 1 rows are green' in said and 'broken on purpose' in said, said
    code, said = rows(tree, 'nothing')
    assert code not in (0, 1) and 'nothing is called nothing' in said, said


def test_baseline_compares_ratios_and_accuracies(tmp_path):
    """A little less is noise; a lost number, a folder half as fast or lower accuracy is red, and so is a row without figures."""
    path = tmp_path / 'baseline.json'
    path.write_text(json.dumps({'cpu': {'A performance_1p': {'fps_ratio': 0.5, 'acc': 90.0}}}))
    for new, red in (
        ({'fps_ratio': 0.4, 'acc': 86.0}, 0),
        ({'fps_ratio': 0.2, 'acc': 86.0}, 1),
        ({'fps_ratio': 0.6, 'acc': 80.0}, 1),
        ({}, 2),
    ):
        assert len(test_every_script.compare('A performance_1p', new, path, 'cpu')) == red, new
    assert len(test_every_script.compare('A eval_1p', {}, path, 'cpu')) == 1
