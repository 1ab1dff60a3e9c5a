"""What a run is asked for while it goes on, agreed on by all ranks: to stop (SIGTERM, SIGINT, SIGHUP), or to save (SIGUSR1)."""

import multiprocessing
import os
import signal
import sys
import time
from typing import Tuple

import torch
import torch.distributed as dist

from common.distributed import Ranks
from common.errors import Interrupted

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def end_now(code: int) -> None:
    kill_workers()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def kill_workers() -> None:
    """Those that have not ended by themselves. A stopped one would be waited for at the end of the process, and keep the log open."""
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGKILL)


class Requests:
    """Notes the signals, and lets all ranks act on them after the same step. Asked to stop again after 5 s, it exits at once.

    A rank that left alone would leave the others waiting in a collective. So each rank says at each step what it was asked
    for. The answer of one step is read at the next, so nobody waits for it.

    Python's own handlers wait for the main thread, which may wait in a collective for good. So signals are read from a pipe, which
    another thread may do too (watchdog.py).
    """

    def __init__(self, ranks: Ranks):
        self.stop_signal, self.since, self.save_asked = 0, 0.0, False
        self.group = dist.new_group(backend='gloo') if ranks.world > 1 else None
        self.work = self.flags = None
        self.pipe, told = os.pipe()
        for end in (self.pipe, told):
            os.set_blocking(end, False)
        for number in (*STOP_SIGNALS, signal.SIGUSR1):
            if (
                number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
            ):  # under nohup it is no request
                signal.signal(number, lambda signum, frame: None)
        signal.set_wakeup_fd(told)

    def told(self) -> int:
        """-> the signal that this rank is to stop for, or 0."""
        try:
            signals = os.read(self.pipe, 64)
        except BlockingIOError:
            return self.stop_signal
        for number in signals:
            self.save_asked |= number == signal.SIGUSR1
            if number in STOP_SIGNALS and not self.stop_signal:
                self.stop_signal, self.since = number, time.monotonic()
            elif number in STOP_SIGNALS and time.monotonic() - self.since > 5:
                os._exit(128 + number)  # it was asked again, and not by the terminal and the script at once
        return self.stop_signal

    def agreed(self, save: bool = False) -> Tuple[int, bool]:
        """Called by each rank once a step. -> (the signal that all ranks now stop for or 0, whether to save)

        save: whether this rank thinks that it is time to.
        """
        signum, save = self.told(), save or self.save_asked
        self.save_asked = False
        if self.group is None:
            return signum, save
        answer = self.settle()
        self._ask(signum, save)
        return answer

    def settle(self) -> Tuple[int, bool]:
        """-> the answer that is still under way, (0, False) for none. (A process group is not left with work pending.)"""
        if self.work is None:
            return 0, False
        self.work.wait()
        signum, save = self.flags.tolist()
        self.work = None
        return signum, bool(save)

    def now(self) -> int:
        """-> the signal that all ranks stop for, or 0. They wait for one another."""
        if self.group is None:
            return self.told()
        before, save = self.settle()
        self.save_asked |= save
        self._ask(self.told(), False)
        return before or self.settle()[0]

    def _ask(self, signum: int, save: bool) -> None:
        self.flags = torch.tensor([signum, save], dtype=torch.int32)
        self.work = dist.all_reduce(self.flags, op=dist.ReduceOp.MAX, group=self.group, async_op=True)

    def leave_when_told(self) -> None:
        """From now on a signal ends this process at once. Raises Interrupted for one that came already."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if self.told():
            raise Interrupted(self.stop_signal, 'after another rank failed')

    def close(self) -> None:
        """Lets go of the process group. Signals are still noted, so that they do not disturb the end."""
        self.group = self.work = self.flags = None
