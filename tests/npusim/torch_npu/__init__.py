"""A stand-in for Ascend's torch_npu, for tests: the device 'npu' in the memory of the host. See ../README.md.

Public names are those of torch_npu 2.1.0.post8 (tests/test_npusim.py compares them) and SIMULATED.
"""

import os

# a plain `import torch` autoloads this package; it must not while this package imports torch
_autoload_setting = os.environ.get('TORCH_DEVICE_BACKEND_AUTOLOAD')
os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'] = '0'

import torch  # noqa: E402

if _autoload_setting is None:
    del os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD']
else:
    os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'] = _autoload_setting

from . import _sim  # noqa: E402
from . import npu, optim, profiler  # noqa: E402
from . import _hccl, _syncbn  # noqa: E402, F401
from ._ops import *  # noqa: E402, F401, F403

__version__ = torch.__version__.split('+')[0] + '+sim'
SIMULATED = True

torch.utils.rename_privateuse1_backend('npu')
torch._register_device_module('npu', npu)
torch.utils.generate_methods_for_privateuse1_backend(
    for_tensor=True,
    for_module=True,
    for_storage=True,
    unsupported_dtype=[torch.quint8, torch.quint4x2, torch.quint2x4, torch.qint32, torch.qint8],
)

# Backward runs on the calling thread: the engine's threads for a device may still want the interpreter when it ends, and
# then one run in eight died with `terminate called without an active exception` after it had succeeded.
torch.autograd.set_multithreading_enabled(False)


def _autoload():
    """What the entry point in torch_npu-*.dist-info names; importing this module did the work."""
