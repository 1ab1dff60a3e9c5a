"""Parts of the device layer that a CPU can show; the rest is in test_npu.py."""
import json

import pytest
import torch
from timm.optim import create_optimizer_v2

from common import accelerator, patches, profiling
from common.errors import UserError

CPU = accelerator.Accelerator()


def test_fused_optimizer_is_fused_and_does_the_same():
    """The groups with their own rates and decays are taken over; three steps give the plain optimizer's weights."""
    weights = []
    for fused in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
        optimizer = create_optimizer_v2(model, 'adamw', lr=.01, weight_decay=.3)
        optimizer.param_groups[0]['lr'] = .1
        if fused:
            plain, optimizer = optimizer, CPU.fused_optimizer(optimizer)
            assert [g['fused'] for g in optimizer.param_groups] == [True, True]
            for name in ('lr', 'weight_decay', 'betas', 'params'):
                assert all(a[name] is b[name] or a[name] == b[name] for a, b in zip(plain.param_groups, optimizer.param_groups))
        for step in range(3):
            optimizer.zero_grad()
            model(torch.randn(4, 8)).square().sum().backward()
            optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(*weights, atol=1e-6)
    with pytest.raises(UserError, match='--fused-optimizer'):
        CPU.fused_optimizer(torch.optim.RMSprop([torch.nn.Parameter(torch.zeros(1))]))


@pytest.mark.parametrize('scale', [.25, .7])
def test_attention_takes_any_scale(scale):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 5, 16).unbind(0)
    function, name = CPU.attention()
    assert name == 'scaled_dot_product_attention'
    assert torch.allclose(function(q, k, v, scale), (scale * q @ k.transpose(-2, -1)).softmax(-1) @ v, atol=1e-6)


def test_what_a_cpu_lacks_is_said():
    CPU.short_float32(False)
    with pytest.raises(UserError, match='--hf32'):
        CPU.short_float32(True)


def test_patches_are_chosen_by_name():
    one, two = (patches.Patch(name, None, 'why', exact=name == 'one') for name in ('one', 'two'))
    assert patches.chosen([one, two], 'all') == [one] and patches.chosen([one, two], 'none') == []
    assert patches.chosen([one, two], 'two, one') == [two, one]
    with pytest.raises(UserError, match="no patch 'three'.*one"):
        patches.chosen([one, two], 'one,three')


@pytest.mark.parametrize('old', [False, True])
def test_profile_holds_the_steps_that_were_asked_for(tmp_path, monkeypatch, old):
    """By torch's profiler, and as torch before 1.9 has it; every step multiplies matrices once."""
    if old:
        monkeypatch.setattr(accelerator.Accelerator, 'profiler', lambda self: None)
    profile = profiling.StepProfile(CPU, steps=3, wait=2, folder=str(tmp_path))
    for step in range(9):
        torch.mm(torch.ones(4, 4), torch.ones(4, 4))
        profile.step()
    profile.close()
    trace = json.loads(next(tmp_path.glob('*.json')).read_text())
    names = [event.get('name') for event in (trace['traceEvents'] if isinstance(trace, dict) else trace)]
    assert names.count('aten::mm') == 3
