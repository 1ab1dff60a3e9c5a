"""The folders on the simulated NPU (tests/npusim): wiring, not kernels and not speed."""

import copy
import json

import pytest
import torch

from helpers import FOLDERS, SMALL, VAN, describe, explains, in_folder, run, train
from operators import KNOWN, operators

NPU = [word for word in SMALL if word not in ('--device', 'cpu')] + ['--device=npu', '--epochs=1']


@pytest.mark.long
@pytest.mark.parametrize('name', FOLDERS)
def test_cpu_and_npu_learn_alike(name, npusim, few_digits, tmp_path):
    """20 steps of the recipe's augmentation, mixing and stochastic depth in float32: the same losses within 1e-5."""
    words = [
        '--model',
        describe(name)['model'],
        '--img-size=32',
        '--batch-size=8',
        '--no-amp',
        '--epochs=1',
        '--max-steps=20',
    ]
    words += ['--workers=0', '--print-freq=1', '--eval-steps=1', '--lr=1e-3']
    curves = []
    for device in ('cpu', 'npu'):
        result = train(name, few_digits, *words, f'--device={device}', out=tmp_path / device, **npusim)
        assert result.code == 0 and result.events('run')[0]['device_kind'] == device, result.text
        curves.append([event['loss'] for event in result.events('train')])
    assert len(curves[0]) == 20 and curves[0][-1] != curves[0][0]
    assert curves[1] == pytest.approx(curves[0], abs=1e-5)


def patched(name, device):
    """In a child: a model without and with each patch. -> {patch: (its line, gap of logits, of gradients)}"""
    from common import accelerator, npu_patches
    from npu_patch import PATCHES
    from train import HOOKS

    def answer(model):
        logits = model(images)
        logits.square().sum().backward()
        return logits.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])

    device, found = accelerator.choose(device), {}
    torch.manual_seed(0)
    plain = HOOKS.create_model(name, num_classes=7, img_size=64, drop_path=0.0)
    for p in plain.parameters():  # SPACH begins with a head of zeros
        if not p.abs().sum():
            torch.nn.init.normal_(p, std=0.1)
    plain = plain.to(device.device).eval()
    images = torch.randn(2, 3, 64, 64).to(device.device)
    logits, gradients = answer(plain)
    for patch in PATCHES:
        model = copy.deepcopy(plain)
        said = npu_patches.apply([patch], model, device)[0]
        assert list(model.state_dict()) == list(plain.state_dict())
        model.load_state_dict(plain.state_dict())
        other, changed = answer(copy.deepcopy(model))  # as an average of the weights is made
        gap = (changed - gradients).abs().max() / gradients.abs().max()
        found[patch.name] = (said, float((other - logits).abs().max()), float(gap))
    return found


@pytest.mark.parametrize('name', FOLDERS)
def test_patches_change_no_result(name, npusim):
    """Each alone: logits within 1e-5, gradients too; the same keys. An approximation does change them, and says so."""
    known = describe(name)
    for model in filter(None, dict.fromkeys((known['model'], known['attention_model']))):
        results = in_folder(name, patched, model, 'npu', **npusim)
        for patch, (said, logits, gradients) in results.items():
            if patch == 'fast_gelu' and 'not applied' not in said:
                assert 'accuracy may change' in said and 0 < logits < 0.5
            else:
                assert logits <= 1e-5 and gradients <= 1e-4, (patch, logits, gradients)
        if model == known['attention_model']:
            assert 'npu_fusion_attention' in results['fused_attention'][0]


@pytest.mark.long
@pytest.mark.parametrize('name', sorted(path.stem for path in KNOWN.glob('*.txt')))
def test_operators_of_a_step(name, npusim, few_digits, tmp_path):
    """What reaches the device in a mixed-precision step; `python tests/operators.py` after a wanted change."""
    assert operators(name, few_digits, tmp_path, npusim) == (KNOWN / f'{name}.txt').read_text()


def test_switches_of_the_device(npusim, few_digits, tmp_path):
    """Two cards: synchronised batch norm, fused optimizer, HF32, a trace, a named approximation, a card by number."""
    words = [
        *NPU,
        '--batch-size=4',
        '--sync-bn',
        '--fused-optimizer',
        '--hf32',
        '--profile=2',
        '--npu-patch=fast_gelu,contiguous',
    ]
    result = train(VAN, few_digits, *words, '--max-steps=6', out=tmp_path / 'a', ranks=2, **npusim)
    assert result.code == 0, result.text[-3000:]
    run = result.events('run')[0]
    assert (run['ranks'], run['device_kind']) == (2, 'npu') and 'float16' in run['precision']
    assert 'Patch fast_gelu:' in result.text and list((tmp_path / 'a' / 'profile').rglob('*')), 'no trace'
    for number, (wrong, words) in enumerate((
        (['--npu-patch=magic'], ["'magic'", 'contiguous']),
        (['--device=npu:9'], ['NPU 9', '8', 'ASCEND_RT_VISIBLE_DEVICES']),
        (['--opt=adabelief', '--fused-optimizer'], ['--fused-optimizer', 'NpuFused']),
    )):  # fmt: skip
        explains(train(VAN, few_digits, *NPU, *wrong, out=tmp_path / str(number), **npusim), *words)
    result = train(
        VAN, few_digits, *NPU, '--batch-size=4', '--max-steps=2', '--amp-dtype=bfloat16', out=tmp_path / 'd', **npusim
    )
    assert result.code == 0 and 'bfloat16' in result.events('run')[0]['precision'], result.text


def test_a_script_on_the_npu(folder, npusim, few_digits, tmp_path):
    """A card is chosen by its number, the training is mixed precision, the patches say what they did."""
    script, words = folder / 'test' / 'train_full_1p.sh', [*NPU, '--batch-size=8', '--max-steps=3']
    result = run(script, f'--data_path={few_digits}', *words, out=tmp_path, ASCEND_DEVICE_ID='3', **npusim)
    assert result.code == 0, result.text[-3000:]
    run_event = result.events('run')[0]
    assert 'float16' in run_event['precision'] and run_event['args']['device_id'] == 3
    assert 'Patch contiguous: 4 modules' in result.text
    versions = json.loads((tmp_path / 'result.json').read_text())['environment']['versions']
    assert versions['torch_npu'].endswith('+sim')
