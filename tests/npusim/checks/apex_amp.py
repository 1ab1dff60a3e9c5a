"""The stand-in for apex trains at every level, and skips a step whose gradients overflow."""

import contextlib
import io

import torch
import torch.nn.functional as F
from apex import amp
from device import batch, close, losses, net, raises


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


def check_levels_train_as_float32_does():
    wanted = losses('cpu', lambda p: torch.optim.SGD(p, 0.02, momentum=0.9))
    for device in ('cpu', 'npu:1'):
        for level, tolerance in (('O0', 1e-6), ('O1', 0.02), ('O2', 0.02)):
            model, optimizer = prepared(device, opt_level=level)
            x, y = batch(device)
            assert model(x).dtype == torch.float32
            close(torch.tensor([step(model, optimizer, x, y) for _ in range(5)]), wanted, tolerance)


def check_what_o2_casts():
    model, optimizer = prepared('npu', opt_level='O2', combine_grad=True)
    dtypes = {name: p.dtype for name, p in model.named_parameters()}
    assert dtypes['head.weight'] == torch.float16 and dtypes['stem.1.weight'] == torch.float32
    assert {p.dtype for p in amp.master_params(optimizer)} == {
        torch.float16,
        torch.float32,
    }  # masters come with the first use
    x, y = batch('npu')
    with amp.scale_loss(F.cross_entropy(model(x), y), optimizer) as scaled:
        scaled.backward()
    assert {p.dtype for p in amp.master_params(optimizer)} == {torch.float32}
    assert optimizer.clip_optimizer_grad_norm_fused(1e-3) > 1e-3
    total = torch.stack([p.grad.norm() for p in amp.master_params(optimizer)]).norm()
    close(total, torch.tensor(1e-3), 1e-6)


def check_overflow_skips_one_step():
    for device in ('cpu', 'npu:1'):
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


def check_a_fixed_scale_stays():
    model, optimizer = prepared('npu', opt_level='O1', loss_scale=64.0)
    step(model, optimizer, *batch('npu'), spoil=True)
    assert amp.state_dict()['loss_scaler0']['loss_scale'] == 64


def check_gradients_accumulate():
    x, y = batch('npu')
    for level in ('O1', 'O2'):
        model, optimizer = prepared('npu', opt_level=level)
        for _ in range(2):
            with amp.scale_loss(F.cross_entropy(model(x), y), optimizer) as scaled:
                scaled.backward()
        twice = [p.grad.clone() for p in amp.master_params(optimizer)]
        optimizer.zero_grad()
        with amp.scale_loss(F.cross_entropy(model(x), y), optimizer) as scaled:
            scaled.backward()
        for once, sum_of_two in zip(amp.master_params(optimizer), twice):
            close(once.grad * 2, sum_of_two, 2e-3)


def check_state_comes_back():
    prepared('cpu', opt_level='O2')
    amp.load_state_dict({'loss_scaler0': {'loss_scale': 8.0, 'unskipped': 5}})
    assert amp.state_dict() == {'loss_scaler0': {'loss_scale': 8.0, 'unskipped': 5}}


def check_misuse_raises():
    model = net('cpu')
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    raises(RuntimeError, 'letter O', amp.initialize, model, optimizer, opt_level='02')
    raises(RuntimeError, 'combine_grad', amp.initialize, model, optimizer, opt_level='O0', combine_grad=True)
    raises(RuntimeError, 'float16', amp.initialize, net('cpu').half(), optimizer)
    model, optimizer = prepared('cpu')
    raises(RuntimeError, 'once', amp.initialize, model, optimizer)
