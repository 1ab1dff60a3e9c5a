"""The ranks of a training: which one is this, and what did the others count."""

import collections
import ctypes
import datetime
import os
import signal
import sys
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from common import meeting
from common.errors import UserError


class Ranks:
    """This process's place among the processes of the training, as torchrun tells it by the environment.

    local_rank: as torch.distributed.launch gives it on the command line; the environment is read first.
    """

    def __init__(self, local_rank: Optional[int] = None, environ: Mapping[str, str] = os.environ):
        self.counts: Dict[str, int] = collections.Counter()
        self.store: Any = None
        try:
            self.rank, self.world = int(environ.get('RANK', 0)), int(environ.get('WORLD_SIZE', 1))
            self.local = int(environ.get('LOCAL_RANK', local_rank or 0))
            self.local_world = int(environ.get('LOCAL_WORLD_SIZE', self.world))
        except ValueError as e:
            raise UserError(
                f'the environment of torchrun is damaged ({e}); unset RANK, LOCAL_RANK and WORLD_SIZE'
            ) from e

    @property
    def primary(self) -> bool:
        return self.rank == 0

    def meet(self, url: str = 'env://', timeout: int = 600) -> None:
        """Waits until all ranks are there. timeout: seconds, 0 for ever. A training of one process meets nobody.

        Afterwards `store` is what they have in common. Raises UserError.
        """
        if self.world == 1:
            return
        try:
            own = url == 'env://' and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True'  # torchrun has a store
            self.store = meeting.meet(self, timeout) if own else self._rendezvous(url, timeout)
            self.store.set_timeout(patience(timeout))
        except (ValueError, RuntimeError) as e:
            reason = str(e).strip().split('\n')[0]
            raise UserError(
                f'the ranks cannot meet at {url} ({reason}); check --dist-url, MASTER_ADDR and MASTER_PORT'
            ) from e

    def _rendezvous(self, url: str, timeout: int) -> Any:
        """-> the store of a meeting by torch's own means"""
        return next(rendezvous(url, self.rank, self.world, timeout=patience(timeout)))[0]

    def connect(self, backend: str, url: str = 'env://', timeout: int = 600) -> None:
        """Joins the process group, after `meet`; a training of one process has none. Raises UserError."""
        if self.world == 1:
            return
        if self.store is None:
            self.meet(url, timeout)
        place = {'rank': self.rank, 'world_size': self.world, 'timeout': patience(timeout)}
        try:
            dist.init_process_group(backend, store=self.store, **place)
        except (ValueError, RuntimeError) as e:
            reason = str(e).strip().split('\n')[0]
            raise UserError(
                f'the ranks cannot connect over {backend} ({reason}); check --dist-backend and the network between them'
            ) from e

    def sum(self, values: Sequence[float], device: torch.device) -> List[float]:
        """-> the sums over all ranks, in float64 where the device has it."""
        return self._reduce(values, device, 'SUM')

    def max(self, values: Sequence[float], device: torch.device) -> List[float]:
        return self._reduce(values, device, 'MAX')

    def count(self, name: str, more: int = 1) -> int:
        """-> what the ranks together have counted under this name, this time included. No rank waits for another."""
        if self.world > 1:
            return self.store.add(f'count {name}', more)
        self.counts[name] += more
        return self.counts[name]

    def _reduce(self, values: Sequence[float], device: torch.device, op: str) -> List[float]:
        if self.world == 1:
            return [float(v) for v in values]
        # gloo takes CPU tensors, hccl and nccl their own; hccl has no float64, and counts fit float32 up to 2^24
        dtype = torch.float64 if device.type == 'cpu' else torch.float32
        tensor = torch.tensor([float(v) for v in values], dtype=dtype, device=device)
        dist.all_reduce(tensor, op=getattr(dist.ReduceOp, op))
        return tensor.tolist()


def patience(timeout: int) -> datetime.timedelta:
    """-> how long torch itself waits for a rank: longer than `timeout`, whose end has a better sentence."""
    return datetime.timedelta(seconds=max(1800, 2 * timeout)) if timeout else datetime.timedelta(days=20)


def end_with(parent: int) -> None:
    """From now on this process is told SIGTERM when its parent ends, however it does, also after exec. (On Linux.)"""
    if not sys.platform.startswith('linux'):
        return
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGTERM)
