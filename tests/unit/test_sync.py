"""ci/sync_common.py: it names every difference, puts it right, and touches nothing that is a folder's own."""

import json
import os
import shutil

import pytest

import sync_common
from helpers import TOP


@pytest.fixture
def tree(tmp_path):
    """A repository with one folder of its own files, synced."""
    for part in ('common', 'ci/folder_files', 'docs'):
        shutil.copytree(TOP / part, tmp_path / part, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(TOP / 'LICENSE', tmp_path)
    folder = tmp_path / 'A_for_PyTorch'
    (folder / 'test').mkdir(parents=True)
    (folder / 'folder.json').write_text(json.dumps({'launch_options': ['--bind']}))
    (folder / 'test' / 'mine.sh').write_text('mine')
    assert sync_common.main(['--top', str(tmp_path)]) == 0
    return tmp_path


def sync(tree, *words):
    return sync_common.main([*words, '--top', str(tree)])


def test_every_difference_is_named_and_put_right(tree, capsys):
    assert sync(tree, '--check') == 0 and capsys.readouterr().out == ''
    folder = tree / 'A_for_PyTorch'
    (folder / 'common' / 'engine.py').write_text('edited')
    (folder / 'common' / 'stray').mkdir()
    (folder / 'common' / 'stray' / 'old.py').write_text('')
    (folder / 'LICENSE').unlink()
    (folder / '1.5_requirements.txt').write_text('torch')
    (folder / 'test' / 'train_eval_1p.sh').chmod(0o644)
    (folder / 'test' / 'train_full_8p.sh').unlink()
    assert sync(tree, '--check') == 1
    said = [line.split(';')[0].split('/', 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert sorted(said) == [
        '1.5_requirements.txt: differs',
        'LICENSE: missing',
        'common/engine.py: differs',
        'common/stray/old.py: not in common/',
        'test/train_eval_1p.sh: not executable',
        'test/train_full_8p.sh: missing',
    ]
    assert sync(tree) == 0 and sync(tree, '--check') == 0 and not (folder / 'common' / 'stray').exists()
    assert (folder / 'test' / 'mine.sh').read_text() == 'mine' and not os.access(folder / 'test' / 'mine.sh', os.X_OK)


def test_launch_scripts_carry_the_folders_options(tree):
    """To launch.sh, with case and ranks; options only where there are several ranks."""
    scripts = {
        path.name: path.read_text().splitlines()[-1] for path in (tree / 'A_for_PyTorch' / 'test').glob('train_*.sh')
    }
    assert len(scripts) == 8 and all(line.startswith('exec bash ') for line in scripts.values())
    assert scripts['train_finetune_8p.sh'].endswith('common/launch.sh" finetune 8 "$@" --bind')
    assert scripts['train_eval_1p.sh'].endswith('common/launch.sh" eval 1 "$@"')


def test_what_is_no_repository_is_a_sentence(tree, capsys):
    assert sync(tree / 'common') == 1 and '--top' in capsys.readouterr().err
    (tree / 'A_for_PyTorch' / 'folder.json').write_text('{}')
    assert sync(tree) == 1 and 'launch_options' in capsys.readouterr().err
