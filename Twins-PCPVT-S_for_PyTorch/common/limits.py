"""What the system allows a run: cores, and files and memory, without which workers lose batches and the run waits for them."""

import os
import resource
from typing import Any, Iterator, Sequence, Tuple

from common.errors import UserError

SHARED_MEMORY = '/dev/shm'
PREFETCH = 2  # batches that a worker has ready, by torch's default


def check(args: Any, ranks: Any) -> None:
    """Raises UserError where there are too few files or too little shared memory for the workers."""
    allow_files(64 + 16 * args.workers)
    if args.workers and os.path.isdir(SHARED_MEMORY):
        square = isinstance(args.img_size, int)
        pixels = args.img_size**2 if square else args.img_size[0] * args.img_size[1]
        batch = args.batch_size * 3 * pixels  # bytes of a batch: uint8
        require_shared_memory(batch * PREFETCH * args.workers * ranks.local_world, args.workers * ranks.local_world)


def cores(processes: str = '/proc/self/cgroup', groups: str = '/sys/fs/cgroup') -> int:
    """-> how many cores this process may use, which a scheduler or a container makes fewer than the machine has."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, int(min([mine, *quotas(processes, groups)])))


def quotas(processes: str, groups: str) -> Iterator[float]:
    """Yields the cores' worth of processor time that each control group of this process is allowed, of version 1 and 2."""
    try:
        with open(processes, encoding='utf-8') as f:
            lines = [line.rstrip('\n').split(':', 2) for line in f]
    except OSError:  # another system than Linux
        return
    for _, controllers, path in lines:
        if controllers and 'cpu' not in controllers.split(','):
            continue
        top = os.path.join(groups, 'cpu') if controllers else groups
        names = ['cpu.cfs_quota_us', 'cpu.cfs_period_us'] if controllers else ['cpu.max']
        parts = [part for part in path.split('/') if part]
        for depth in range(len(parts) + 1):  # a limit holds for the groups below it, too
            quota, period = limit_in(os.path.join(top, *parts[:depth]), names)
            if quota > 0:
                yield quota / period


def limit_in(folder: str, names: Sequence[str]) -> Tuple[int, int]:
    """-> (quota, period) in microseconds as the files of a control group have them; (0, 1) without a limit."""
    try:
        words = []
        for name in names:
            with open(os.path.join(folder, name), encoding='utf-8') as f:
                words += f.read().split()
        return int(words[0]), int(words[1])
    except (OSError, ValueError, IndexError):  # no such group as seen from a container, or the quota is 'max'
        return 0, 1


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
