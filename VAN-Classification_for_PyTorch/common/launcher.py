"""`python FOLDER/common/launcher.py ... train.py ...` starts the ranks of this machine and waits for them.

It takes those of torchrun's arguments that the scripts use. The ranks are forked from this process, which has imported torch,
torchvision and timm for all of them, so that eight ranks cost the work of one import. torchrun starts each rank anew; before
torch 1.9 there is none, and its forerunner, told to stop, left its ranks running (1.5) or killed them (1.8).
"""

import argparse
import glob
import multiprocessing
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any, List, Optional, Sequence

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the folder: this file is run by its path

from common.errors import killed_by, report  # noqa: E402

# for the ranks; SIGUSR1 asks them to save and to go on
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
PATIENCE = 300  # seconds that the first rank has to save and end after a rank has ended
AFTERWARDS = 10  # seconds that the others have after it


def main(argv: Sequence[str]) -> int:
    """-> exit status: of the rank that failed first, or 0"""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # there is nothing to save yet
    from common import accelerator, job  # noqa: F401  (loads what every rank needs)

    args, parent, forwarded = parse(argv), os.getpid(), signals()
    if args.nnodes == 1:  # several machines must agree on the port, one machine may take any
        args.master_port = free_port(args.master_port)
    method = 'fork' if accelerator.can_fork() else 'spawn'
    ranks: List[Any] = []
    told: List[int] = []

    def tell(signum: int, frame: Any = None) -> None:
        if signum != signal.SIGUSR1:
            told.append(signum)
        for process in ranks:
            if process.is_alive():
                os.kill(process.pid, signum)

    for number in forwarded:
        signal.signal(number, tell)
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)  # until all ranks are there to be told
    for local in range(args.nproc_per_node):
        ranks.append(multiprocessing.get_context(method).Process(target=train, args=(args, local, parent)))
        ranks[-1].start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, forwarded)
    first = first_failure(ranks)
    asked = told[:1]
    if first is None:
        return 0
    if not asked:
        tell(signal.SIGTERM)
    wait_for_end(ranks)
    tell(signal.SIGKILL)
    for process in ranks:
        process.join()
    code, rank = ranks[first].exitcode, args.node_rank * args.nproc_per_node + first
    return 128 - code if -code in asked else status_of(rank, code)  # it ended by what it was asked to end by


def signals() -> List[int]:
    """-> those that are passed on to the ranks: not SIGHUP where it is ignored, as under nohup"""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    for name, default in (('nproc_per_node', 1), ('nnodes', 1), ('node_rank', 0), ('master_port', 29500)):
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--master_addr', default='127.0.0.1')
    parser.add_argument('--bind', action='store_true', help='give each rank cores of its own')
    parser.add_argument('script')
    parser.add_argument('arguments', nargs=argparse.REMAINDER)
    return parser.parse_args(argv)


def free_port(wanted: int) -> int:
    """-> the port if nobody uses it, else another one; any one for 0"""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(('', wanted))
        except OSError:
            s.bind(('', 0))
            print(f'Port {wanted} is in use; port {s.getsockname()[1]} is taken instead.', flush=True)
        return s.getsockname()[1]


def train(args: argparse.Namespace, local: int, launcher: int) -> None:
    """One rank: runs the script as `python script arguments...` would. Raises SystemExit with its status.

    launcher: id of the process that has started it.
    """
    import torch

    from common.distributed import end_with

    end_with(launcher)
    for number in signals():
        signal.signal(number, signal.SIG_IGN if number == signal.SIGUSR1 else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    rank, world = args.node_rank * args.nproc_per_node + local, args.nnodes * args.nproc_per_node
    place = {'RANK': rank, 'LOCAL_RANK': local, 'WORLD_SIZE': world, 'LOCAL_WORLD_SIZE': args.nproc_per_node}
    place.update(MASTER_ADDR=args.master_addr, MASTER_PORT=args.master_port)
    os.environ.update({name: str(value) for name, value in place.items()})
    if args.bind:
        bind(args, local)
    if 'OMP_NUM_THREADS' in os.environ:  # torch has read it already, in the process that was forked
        torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    sys.argv[:] = [args.script, *args.arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(args.script))
    runpy.run_path(args.script, run_name='__main__')


def bind(args: argparse.Namespace, local: int) -> None:
    """Gives this process its share of the cores, those of a NUMA node together.

    With numactl also their node's memory: this process then becomes numactl, which starts the script.
    """

    def node(core: int) -> int:
        found = glob.glob(f'/sys/devices/system/cpu/cpu{core}/node*')
        return int(found[0].rpartition('node')[2]) if found else 0

    cores = sorted(os.sched_getaffinity(0), key=lambda core: (node(core), core))
    share = len(cores) // args.nproc_per_node
    mine = cores[local * share : (local + 1) * share]
    say = print if local == 0 else (lambda *words, **options: None)
    if not mine:
        return say(f'No core binding: {len(cores)} cores for {args.nproc_per_node} processes.', flush=True)
    nodes = ','.join(map(str, sorted(set(map(node, mine)))))
    numactl = ['numactl', f'--physcpubind={",".join(map(str, mine))}', f'--membind={nodes}']
    if shutil.which('numactl') and subprocess.call([*numactl, 'true'], stderr=subprocess.DEVNULL) == 0:
        say(f'Each process is bound to {share} cores and their memory by numactl.', flush=True)
        os.execvp('numactl', [*numactl, sys.executable, '-u', args.script, *args.arguments])
    os.sched_setaffinity(0, mine)
    say(f'Each process is bound to {share} cores (numactl, which binds memory too, is not usable here).', flush=True)


def first_failure(processes: Sequence[Any]) -> Optional[int]:
    """Waits until a process fails, or all have ended. -> the index of the one that failed, or None

    Where one is killed, others may fail within the same moment because of it: of several, it is the one that was killed from
    outside, else one that aborted, else the first.
    """
    while all(not process.exitcode for process in processes):
        if all(process.exitcode == 0 for process in processes):
            return None
        time.sleep(0.1)
    time.sleep(0.3)  # the one that was killed may take longer to end
    failed = [(i, process.exitcode) for i, process in enumerate(processes) if process.exitcode]
    return min(failed, key=lambda one: (one[1] > 0, one[1] == -signal.SIGABRT, one[0]))[0]


def wait_for_end(ranks: Sequence[Any]) -> None:
    """Returns when all have ended, or have had the time to; a stopped one has none."""
    for rank, patience in zip(ranks, [PATIENCE] + [AFTERWARDS] * len(ranks)):
        end = time.monotonic() + patience
        while time.monotonic() < end and rank.is_alive() and not is_stopped(rank.pid):
            rank.join(0.2)


def is_stopped(pid: int) -> bool:
    """Whether the process stands still, by SIGSTOP or a debugger. (On Linux.)"""
    try:
        with open(f'/proc/{pid}/stat') as f:
            return f.read().rpartition(')')[2].split()[0] in 'Tt'
    except OSError:
        return False


def status_of(rank: int, code: int) -> int:
    """The exit status of a rank as Python has it -> as a shell has it. Reports the signal that ended the rank."""
    if code >= 0:
        return code
    report(f'rank {rank} {killed_by(signal.Signals(-code).name)}; the other ranks were stopped')
    return 128 - code


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
