"""Other versions of PyTorch: checkpoints go from one to another, and the requirements files keep the vendor's torch.

The environments are those of ci/versions.sh, which runs every script in them; they are made where they are not there yet.
"""
import subprocess
import sys
import time

import pytest
import smoke
import versions
from conftest import FOLDERS, TOP, VAN, run

VIT = 'Vit_base_patch32_224_for_PyTorch'
ARGUMENTS = ['--img-size=32', '--crop-pct=1', '--device=cpu', '--workers=0', '--batch-size=8']
# the digits are learnt in a few epochs without the recipe's augmentation
TRAIN = ['--lr=1e-3', '--drop-path=0', '--mixup=0', '--cutmix=0', '--aa=none', '--reprob=0', '--hflip=0', '--scale', '.6', '1']


@pytest.fixture
def other(request):
    """The interpreter of another version's environment."""
    try:
        return versions.environment(request.param)
    except versions.Missing as e:
        pytest.skip('PyTorch %s: %s' % (request.param, e))


@pytest.mark.long
@pytest.mark.parametrize('other, name', [('1.5', VAN), ('1.5', VIT), ('1.8', VAN)], indirect=['other'])
def test_a_checkpoint_goes_to_another_torch_and_back(other, name, few_digits, tmp_path):
    """Trained on one, evaluated on both, resumed on the other, evaluated on both: the same accuracies, to the digit."""
    test, data = smoke.copy_alone(name, tmp_path) / 'test', '--data_path=%s' % few_digits

    def train(python, epochs, out, *more):
        result = run(test / 'train_full_1p.sh', data, '--model', smoke.FOLDERS[name][0], *ARGUMENTS, *TRAIN, '--epochs=%d' % epochs,
                     *more, out=tmp_path / out, python=python)
        assert smoke.judge(result, name, 'full_1p', 8) == [], result.text
        return result

    def accuracies(result, out):
        """What the training said, and what an evaluation of its checkpoint says on either torch."""
        said = [result.summary['TrainAccuracy']]
        for python in (other, sys.executable):
            evaluation = run(test / 'train_eval_1p.sh', data, '--resume=%s' % (result.out / 'checkpoint.pth'), *ARGUMENTS,
                             out=tmp_path / ('%s, evaluated %d' % (out, len(said))), python=python)
            assert smoke.judge(evaluation, name, 'eval_1p', 8) == [], evaluation.text
            said.append(evaluation.summary['ActualAccuracy'])
        return said

    for way, (first, second) in (('there', (other, sys.executable)), ('back', (sys.executable, other))):
        begun = train(first, 3, way)
        said = accuracies(begun, way + ' begun')
        assert len(set(said)) == 1, said
        ended = train(second, 5, way, '--resume=%s' % (begun.out / 'checkpoint.pth'))
        assert 'at epoch 3, step 0.' in ended.text, ended.text
        said = accuracies(ended, way + ' ended')
        assert len(set(said)) == 1 and float(said[0]) > 20, said     # a tenth is chance


@pytest.mark.long
@pytest.mark.parametrize('other', ['1.5', '1.8'], indirect=True)
def test_what_an_old_torch_lacks_is_a_sentence(other, few_digits, tmp_path):
    """A line in the log for what the run would have used; --amp, which it cannot do without, is refused."""
    script = smoke.copy_alone(VIT, tmp_path) / 'test' / 'train_full_1p.sh'
    words = ['--data_path=%s' % few_digits, '--model=vit_tiny_patch16_224', *ARGUMENTS, '--epochs=1', '--max-steps=2', '--channels-last']
    result = run(script, *words, out=tmp_path / 'out', python=other)
    said = [line for line in result.lines if ' has no ' in line]
    assert result.code == 0 and len(said) == 3 and all(line.startswith('torch 1.') for line in said), result.text
    assert ['attention is' in said[0], 'computes in float32' in said[1], '--channels-last gains nothing' in said[2]] == [True] * 3
    assert ' has no ' not in run(script, *words, out=tmp_path / 'today').text
    for more, missing in ((['--amp'], 'has no autocast for cpu'), (['--amp', '--amp-impl=apex'], 'needs apex')):
        result = run(script, *words, *more, out=tmp_path / 'amp', python=other)
        assert result.code == 1 and missing in result.lines[-1] and result.lines[-1].startswith('[Error] --amp'), result.text


# how the vendor calls its builds; torchvision 0.9.1 itself wants torch 1.8.1, so that a .post of it would not do
@pytest.mark.long
@pytest.mark.parametrize('version, vendors', [
    ('1.5', '1.5.0+ascend'), ('1.5', '1.5.0+ascend.post7.20221219'), ('1.5', '1.5.0.post2+ascend'),
    ('1.8', '1.8.1+ascend.rc2.20220607'), ('1.8', '1.8.1+cpu')])
def test_the_vendors_torch_is_kept(version, vendors, tmp_path):
    """An Ascend host: pip, given the requirements file, finds the torch that lies there good enough."""
    python = versions.find_python(('3.8',))
    if python is None:
        pytest.skip('no Python 3.8 was found')
    subprocess.run([python, '-m', 'venv', tmp_path / 'venv'], check=True)
    stub = next((tmp_path / 'venv').glob('lib/python3*/site-packages')) / ('torch-%s.dist-info' % vendors)
    stub.mkdir()
    (stub / 'METADATA').write_text('Metadata-Version: 2.1\nName: torch\nVersion: %s\n' % vendors)
    (stub / 'INSTALLER').write_text('pip\n')
    done = subprocess.run([tmp_path / 'venv' / 'bin' / 'python', '-m', 'pip', 'install', '--dry-run', '--disable-pip-version-check', '-r',
                           TOP / VAN / versions.VERSIONS[version][0]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    would = [line for line in done.stdout.splitlines() if line.startswith('Would install')]
    assert done.returncode == 0 and len(would) == 1, done.stdout
    assert ' timm-0.4.12' in would[0] and ' torch-' not in would[0], would


@pytest.mark.parametrize('version', versions.VERSIONS)
def test_the_requirements_are_one_file_five_times(version):
    """Complete: all that a folder imports from outside, and torch itself; latest without the exact pins."""
    assert sorted(smoke.FOLDERS) == FOLDERS
    lines = [line for line in versions.requirements(version).splitlines() if line and line[0] != '#']
    assert [line.partition('=')[0].partition('>')[0].partition('<')[0] for line in lines] == [
        'torch', 'torchvision', 'timm', 'pillow', 'numpy']
    assert ('==' in '\n'.join(lines)) == (version != 'latest')


def test_the_table_tells_green_from_red_from_not_run(tmp_path, capsys):
    row = {'folder': VAN, 'script': 'full_1p', 'seconds': 1., 'problems': []}
    record = {'version': '1.5', 'packages': {'torch': '1.5.0'}, 'seconds': 9, 'install_seconds': 8, 'missing': None, 'rows': [row]}
    absent = dict(record, version='1.8', rows=[], missing='no Python 3.8 was found')
    broken = dict(record, rows=[row, dict(row, script='resume', problems=['exit 1: no'])])
    said = []
    for records, code in (([record], 0), ([record, absent], 3), ([absent, broken], 1)):
        assert versions.conclude(records, ['full_1p', 'resume'], tmp_path) == code
        said.append(capsys.readouterr().out)
    assert '1 of 1 rows are green' in said[0] and '1.0 s               -' in said[0]
    assert 'MISSING: no Python 3.8 was found' in said[1] and 'not run: 1.8' in said[1]
    assert '1.0 s             RED' in said[2] and 'RED: 1.5 %s resume: exit 1: no' % VAN in said[2]


def test_what_cannot_be_installed(monkeypatch, tmp_path):
    """Packages that cannot be had are missing; packages that exclude each other are a mistake of ours."""
    with pytest.raises(versions.Missing, match='No matching distribution found for torch==1.8.1'):
        versions.fail_install('python3.8', ['ERROR: No matching distribution found for torch==1.8.1'])
    with pytest.raises(versions.Broken, match='do not go together: ERROR: .* conflicting dependencies'):
        versions.fail_install('python3.8', ['ERROR: Cannot install a and b because these have conflicting dependencies.', 'ERROR: Help'])
    monkeypatch.setattr(versions, 'environment', lambda version: sys.executable)
    monkeypatch.setattr(versions, 'packages', lambda python: versions.fail_install(python, ['ResolutionImpossible']))
    args = versions.argparse.Namespace(out=tmp_path, drop=False)
    records = [versions.run_version('1.5', [VAN], ['full_1p'], args)]
    assert versions.conclude(records, ['full_1p'], tmp_path) == versions.RED


def test_a_missing_interpreter_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setenv('PYENV_ROOT', str(tmp_path))
    with pytest.raises(versions.Missing, match='no Python 3.8 or 3.7 was found .* pyenv install 3.8'):
        versions.environment('1.5')


RANK = '''
import os, signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda signum, frame: told.append(signum))
open(sys.argv[1] + os.environ['RANK'], 'w').write(' '.join(os.environ[k] for k in (
    'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')))
if sys.argv[2] == 'fail' and os.environ['RANK'] == '3':
    sys.exit(7)
if sys.argv[2] == 'die' and os.environ['RANK'] == '3':
    os.kill(os.getpid(), signal.SIGKILL)
end = time.monotonic() + 40
while sys.argv[2] != 'end' and not told and time.monotonic() < end:
    time.sleep(.05)
time.sleep(.5 if told else 0)       # saves
open(sys.argv[1] + os.environ['RANK'], 'a').write(' ended')
sys.exit(143 if told else 0)
'''


@pytest.mark.parametrize('what, code', [('end', 0), ('fail', 7), ('die', 137), ('stop', 143)])
def test_what_stands_in_for_torchrun_before_torch_1_9(tmp_path, what, code):
    """Ranks 2 and 3 of 4, on the second of two machines. Told to stop, by a failure or by a signal, they have time to save."""
    (tmp_path / 'rank.py').write_text(RANK)
    launch = 'import sys; sys.argv[0] = %r; from common import torchrun; sys.exit(torchrun.launch_before_elastic(sys.argv[1:]))'
    process = subprocess.Popen(
        [sys.executable, '-c', launch % str(TOP / 'common' / 'torchrun.py'), '--nproc_per_node=2', '--nnodes=2', '--node_rank=1',
         '--master_addr=10.0.0.1', '--master_port=123', str(tmp_path / 'rank.py'), str(tmp_path / 'rank'), what],
        cwd=TOP, stderr=subprocess.PIPE, text=True)
    while what == 'stop' and not (tmp_path / 'rank2').exists() & (tmp_path / 'rank3').exists():
        time.sleep(.05)
    if what == 'stop':
        process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == code, said
    assert ('rank 3 was killed by SIGKILL' in said) == (what == 'die')
    ended = '' if what in ('fail', 'die') else ' ended'
    assert (tmp_path / 'rank2').read_text() == '0 4 2 10.0.0.1 123 ended'
    assert (tmp_path / 'rank3').read_text() == '1 4 2 10.0.0.1 123' + ended
