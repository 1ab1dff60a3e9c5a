"""The few names that moved or appeared between torch 1.5 / timm 0.4 and today's: found by capability, in one place."""
import argparse
import inspect
import os
import re

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.data import DataLoader

try:  # timm >= 0.9
    from timm.layers import DropPath, to_2tuple, trunc_normal_
except ImportError:
    from timm.models.layers import DropPath, to_2tuple, trunc_normal_

TORCH = tuple(int(n) for n in re.match(r'(\d+)\.(\d+)', torch.__version__).groups())     # (2, 12); compared as numbers

__all__ = ['TORCH', 'DropPath', 'to_2tuple', 'trunc_normal_', 'absences', 'autocast', 'compiled', 'is_distributed', 'load_plain',
           'loader_options']


def is_distributed():
    """True once this process is one of a process group (torch may be built without torch.distributed)."""
    return dist.is_available() and dist.is_initialized()


def autocast(device_type, dtype):
    """Returns a function that makes the autocast context of a device type, or None before torch 1.10, which brought it."""
    return (lambda: torch.autocast(device_type, dtype=dtype)) if hasattr(torch, 'autocast') else None


def absences(model, device_type, channels_last, precision):
    """What this torch lacks that the run would have used -> [a sentence each]; empty on today's torch.

    precision: what the run computes in, in words. That channels-last gains nothing on a CPU was measured on 1.5 and 1.8; on
    2.12 it gains a fifth.
    """
    lacks, said = 'torch %s has no ' % torch.__version__, []
    if not hasattr(F, 'scaled_dot_product_attention') and any(hasattr(m, 'attn_drop') for m in model.modules()):   # timm's name
        said.append(lacks + 'scaled_dot_product_attention: attention is an explicit softmax, which takes more memory.')
    if autocast(device_type, torch.bfloat16) is None:
        said.append(lacks + 'bfloat16 autocast for %s: this run computes in %s.' % (device_type, precision))
    if channels_last and device_type == 'cpu' and not hasattr(torch, 'inference_mode'):
        said.append(lacks + 'fast channels-last kernels for cpu: --channels-last gains nothing.')
    return said


def compiled(net):
    """torch.compile's, or None where this torch has none (before 2.0)."""
    return torch.compile(net) if hasattr(torch, 'compile') else None


def loader_options(workers):
    """Further arguments for a DataLoader: workers that live on from epoch to epoch, where torch has them (1.7)."""
    known = inspect.signature(DataLoader.__init__).parameters
    return {'persistent_workers': True} if workers and 'persistent_workers' in known else {}


def numpy_scalars():
    """What a pickled numpy number consists of; some trainers put their best accuracy into a file as one."""
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    numbers = [np.float64, np.float32, np.int64]
    return [(multiarray.scalar, 'numpy.core.multiarray.scalar'), multiarray.scalar, np.dtype] + [
        type(np.dtype(number)) for number in numbers] + numbers


def load_plain(path):
    """torch.load onto the CPU, without running code from the file where torch can refuse to (>= 2.4).

    Upstream checkpoints carry their command line as an argparse.Namespace, which holds no code, so it is allowed; and so
    are numpy's numbers.
    """
    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals([argparse.Namespace] + numpy_scalars())
        return torch.load(os.fspath(path), map_location='cpu', weights_only=True)
    return torch.load(os.fspath(path), map_location='cpu')
