"""The few names that moved between torch 1.5 / timm 0.4 and today's, found by capability; see also legacy.py."""

import inspect
import re
import sys
from typing import Any, Callable, Dict, Optional

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

try:  # timm >= 0.9
    from timm.layers import DropPath, to_2tuple, trunc_normal_
except ImportError:
    from timm.models.layers import DropPath, to_2tuple, trunc_normal_

__all__ = [
    *('TORCH', 'SIMD_RESIZE', 'DropPath', 'to_2tuple', 'trunc_normal_'),
    *(
        'autocast',
        'compiled',
        'ddp_options',
        'flush_denormals',
        'is_distributed',
        'loader_options',
        'optimizer_kernels',
    ),
]

TORCH = tuple(int(n) for n in re.match(r'(\d+)\.(\d+)', torch.__version__).groups())  # such as (2, 12)
# whether torch resizes uint8 images by vector instructions, 4 times as fast as Pillow
SIMD_RESIZE = TORCH >= (2, 1) and torch.backends.cpu.get_cpu_capability() in ('AVX2', 'AVX512')


def is_distributed() -> bool:
    """Whether this process is in a process group (torch may be built without torch.distributed)."""
    return dist.is_available() and dist.is_initialized()


def autocast(device_type: str, dtype: torch.dtype) -> Optional[Callable[[], Any]]:
    """-> a function that makes the autocast context of a device type; None before torch 1.10, which brought it."""
    return (lambda: torch.autocast(device_type, dtype=dtype)) if hasattr(torch, 'autocast') else None


def compiled(net: nn.Module) -> Optional[nn.Module]:
    """-> the network compiled by torch.compile; None before torch 2.0, which brought it."""
    return torch.compile(net) if hasattr(torch, 'compile') else None


def optimizer_kernels(optimizer: Any) -> str:
    """-> name of the optimizer, and how it updates: all weights in a few kernels, or one after the other."""
    first = optimizer.param_groups[0]
    default = getattr(sys.modules.get('torch.optim.optimizer'), '_default_to_fused_or_foreach', None)
    name, fused, foreach = type(optimizer).__name__, first.get('fused'), first.get('foreach')
    if 'Fused' in name or fused:
        return f'{name}, fused'
    if foreach is None and default is not None and 'foreach' in first:  # torch decides by the device of the weights
        foreach = default(first['params'], differentiable=False)[1]
    return f'{name}, {"foreach" if foreach else "weight by weight"}'


def ddp_options(**wanted: Any) -> Dict[str, Any]:
    """-> those of the options that this torch's DistributedDataParallel knows."""
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    return {name: value for name, value in wanted.items() if name in known}


def flush_denormals() -> None:
    """Lets the processor take float32 below 1.2e-38, and float64 below 2.3e-308, as 0."""
    for dtype in (np.float32, np.float64):
        np.finfo(dtype)  # numpy before 2.3 warns where it first finds that out while they are 0
    torch.set_flush_denormal(True)


def loader_options(workers: int) -> Dict[str, Any]:
    """-> options of DataLoader: workers live on from epoch to epoch, where torch can do that (1.7)."""
    known = inspect.signature(DataLoader.__init__).parameters
    return {'persistent_workers': True} if workers and 'persistent_workers' in known else {}
