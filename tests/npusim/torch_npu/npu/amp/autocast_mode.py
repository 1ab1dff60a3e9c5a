"""torch.autocast for the NPU."""

import torch

__all__ = ['autocast', 'custom_fwd', 'custom_bwd']


class autocast(torch.amp.autocast_mode.autocast):
    def __init__(self, enabled: bool = True, dtype: torch.dtype = torch.float16, cache_enabled: bool = True):
        super().__init__('npu', enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)


def custom_fwd(fwd=None, **kwargs):
    return torch.amp.custom_fwd(fwd, device_type='npu', **kwargs)


def custom_bwd(bwd):
    return torch.amp.custom_bwd(bwd, device_type='npu')
