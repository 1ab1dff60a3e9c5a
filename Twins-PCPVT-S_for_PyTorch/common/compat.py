"""The few names that moved or appeared between torch 1.5 / timm 0.4 and today's: found by capability, in one place."""
import argparse
import os

import numpy as np
import torch
import torch.distributed as dist

try:  # timm >= 0.9
    from timm.layers import DropPath, to_2tuple, trunc_normal_
except ImportError:
    from timm.models.layers import DropPath, to_2tuple, trunc_normal_

__all__ = ['DropPath', 'to_2tuple', 'trunc_normal_', 'autocast', 'load_plain', 'is_distributed']


def is_distributed():
    """True once this process is one of a process group (torch may be built without torch.distributed)."""
    return dist.is_available() and dist.is_initialized()


def autocast(device_type, dtype):
    """Returns a function that makes the autocast context of a device type, or None where this torch has none.

    torch.autocast came with 1.10; before it, CUDA alone had torch.cuda.amp.autocast, and 1.5 had nothing.
    """
    if hasattr(torch, 'autocast'):
        return lambda: torch.autocast(device_type, dtype=dtype)
    if device_type == 'cuda' and hasattr(torch.cuda.amp, 'autocast') and dtype == torch.float16:
        return torch.cuda.amp.autocast
    return None


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
