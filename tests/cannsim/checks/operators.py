"""The simulated operators of CANN against libtorch's on the CPU, called through torch_npu: values and gradients.

Every operator of src/ops/ must be launched by a case that names it (check_zz_every_operator, the last one).
"""

import copy
import math
import re
from pathlib import Path

import cases
import torch
import torch_npu
from comparing import all_of, close, proven, proves
from torch.nn import functional

SOURCES = Path(__file__).resolve().parents[1] / 'src' / 'ops'
npu = torch.npu


def check_arithmetic():
    all_of(cases.ARITHMETIC)


def check_compare():
    all_of(cases.COMPARE)


def check_copies():
    all_of(cases.COPIES)


def check_reductions():
    all_of(cases.REDUCTIONS)


def check_matrices():
    all_of(cases.MATRICES)


def check_norms():
    all_of(cases.NORMS)


def check_activations():
    all_of(cases.ACTIVATIONS)


def check_windows():
    all_of(cases.WINDOWS)


def check_foreach():
    all_of(cases.FOREACH)


# ---- random numbers: the same for the same seed, others with each draw, and distributed as they should be

DRAWS = 20000


def drawn(names, draw, mean, deviation):
    """draw() -> a tensor of the NPU"""

    def three():
        npu.manual_seed(3)
        first, second = draw().cpu(), draw().cpu()
        npu.manual_seed(3)
        assert torch.equal(draw().cpu(), first) and not torch.equal(first, second)
        return first.double()

    numbers = proves(names, three)
    slack = 5 / math.sqrt(numbers.numel())
    assert abs(numbers.mean().item() - mean) < slack * max(1, deviation), f'{names}: mean {numbers.mean()}'
    assert abs(numbers.std().item() - deviation) < slack * max(1, deviation), f'{names}: deviation {numbers.std()}'


def check_random():
    def empty(dtype=torch.float32):
        return torch.empty(DRAWS, dtype=dtype, device='npu')

    def constant(value):
        return torch.full((DRAWS,), float(value), device='npu')

    for dtype in cases.FLOATS:
        drawn('aclnnInplaceNormal', lambda dtype=dtype: empty(dtype).normal_(1, 2), 1, 2)
        drawn('aclnnInplaceUniform', lambda dtype=dtype: empty(dtype).uniform_(-1, 3), 1, 4 / math.sqrt(12))
    drawn('aclnnInplaceNormal', lambda: torch.randn(DRAWS, device='npu'), 0, 1)
    drawn('aclnnInplaceUniform', lambda: torch.rand(DRAWS, device='npu'), 0.5, 1 / math.sqrt(12))
    drawn('aclnnInplaceBernoulli', lambda: empty().bernoulli_(0.3), 0.3, math.sqrt(0.21))
    drawn('aclnnInplaceBernoulliTensor', lambda: torch.bernoulli(constant(0.3)), 0.3, math.sqrt(0.21))
    drawn('aclnnInplaceRandom', lambda: torch.randint(0, 10, (DRAWS,), device='npu'), 4.5, math.sqrt(99 / 12))
    drawn('aclnnNormalFloatFloat', lambda: torch.normal(1.0, 2.0, (DRAWS,), device='npu'), 1, 2)
    drawn('aclnnNormalTensorFloat', lambda: torch.normal(constant(1), 2.0), 1, 2)
    drawn('aclnnNormalFloatTensor', lambda: torch.normal(1.0, constant(2)), 1, 2)
    drawn('aclnnNormalTensorTensor', lambda: torch.normal(constant(1), constant(2)), 1, 2)
    drawn('aclnnInplaceUniform', lambda: empty().exponential_(0.5), 2, 2)  # it is made of several operators
    weights = torch.tensor([1.0, 0.0, 3.0], device='npu')
    drawn('aclnnMultinomial', lambda: torch.multinomial(weights, DRAWS, True), 1.5, math.sqrt(0.75))
    order = proves('aclnnRandperm', lambda: torch.randperm(1000, device='npu').cpu())
    assert torch.equal(order.sort().values, torch.arange(1000)) and not torch.equal(order, torch.arange(1000))


def check_dropout():
    for dtype in cases.FLOATS:
        x = torch.ones(100, 200, dtype=dtype, device='npu', requires_grad=True)
        y = proves('aclnnDropoutGenMaskV2 aclnnDropoutDoMask', lambda x=x: functional.dropout(x, 0.25))
        kept = y.detach().cpu() != 0
        assert abs(kept.float().mean().item() - 0.75) < 0.02
        close(y, torch.where(kept, 1 / 0.75, 0.0).to(dtype))
        (gradient,) = torch.autograd.grad(y, x, torch.full_like(y, 3))
        close(gradient, torch.where(kept, 3 / 0.75, 0.0).to(dtype), slack=4)


# ---- attention

B, N, S, D = 2, 4, 6, 8  # batch, heads, tokens, channels of a head
LAYOUTS = {
    'BNSD': lambda x: x,
    'BSND': lambda x: x.transpose(1, 2).contiguous(),
    'BSH': lambda x: x.transpose(1, 2).flatten(2),
    'SBH': lambda x: x.transpose(1, 2).flatten(2).transpose(0, 1).contiguous(),
}
FLASH = 'aclnnFlashAttentionScore aclnnFlashAttentionScoreGrad'


def attention(q, k, v, hidden=None, kept=None, keep=1.0, shift=0):
    """As it is defined, in (batch, heads, tokens, channels)"""
    k, v = (x.repeat_interleave(q.size(1) // x.size(1), 1) for x in (k, v))
    scores = (q @ k.transpose(-1, -2) + shift) * 0.3
    if hidden is not None:
        scores = scores.masked_fill(hidden, float('-inf'))
    p = scores.softmax(-1)
    if kept is not None:
        p = p * kept / keep
    return p @ v


def with_gradients(function, q, k, v, slope):
    inputs = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    y = function(*inputs)
    return [y, *torch.autograd.grad(y, inputs, slope)]


def heads(count, tokens=S, seed=0):
    return torch.randn(B, count, tokens, D, generator=torch.Generator().manual_seed(seed))


def compare_attention(layout, dtype, key_heads=N, keys=S, hidden=None, shift=0, **options):
    turn = LAYOUTS[layout]
    q, slope = heads(N, seed=1).to(dtype), heads(N, seed=2).to(dtype)
    k, v = (heads(key_heads, keys, seed).to(dtype) for seed in (3, 4))
    want = with_gradients(lambda *x: attention(*x, hidden, shift=shift), q.float(), k.float(), v.float(), slope.float())

    def fused(q, k, v):
        return torch_npu.npu_fusion_attention(q, k, v, N, layout, scale=0.3, **options)[0]

    on_card = [turn(x).npu() for x in (q, k, v, slope)]
    got = proves(FLASH, lambda: with_gradients(fused, *on_card))
    for i, (mine, theirs) in enumerate(zip(got, want)):
        close(mine, turn(theirs).to(dtype), slack=8, what=f'{layout} {dtype} {options.keys()} result {i}')


def check_attention_layouts():
    for layout in LAYOUTS:
        for dtype in cases.FLOATS:
            compare_attention(layout, dtype)
        compare_attention(layout, torch.float32, key_heads=2)


def check_attention_masks():
    above = torch.ones(S, S, dtype=torch.bool).triu(1)
    compare_attention('BNSD', torch.float32, hidden=above, atten_mask=above.npu())
    compressed = torch.ones(2048, 2048, dtype=torch.bool).triu(1).npu()
    compare_attention('BSH', torch.float16, hidden=above, atten_mask=compressed, sparse_mode=2)
    corner = torch.ones(S, 9, dtype=torch.bool).triu(1 + 9 - S)
    compare_attention('BNSD', torch.float32, keys=9, hidden=corner, atten_mask=compressed, sparse_mode=3)


def check_attention_shift():
    """A number for each pair of tokens, "pse" in CANN, such as for their distance"""
    shift = torch.randn(B, N, S, S, generator=torch.Generator().manual_seed(6))
    compare_attention('BNSD', torch.float32, shift=shift, pse=shift.npu())
    compare_attention('SBH', torch.float16, shift=shift.half().float(), pse=shift.half().npu())


def check_attention_dropout():
    """With the unit matrix as v the result shows what was dropped."""
    q, k = heads(N, seed=1).npu(), heads(N, D, seed=3).npu()
    v, slope = heads(N, D, seed=4), heads(N, seed=2)

    def fused(q, k, v):
        npu.manual_seed(11)
        return torch_npu.npu_fusion_attention(q, k, v, N, 'BNSD', scale=0.3, keep_prob=0.6)[0]

    unit = torch.eye(D).expand(B, N, D, D).contiguous().npu()
    kept = (proves('aclnnDropoutGenMaskV2', lambda: fused(q, k, unit)).cpu() != 0).float()
    assert 0.45 < kept.mean().item() < 0.75
    want = with_gradients(lambda *x: attention(*x, kept=kept, keep=0.6), q.cpu(), k.cpu(), v, slope)
    for mine, theirs in zip(with_gradients(fused, q, k, v.npu(), slope.npu()), want):
        close(mine, theirs, slack=8)


def check_scaled_dot_product_attention():
    q, k, v, slope = (heads(N, seed=seed) for seed in (1, 3, 4, 2))
    above = torch.ones(S, S, dtype=torch.bool).triu(1)
    for options in ({}, {'is_causal': True}, {'attn_mask': ~above}):
        moved = {name: x.npu() if torch.is_tensor(x) else x for name, x in options.items()}
        want = with_gradients(lambda *x, o=options: functional.scaled_dot_product_attention(*x, **o), q, k, v, slope)
        got = with_gradients(
            lambda *x, o=moved: functional.scaled_dot_product_attention(*x, **o), *(x.npu() for x in (q, k, v, slope))
        )
        for mine, theirs in zip(got, want):
            close(mine, theirs, slack=8, what=str(options))


# ---- batch norm over several cards: here two parts of one batch


def check_sync_batch_norm():
    random = torch.Generator().manual_seed(1)
    parts = [torch.randn(n, 3, 4, 5, generator=random) for n in (2, 5)]
    w, b = torch.rand(3, generator=random), torch.rand(3, generator=random)
    slopes = [torch.randn(x.shape, generator=random) for x in parts]
    mean, var = torch.zeros(3), torch.ones(3)
    whole = torch.cat(parts).requires_grad_()
    weights = [w.clone().requires_grad_(), b.clone().requires_grad_()]
    want = functional.batch_norm(whole, mean, var, *weights, True, 0.2, 1e-3)
    gradients = torch.autograd.grad(want, [whole, *weights], torch.cat(slopes))
    counts = torch.tensor([x.numel() / 3 for x in parts])
    on_card = [x.npu() for x in parts]
    running = [torch.zeros(3).npu(), torch.ones(3).npu()]

    def statistics():
        sums = [torch_npu.batch_norm_reduce(x.flatten(2).unsqueeze(2), 1e-3) for x in on_card]
        gathered = [torch.stack(each) for each in zip(*sums)]
        return torch_npu.batch_norm_gather_stats_update(on_card[0], *gathered, *running, 0.2, 1e-3, counts.npu())

    batch = proves('aclnnBatchNormReduce aclnnSyncBatchNormGatherStats', statistics)
    close(running[0], mean, 4)
    close(running[1], var, 4)

    def forward():
        return [torch.batch_norm_elemt(x, w.npu(), b.npu(), *batch, 1e-3) for x in on_card]

    close(torch.cat(proves('aclnnBatchNormElemt', forward)), want, 8)

    def backward():
        slope = [x.npu() for x in slopes]
        each = [
            torch.batch_norm_backward_reduce(g, x, *batch, w.npu(), True, True, True) for g, x in zip(slope, on_card)
        ]
        dy, dy_xmu, gw, gb = (sum(values) for values in zip(*each))
        counted = counts.npu().int()
        gx = [
            torch.batch_norm_backward_elemt(g, x, *batch, w.npu(), dy, dy_xmu, counted) for g, x in zip(slope, on_card)
        ]
        return torch.cat(gx), gw, gb

    names = 'aclnnBatchNormReduceBackward aclnnBatchNormElemtBackward'
    for mine, theirs in zip(proves(names, backward), gradients):
        close(mine, theirs, 16)

    def older():
        each = [torch.batch_norm_stats(x, 1e-3) for x in on_card]
        means, invstds = (torch.stack(values) for values in zip(*each))
        fresh = [torch.zeros(3).npu(), torch.ones(3).npu()]
        found = torch.batch_norm_gather_stats_with_counts(on_card[0], means, invstds, *fresh, 0.2, 1e-3, counts.npu())
        return [*found, *fresh]

    names = 'aclnnBatchNormStats aclnnBatchNormGatherStatsWithCounts'
    for mine, theirs in zip(proves(names, older), [*batch, mean, var]):
        close(mine, theirs.cpu(), 16)


# ---- optimizers, clipping, moving averages, the gradient scaler


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))


def trained(device, make, steps=4, between=lambda net: None):
    """-> the parameters after some steps"""
    net = model().to(device)
    optimizer = make(net.parameters())
    random = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(6, 5, generator=random).to(device)
        optimizer.zero_grad()
        net(x).square().sum().backward()
        between(net)
        optimizer.step()
    return [p.detach() for p in net.parameters()]


def compare_training(names, make, reference=None, **options):
    got = proves(names, lambda: trained('npu', make, **options))
    for mine, theirs in zip(got, trained('cpu', reference or make, **options)):
        close(mine, theirs, 16, what=names)


def check_optimizers():
    adamw = dict(lr=0.02, weight_decay=0.1)
    sgd = dict(lr=0.02, momentum=0.9, weight_decay=0.1)
    for foreach in (False, True):
        for more in ({}, {'amsgrad': True}, {'maximize': True}):
            compare_training('', lambda p, f=foreach, m=more: torch.optim.AdamW(p, **adamw, foreach=f, **m))
        for more in ({}, {'nesterov': True}):
            compare_training('', lambda p, f=foreach, m=more: torch.optim.SGD(p, **sgd, foreach=f, **m))
        compare_training('', lambda p, f=foreach: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, foreach=f))
        compare_training('', lambda p, f=foreach: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, foreach=f))
    for more in ({}, {'amsgrad': True}, {'maximize': True}):
        compare_training(
            'aclnnApplyAdamWV2',
            lambda p, m=more: torch.optim.AdamW(p, **adamw, **m, fused=True),
        )
    for more in ({}, {'nesterov': True}):
        compare_training('aclnnFusedSgd', lambda p, m=more: torch.optim.SGD(p, **sgd, **m, fused=True))


def check_fused_optimizers_of_torch_npu():
    fused, plain = torch_npu.optim, torch.optim
    pairs = {
        'NpuFusedAdamW': (plain.AdamW, dict(lr=0.02, weight_decay=0.1)),
        'NpuFusedAdam': (plain.Adam, dict(lr=0.02)),
        'NpuFusedSGD': (plain.SGD, dict(lr=0.02, momentum=0.9, weight_decay=0.1)),
        'NpuFusedRMSprop': (plain.RMSprop, dict(lr=0.02)),
        'NpuFusedAdadelta': (plain.Adadelta, dict(lr=0.5)),
    }
    for name, (same, options) in pairs.items():
        compare_training(
            '',
            lambda p, name=name, o=options: getattr(fused, name)(p, **o),
            reference=lambda p, same=same, o=options: same(p, **o),
        )
    for name in ('NpuFusedLamb', 'NpuFusedAdamP', 'NpuFusedBertAdam', 'NpuFusedRMSpropTF'):
        before = [p.detach() for p in model().parameters()]
        after = trained('npu', lambda p, name=name: getattr(fused, name)(p, lr=0.02))
        assert all(x.isfinite().all() and not torch.equal(x.cpu(), y) for x, y in zip(after, before)), name


def check_clipping_and_averages():
    def clip_norm(net):
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)

    def clip_value(net):
        torch.nn.utils.clip_grad_value_(net.parameters(), 0.01)

    for clip in (clip_norm, clip_value):
        compare_training('', lambda p: torch.optim.SGD(p, lr=0.1), between=clip)
    for foreach in (False, True):
        nets = [copy.deepcopy(model()), copy.deepcopy(model())]
        with torch.no_grad():
            for p in nets[1].parameters():
                p.mul_(2)
        lists = [[list(net.to(device).parameters()) for net in copy.deepcopy(nets)] for device in ('cpu', 'npu')]
        for average, new in lists:
            with torch.no_grad():
                if foreach:
                    torch._foreach_lerp_(average, new, 0.1)
                else:
                    for a, b in zip(average, new):
                        a.mul_(0.9).add_(b, alpha=0.1)
        for mine, theirs in zip(lists[1][0], lists[0][0]):
            close(mine, theirs, 4)


def check_scaler():
    def unscale(*values):
        grads = [torch.tensor(v, device='npu') for v in values]
        found = torch.zeros(1, device='npu')
        torch._amp_foreach_non_finite_check_and_unscale_(grads, found, torch.full((1,), 0.5, device='npu'))
        return found.item(), [g.cpu().tolist() for g in grads]

    names = 'aclnnForeachNonFiniteCheckAndUnscale'
    assert proves(names, lambda: unscale([2.0, 4.0], [6.0])) == (0, [[1.0, 2.0], [3.0]])
    assert proves(names, lambda: unscale([2.0], [math.inf]))[0] == 1
    assert proves(names, lambda: unscale([math.nan], [1.0]))[0] == 1

    def update(found):
        scale, tracker = torch.tensor([8.0]).npu(), torch.tensor([1], dtype=torch.int32).npu()
        torch._amp_update_scale_(scale, tracker, torch.tensor([found]).npu(), 2.0, 0.5, 2)
        return scale.item(), tracker.item()

    assert proves('aclnnAmpUpdateScale', lambda: update(0.0)) == (16, 0)
    assert proves('aclnnAmpUpdateScale', lambda: update(1.0)) == (4, 0)


def check_grad_scaler():
    net = torch.nn.Linear(3, 2).npu()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch_npu.npu.amp.GradScaler(init_scale=64.0, growth_interval=2)
    scales = []
    for factor in (1.0, math.inf, 1.0, 1.0):
        before = net.weight.detach().clone()
        optimizer.zero_grad()
        with torch.autocast('npu', dtype=torch.float16):
            loss = net(torch.ones(4, 3, device='npu')).float().sum() * factor
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(before.cpu(), net.weight.detach().cpu()) == (factor == math.inf)
        scales.append(scaler.get_scale())
    assert scales == [64, 32, 32, 64], scales


# ---- what is refused


def said(function, *arguments):
    """-> the text of the error"""
    try:
        function(*arguments)
        npu.synchronize()
    except RuntimeError as e:
        return str(e)
    raise AssertionError('nothing was raised')


def check_a_type_that_the_chip_does_not_take():
    text = said(torch.erf, torch.ones(2, dtype=torch.bfloat16, device='npu'))
    assert 'aclnnErf' in text and 'bf16' in text and 'Ascend910B3' in text and 'aclnnErf&aclnnInplaceErf.md' in text


def check_table_has_every_operator():
    rows = re.findall(r'^(aclnn\w+) (\S+) (\S+) (\S+)$', (SOURCES / 'dtypes.txt').read_text(), re.M)
    names = [name for name, *_ in rows]
    assert sorted(names) == sorted(operators()) and len(set(names)) == len(names)
    assert not any('bf16' in first for _, first, _, _ in rows), 'a 910A has no bfloat16'


def operators():
    """-> the names of the rows in src/ops/"""
    text = ''.join(path.read_text() for path in sorted(SOURCES.glob('*.cpp')))
    return re.findall(r'^OP\((aclnn\w+),', text, re.M)


def check_zz_every_operator():
    missing = sorted(set(operators()) - proven)
    assert not missing, f'{len(missing)} operators are in no case: {" ".join(missing)}'
    assert len(operators()) == len(set(operators()))
