"""The ranks of a training: which one is this, and what did the others count."""

import collections
import datetime
import os
from typing import Dict, List, Mapping, Optional, Sequence

import torch
import torch.distributed as dist

from common.errors import UserError


class Ranks:
    """This process's place among the processes of the training, as torchrun tells it by the environment.

    local_rank: as torch.distributed.launch gives it on the command line; the environment is read first.
    """

    def __init__(self, local_rank: Optional[int] = None, environ: Mapping[str, str] = os.environ):
        self.counts: Dict[str, int] = collections.Counter()
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

    def connect(self, backend: str, url: str = 'env://') -> None:
        """Joins the process group; a training of one process has none."""
        if self.world == 1:
            return
        patience = datetime.timedelta(minutes=30)
        try:
            dist.init_process_group(backend, init_method=url, world_size=self.world, rank=self.rank, timeout=patience)
        except (ValueError, RuntimeError) as e:
            reason = str(e).strip().split('\n')[0]
            raise UserError(
                f'the ranks cannot meet at {url} over {backend} ({reason}); check --dist-url, --dist-backend, '
                'MASTER_ADDR and MASTER_PORT'
            ) from e

    def sum(self, values: Sequence[float], device: torch.device) -> List[float]:
        """-> the sums over all ranks, in float64 where the device has it."""
        return self._reduce(values, device, 'SUM')

    def max(self, values: Sequence[float], device: torch.device) -> List[float]:
        return self._reduce(values, device, 'MAX')

    def count(self, name: str, more: int = 1) -> int:
        """-> what the ranks together have counted under this name, this time included. No rank waits for another."""
        if self.world > 1:
            return dist.distributed_c10d._get_default_store().add(f'count {name}', more)
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
