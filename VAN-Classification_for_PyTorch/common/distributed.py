"""Ranks of one run: who am I, what did the others count, does anyone want to stop."""
import datetime
import os
import signal
import time

import torch
import torch.distributed as dist

from common.errors import Interrupted, UserError


class Ranks:
    """This process's place among the processes of the run, as torchrun tells it through the environment."""

    def __init__(self, local_rank=None, environ=os.environ):
        """local_rank: as torch.distributed.launch passes it on the command line; the environment goes first."""
        try:
            self.rank, self.local, self.world, self.local_world = (
                int(environ.get(name, default)) for name, default in
                (('RANK', 0), ('LOCAL_RANK', local_rank or 0), ('WORLD_SIZE', 1), ('LOCAL_WORLD_SIZE', environ.get('WORLD_SIZE', 1))))
        except ValueError as e:
            raise UserError('the environment of torchrun is damaged (%s); unset RANK, LOCAL_RANK and WORLD_SIZE' % e)

    @property
    def primary(self):
        return self.rank == 0

    def connect(self, backend, url='env://'):
        """Joins the process group of the run; nothing to do for a run of one process."""
        if self.world == 1:
            return
        try:
            dist.init_process_group(backend, init_method=url, world_size=self.world, rank=self.rank,
                                    timeout=datetime.timedelta(minutes=30))
        except (ValueError, RuntimeError) as e:
            raise UserError('the processes cannot meet at %s over %s (%s); check --dist-url, --dist-backend, MASTER_ADDR and '
                            'MASTER_PORT' % (url, backend, str(e).strip().split('\n')[0]))

    def sum(self, values, device):
        """list of numbers -> their sums over all ranks, in double precision where the device has it."""
        return self._reduce(values, device, dist.ReduceOp.SUM)

    def max(self, values, device):
        return self._reduce(values, device, dist.ReduceOp.MAX)

    def _reduce(self, values, device, op):
        if self.world == 1:
            return [float(v) for v in values]
        # gloo works on CPU tensors, hccl and nccl on their own; hccl has no float64, and counts fit float32 up to 2^24
        dtype = torch.float64 if device.type == 'cpu' else torch.float32
        tensor = torch.tensor([float(v) for v in values], dtype=dtype, device=device)
        dist.all_reduce(tensor, op=op)
        return tensor.tolist()


class StopRequest:
    """Notes SIGTERM and SIGINT, and lets all ranks stop after the same step. Asked again after 5 s, it leaves at once.

    A rank that left alone would leave the others waiting in a collective. So every rank says at every step whether it
    was asked to stop; the answer to the question of one step is read at the next, and costs no waiting.
    """

    def __init__(self, ranks):
        self.signum, self.since = 0, 0.
        self.group = dist.new_group(backend='gloo') if ranks.world > 1 else None
        self.work = self.flag = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, signum, frame):
        if not self.signum:
            self.signum, self.since = signum, time.monotonic()
        elif time.monotonic() - self.since > 5:    # asked again, not merely told by the terminal and the script at once
            os._exit(128 + signum)

    def agreed(self):
        """Called once a step by every rank -> the signal that all ranks now stop for, or 0."""
        if self.group is None:
            return self.signum
        answer = self.settle()
        self.flag = torch.tensor([self.signum], dtype=torch.int32)
        self.work = dist.all_reduce(self.flag, op=dist.ReduceOp.MAX, group=self.group, async_op=True)
        return answer

    def settle(self):
        """Reads the answer that is still under way, if any (a process group is not left with work pending)."""
        if self.work is None:
            return 0
        self.work.wait()
        answer, self.work = int(self.flag.item()), None
        return answer

    def leave_when_told(self):
        """From here on a signal ends this process at once; so does one that came already, as Interrupted."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if self.signum:
            raise Interrupted(self.signum, 'after another rank failed')

    def close(self):
        """Lets go of its process group. Signals are still noted, which keeps them from spoiling the end of the run."""
        self.group = self.work = self.flag = None
