"""For tests only; the real torch_npu has nothing like it: the compiled device, the operator log and the settings."""

import os

from . import _build

device = _build.load()

#: what torch.npu.set_option, set_compile_mode, config, matmul and conv were told
options = {}


def build_hash():
    """Names the library in use: it changes with its source, torch and Python."""
    return _build.key()


def record_ops(on=True):
    """Starts (or stops) noting every operator that reaches the device in this process."""
    device.record_ops(on)


def recorded_ops():
    """-> {'aten::name.overload': times} since the last call."""
    return device.recorded_ops()


def visible_devices():
    """NPUSIM_DEVICES (8) of them, unless ASCEND_RT_VISIBLE_DEVICES lists fewer.

    As CANN reads it: ascending numbers with commas and no blanks; the list ends at the first thing that is not so.
    """
    total = int(os.environ.get('NPUSIM_DEVICES', '8'))
    wanted = os.environ.get('ASCEND_RT_VISIBLE_DEVICES')
    if wanted is None:
        return total
    seen = []
    for word in wanted.split(','):
        if not word.isdigit() or int(word) >= total or (seen and int(word) <= seen[-1]):
            break
        seen.append(int(word))
    return len(seen)


device.init(visible_devices())
