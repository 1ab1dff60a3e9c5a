"""Golden records: what a network must be and compute. check_golden.py compares a network with a record, write_golden.py writes one.

A record is a JSON object: the entries of the state dict with their shapes and dtypes, the number of parameters, the eps of every norm,
mean and deviation of fresh weights, and for each fill below the first 10 logits of two samples, the sum and the abs-sum of all logits,
the loss (cross entropy against labels 1 and 2) and the norm of some gradients. The model is in eval mode throughout, and the input is
numpy.random.RandomState(0).randn(2, 3, S, S) as float32. Needs torch and numpy only; Python 3.7 syntax, for old versions of torch.

A fill overwrites every floating entry of the state dict from its name and shape alone:
    n    = numpy.random.RandomState(zlib.crc32(name.encode())).randn(*shape)    (an entry without dimensions: the first of randn(1))
    leaf = the part of the name after the last '.'
  A, small activations: sees eps of norms, biases, which key is which
    running_var                        1 + |0.02 n|
    1-d and leaf is 'weight'           1 + 0.02 n      (in these models every 1-d 'weight' is a norm's)
    everything else                    0.02 n
  B, activations of size 1: sees kernels, strides, the scale of attention, activation functions, pooling, residual connections
    running_var                        1.5 + 0.75 |n|  (between explosion and collapse of the batch-norm networks)
    1-d and leaf is 'weight'           1 + 0.1 n
    leaf begins with 'gamma'           0.5 (1 + 0.2 n)
    leaf begins with 'layer_scale'     0.01 (1 + 0.2 n)  (gated branches: larger ones explode over 40 blocks)
    leaf is 'weight', 2 or more dims   n * sqrt(2 / prod(shape[1:]))
    everything else                    0.1 n           (biases, tokens, position embeddings, running_mean)
  C, norm outputs of size 0.05: sees the eps of every norm even where the model hides it; logits only
    running_var                        0.02 (1 + 0.5 |n|)
    1-d and leaf is 'weight'           0.05 (1 + 0.2 n)
    gamma, layer_scale, 2 or more dims as in B
    everything else                    0.01 n
  The values are computed in float64 and stored in the entry's own dtype.
A alone cannot see the input at all in a batch-norm network of 20 blocks, nor a wrong dilation; B cannot see eps.
"""

import importlib
import os
import sys
import zlib

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # before torch: busy waiting on shared cores costs 10 to 50 times

import numpy as np
import torch


def build(factory, path, kwargs):
    """'module:function' of the folder `path`, called with kwargs. -> torch.nn.Module"""
    sys.path.insert(0, os.path.abspath(path))
    module, _, function = factory.partition(':')
    torch.manual_seed(0)
    return getattr(importlib.import_module(module), function)(**kwargs)


def fill_values(name, shape, fill):
    """-> the values of an entry under a fill, float64."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    n = random.randn(*shape) if shape else random.randn(1)[0]
    leaf = name.rsplit('.', 1)[-1]
    norm_weight = leaf == 'weight' and len(shape) == 1
    if fill == 'A':
        if leaf == 'running_var':
            return 1 + np.abs(0.02 * n)
        return 1 + 0.02 * n if norm_weight else 0.02 * n
    if leaf == 'running_var':
        return 1.5 + 0.75 * np.abs(n) if fill == 'B' else 0.02 * (1 + 0.5 * np.abs(n))
    if norm_weight:
        return 1 + 0.1 * n if fill == 'B' else 0.05 * (1 + 0.2 * n)
    if leaf.startswith('gamma'):
        return 0.5 * (1 + 0.2 * n)
    if leaf.startswith('layer_scale'):
        return 0.01 * (1 + 0.2 * n)
    if leaf == 'weight' and len(shape) >= 2:
        return n * np.sqrt(2.0 / np.prod(shape[1:]))
    return (0.1 if fill == 'B' else 0.01) * n


def fill_model(model, fill):
    with torch.no_grad():
        for name, entry in model.state_dict().items():
            if entry.is_floating_point():
                values = np.asarray(fill_values(name, tuple(entry.shape), fill), dtype=np.float64)
                entry.copy_(torch.as_tensor(values).to(entry.dtype).reshape(entry.shape))


def structure(model):
    """-> what of a record is true of the model whatever its weights are."""
    norms = [(name, m) for name, m in model.named_modules() if isinstance(getattr(m, 'eps', None), float)]
    entries = model.state_dict().items()
    return {
        'param_count': sum(p.numel() for p in model.parameters()),
        'state_dict': [[key, list(v.shape), str(v.dtype).replace('torch.', '')] for key, v in entries],
        'norm_eps': {name: float(m.eps) for name, m in norms if getattr(m, 'weight', None) is not None},
    }


def init_stats(model):
    """-> {parameter: [mean, standard deviation]}"""
    parameters = [(name, p.detach().double()) for name, p in model.named_parameters()]
    return {name: [float(p.mean()), float(p.std(unbiased=False))] for name, p in parameters}


def measure(model, size, fill, gradients=None):
    """-> what of a record the model computes under a fill; loss and norms of gradients where these names are given."""
    model.eval()
    fill_model(model, fill)
    images = torch.from_numpy(np.random.RandomState(0).randn(2, 3, size, size).astype(np.float32))
    found = {}
    with torch.set_grad_enabled(gradients is not None):
        logits = model(images)
    if gradients is not None:
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 2]))
        model.zero_grad()
        loss.backward()
        slopes = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found['loss'] = float(loss.detach())
        found['grad_norms'] = {name: float(slopes[name].double().norm()) for name in gradients if name in slopes}
    y = logits.detach().double()
    found.update(
        shape=list(y.shape), logits10=y[:, :10].tolist(), sum=y.sum(1).tolist(), abs_sum=y.abs().sum(1).tolist()
    )
    found.update(absmax=float(y.abs().max()), pair_gap=float((y[0] - y[1]).abs().max() / y.abs().max()))
    return found
