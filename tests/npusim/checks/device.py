"""What the simulated device does, against the CPU."""

import contextlib
import copy
import glob
import io
import json
import os
import tempfile

import torch
import torch_npu
import torch.nn.functional as F
from torch import nn

NPU = torch.device('npu', 1)


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


def raises(kind, words, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except kind as e:
        assert words in str(e), e
        return
    raise AssertionError('nothing was raised; %s was expected' % kind.__name__)


def close(a, b, tolerance=1e-6):
    difference = (a.detach().cpu().float() - b.detach().cpu().float()).abs().max().item()
    assert difference <= tolerance, difference


# -------------------------------------------------------------------- training


def check_training_equals_the_cpu():
    for optimizer in (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.AdamW(p, 1e-2)):
        on_cpu = losses('cpu', optimizer)
        close(losses(NPU, optimizer), on_cpu)
        assert on_cpu[-1] < on_cpu[0]


def check_fused_optimizers_equal_torch():
    for fused, plain in (
        (
            lambda p: torch_npu.optim.NpuFusedSGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        ),
        (
            lambda p: torch_npu.optim.NpuFusedAdam(p, 1e-2, weight_decay=0.1),
            lambda p: torch.optim.Adam(p, 1e-2, weight_decay=0.1),
        ),
        (lambda p: torch_npu.optim.NpuFusedAdamW(p, 1e-2), lambda p: torch.optim.AdamW(p, 1e-2)),
        (lambda p: torch_npu.optim.NpuFusedRMSprop(p, 1e-3), lambda p: torch.optim.RMSprop(p, 1e-3)),
        (lambda p: torch_npu.optim.NpuFusedAdadelta(p), lambda p: torch.optim.Adadelta(p)),
    ):
        close(losses(NPU, fused), losses('cpu', plain), 2e-5)


def check_fused_optimizers_have_their_limits():
    model, (x, y) = net(NPU), batch(NPU)
    optimizer = torch_npu.optim.NpuFusedSGD(model.parameters(), lr=0.1)
    raises(ValueError, 'set_to_none', optimizer.zero_grad, set_to_none=True)
    for p in model.head.parameters():
        p.requires_grad_(False)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    for p in model.head.parameters():  # no gradient at the first step: left out for good
        p.requires_grad_(True)
    before = model.head.weight.clone()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert torch.equal(model.head.weight, before)
    low = nn.Linear(2, 2).to(NPU, torch.bfloat16)
    low(torch.ones(1, 2, device=NPU, dtype=torch.bfloat16)).sum().backward()
    raises(TypeError, 'bfloat16', torch_npu.optim.NpuFusedAdamW(low.parameters()).step)


def check_fused_optimizers_continue_from_a_checkpoint():
    model, (x, y) = net(NPU), batch(NPU)
    first = torch_npu.optim.NpuFusedAdamW(model.parameters(), 1e-2)
    other = net(NPU)
    second = torch_npu.optim.NpuFusedAdamW(other.parameters(), 1e-2)
    for step in range(4):
        if step == 2:
            other.load_state_dict(model.state_dict())
            second.load_state_dict(copy.deepcopy(first.state_dict()))
        for m, o in ((model, first), (other, second))[: 1 + (step > 1)]:
            o.zero_grad()
            F.cross_entropy(m(x), y).backward()
            o.step()
    for a, b in zip(model.parameters(), other.parameters()):
        close(a, b, 1e-6)


def check_autocast_and_scaler():
    model, (x, y) = net(NPU), batch(NPU)
    optimizer, scaler = torch.optim.SGD(model.parameters(), 0.1), torch_npu.npu.amp.GradScaler(init_scale=1024.0)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for step in range(5):
            optimizer.zero_grad()
            with torch.autocast('npu', dtype=torch.float16):
                output = model(x)
            assert output.dtype == torch.float16
            scaler.scale(F.cross_entropy(output.float(), y)).backward()
            if step == 3:
                model.head.weight.grad[0, 0] = float('inf')
            before = model.head.weight.clone()
            scaler.step(optimizer)
            scaler.update()
            assert torch.equal(before, model.head.weight) == (step == 3)
    assert scaler.get_scale() == 512 and 'Skipping step' in said.getvalue()
    assert scaler.state_dict()['dynamic'] is True
    raises(KeyError, 'dynamic', scaler.load_state_dict, torch.amp.GradScaler('cpu').state_dict())
    fixed = torch_npu.npu.amp.GradScaler(init_scale=8.0, dynamic=False)
    optimizer.zero_grad()
    fixed.scale(model(x).sum()).backward()
    fixed.step(optimizer)
    fixed.update()
    assert fixed.get_scale() == 8
    raises(ValueError, 'npu', fixed.scale, torch.ones(1))


def check_results_share_no_memory():
    """The three gradients of a float16 convolution are three tensors (they once were not, by an address used again)."""
    torch.manual_seed(0)
    for _ in range(20):
        conv = nn.Conv2d(8, 8, 3, groups=8).to(NPU, torch.float16)
        conv(torch.randn(2, 8, 6, 6, device=NPU, dtype=torch.float16, requires_grad=True)).sum().backward()
        assert (conv.bias.grad == 32).all()
        assert conv.bias.grad.data_ptr() != conv.weight.grad.data_ptr()


# ------------------------------------------------------------------- operators


def check_fusion_attention_equals_sdpa():
    heads, width = 4, 8
    for layout in ('BNSD', 'BSND', 'BSH', 'SBH'):
        q, k, v = (torch.randn(2, heads, 5, width, requires_grad=True) for _ in range(3))
        mask = torch.rand(5, 5) < 0.3
        mask.fill_diagonal_(False)
        wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=~mask)
        wanted.square().sum().backward()
        theirs = [in_layout(t.detach(), layout).to(NPU).requires_grad_() for t in (q, k, v)]
        output, top, total, *rest = torch_npu.npu_fusion_attention(
            *theirs, heads, layout, scale=width**-0.5, atten_mask=mask.to(NPU)
        )
        output.square().sum().backward()
        assert top.shape == total.shape == (2, heads, 5, 8) and rest[1:] == [0, 0, 0]
        close(output, in_layout(wanted, layout), 2e-6)
        for mine, t in zip(theirs, (q, k, v)):
            close(mine.grad, in_layout(t.grad, layout), 1e-5)
    raises(RuntimeError, 'BSH', torch_npu.npu_fusion_attention, *theirs, heads, 'NBSD')
    raises(RuntimeError, 'head_num', torch_npu.npu_fusion_attention, q.to(NPU), k.to(NPU), v.to(NPU), 3, 'BNSD')


def in_layout(x, layout):
    """(batch, heads, tokens, width) in another layout."""
    if layout == 'BNSD':
        return x
    if layout == 'BSND':
        return x.transpose(1, 2)
    return (x.transpose(1, 2) if layout == 'BSH' else x.permute(2, 0, 1, 3)).flatten(-2)


def check_small_operators():
    x = torch.linspace(-4, 4, 33)
    close(torch_npu.fast_gelu(x.to(NPU)), x * torch.sigmoid(1.702 * x))
    close(torch_npu.npu_format_cast(x.to(NPU), 29), x)
    y, rstd = torch_npu.npu_rms_norm(x.to(NPU), torch.ones(33, device=NPU))
    close(y, F.rms_norm(x, (33,), eps=1e-6))
    assert torch_npu.get_npu_format(x.to(NPU)) == 2


def check_views_and_resizes():
    x = torch.arange(12.0, device=NPU).view(3, 4)
    x.t()[1].mul_(10)
    close(x, torch.arange(12.0).view(3, 4) * torch.tensor([1.0, 10.0, 1.0, 1.0]))
    out = torch.empty(0, device=NPU)
    torch.add(x, 1, out=out)
    assert out.shape == (3, 4) and out.device == NPU
    assert x[torch.tensor([0, 2])].shape == (2, 4) and x.cpu().device.type == 'cpu'
    assert x.to(memory_format=torch.contiguous_format).is_npu and torch.zeros_like(x).device == NPU


def check_mixed_devices_raise():
    a = torch.ones(2, 2)
    raises(RuntimeError, 'same device', lambda: a.to(NPU) @ a)
    raises(RuntimeError, 'same device', lambda: a.to(NPU) + a.to('npu:0'))
    raises(RuntimeError, 'should be the same', net(NPU), batch('cpu')[0])
    close(a.to(NPU) * torch.tensor(2.0), a * 2)  # a scalar may stay on the CPU, as on every backend


# --------------------------------------------------------------------- device


def check_checkpoints_move():
    with tempfile.TemporaryDirectory() as folder:
        path, model = os.path.join(folder, 'checkpoint.pth'), net(NPU)
        torch.save({'state_dict': model.state_dict()}, path)
        on_cpu = torch.load(path, map_location='cpu', weights_only=True)['state_dict']
        assert all(t.device.type == 'cpu' for t in on_cpu.values())
        assert torch.load(path, weights_only=True)['state_dict']['head.weight'].device == NPU
        torch.save(on_cpu, path)
        other = net('npu:2')
        other.load_state_dict(torch.load(path, map_location='npu:2', weights_only=True))
        for name, tensor in other.state_dict().items():
            assert tensor.device == torch.device('npu', 2) and torch.equal(tensor.cpu(), on_cpu[name])


def check_generators_are_separate():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = torch.rand(4, device='npu')
    assert torch.equal(state, torch.get_rng_state())  # drawing on the device leaves the CPU's generator alone
    torch.npu.manual_seed(3)
    assert torch.equal(first, torch.rand(4, device='npu'))
    kept = torch.npu.get_rng_state()
    again = F.dropout(torch.ones(100, device='npu'))
    torch.npu.set_rng_state(kept)
    assert torch.equal(again, F.dropout(torch.ones(100, device='npu')))
    own = torch.Generator('npu').manual_seed(5)
    assert torch.equal(
        torch.randn(3, device='npu', generator=own), torch.randn(3, device='npu', generator=own.manual_seed(5))
    )


def check_devices_and_memory():
    assert torch.npu.device_count() == 4 and torch.npu.is_available()  # ASCEND_RT_VISIBLE_DEVICES of the test
    raises(RuntimeError, 'there is no NPU 4', torch.npu.set_device, 'npu:4')
    torch.npu.set_device('npu:2')
    assert torch.npu.current_device() == 2 and torch.ones(1, device='npu').device.index == 2
    with torch.npu.device(3):
        assert torch.npu.current_device() == 3
    before = torch.npu.memory_allocated()
    torch.npu.reset_peak_memory_stats()
    block = torch.empty(1000, device='npu')
    assert torch.npu.memory_allocated() == before + 4000 == torch.accelerator.memory_allocated()
    del block
    assert torch.npu.memory_allocated() == before and torch.npu.max_memory_allocated() == before + 4000
    assert torch.npu.memory_stats()['allocated_bytes.all.peak'] == before + 4000
    free, total = torch.npu.mem_get_info()
    assert 0 < free <= total
    torch.npu.set_device(0)


def check_pinned_memory_and_streams():
    x = torch.ones(5).pin_memory()
    assert x.is_pinned() and not torch.ones(5).is_pinned()
    side = torch.npu.Stream()
    start, end = (torch.npu.Event(enable_timing=True) for _ in range(2))
    start.record()
    with torch.npu.stream(side):
        y = x.to('npu', non_blocking=True)
    torch.npu.current_stream().wait_stream(side)
    y.record_stream(torch.npu.current_stream())
    end.record()
    torch.npu.synchronize()
    assert 0 <= start.elapsed_time(end) < 10000 and y.sum().item() == 5


def check_settings():
    torch.npu.set_compile_mode(jit_compile=False)
    torch.npu.config.allow_internal_format = False
    assert torch.npu.is_jit_compile_false() and torch.npu.conv.allow_hf32 and not torch.npu.matmul.allow_hf32
    torch.npu.conv.allow_hf32 = False
    torch.npu.set_option({'ACL_OP_DEBUG_LEVEL': 1})
    wanted = {
        'jitCompile': 'disable',
        'ALLOW_INTERNAL_FORMAT': 'disable',
        'ALLOW_CONV_HF32': 'disable',
        'ACL_OP_DEBUG_LEVEL': '1',
    }
    assert torch_npu._sim.options == wanted
    raises(ValueError, 'ACL_PRECISION_MODE', torch.npu.set_option, {'ACL_PRECISION_MODE': 'best'})


def check_operator_log():
    torch_npu._sim.record_ops()
    F.conv2d(torch.ones(1, 1, 3, 3, device=NPU), torch.ones(1, 1, 3, 3, device=NPU)).relu()
    torch_npu.fast_gelu(torch.ones(1, device=NPU))
    torch_npu._sim.record_ops(False)
    seen = torch_npu._sim.recorded_ops()
    assert {'aten::convolution_overrideable', 'aten::relu', 'npu::fast_gelu', 'aten::mul.out'} <= set(seen), seen
    torch.ones(2, device=NPU).exp()
    assert torch_npu._sim.recorded_ops() == {} and len(torch_npu._sim.build_hash()) == 16


def check_profiler_writes_a_trace():
    profiler = torch_npu.profiler
    with tempfile.TemporaryDirectory() as folder:
        config = profiler._ExperimentalConfig(
            profiler_level=profiler.ProfilerLevel.Level1, aic_metrics=profiler.AiCMetrics.PipeUtilization
        )
        with profiler.profile(
            activities=[profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.NPU],
            schedule=profiler.schedule(wait=1, warmup=1, active=1, repeat=1),
            on_trace_ready=profiler.tensorboard_trace_handler(folder),
            experimental_config=config,
        ) as prof:
            for _ in range(4):
                torch.ones(3, device=NPU).exp()
                prof.step()
        (trace,) = glob.glob(folder + '/*_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json')
        with open(trace) as f:
            assert any(event.get('name') == 'aten::exp' for event in json.load(f)['traceEvents'])


def check_a_forked_child_is_refused():
    torch.npu.init()
    child = os.fork()
    if not child:
        code = 1
        try:
            torch.ones(1, device=NPU)
        except RuntimeError as e:
            code = 0 if 'spawn' in str(e) else 2
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
