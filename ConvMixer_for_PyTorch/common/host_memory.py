"""Memory that tensors on a CPU free is kept for the next ones.

The C library gives a large block back to the system at once. The system clears every page that it gives out again, in a
training hundreds of times a step: with a ConvMixer-768 and 32 images that was a third of the processor's time. Kept, the process
holds more than it uses at any one moment, as no block fits its next use to the byte.
"""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
TOLD = ('MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_MAX_', 'MALLOC_MMAP_THRESHOLD_', 'GLIBC_TUNABLES')


def keep() -> bool:
    """-> whether it does: not where another C library or allocator is in use, or the user has told glibc's what to do."""
    if any(name in os.environ for name in TOLD) or 'malloc' in os.environ.get('LD_PRELOAD', ''):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
