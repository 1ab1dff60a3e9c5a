"""What torch_npu takes weight by weight though it has one kernel for many, given to torch's dispatcher as its own.

A launch costs some microseconds of the host, whatever the size, and a small network has more weights than arithmetic.
torch's optimizers and clip_grad_norm_ call these operators, and need not know of them.
"""

from typing import Any, List, Sequence

import torch

LIBRARIES: List[Any] = []  # an implementation lives as long as its Library


def addcdiv_(tensors: Sequence[Any], first: Sequence[Any], second: Sequence[Any], scalars: Sequence[float]) -> None:
    """tensors += scalar * first / second, with a number for each: Adam's last operation, whose numbers are alike.

    torch_npu has a kernel for one number, and none for a list.
    """
    for number in set(scalars):
        chosen = [place for place, scalar in enumerate(scalars) if scalar == number]
        lists = [[each[place] for place in chosen] for each in (tensors, first, second)]
        torch._foreach_addcdiv_(*lists, value=number)


def mul_(tensors: Sequence[Any], factor: Any) -> None:
    """tensors *= factor, a number on the device: what clips gradients by their norm.

    The kernel that takes back the loss scale multiplies by such a number; what else it finds out is not used.
    """
    if factor.dim() == 0 and factor.dtype == torch.float32 and all(t.dtype == torch.float32 for t in tensors):
        torch._amp_foreach_non_finite_check_and_unscale_(tensors, torch.zeros_like(factor), factor)
    else:
        for tensor in tensors:
            tensor.mul_(factor)


def register() -> None:
    """Once in a process, as far as this torch has the operators."""
    if LIBRARIES:
        return
    LIBRARIES.append(torch.library.Library('aten', 'IMPL'))
    for name, overload, function in (('_foreach_addcdiv_', 'ScalarList', addcdiv_), ('_foreach_mul_', 'Tensor', mul_)):
        if hasattr(getattr(torch.ops.aten, name), overload):
            LIBRARIES[0].impl(f'{name}.{overload}', function, 'PrivateUse1')
