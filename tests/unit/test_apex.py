"""The stand-in for Ascend's apex (tests/apexsim) trains at every level, and skips a step whose gradients overflow.

On a card it is run by the O2 rows of test_every_script.py.
"""

import contextlib
import io
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import TOP

sys.path.insert(0, str(TOP / 'tests' / 'apexsim'))
from apex import amp

del sys.path[0]  # other tests' children have no apex


class Attention(nn.Module):
    def __init__(self, width=8, heads=2):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Net(nn.Module):
    """Convolution, batch norm, attention: what the models of this collection are made of."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 8, 3, groups=8))
        self.attention, self.norm, self.head = Attention(), nn.LayerNorm(8), nn.Linear(8, 10)

    def forward(self, x):
        x = self.attention(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(1))


def net(device):
    torch.manual_seed(0)
    return Net().to(device)


def batch(device):
    numbers = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, 16, 16, generator=numbers).to(device), (torch.arange(6) % 10).to(device)


def losses(device, optimizer, steps=5):
    model = net(device)
    optimizer, (x, y) = optimizer(model.parameters()), batch(device)
    out = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        out.append(loss.item())
    return torch.tensor(out)


def close(a, b, tolerance=1e-6):
    assert (a.detach().float() - b.detach().float()).abs().max().item() <= tolerance


def prepared(device, **options):
    model = net(device)
    return amp.initialize(model, torch.optim.SGD(model.parameters(), 0.02, momentum=0.9), verbosity=0, **options)


def step(model, optimizer, x, y, spoil=False):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    with amp.scale_loss(loss, optimizer) as scaled:
        scaled.backward()
        if spoil:
            next(p for p in model.parameters() if p.grad is not None).grad.view(-1)[0] = float('inf')
    optimizer.step()
    return loss.item()


def test_levels_train_as_float32_does():
    wanted = losses('cpu', lambda p: torch.optim.SGD(p, 0.02, momentum=0.9))
    for device in ('cpu',):
        for level, tolerance in (('O0', 1e-6), ('O1', 0.02), ('O2', 0.02)):
            model, optimizer = prepared(device, opt_level=level)
            x, y = batch(device)
            assert model(x).dtype == torch.float32
            close(torch.tensor([step(model, optimizer, x, y) for _ in range(5)]), wanted, tolerance)


def test_what_o2_casts():
    model, optimizer = prepared('cpu', opt_level='O2', combine_grad=True)
    dtypes = {name: p.dtype for name, p in model.named_parameters()}
    assert dtypes['head.weight'] == torch.float16 and dtypes['stem.1.weight'] == torch.float32
    assert {p.dtype for p in amp.master_params(optimizer)} == {
        torch.float16,
        torch.float32,
    }  # masters come with the first use
    x, y = batch('cpu')
    with amp.scale_loss(F.cross_entropy(model(x), y), optimizer) as scaled:
        scaled.backward()
    assert {p.dtype for p in amp.master_params(optimizer)} == {torch.float32}
    assert optimizer.clip_optimizer_grad_norm_fused(1e-3) > 1e-3
    total = torch.stack([p.grad.norm() for p in amp.master_params(optimizer)]).norm()
    close(total, torch.tensor(1e-3), 1e-6)


def test_overflow_skips_one_step():
    for device in ('cpu',):
        for level in ('O1', 'O2'):
            model, optimizer = prepared(device, opt_level=level)
            data, said = batch(device), io.StringIO()
            step(model, optimizer, *data)
            before = [p.clone() for p in model.parameters()]
            with contextlib.redirect_stdout(said):
                step(model, optimizer, *data, spoil=True)
            assert all(map(torch.equal, before, model.parameters())) and 'Skipping step' in said.getvalue()
            assert amp.state_dict() == {'loss_scaler0': {'loss_scale': 2.0**15, 'unskipped': 0}}
            step(model, optimizer, *data)
            assert not torch.equal(before[0], next(model.parameters()))


def test_a_fixed_scale_stays():
    model, optimizer = prepared('cpu', opt_level='O1', loss_scale=64.0)
    step(model, optimizer, *batch('cpu'), spoil=True)
    assert amp.state_dict()['loss_scaler0']['loss_scale'] == 64


def test_gradients_accumulate():
    x, y = batch('cpu')
    for level in ('O1', 'O2'):
        model, optimizer = prepared('cpu', opt_level=level)
        for _ in range(2):
            with amp.scale_loss(F.cross_entropy(model(x), y), optimizer) as scaled:
                scaled.backward()
        twice = [p.grad.clone() for p in amp.master_params(optimizer)]
        optimizer.zero_grad()
        with amp.scale_loss(F.cross_entropy(model(x), y), optimizer) as scaled:
            scaled.backward()
        for once, sum_of_two in zip(amp.master_params(optimizer), twice):
            close(once.grad * 2, sum_of_two, 2e-3)


def test_state_comes_back():
    prepared('cpu', opt_level='O2')
    amp.load_state_dict({'loss_scaler0': {'loss_scale': 8.0, 'unskipped': 5}})
    assert amp.state_dict() == {'loss_scaler0': {'loss_scale': 8.0, 'unskipped': 5}}


def test_misuse_raises():
    model = net('cpu')
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(RuntimeError, match='letter O'):
        amp.initialize(model, optimizer, opt_level='02')
    with pytest.raises(RuntimeError, match='combine_grad'):
        amp.initialize(model, optimizer, opt_level='O0', combine_grad=True)
    with pytest.raises(RuntimeError, match='float16'):
        amp.initialize(net('cpu').half(), optimizer)
    model, optimizer = prepared('cpu')
    with pytest.raises(RuntimeError, match='once'):
        amp.initialize(model, optimizer)
