"""What a folder's npu_patch.py is made of: named changes to a model, each with its reason and its switch.

A patched model has the same parameters under the same names; unless a patch is marked `exact=False` it gives the same logits.
"""

from typing import Any, Callable, Dict, List, Sequence, Type

import torch
from torch import nn

from common.compat import TORCH
from common.errors import UserError


class NotApplied(Exception):
    """A patch changes nothing in this model, on this device; the text says why, as a clause."""


class Patch:
    """One change. apply(model, accelerator) changes the model in place and -> what it did. Raises NotApplied.

    reason: why, in a sentence. versions: which torch_npu it is for, in words. exact: False where results change; such a
    patch is applied only when it is named.
    """

    def __init__(self, name: str, apply: Callable[[nn.Module, Any], str], reason: str, versions='all', exact=True):
        self.name, self.apply, self.reason, self.versions, self.exact = name, apply, reason, versions, exact


def chosen(patches: Sequence[Patch], wanted: str) -> List[Patch]:
    """-> the patches that --npu-patch asks for: all (every exact one), none, or names with commas. Raises UserError."""
    if wanted in ('all', 'none'):
        return [patch for patch in patches if patch.exact and wanted == 'all']
    known = {patch.name: patch for patch in patches}
    names = [name.strip() for name in wanted.split(',')]
    for name in names:
        if name not in known:
            there = ', '.join(f'{patch.name} ({patch.versions})' for patch in patches)
            raise UserError(f'--npu-patch {wanted}: this model has no patch {name!r}; choose all, none or of: {there}')
    return [known[name] for name in names]


def apply(patches: Sequence[Patch], model: nn.Module, accelerator: Any) -> List[str]:
    """Applies the patches. -> a line for each, for the log."""
    lines = []
    for patch in patches:
        try:
            lines.append(f'{patch.name}: {patch.apply(model, accelerator)}')
        except NotApplied as e:
            lines.append(f'{patch.name}: not applied, {e}')
    return lines


def of_class(model: nn.Module, *classes: Type) -> List[nn.Module]:
    """-> the modules of these classes. Raises NotApplied where there is none."""
    found = [m for m in model.modules() if isinstance(m, classes)]
    if not found:
        raise NotApplied(f'this model has no {" and no ".join(cls.__name__ for cls in classes)}')
    return found


# ---- changes that several models share


def fuse_attention(classes: Dict[Type, Type]) -> Patch:
    """classes: {class in the model: its subclass whose forward calls self.fused(q, k, v, scale, dropout)}."""

    def apply(model, accelerator):
        found = [m for m in of_class(model, *classes) if type(m) in classes]
        function, name = accelerator.attention()
        if function is None:
            raise NotApplied(name)
        for module in found:
            module.__class__ = classes[type(module)]  # same parameters, another forward
            module.fused, module.kernel = function, name
        return f'{len(found)} modules use {name}'

    reason = 'one kernel instead of five, and no (tokens x tokens) matrix in memory'
    versions = 'torch_npu 2.1 and newer; scaled_dot_product_attention where its kernel refuses'
    return Patch('fused_attention', apply, reason, versions)


def contiguous_inputs(*classes: Type) -> Patch:
    """Modules of these classes get a plain copy of a transposed view."""

    def apply(model, accelerator):
        found = of_class(model, *classes)
        for module in found:
            module.register_forward_pre_hook(make_contiguous)
        return f'{len(found)} modules'

    reason = 'NPU kernels copy a transposed view each time they read it; forward and backward can share one copy'
    return Patch('contiguous', apply, reason)


def make_contiguous(module, inputs):
    channels_last = torch.channels_last
    return tuple(
        x if x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=channels_last)) else x.contiguous()
        for x in inputs
    )


def int32_targets(model, accelerator):
    if TORCH >= (2, 1):
        raise NotApplied(f'torch {torch.__version__} has fast int64 kernels on an NPU')
    accelerator.targets_dtype = torch.int32
    return 'targets are int32 on the device'


INT32_TARGETS = Patch(
    'int32_targets', int32_targets, 'the old kernels compute int64 on the slow scalar unit', 'torch 1.5 and 1.8'
)


class FastGELU(nn.Module):
    """x * sigmoid(1.702 x) and the like, by the device's own kernel."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def fast_gelu(model, accelerator):
    """Every nn.GELU by an approximation that differs from it by up to 0.02."""
    function, count = accelerator.fast_gelu(), len(of_class(model, nn.GELU))
    if function is None:
        raise NotApplied(f'torch_npu has the kernel from 2.1 on, and torch is {torch.__version__}')
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GELU):
                setattr(module, name, FastGELU(function))
    return f'{count} activations are approximated; accuracy may change'


FAST_GELU = Patch(
    'fast_gelu',
    fast_gelu,
    'a cheaper activation',
    'torch_npu 2.1 and newer; changes results, so by name only',
    exact=False,
)
