"""Devices, their names and the current stream."""

import warnings
from types import SimpleNamespace

import torch
from torch._utils import _get_device_index

from .. import _sim
from .streams import Stream

__all__ = [
    'synchronize',
    'device_count',
    'set_device',
    'current_device',
    'get_device_name',
    'get_device_properties',
    'mem_get_info',
    'get_device_capability',
    'device',
    'stream',
    'set_stream',
    'current_stream',
    'default_stream',
    'is_support_inf_nan',
    'is_bf16_supported',
    'get_npu_overflow_flag',
    'npu_check_overflow',
    'clear_npu_overflow_flag',
]

TOTAL_MEMORY = 32 << 30  # bytes a device says it has
_stream = {}  # device: the stream that set_stream chose


def _index(device):
    """The number of a device given as None (the current one), a number, 'npu:1' or a torch.device."""
    if isinstance(device, str):
        device = torch.device(device)
    if isinstance(device, torch.device) and device.type != 'npu':
        raise ValueError('Expected a npu device, but got: %s' % device)
    index = _get_device_index(device, optional=True) if device is not None else -1
    return index if index >= 0 else current_device()


def synchronize(device=None):
    _index(device)


def device_count():
    return _sim.device.device_count()


def current_device():
    torch.npu._lazy_init()
    return _sim.device.current_device()


def set_device(device):
    torch.npu._lazy_init()
    if not (isinstance(device, int) and device < 0):
        _sim.device.set_device(_index(device))


def get_device_name(device_name=None):
    return get_device_properties(device_name).name


def get_device_properties(device_name=None):
    index = _index(device_name)
    if index >= device_count():
        raise AssertionError('Invalid device id')
    return SimpleNamespace(name='Ascend (simulated)', total_memory=TOTAL_MEMORY)


def mem_get_info(device=None):
    return TOTAL_MEMORY - _sim.device.memory(_index(device))[0], TOTAL_MEMORY


def get_device_capability(device=None):
    warnings.warn("torch.npu.get_device_capability isn't implemented!")


class device:
    """The current device, for a block."""

    def __init__(self, device):
        self.idx = -1 if device is None or isinstance(device, int) and device < 0 else _index(device)

    def __enter__(self):
        self.prev_idx = _sim.device.exchange_device(self.idx)

    def __exit__(self, *error):
        _sim.device.set_device(self.prev_idx)
        return False


# ------------------------------------------------------------------ streams


def default_stream(device=None):
    return Stream(_index(device))


def current_stream(device=None):
    return _stream.get(_index(device)) or default_stream(device)


def set_stream(stream):
    if stream is not None:
        _stream[stream.device_index] = stream


class _StreamContext:
    def __init__(self, stream):
        self.stream = stream

    def __enter__(self):
        self.before = current_stream()
        set_stream(self.stream)

    def __exit__(self, *error):
        set_stream(self.before)
        return False


def stream(stream):
    return _StreamContext(stream)


# ------------------------------------- numbers: as Ascend910B, which has inf and nan


def is_support_inf_nan():
    return True


def is_bf16_supported():
    return True


def get_npu_overflow_flag():
    raise RuntimeError('Unsupported api when soc_version >= Ascend910B1, please use npu_check_overflow')


def npu_check_overflow(grad):
    if not isinstance(grad, (float, torch.Tensor)):
        raise RuntimeError('Unsupported type.')
    return not bool(torch.isfinite(torch.as_tensor(grad).float().sum()))


def clear_npu_overflow_flag():
    warnings.warn('When soc_version >= Ascend910B1, clear_npu_overflow_flag is useless, please remove it.')
