"""`python FOLDER/common/torchrun.py ...`: torchrun, whose failures are a sentence and the failed rank's own exit status.

Takes torchrun's arguments. Before torch 1.9, which brought torchrun, what it does for the scripts is done here.
"""
import argparse
import logging
import os
import signal
import subprocess
import sys
import time

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))   # the folder: run as a file, from anywhere

from common.errors import report  # noqa: E402


def launch(argv):
    """Runs the processes of this machine to their end. -> exit status of the first that failed, or 0."""
    try:
        from torch.distributed import run
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    except ImportError:
        return launch_before_elastic(argv)
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)   # what they say is said below, in a line
    try:
        run.main(argv)
    except ChildFailedError as e:
        rank, failure = e.get_first_failure()
        return status_of(rank, failure.exitcode)
    except Exception as e:
        if hasattr(e, 'sigval'):       # elastic's SignalException: we were told to stop, and have told the ranks
            return 128 + int(e.sigval)
        raise
    return 0


def status_of(rank, code):
    """The exit status of the rank that failed first, as Python has it -> as a shell has it."""
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    hint = ' (often: the memory ran out; fewer --workers or a smaller --batch-size)' if name == 'SIGKILL' else ''
    report('rank %d was killed by %s%s; the other ranks were stopped' % (rank, name, hint))
    return 128 - code


# ---- before torch 1.9

def launch_before_elastic(argv):
    """The same. torchrun's forerunner, torch.distributed.launch, leaves its ranks behind (1.5) or kills them (1.8) when told to stop."""
    args = parse(argv)
    ranks, told = [], []

    def tell(signum, frame=None):
        told.append(signum)
        for process in ranks:
            if process.poll() is None:
                process.send_signal(signum)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, tell)
    for local in range(args.nproc_per_node):
        ranks.append(start(args, local))
    if told:                      # meanwhile
        tell(told[0])
    first = wait_for_first(ranks)
    if first is None:
        return 0
    if not told:                  # those that were told are saving
        tell(signal.SIGTERM)
        patience = time.monotonic() + 30
        while any(process.poll() is None for process in ranks) and time.monotonic() < patience:
            time.sleep(.1)
        for process in ranks:
            process.kill()
    for process in ranks:
        process.wait()
    return status_of(args.node_rank * args.nproc_per_node + first, ranks[first].returncode)


def parse(argv):
    """Those of torchrun's arguments that launch.sh gives."""
    parser = argparse.ArgumentParser()
    for name, kind, default in (('nproc_per_node', int, 1), ('nnodes', int, 1), ('node_rank', int, 0), ('master_port', int, 29500),
                                ('master_addr', str, '127.0.0.1')):
        parser.add_argument('--' + name, type=kind, default=default)
    parser.add_argument('--no_python', action='store_true')
    parser.add_argument('command', nargs=argparse.REMAINDER)
    return parser.parse_args(argv)


def start(args, local):
    """Starts a process of this machine. -> subprocess.Popen"""
    place = {'RANK': args.node_rank * args.nproc_per_node + local, 'LOCAL_RANK': local, 'LOCAL_WORLD_SIZE': args.nproc_per_node,
             'WORLD_SIZE': args.nnodes * args.nproc_per_node, 'MASTER_ADDR': args.master_addr, 'MASTER_PORT': args.master_port}
    python = [] if args.no_python else [sys.executable, '-u']
    return subprocess.Popen(python + args.command, env=dict(os.environ, **{name: str(value) for name, value in place.items()}))


def wait_for_first(ranks):
    """Waits until a process fails -> its index; or until all have ended -> None."""
    running = True
    while running:
        codes = [process.poll() for process in ranks]
        for i, code in enumerate(codes):
            if code:
                return i
        running = None in codes
        time.sleep(.1)
    return None


if __name__ == '__main__':
    sys.exit(launch(sys.argv[1:]))
