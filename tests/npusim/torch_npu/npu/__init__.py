"""torch_npu.npu, which is torch.npu: devices, memory, random numbers, streams, settings."""

import os

import torch

from .. import _sim
from . import amp  # noqa: F401
from .autocast_utils import *  # noqa: F401, F403
from .memory import *  # noqa: F401, F403
from .npu_config import *  # noqa: F401, F403
from .npu_config import _allowHF32Conv, _allowHF32Matmul, _npuConfig
from .random import *  # noqa: F401, F403
from .streams import Event, Stream  # noqa: F401
from .utils import (
    clear_npu_overflow_flag,
    current_device,
    current_stream,
    default_stream,
    device,
    device_count,  # noqa: F401
    get_device_capability,
    get_device_name,
    get_device_properties,
    get_npu_overflow_flag,
    is_bf16_supported,
    mem_get_info,
    set_device,
    set_stream,
    stream,
    synchronize,
)

default_generators = tuple(_sim.device.default_generator(i) for i in range(_sim.device.device_count()))
config, matmul, conv = _npuConfig(), _allowHF32Matmul(), _allowHF32Conv()
(
    BoolTensor,
    ByteTensor,
    CharTensor,
    ShortTensor,
    IntTensor,
    LongTensor,
    HalfTensor,
    FloatTensor,
    DoubleTensor,
    BFloat16Tensor,
) = [torch.Tensor] * 10

_initialized = False
_forked = False


def is_available():
    return device_count() > 0


def init():
    _lazy_init()


def is_initialized():
    return _initialized and not _forked


def _lazy_init():
    """Called by PyTorch before the first use of the device."""
    global _initialized
    if _forked:
        raise RuntimeError(
            'Cannot re-initialize NPU in forked subprocess. To use NPU with multiprocessing, you must use '
            "the 'spawn' start method"
        )
    _initialized = True


def _is_in_bad_fork():
    return _forked


def _after_fork():
    global _forked
    _forked = _forked or _initialized


os.register_at_fork(after_in_child=_after_fork)


def _exchange_device(index):
    return _sim.device.exchange_device(index)


def _maybe_exchange_device(index):
    return _sim.device.exchange_device(index) if index >= 0 else -1
