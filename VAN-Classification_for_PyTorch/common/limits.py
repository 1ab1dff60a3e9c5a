"""What the system must allow a run: without it DataLoader workers lose batches without a word, and the run waits for them."""

import os
import resource
from typing import Any

from common.errors import UserError

SHARED_MEMORY = '/dev/shm'
PREFETCH = 2  # batches that a worker has ready, by torch's default


def check(args: Any, ranks: Any) -> None:
    """Raises UserError where there are too few files or too little shared memory for the workers."""
    allow_files(64 + 16 * args.workers)
    if args.workers and os.path.isdir(SHARED_MEMORY):
        batch = args.batch_size * 3 * args.img_size**2  # bytes of a batch: uint8
        require_shared_memory(batch * PREFETCH * args.workers * ranks.local_world, args.workers * ranks.local_world)


def allow_files(needed: int) -> None:
    """Raises this process's limit of open files where that is too low and may be raised. Raises UserError where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f'this shell allows {hard} open files and the run needs {needed}; allow more (ulimit -n 65536), or use '
            'fewer --workers'
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def require_shared_memory(needed: int, workers: int) -> None:
    """needed: bytes, of all workers of this machine"""
    state = os.statvfs(SHARED_MEMORY)
    free = state.f_bavail * state.f_frsize
    if free < needed:
        raise UserError(
            f'{SHARED_MEMORY} has {free / 1e6:.0f} MB free, and {workers} DataLoader workers have batches of '
            f'{needed / 1e6:.0f} MB there; enlarge it (docker run --shm-size), or use fewer --workers or a smaller '
            '--batch-size'
        )
