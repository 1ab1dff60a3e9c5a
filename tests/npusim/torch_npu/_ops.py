"""Some of torch_npu's own operators (torch_npu.X is torch.ops.npu.X), composed of differentiable PyTorch.

The schemas are the real ones, so that a wrong argument fails as it would on Ascend.
"""

import torch
import torch.nn.functional as F

from . import _sim

__all__ = []
_LIBRARY = torch.library.Library('npu', 'DEF')
ND = 2  # acl_format of an ordinary tensor; the private formats have no meaning on the host


def _operator(schema):
    """Defines npu::<schema> by the decorated function."""
    name = schema[: schema.index('(')]

    def define(function):
        def logged(*arguments, **keywords):
            _sim.device.record_op('npu::' + name)
            return function(*arguments, **keywords)

        _LIBRARY.define(schema)
        _LIBRARY.impl(name, logged, 'CompositeImplicitAutograd')
        globals()[name] = getattr(torch.ops.npu, name)
        __all__.append(name)
        return function

    return define


# ---------------------------------------------------------------- attention


def _to_bnsd(x, heads, layout):
    if layout == 'BNSD':
        return x
    if layout == 'BSND':
        return x.transpose(1, 2)
    if layout == 'BSH':
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)
    if layout == 'SBH':
        return x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)
    raise RuntimeError('npu_fusion_attention: input_layout %r is not one of BSH, SBH, BSND, BNSD' % layout)


def _from_bnsd(x, layout):
    if layout == 'BNSD':
        return x
    if layout == 'BSND':
        return x.transpose(1, 2)
    return (x.transpose(1, 2) if layout == 'BSH' else x.permute(2, 0, 1, 3)).flatten(-2)


@_operator(
    'npu_fusion_attention(Tensor query, Tensor key, Tensor value, int head_num, str input_layout, Tensor? pse=None, '
    'Tensor? padding_mask=None, Tensor? atten_mask=None, float scale=1., float keep_prob=1., '
    'int pre_tockens=2147483647, int next_tockens=2147483647, int inner_precise=0, int[]? prefix=None, '
    'int[]? actual_seq_qlen=None, int[]? actual_seq_kvlen=None, int sparse_mode=0, bool gen_mask_parallel=True, '
    'bool sync=False) -> (Tensor, Tensor, Tensor, Tensor, int, int, int)'
)
def _fusion_attention(
    query,
    key,
    value,
    head_num,
    input_layout,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    scale=1.0,
    keep_prob=1.0,
    pre_tockens=2147483647,
    next_tockens=2147483647,
    inner_precise=0,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    sparse_mode=0,
    gen_mask_parallel=True,
    sync=False,
):
    if any(t.device.type != 'npu' for t in (query, key, value)):
        raise RuntimeError('npu_fusion_attention: query, key and value must be on an NPU')
    if query.dtype not in (torch.float16, torch.bfloat16, torch.float32) or {key.dtype, value.dtype} != {query.dtype}:
        raise RuntimeError('npu_fusion_attention: query, key and value must share float16, bfloat16 or float32')
    if padding_mask is not None or prefix is not None or actual_seq_qlen or actual_seq_kvlen or sparse_mode:
        raise RuntimeError('npusim: npu_fusion_attention is simulated for dense attention with atten_mask and pse only')
    q, k, v = (_to_bnsd(t, head_num, input_layout) for t in (query, key, value))
    if q.shape[1] != head_num:
        raise RuntimeError('npu_fusion_attention: head_num is %d, query has %d heads' % (head_num, q.shape[1]))
    scores = q.float() @ k.float().transpose(-1, -2)
    scores = scores * scale if pse is None else (scores + pse) * scale
    if atten_mask is not None:
        scores = scores.masked_fill(atten_mask.bool(), -1e30)  # 1 means: do not look there
    top = scores.amax(-1, keepdim=True)
    weights = (scores - top).exp()
    total = weights.sum(-1, keepdim=True)
    dropped = F.dropout(weights / total, 1 - keep_prob)
    output = _from_bnsd((dropped.to(v.dtype) @ v), input_layout)
    eight = top.shape[:-1] + (8,)  # the kernel keeps each row's numbers eight times
    return output, top.expand(eight), total.expand(eight), torch.empty(0, device=q.device), 0, 0, 0


# ------------------------------------------------------------- activations


@_operator('fast_gelu(Tensor input) -> Tensor')
def _fast_gelu(x):
    return x * torch.exp(0.851 * (x - x.abs())) / (1 + torch.exp(-1.702 * x.abs()))  # x * sigmoid(1.702 x)


@_operator('npu_fast_gelu(Tensor input) -> Tensor')
def _npu_fast_gelu(x):
    return _fast_gelu(x)


@_operator('npu_silu(Tensor input) -> Tensor')
def _silu(x):
    return F.silu(x)


@_operator('npu_mish(Tensor input) -> Tensor')
def _mish(x):
    return F.mish(x)


# ---------------------------------------------- normalisation, linear, shape


@_operator('npu_rms_norm(Tensor input, Tensor gamma, float epsilon=1e-06) -> (Tensor, Tensor)')
def _rms_norm(x, gamma, epsilon=1e-6):
    rstd = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + epsilon)
    return (x.float() * rstd).to(x.dtype) * gamma, rstd


@_operator(
    'npu_layer_norm_eval(Tensor input, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, '
    'float eps=1e-05) -> Tensor'
)
def _layer_norm_eval(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    return F.layer_norm(x, normalized_shape, weight, bias, eps)


@_operator('npu_linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor')
def _linear(x, weight, bias=None):
    return F.linear(x, weight, bias)


@_operator(
    'npu_conv2d(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, '
    'int groups) -> Tensor'
)
def _conv2d(x, weight, bias, stride, padding, dilation, groups):
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


@_operator('npu_confusion_transpose(Tensor input, int[] perm, int[] shape, bool transpose_first) -> Tensor')
def _confusion_transpose(x, perm, shape, transpose_first):
    return x.permute(perm).reshape(shape) if transpose_first else x.reshape(shape).permute(perm)


@_operator('npu_format_cast(Tensor input, int acl_format) -> Tensor')
def _format_cast(x, acl_format):
    return x


@_operator('get_npu_format(Tensor input) -> int')
def _get_format(x):
    return ND
