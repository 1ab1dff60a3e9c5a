"""Bytes that tensors hold. Nothing is cached, so what is reserved is what is allocated."""

from .. import _sim

__all__ = [
    'empty_cache',
    'memory_stats',
    'reset_accumulated_memory_stats',
    'reset_peak_memory_stats',
    'reset_max_memory_allocated',
    'reset_max_memory_cached',
    'memory_allocated',
    'max_memory_allocated',
    'memory_reserved',
    'max_memory_reserved',
    'memory_cached',
    'max_memory_cached',
    'memory_summary',
    'set_per_process_memory_fraction',
]


def _stats(device):
    from .utils import _index  # utils needs streams, which need the package

    return _sim.device.memory(_index(device))


def memory_allocated(device=None):
    return _stats(device)[0]


def max_memory_allocated(device=None):
    return _stats(device)[1]


def memory_reserved(device=None):
    return _stats(device)[0]


def max_memory_reserved(device=None):
    return _stats(device)[1]


def memory_cached(device=None):
    return memory_reserved(device)


def max_memory_cached(device=None):
    return max_memory_reserved(device)


def memory_stats(device=None):
    current, peak, allocations = _stats(device)
    stats = {'allocation.all.allocated': allocations, 'num_alloc_retries': 0, 'num_ooms': 0}
    for kind in ('allocated', 'reserved', 'active'):
        stats['%s_bytes.all.current' % kind], stats['%s_bytes.all.peak' % kind] = current, peak
    return stats


def memory_summary(device=None, abbreviated=False):
    return '\n'.join('%-32s %d' % item for item in memory_stats(device).items())


def reset_peak_memory_stats(device=None):
    from .utils import _index

    _sim.device.reset_peak_memory(_index(device))


def reset_max_memory_allocated(device=None):
    reset_peak_memory_stats(device)


def reset_max_memory_cached(device=None):
    reset_peak_memory_stats(device)


def reset_accumulated_memory_stats(device=None):
    pass


def empty_cache():
    pass


def set_per_process_memory_fraction(fraction, device=None):
    if not 0 <= fraction <= 1:
        raise ValueError('Invalid fraction value: %s. Allowed range: 0~1' % fraction)
