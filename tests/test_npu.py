"""The five folders on the simulated NPU (tests/npusim): wiring, not kernels and not speed."""
import json
import os
import subprocess
import sys

import pytest
from conftest import FOLDERS, SMALL, TOP, VAN, run

import smoke

OPERATORS = TOP / 'tests' / 'data' / 'operators'
MODELS = {name: models[0] for name, models in smoke.FOLDERS.items()}
# a second model where the first has no attention
ATTENTION = {'SPACH_for_PyTorch': 'spach_ms_xxs_patch4_224_attn', 'Twins-PCPVT-S_for_PyTorch': 'alt_gvt_small'}


def train(folder, npusim, data, out, *options):
    """Runs a folder's train.py, for once without its script. -> stdout and stderr"""
    done = subprocess.run([sys.executable, 'train.py', data, '--output-dir=%s' % out, '--workers=0', *map(str, options)],
                          cwd=TOP / folder, env=dict(os.environ, **npusim), text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def losses(out):
    events = map(json.loads, (out / 'metrics.jsonl').read_text().splitlines())
    return [event['loss'] for event in events if event['event'] == 'train']


@pytest.mark.long
@pytest.mark.parametrize('name', FOLDERS)
def test_cpu_and_npu_learn_alike(name, npusim, few_digits, tmp_path):
    """20 steps of the recipe's augmentation, mixing and stochastic depth in float32: the same losses within 1e-5."""
    options = ['--model', MODELS[name], '--img-size=32', '--batch-size=8', '--no-amp', '--epochs=1', '--max-steps=20',
               '--print-freq=1', '--eval-steps=1', '--lr=1e-3']
    curves = []
    for device in ('cpu', 'npu'):
        said = train(name, npusim, few_digits, tmp_path / device, '--device=%s' % device, *options)
        assert '1 x %s (' % device in said
        curves.append(losses(tmp_path / device))
    assert len(curves[0]) == 20 and curves[0][-1] != curves[0][0]
    assert curves[1] == pytest.approx(curves[0], abs=1e-5)


PATCHED = '''
import copy, importlib, json, sys, torch
import train
from common import accelerator, patches
from npu_patch import PATCHES
create_model = [v for v in vars(train).values() if callable(v) and getattr(v, "__name__", "") == "create_model"][0]
device, result = accelerator.choose("npu"), {}
for name in sys.argv[1:]:
    torch.manual_seed(0)
    plain = create_model(name, num_classes=7, img_size=64, drop_path=0.)
    for p in plain.parameters():            # SPACH begins with a head of zeros
        if not p.abs().sum():
            torch.nn.init.normal_(p, std=.1)
    plain = plain.to(device.device).eval()
    images = torch.randn(2, 3, 64, 64).to(device.device)
    def answer(model):
        logits = model(images)
        logits.square().sum().backward()
        return logits.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])
    logits, gradients = answer(plain)
    for patch in PATCHES:
        model = copy.deepcopy(plain)
        said = patches.apply([patch], model, device)
        assert list(model.state_dict()) == list(plain.state_dict())
        model.load_state_dict(plain.state_dict())
        other, changed = answer(copy.deepcopy(model))       # as an average of the weights is made
        result["%s %s" % (name, patch.name)] = [said[0], float((other - logits).abs().max()),
                                                float((changed - gradients).abs().max() / gradients.abs().max())]
print(json.dumps(result))
'''


@pytest.mark.long
@pytest.mark.parametrize('name', FOLDERS)
def test_patches_change_no_result(name, npusim):
    """Each alone: logits within 1e-5, gradients too; the same keys. An approximation does change them, and says so."""
    models = [MODELS[name]] + [ATTENTION[n] for n in [name] if n in ATTENTION]
    done = subprocess.run([sys.executable, '-c', PATCHED, *models], cwd=TOP / name, env=dict(os.environ, **npusim), text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    for key, (said, logits, gradients) in results.items():
        if key.endswith('fast_gelu'):
            assert 'accuracy may change' in said and 0 < logits < .5
        else:
            assert logits <= 1e-5 and gradients <= 1e-4, (key, logits, gradients)
    if name in ATTENTION or name.startswith('Vit'):
        assert 'npu_fusion_attention' in results[models[-1] + ' fused_attention'][0]


@pytest.mark.long
@pytest.mark.parametrize('name', FOLDERS)
def test_operators_of_a_step(name, npusim):
    """What reaches the device in a mixed-precision step; `python tests/npusim/operators.py --write` after a wanted change."""
    done = subprocess.run([sys.executable, TOP / 'tests' / 'npusim' / 'operators.py', name], env=dict(os.environ, **npusim),
                          text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    known = (OPERATORS / (name + '.txt')).read_text().splitlines()
    assert done.stdout.splitlines() == known


@pytest.mark.long
def test_every_script_on_the_npu(npusim, tmp_path):
    """1p and 8p, training, evaluation, fine-tuning, O1 and O2, and checkpoints to a CPU and back: ci/smoke.py's whole table."""
    done = subprocess.run([sys.executable, TOP / 'ci' / 'smoke.py', '--device', 'npu', '--simulate', '--out', tmp_path],
                          stdout=subprocess.PIPE, text=True)
    rows = json.loads((tmp_path / 'smoke.json').read_text())
    assert done.returncode == 0, '\n'.join(line for line in done.stdout.splitlines() if not line.endswith(' ok'))
    assert len(rows) == 33 + 5 * 5


@pytest.mark.long
def test_switches_of_the_device(folder, npusim, few_digits, tmp_path):
    """Two cards: synchronised batch norm, one-kernel optimizer, HF32, a trace, a named approximation, a card by number."""
    small = [option for option in SMALL if option not in ('--device', 'cpu')] + ['--device=npu', '--epochs=1', '--batch-size=4']
    result = run(folder / 'test' / 'train_full_8p.sh', '--data_path=%s' % few_digits, *small, '--max-steps=6', '--nproc_per_node=2',
                 '--sync-bn', '--fused-optimizer', '--hf32', '--profile=2', '--npu-patch=fast_gelu,contiguous', out=tmp_path / 'a', **npusim)
    assert result.code == 0, result.text[-3000:]
    assert 'Patch fast_gelu:' in result.text and 'autocast to float16' in result.text and '2 x npu' in result.text
    assert list((tmp_path / 'a' / 'profile').rglob('*')), 'no trace'
    for wrong, words in ((['--npu-patch=magic'], "no patch 'magic'"), (['--device=npu:9'], 'there is no NPU 9: this host shows 8'),
                         (['--opt=adabelief', '--fused-optimizer'], 'NpuFused'), (['--amp-dtype=bfloat16'], None)):
        result = run(folder / 'test' / 'train_full_1p.sh', '--data_path=%s' % few_digits, *small, '--max-steps=2', *wrong,
                     out=tmp_path / 'b', **npusim)
        assert result.code == 0 if words is None else result.code == 1 and words in result.text, result.text[-2000:]
        assert 'Traceback' not in result.text


def test_one_script_on_the_npu(folder, npusim, few_digits, tmp_path):
    """The quick one of these: a card is chosen by its number, the run is mixed precision, the patches say what they did."""
    small = [option for option in SMALL if option not in ('--device', 'cpu')] + ['--device=npu', '--batch-size=8']
    result = run(folder / 'test' / 'train_full_1p.sh', '--data_path=%s' % few_digits, *small, '--epochs=1', '--max-steps=3',
                 out=tmp_path, ASCEND_DEVICE_ID='3', **npusim)
    assert result.code == 0, result.text[-3000:]
    assert '1 x npu' in result.text and 'autocast to float16' in result.text and 'Patch contiguous: 4 modules' in result.text
    environment = json.loads((tmp_path / 'result.json').read_text())['environment']
    assert environment['versions']['torch_npu'].endswith('+sim')


def test_npu_without_torch_npu_is_a_sentence(folder, few_digits, tmp_path):
    """With CANN there and torch_npu not."""
    (tmp_path / 'cann').mkdir()
    (tmp_path / 'cann' / 'set_env.sh').write_text('')
    result = run(folder / 'test' / 'train_full_1p.sh', '--data_path=%s' % few_digits, '--device=npu', out=tmp_path / 'out',
                 ASCEND_HOME_PATH=str(tmp_path / 'cann'))
    assert result.code == 1 and 'torch_npu is not installed: pip install -r npu_requirements.txt' in result.text
    assert 'Traceback' not in result.text
    assert VAN in result.summary['Network'] and result.summary['Status'] == 'FAILED'
