"""What is particular to a 910A: float16 saturates and a register notes it, no bfloat16, operators that it has not.

The checks want CANNSIM_SOC=Ascend910A.
"""

import math

import operators
import torch
import torch_npu
from comparing import close, launches
from torch.nn import functional

npu = torch.npu
utils = torch_npu.npu.utils
# as our scripts have it: else torch_npu takes CANN's older interface (aclop) on this chip
npu.set_compile_mode(jit_compile=False)
npu.config.allow_internal_format = False


def half(*values):
    return torch.tensor(values, dtype=torch.float16, device='npu')


def overflow(function):
    """-> what a function returns, and whether the register was set meanwhile"""
    utils.clear_npu_overflow_flag()
    value = function()
    return value, utils.get_npu_overflow_flag()


def check_chip():
    assert npu.get_device_name(0) == 'Ascend910A'
    assert not npu.is_bf16_supported() and not utils.is_support_inf_nan()


def check_overflow_saturates_and_is_noted():
    y, noted = overflow(lambda: half(60000, -60000, 1) * 2)
    assert y.tolist() == [65504, -65504, 2] and noted
    y, noted = overflow(lambda: half(300, 1) @ half(300, 1))
    assert y.item() == 65504 and noted
    y, noted = overflow(lambda: half(300, 1).add_(half(65500, 1)))
    assert y.tolist() == [65504, 2] and noted
    y, noted = overflow(lambda: torch.full((2,), 1e6, device='npu').half())
    assert y.tolist() == [65504, 65504] and noted
    weight = torch.full((1, 4, 1, 1), 300.0).half().npu()
    y, noted = overflow(lambda: functional.conv2d(weight, weight))
    assert y.item() == 65504 and noted


def check_nothing_is_noted_without_overflow():
    y, noted = overflow(lambda: half(30000, 2) * 2)
    assert y.tolist() == [60000, 4] and not noted
    y, noted = overflow(lambda: torch.full((2,), 1e30, device='npu') * 1e30)
    assert y.tolist() == [math.inf] * 2 and not noted, 'float32 has infinities'


def check_the_register_stays_until_it_is_cleared():
    overflow(lambda: half(60000) * 2)
    assert utils.get_npu_overflow_flag() and utils.get_npu_overflow_flag()
    assert not overflow(lambda: half(1) * 2)[1]


def check_grad_scaler():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2).npu()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    scaler = torch_npu.npu.amp.GradScaler(init_scale=2.0**20, growth_interval=3)
    scales, stepped = [], []
    for _ in range(12):
        before = net.weight.detach().cpu().clone()
        optimizer.zero_grad()
        with torch.autocast('npu', dtype=torch.float16):
            loss = net(torch.ones(4, 3, device='npu')).float().sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        stepped.append(not torch.equal(before, net.weight.detach().cpu()))
        scales.append(scaler.get_scale())
    # the gradient in float16 is 4 times the scale, which fits from 2^13 on
    assert stepped == [False] * 7 + [True] * 3 + [False, True], stepped
    assert scales[:8] == [2.0**n for n in (19, 18, 17, 16, 15, 14, 13, 13)] and scales[9] == 2.0**14, scales


def check_optimizers_without_lists_of_tensors():
    """torch_npu takes the foreach operators on a 910B alone."""
    for make in (
        lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=0.1, foreach=True),
        lambda p: torch_npu.optim.NpuFusedSGD(p, lr=0.02, momentum=0.9),
    ):
        _, found = launches(lambda make=make: operators.trained('npu', make))
        assert not any('Foreach' in name for name in found), found
    operators.compare_training('aclnnInplaceAddcdiv', lambda p: torch.optim.AdamW(p, lr=0.02))
    operators.compare_training('', lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9))


def check_training_in_float16():
    x, w = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).half(), torch.ones(2, 3).half()
    close(functional.linear(x.npu(), w.npu()), functional.linear(x, w), 4)


def check_what_it_has_not():
    assert 'bf16' in operators.said(lambda: torch.ones(2, dtype=torch.bfloat16, device='npu'))
    q = torch.ones(1, 1, 2, 16, dtype=torch.float16, device='npu')
    text = operators.said(lambda: torch_npu.npu_fusion_attention(q, q, q, 1, 'BNSD'))
    assert 'CANN has no such operator for Ascend910A' in text and 'aclnnFlashAttentionScore' in text
