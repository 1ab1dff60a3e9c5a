"""The five kernels of SyncBatchNorm: the CPU has none that the fallback could run."""

import torch

_LIBRARY = torch.library.Library('aten', 'IMPL')


def _kernel(function):
    _LIBRARY.impl(function.__name__, function, 'PrivateUse1')
    return function


def _rows(x):
    """All dimensions but the channels'."""
    return [d for d in range(x.dim()) if d != 1]


def _like(vector, x):
    """A value per channel, shaped to go with x."""
    return vector.reshape([1, -1] + [1] * (x.dim() - 2))


@_kernel
def batch_norm_stats(x, eps):
    variance, mean = torch.var_mean(x.float(), _rows(x), unbiased=False)
    return mean, (variance + eps).rsqrt()


@_kernel
def batch_norm_gather_stats_with_counts(x, means, invstds, running_mean, running_var, momentum, eps, counts):
    share = counts.reshape(-1, 1).to(means.dtype)
    total = share.sum()
    mean = (means * share).sum(0) / total
    square = ((invstds.pow(-2) - eps + means * means) * share).sum(0) / total
    variance = square - mean * mean
    if running_mean is not None:
        running_mean.mul_(1 - momentum).add_(mean.to(running_mean.dtype), alpha=momentum)
    if running_var is not None:
        unbiased = variance * total / (total - 1)
        running_var.mul_(1 - momentum).add_(unbiased.to(running_var.dtype), alpha=momentum)
    return mean, (variance + eps).rsqrt()


@_kernel
def batch_norm_elemt(x, weight, bias, mean, invstd, eps):
    y = (x.float() - _like(mean, x)) * _like(invstd, x)
    if weight is not None:
        y = y * _like(weight, x)
    if bias is not None:
        y = y + _like(bias, x)
    return y.to(x.dtype)


@_kernel
def batch_norm_backward_reduce(grad, x, mean, invstd, weight, want_input, want_weight, want_bias):
    sum_grad = grad.float().sum(_rows(x))
    sum_grad_x = (grad.float() * (x.float() - _like(mean, x))).sum(_rows(x))
    return sum_grad, sum_grad_x, sum_grad_x * invstd if want_weight else None, sum_grad.clone() if want_bias else None


@_kernel
def batch_norm_backward_elemt(grad, x, mean, invstd, weight, sum_grad, sum_grad_x, counts):
    total = counts.sum().to(mean.dtype)
    through_mean = _like(sum_grad / total, x)
    through_variance = (x.float() - _like(mean, x)) * _like(invstd * invstd * sum_grad_x / total, x)
    scale = invstd if weight is None else invstd * weight
    return ((grad.float() - through_mean - through_variance) * _like(scale, x)).to(x.dtype)
