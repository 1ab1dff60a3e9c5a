"""The process group 'hccl' of torch.distributed: gloo underneath, on device tensors (csrc/hccl.h)."""

import atexit
import gc
import time

import torch.distributed as dist

from . import _sim


def _shutdown():
    """Ends what is left of the process groups, as torch_npu does at exit.

    A thread of gloo that still wants the interpreter gets it during the pause; one that asks while the interpreter ends is
    killed, and takes the process with it (`terminate called without an active exception`).
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()
    time.sleep(0.2)


def _make(options, _):
    atexit.unregister(_shutdown)  # once for all groups
    atexit.register(_shutdown)
    store = dist.PrefixStore('hccl', options.store)
    gloo = dist.ProcessGroupGloo(store, options.group_rank, options.group_size, timeout=options.timeout)
    return _sim.device.hccl(gloo, options.group_rank, options.group_size)


if dist.is_available():
    dist.Backend.register_backend('hccl', _make, extended_api=True, devices=['npu'])
    dist.is_hccl_available = lambda: True  # torch_npu adds the same name
