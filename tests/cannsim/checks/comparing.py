"""Runs a case of cases.py on the CPU and on the NPU, and compares."""

import ctypes
import json
import os
import tempfile

import torch

TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
runtime = ctypes.CDLL('libascendcl.so')
proven = set()  # operators that a case names and that it launched


def launches(function):
    """-> what a function returns, and {operator: launches}"""
    torch.npu.synchronize()
    runtime.cannsim_counts_reset()
    value = function()
    torch.npu.synchronize()
    with tempfile.NamedTemporaryFile(suffix='.json') as file:
        assert runtime.cannsim_counts_write(os.fsencode(file.name)) == 0
        return value, json.load(open(file.name))['launches']


def proves(names, function):
    """-> what a function returns, which must launch these operators"""
    value, found = launches(function)
    missing = set(names.split()) - found.keys()
    assert not missing, f'{", ".join(sorted(missing))} was not launched, but {sorted(found)}'
    proven.update(names.split())
    return value


def close(got, want, slack=1.0, what='', dtype=None):
    """Raises AssertionError unless both are the same: type, sizes, and values as near as those computed in dtype can be."""
    got = got.detach().cpu()
    want = want.detach()
    assert got.dtype == want.dtype and got.shape == want.shape, (
        f'{what}: {got.dtype} {got.shape}, not {want.dtype} {want.shape}'
    )
    if want.dtype not in TOLERANCE:
        assert torch.equal(got, want), f'{what}: {got} is not {want}'
        return
    finite = want[want.isfinite()]
    tolerance = (
        max(TOLERANCE[want.dtype], TOLERANCE.get(dtype, 0))
        * slack
        * max(1.0, finite.abs().max().item() if finite.numel() else 1.0)
    )
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance, equal_nan=True, msg=lambda text: f'{what}: {text}')


# ---- cases of cases.py


class Prepared:
    """The inputs of a case in memory as a layout has it, from which each device takes its own."""

    def __init__(self, case, dtype, layout):
        self.layout, self.packed, self.leaf = layout, [], []
        random = torch.Generator().manual_seed(5)
        for given in case.inputs:
            size = tuple(0 if n == 3 and layout == 'empty' else n for n in given.size)
            tensor = given.make(size, random).to(given.dtype or dtype)
            self.packed.append(self.pack(tensor))
            self.leaf.append(case.grad and tensor.is_floating_point() and not given.still)

    def pack(self, tensor):
        """With layout 'strided': the dimensions turned round, and a gap after each element"""
        if self.layout != 'strided' or tensor.dim() == 0:
            return tensor
        turned = tensor.permute(*reversed(range(tensor.dim())))
        return torch.stack((turned, torch.zeros_like(turned)), -1)

    def view(self, packed):
        if self.layout != 'strided' or packed.dim() == 0:
            return packed
        gaps = packed[..., 0]
        return gaps.permute(*reversed(range(gaps.dim())))

    def on(self, device, dtype=None):
        """-> what is in memory of a device, and the inputs that lie in it"""
        packed = [tensor.to(device, copy=True) for tensor in self.packed]
        if dtype:
            packed = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in packed]
        inputs = [self.view(tensor) for tensor in packed]
        return packed, [x.requires_grad_() if leaf else x for x, leaf in zip(inputs, self.leaf)]


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def run(case, prepared, device, dtype=None):
    """-> results, gradients, and all that is in memory afterwards, gaps too"""
    packed, inputs = prepared.on(device, dtype)
    results = as_list(case.function(*inputs))
    leaves = [x for x, leaf in zip(inputs, prepared.leaf) if leaf]
    if not leaves:
        return results + packed
    heads = [y for y in results if y.requires_grad]
    random = torch.Generator().manual_seed(7)
    slopes = [torch.randn(y.shape, generator=random).to(y.dtype).to(device) for y in heads]
    return results + list(torch.autograd.grad(heads, leaves, slopes))


def reference(case, prepared, dtype):
    """On the CPU; in float32 where it has no kernel for half precision"""
    try:
        return run(case, prepared, 'cpu')
    except RuntimeError as e:
        if 'not implemented for' not in str(e):
            raise
    wide = run(case, prepared, 'cpu', torch.float32)
    return [y.to(dtype) if y.is_floating_point() else y for y in wide]


def compare(case, dtype, layout):
    prepared = Prepared(case, dtype, layout)
    want = reference(case, prepared, dtype)
    got = run(case, prepared, 'npu')
    assert len(got) == len(want)
    for i, (mine, theirs) in enumerate(zip(got, want)):
        close(mine, theirs, case.slack, f'{" ".join(case.names)} {dtype} {layout}, result {i}', dtype)


def all_of(table):
    wrong = []
    for case in table:
        layouts = ['plain', *(['strided'] if case.strided else []), *(['empty'] if case.empty else [])]

        def go(case=case, layouts=layouts):
            for dtype in case.dtypes:
                for layout in layouts:
                    compare(case, dtype, layout)

        try:
            proves(' '.join(case.names), go)
        except (AssertionError, RuntimeError, TypeError, ValueError) as e:
            wrong.append(f'{" ".join(case.names)}: {type(e).__name__}: {str(e)[:600]}')
    assert not wrong, f'{len(wrong)} of {len(table)} cases:\n' + '\n'.join(wrong)
