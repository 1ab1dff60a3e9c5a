"""What a folder's npu_patch.py is made of: named changes to a model, each with its reason and its switch.

A patched model has the same parameters under the same names; unless a patch is marked `exact=False` it gives the same logits.
"""
import torch
from torch import nn

from common.compat import TORCH
from common.errors import UserError


class Patch:
    """One change. apply(model, accelerator) changes the model in place and -> what it did, or '' where it does not apply.

    reason: why, in a sentence. versions: which torch_npu it is for, in words. exact: False where results change; such a
    patch is applied only when it is named.
    """

    def __init__(self, name, apply, reason, versions='all', exact=True):
        self.name, self.apply, self.reason, self.versions, self.exact = name, apply, reason, versions, exact


def chosen(patches, wanted):
    """The patches that --npu-patch asks for: all (every exact one), none, or names with commas. Raises UserError."""
    if wanted in ('all', 'none'):
        return [patch for patch in patches if patch.exact and wanted == 'all']
    known = {patch.name: patch for patch in patches}
    names = [name.strip() for name in wanted.split(',')]
    for name in names:
        if name not in known:
            raise UserError('--npu-patch %s: this model has no patch %r; choose all, none or of: %s'
                            % (wanted, name, ', '.join('%s (%s)' % (p.name, p.versions) for p in patches)))
    return [known[name] for name in names]


def apply(patches, model, accelerator):
    """Applies each; -> one line per patch, for the log."""
    lines = []
    for patch in patches:
        done = patch.apply(model, accelerator)
        lines.append('%s: %s' % (patch.name, done or 'not applied (it is for %s)' % patch.versions))
    return lines


# ---- changes that several models share

def fuse_attention(classes):
    """-> a Patch. classes: {class of the model: subclass of it whose forward calls self.fused(q, k, v, scale, dropout)}."""
    def apply(model, accelerator):
        function, name = accelerator.attention()
        found = [m for m in model.modules() if type(m) in classes]
        if function is None or not found:
            return ''
        for module in found:
            module.__class__ = classes[type(module)]      # same parameters, another forward
            module.fused = function
        return '%d modules use %s' % (len(found), name)
    return Patch('fused_attention', apply, 'one kernel instead of five, and no (tokens x tokens) matrix in memory',
                 'torch_npu 2.1 and newer; scaled_dot_product_attention where its kernel refuses')


def contiguous_inputs(*classes):
    """-> a Patch: modules of these classes get a plain copy of a transposed view."""
    def apply(model, accelerator):
        found = [m for m in model.modules() if isinstance(m, classes)]
        for module in found:
            module.register_forward_pre_hook(make_contiguous)
        return '%d modules' % len(found)
    return Patch('contiguous', apply, 'NPU kernels copy a transposed view each time they read it; copied once, forward and '
                 'backward share the copy')


def make_contiguous(module, inputs):
    return tuple(x if x.is_contiguous() or x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
                 else x.contiguous() for x in inputs)


def int32_targets(model, accelerator):
    """Class numbers as the old stack's loss kernels want them."""
    if TORCH >= (2, 1):
        return ''
    accelerator.target_dtype = torch.int32
    return 'class numbers are int32 on the device'


INT32_TARGETS = Patch('int32_targets', int32_targets, 'the old kernels compute int64 on the slow scalar unit',
                      'torch 1.5 and 1.8')


class FastGELU(nn.Module):
    """x * sigmoid(1.702 x) and the like, by the device's own kernel."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def fast_gelu(model, accelerator):
    """Every nn.GELU by an approximation that differs from it by up to 0.02."""
    function, count = accelerator.fast_gelu(), 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if function is not None and isinstance(child, nn.GELU):
                setattr(module, name, FastGELU(function))
                count += 1
    return '%d activations are approximated; accuracy may change' % count if count else ''


FAST_GELU = Patch('fast_gelu', fast_gelu, 'a cheaper activation', 'torch_npu 2.1 and newer; changes the numbers, so by name only',
                  exact=False)
