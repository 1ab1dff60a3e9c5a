"""Other versions of PyTorch: checkpoints go from one to another, requirements keep the vendor's torch; ci/versions.py.

The environments are those of ci/versions.sh, which runs every script in them; they are made where they do not exist.
"""

import argparse
import os
import subprocess
import sys

import pytest
import torch

import versions
from helpers import TOP, VAN, copy_alone, describe, fails, judge, run

VIT = 'Vit_base_patch32_224_for_PyTorch'
ARGUMENTS = ['--img-size=32', '--crop-pct=1', '--device=cpu', '--workers=0', '--batch-size=8']
# the digits are learnt in a few epochs without the recipe's augmentation
TRAIN = '--lr=1e-3 --drop-path=0 --mixup=0 --cutmix=0 --aa=none --reprob=0 --hflip=0 --scale .6 1'.split()


@pytest.fixture
def other(request):
    """The interpreter of another version's environment."""
    try:
        return versions.environment(request.param)
    except versions.Missing as e:
        pytest.skip(f'PyTorch {request.param}: {e}')


@pytest.mark.long
@pytest.mark.parametrize('other, name', [('1.5', VAN), ('1.5', VIT), ('1.8', VAN)], indirect=['other'])
def test_a_checkpoint_goes_to_another_torch_and_back(other, name, few_digits, tmp_path):
    """Trained on one, evaluated on both, resumed on the other, evaluated on both: the same accuracies, to the digit."""
    test, data = copy_alone(name, tmp_path) / 'test', f'--data_path={few_digits}'

    def train(python, epochs, out, *more):
        words = [data, '--model', describe(name)['model'], *ARGUMENTS, *TRAIN, f'--epochs={epochs}', *more]
        result = run(test / 'train_full_1p.sh', *words, out=tmp_path / out, python=python)
        assert judge(result, name, 'full_1p', 8) == [], result.text
        return result

    def accuracies(result, out):
        """What the training said, and what an evaluation of its checkpoint says on either torch."""
        said, words = [result.summary['TrainAccuracy']], [data, f'--resume={result.out / "checkpoint.pth"}', *ARGUMENTS]
        for python in (other, sys.executable):
            evaluation = run(test / 'train_eval_1p.sh', *words, out=tmp_path / f'{out} {len(said)}', python=python)
            assert judge(evaluation, name, 'eval_1p', 8) == [], evaluation.text
            said.append(evaluation.summary['ActualAccuracy'])
        return said

    for way, (first, second) in (('there', (other, sys.executable)), ('back', (sys.executable, other))):
        begun = train(first, 3, way)
        said = accuracies(begun, way + ' begun')
        assert len(set(said)) == 1, said
        ended = train(second, 5, way, f'--resume={begun.out / "checkpoint.pth"}')
        assert ended.events('train')[0]['epoch'] == 3, ended.text
        said = accuracies(ended, way + ' ended')
        assert len(set(said)) == 1 and float(said[0]) > 20, said  # a tenth is chance


@pytest.mark.long
@pytest.mark.parametrize('other', ['1.5', '1.8'], indirect=True)
def test_what_an_old_torch_lacks_is_a_sentence(other, few_digits, tmp_path):
    """A line in the log for what would have been used; --amp, which needs it, is refused."""
    script = copy_alone(VIT, tmp_path) / 'test' / 'train_full_1p.sh'
    words = [f'--data_path={few_digits}', '--model=vit_tiny_patch16_224', *ARGUMENTS, '--epochs=1', '--max-steps=2']
    words += ['--channels-last']
    result = run(script, *words, out=tmp_path / 'out', python=other)
    said = [line for line in result.lines if line.startswith('torch 1.')]
    assert result.code == 0 and len(said) == 3, result.text
    assert ['attention' in said[0], 'float32' in said[1], '--channels-last' in said[2]] == [True] * 3
    assert ' has no ' not in run(script, *words, out=tmp_path / 'today').text
    for more, missing in ((['--amp'], 'no autocast for cpu'), (['--amp', '--amp-impl=apex'], 'needs apex')):
        result = run(script, *words, *more, out=tmp_path / 'amp', python=other)
        assert result.code == 1 and missing in result.lines[-1] and result.lines[-1].startswith('[Error] --amp'), (
            result.text
        )


class Code:
    """What a pickle may say instead of data: a call."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f'touch "{self.mark}"',)


@pytest.mark.long
@pytest.mark.parametrize('other', ['1.5', '1.8'], indirect=True)
def test_an_old_torch_runs_no_code_from_a_checkpoint(other, few_digits, tmp_path):
    """Which torch.load does, before 2.4 in any case. Both formats, by every script that reads a checkpoint."""
    folder, path, mark = copy_alone(VAN, tmp_path), tmp_path / 'evil.pth', tmp_path / 'it was run'
    for script, zipped in (('eval', False), ('finetune', True), ('full', True)):
        torch.save({'state_dict': Code(str(mark))}, str(path), _use_new_zipfile_serialization=zipped)
        words = [f'--data_path={few_digits}', f'--resume={path}', '--model=van_b0', *ARGUMENTS]
        result = run(folder / 'test' / f'train_{script}_1p.sh', *words, out=tmp_path / script, python=other)
        fails(result, 'evil.pth', 'system', 'not loaded')
        assert not mark.exists()


# how the vendor calls its builds; torchvision 0.9.1 itself wants torch 1.8.1, so that a .post of it would not do
@pytest.mark.long
@pytest.mark.parametrize('version, vendors', [
    ('1.5', '1.5.0+ascend'), ('1.5', '1.5.0+ascend.post7.20221219'), ('1.5', '1.5.0.post2+ascend'),
    ('1.8', '1.8.1+ascend.rc2.20220607'), ('1.8', '1.8.1+cpu')])  # fmt: skip
def test_the_vendors_torch_is_kept(version, vendors, tmp_path):
    """An Ascend host: pip, given the requirements file, finds the torch that lies there good enough."""
    python = versions.find_python(('3.8',))
    if python is None:
        pytest.skip('no Python 3.8 was found')
    venv = tmp_path / 'venv'
    subprocess.run([python, '-m', 'venv', venv], check=True)
    stub = next(venv.glob('lib/python3*/site-packages')) / f'torch-{vendors}.dist-info'
    stub.mkdir()
    (stub / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: torch\nVersion: {vendors}\n')
    (stub / 'INSTALLER').write_text('pip\n')
    command = [venv / 'bin' / 'python', '-m', 'pip', 'install', '--dry-run', '--disable-pip-version-check']
    command += ['-r', TOP / VAN / versions.VERSIONS[version][0]]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    would = [line for line in done.stdout.splitlines() if line.startswith('Would install')]
    assert done.returncode == 0 and len(would) == 1, done.stdout
    assert ' timm-0.4.12' in would[0] and ' torch-' not in would[0], would


@pytest.mark.parametrize('version', versions.VERSIONS)
def test_the_requirements_are_complete(version):
    """All that a folder imports from outside, and torch itself; latest without the exact pins."""
    lines = [line for line in versions.requirements(version).splitlines() if line and line[0] != '#']
    names = [line.partition('=')[0].partition('>')[0].partition('<')[0] for line in lines]
    assert names == ['torch', 'torchvision', 'timm', 'pillow', 'numpy', 'simplejpeg']
    assert ('==' in '\n'.join(lines)) == (version != 'latest')


def test_the_table_tells_green_from_red_from_not_run(tmp_path, capsys):
    row = {'folder': VAN, 'script': 'full_1p', 'seconds': 1.0, 'problems': []}
    record = {
        'version': '1.5',
        'packages': {'torch': '1.5.0'},
        'seconds': 9,
        'install_seconds': 8,
        'missing': None,
        'rows': [row],
    }
    absent = dict(record, version='1.8', rows=[], missing='no Python 3.8 was found')
    broken = dict(record, rows=[row, dict(row, script='resume', problems=['exit 1: no'])])
    for records, code, words in (
        ([record], 0, ['1 of 1 rows are green', '1.0 s']),
        ([record, absent], 3, ['MISSING: no Python 3.8 was found', 'not run: 1.8']),
        ([absent, broken], 1, ['RED', f'{VAN} resume: exit 1: no']),
    ):
        assert versions.conclude(records, tmp_path) == code
        said = capsys.readouterr().out
        assert all(word in said for word in words), said


@pytest.mark.parametrize(
    'ended, red', [('', False), ('<skipped message="no g++"/>', True), ('<failure message="x"/>', True)]
)
def test_a_row_that_was_skipped_is_red(ended, red, tmp_path):
    name = versions.NAMES.rpartition('::')[2]
    (tmp_path / 'rows.xml').write_text(f'<a><testcase name="{name}" time="1.0">{ended}</testcase></a>')
    (row,) = versions.read_rows(tmp_path / 'rows.xml')
    assert row['script'] == 'names' and bool(row['problems']) == red


def test_what_cannot_be_installed(monkeypatch, tmp_path):
    """Packages that cannot be had are missing; packages that exclude each other are a mistake of ours."""
    with pytest.raises(versions.Missing, match=r'torch==1\.8\.1'):
        versions.fail_install('python3.8', ['ERROR: No matching distribution found for torch==1.8.1'])
    with pytest.raises(versions.Broken, match='conflicting dependencies'):
        lines = ['ERROR: Cannot install a and b because these have conflicting dependencies.', 'ERROR: Help']
        versions.fail_install('python3.8', lines)
    monkeypatch.setattr(versions, 'environment', lambda version: sys.executable)
    monkeypatch.setattr(versions, 'packages', lambda python: versions.fail_install(python, ['ResolutionImpossible']))
    args = argparse.Namespace(out=tmp_path, drop=False)
    assert versions.conclude([versions.run_version('1.5', args)], tmp_path) == versions.RED


def test_a_missing_interpreter_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setenv('PYENV_ROOT', str(tmp_path))
    with pytest.raises(versions.Missing, match=r'no Python 3\.8 or 3\.7 was found .* pyenv install 3\.8'):
        versions.environment('1.5')
