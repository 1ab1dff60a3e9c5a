"""The folders on the vendor's own torch_npu, above a simulated CANN; tests/cannsim/README.md says what that proves."""

import copy
import json
import os
import re
import signal
import statistics
import time

import pytest
import torch

from helpers import FOLDERS, SMALL, VAN, copy_alone, describe, explains, fails, in_folder, run, start, train

NPU = [word for word in SMALL if word not in ('--device', 'cpu')] + ['--device=npu', '--epochs=1']
# Twenty steps in float32. Erasing and stochastic depth draw on the device, whose random numbers are its own.
TWENTY = (
    '--img-size=32 --batch-size=8 --no-amp --epochs=1 --max-steps=20 --workers=0 --print-freq=1 --eval-steps=2'.split()
)
TWENTY += '--lr=1e-3 --reprob=0 --drop-path=0'.split()
# AdamW makes whole steps of gradients that are rounding alone, as those of ViT's key biases are: a larger epsilon, smaller steps.
ADAMW = ['--opt=adamw', '--opt-eps=1e-5', '--lr=2e-4']
WAYS = {  # name: (ranks, options, further options on the NPU alone)
    'recipe': (1, [], []),
    'fused': (1, ADAMW, ['--fused-optimizer']),
    'sgd': (1, ['--opt=momentum', '--clip-grad=1'], []),
    'averaged': (1, [*ADAMW, '--model-ema', '--model-ema-decay=.9'], []),
    'ranks': (2, [*ADAMW, '--batch-size=4', '--clip-grad=.5', '--clip-mode=value'], []),
}
FEW = set(zip(FOLDERS, WAYS))  # each folder and each way once


def losses(name, data, out, ranks, words, **env):
    """-> the losses of the steps, and of the evaluations of the weights and of their average"""
    result = train(name, data, '--model', describe(name)['model'], *TWENTY, *words, out=out, ranks=ranks, **env)
    assert result.code == 0, result.text[-3000:]
    return [[event['loss'] for event in result.events(kind)] for kind in ('train', 'eval')]


@pytest.mark.parametrize(
    'name, way',
    [pytest.param(name, way, marks=[] if (name, way) in FEW else pytest.mark.long) for name in FOLDERS for way in WAYS],
)
def test_cpu_and_npu_learn_alike(name, way, npu, few_digits, tmp_path):
    ranks, words, npu_alone = WAYS[way]
    cpu = losses(name, few_digits, tmp_path / 'cpu', ranks, [*words, '--device=cpu'])
    card = losses(name, few_digits, tmp_path / 'npu', ranks, [*words, *npu_alone, '--device=npu'], **npu)
    assert len(cpu[0]) == 20 and cpu[0][-1] != cpu[0][0]
    assert card[0] == pytest.approx(cpu[0], abs=1e-5)
    # A bias before a batch norm has no gradient but rounding, which AdamW makes a step of; only an evaluation sees it.
    assert card[1] and card[1] == pytest.approx(cpu[1], abs=5e-3)


# ---- the order of streams


def without(folder, line, target):
    """-> a copy of a folder whose accelerator.py lacks the one line that holds these words"""
    path = copy_alone(folder, target) / 'common' / 'accelerator.py'
    lines = path.read_text().splitlines(keepends=True)
    where = [number for number, text in enumerate(lines) if line in text]
    assert len(where) == 1
    indent = re.match(' *', lines[where[0]]).group()
    lines[where[0]] = f'{indent}pass\n'
    path.write_text(''.join(lines))
    return path.parent.parent


@pytest.mark.parametrize('line', ['wait_stream(side)', 'record_stream(module.current_stream())'])
def test_a_wait_that_is_missing_shows(line, npu, few_digits, tmp_path):
    """Streams are late here by times that are drawn: what does not wait for a copy, or reuses memory, gets wrong numbers."""
    words = [*TWENTY, '--batch-size=16', '--max-steps=8', '--print-freq=8']  # a line waits for the device
    late, lacking = {**npu, 'CANNSIM_DELAY_US': '5000'}, without(VAN, line, tmp_path)

    def losses(name, folder, env):
        result = train(folder, few_digits, '--model', 'van_b0', *words, '--device=npu', out=tmp_path / name, **env)
        return [event['loss'] for event in result.events('train')] or result.lines[-1]

    wanted = losses('prompt', VAN, npu)
    assert len(wanted) == 1 and losses('late', VAN, late) == wanted
    # A host that is busy with other work may be later still, and then what is copied is there in time
    assert any(losses(f'lacking{attempt}', lacking, late) != wanted for attempt in range(4))


# ---- patches


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
def test_patches_change_no_result(name, npu):
    """Each alone: logits within 1e-5, gradients too; the same keys. An approximation does change them, and says so."""
    known = describe(name)
    for model in filter(None, dict.fromkeys((known['model'], known['attention_model']))):
        results = in_folder(name, patched, model, 'npu', **npu)
        for patch, (said, logits, gradients) in results.items():
            if patch == 'fast_gelu' and 'not applied' not in said:
                assert 'accuracy may change' in said and 0 < logits < 0.5
            else:
                assert logits <= 1e-5 and gradients <= 1e-4, (patch, logits, gradients)
        if model == known['attention_model']:
            assert 'npu_fusion_attention' in results['fused_attention'][0]


# ---- mixed precision on two chips


def overflow():
    """In a child: a step whose gradients overflow, then one whose do not. -> [(scale, whether the weight moved)]"""
    from common import accelerator
    from common.precision import Native

    device = accelerator.choose('npu')
    precision = Native(device, torch.float16, 'dynamic')
    net = torch.nn.Linear(4, 2).to(device.device)
    optimizer, found = torch.optim.SGD(net.parameters(), lr=0.1), []
    for size in (1e4, 1e-2):
        before = net.weight.detach().cpu().clone()
        with precision.autocast():
            loss = net(torch.full((8, 4), size, device=device.device)).mean()
        precision.backward([loss], optimizer)
        precision.update(optimizer)
        found.append((precision.state_dict()['scale'], bool((net.weight.cpu() != before).any())))
    return found


@pytest.mark.parametrize('chip', ['Ascend910A', 'Ascend910B3'])
def test_an_overflow_is_seen_and_its_step_skipped(chip, npu):
    """A 910A has no inf and sets a register instead; a 910B has inf. The scale is halved once on both."""
    (first, moved), (second, moved_then) = in_folder(VAN, overflow, **{**npu, 'CANNSIM_SOC': chip})
    assert not moved and moved_then and first == second == 2.0**15


def test_what_a_910a_has_not_is_said(npu, few_digits, tmp_path):
    env = {**npu, 'CANNSIM_SOC': 'Ascend910A'}
    explains(train(VAN, few_digits, *NPU, '--amp-dtype=bfloat16', out=tmp_path / 'a', **env), '--amp', 'bfloat16')
    result = train(VAN, few_digits, *NPU, '--batch-size=8', '--max-steps=2', out=tmp_path / 'b', **env)
    assert result.code == 0 and 'Optimizer: AdamW, weight by weight' in result.text, result.text[-2000:]


# ---- what a step asks of the card


@pytest.mark.parametrize('name', FOLDERS)
@pytest.mark.parametrize(
    'precision', ['float16', *[pytest.param(p, marks=pytest.mark.long) for p in ('float32', 'bfloat16')]]
)
def test_counts_of_a_step(name, precision, npu, few_digits):
    """Launches, copies and waits are those of ci/benches/npu.json; `python ci/bench.py npu --write` after a wanted change."""
    from benches import npu as bench  # here: the children of other tests have no ci/ on their path

    known = json.loads(bench.STORED.read_text())[f'{name} {precision}']['ours']
    assert bench.measure('ours', name, precision, few_digits, npu) == known


def test_a_step_launches_a_third_less_than_timms_parts():
    """Of what is stored: the geometric mean of the folders in each precision. The host waits for the gradient scaler alone."""
    from benches import npu as bench

    stored = json.loads(bench.STORED.read_text())
    assert set(stored) == {f'{name} {precision}' for name in FOLDERS for precision in bench.PRECISIONS}
    for precision, parts in bench.ratios(stored).items():
        assert statistics.geometric_mean(parts.values()) < 2 / 3, precision
    for key, found in stored.items():
        assert found['ours']['waits'] == (1 if key.endswith(' float16') else 0), key


# ---- switches, a script, what fails


def test_switches_of_the_device(npu, few_digits, tmp_path):
    """Two cards: synchronised batch norm, fused optimizer, HF32, a trace, a named approximation, a card by number."""
    words = '--batch-size=4 --sync-bn --fused-optimizer --hf32 --profile=2 --npu-patch=fast_gelu,contiguous'.split()
    result = train(VAN, few_digits, *NPU, *words, '--max-steps=6', out=tmp_path / 'a', ranks=2, **npu)
    assert result.code == 0, result.text[-3000:]
    about = result.events('run')[0]
    assert (about['ranks'], about['device_kind']) == (2, 'npu') and 'float16' in about['precision']
    assert 'Patch fast_gelu:' in result.text and list((tmp_path / 'a' / 'profile').rglob('*.json')), 'no trace'
    for number, (wrong, said) in enumerate((
        (['--npu-patch=magic'], ["'magic'", 'contiguous']),
        (['--device=npu:9'], ['NPU 9', '8', 'ASCEND_RT_VISIBLE_DEVICES']),
        (['--opt=adabelief', '--fused-optimizer'], ['--fused-optimizer', 'NpuFused']),
    )):  # fmt: skip
        explains(train(VAN, few_digits, *NPU, *wrong, out=tmp_path / str(number), **npu), *said)
    words = ['--batch-size=4', '--max-steps=2', '--amp-dtype=bfloat16']
    result = train(VAN, few_digits, *NPU, *words, out=tmp_path / 'd', **npu)
    assert result.code == 0 and 'bfloat16' in result.events('run')[0]['precision'], result.text


def test_a_script_on_the_npu(folder, npu, few_digits, tmp_path):
    """A card is chosen by its number, the training is mixed precision, the patches say what they did."""
    script, words = folder / 'test' / 'train_full_1p.sh', [*NPU, '--batch-size=8', '--max-steps=3']
    result = run(script, f'--data_path={few_digits}', *words, out=tmp_path, ASCEND_DEVICE_ID='3', **npu)
    assert result.code == 0, result.text[-3000:]
    about = result.events('run')[0]
    assert 'float16' in about['precision'] and about['args']['device_id'] == 3
    assert 'Patch contiguous: 4 modules' in result.text and 'Optimizer: AdamW, foreach' in result.text
    versions = json.loads((tmp_path / 'result.json').read_text())['environment']['versions']
    assert re.match(r'\d+\.\d+\.\d+', versions['torch_npu'])


@pytest.mark.parametrize(
    'fault, words',
    [
        ({'CANNSIM_MEMORY_MB': '24'}, ['memory', '--batch-size', 'NPU out of memory']),
        ({'CANNSIM_FAULT': 'lost:300'}, ['NPU 0 failed', '507010', 'heartbeat', 'npu-smi']),
        ({'CANNSIM_FAULT': 'op:aclnnConvolution:5'}, ['NPU 0 failed', '507015', 'aclnnConvolution']),
        ({'CANNSIM_FAULT': 'busy:0'}, ['NPU 0 cannot be used', '507033', '--device-id']),
        ({'CANNSIM_DEVICES': '0'}, ['--device npu', 'sees no NPU', 'npu-smi']),
    ],
    ids=['memory', 'lost', 'operator', 'busy', 'none'],
)
def test_a_device_that_fails_is_a_sentence(fault, words, npu, few_digits, tmp_path):
    result = train(VAN, few_digits, *NPU, '--batch-size=4', '--max-steps=3', out=tmp_path, **{**npu, **fault})
    explains(result, *words)


def test_fewer_cards_than_ranks(folder, npu, few_digits, tmp_path):
    script, env = folder / 'test' / 'train_full_8p.sh', {**npu, 'ASCEND_RT_VISIBLE_DEVICES': '4,6'}
    words = [f'--data_path={few_digits}', *NPU, '--batch-size=4', '--nproc_per_node=3']
    fails(run(script, *words, out=tmp_path, **env), 'NPU 2', 'shows 2', '--nproc_per_node')


def ranks_of(process):
    """-> the process ids of the ranks below a script"""
    return [int(number) for number in os.popen(f'pgrep -P $(pgrep -P {process.pid} -f launcher.py)').read().split()]


@pytest.mark.parametrize('signum, words', [(signal.SIGKILL, ['SIGKILL']), (signal.SIGSTOP, ['HCCL'])])
def test_a_rank_that_is_gone(signum, words, folder, npu, few_digits, tmp_path):
    """It died, or does not move: the others end, by the launcher or by HCCL's time-out."""
    command = [f'--data_path={few_digits}', *NPU, '--batch-size=4', '--epochs=9', '--nproc_per_node=2']
    env = {**npu, 'HCCL_EXEC_TIMEOUT': '5', 'HCCL_CONNECT_TIMEOUT': '120'}
    process = start(folder / 'test' / 'train_full_8p.sh', *command, f'--output_dir={tmp_path}', **env)
    events, until = tmp_path / 'metrics.jsonl', time.monotonic() + 120
    while time.monotonic() < until and not (events.is_file() and '"train"' in events.read_text()):
        time.sleep(0.1)
    victim = ranks_of(process)[1]
    os.kill(victim, signum)
    try:
        text = process.communicate(timeout=120)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    last = text.strip().splitlines()[-1]
    assert process.returncode not in (0, None) and last.startswith('[Error] '), text[-3000:]
    assert all(word in last for word in words), text[-3000:]
    assert not os.path.exists(f'/proc/{victim}')
