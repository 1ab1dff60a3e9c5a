"""`python FOLDER/common/torchrun.py ...`: torchrun, whose failures are a sentence and the failed rank's own exit status.

Takes torchrun's arguments. Before torch 1.10 its forerunner torch.distributed.launch is used, with --use_env.
"""
import logging
import os
import signal
import subprocess
import sys

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
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            hint = ' (often: the memory ran out; fewer --workers or a smaller --batch-size)' if name == 'SIGKILL' else ''
            report('rank %d was killed by %s%s; the other ranks were stopped' % (rank, name, hint))
            return 128 - failure.exitcode
        return failure.exitcode
    except Exception as e:
        if hasattr(e, 'sigval'):       # elastic's SignalException: we were told to stop, and have told the ranks
            return 128 + int(e.sigval)
        raise
    return 0


def launch_before_elastic(argv):
    from torch.distributed import launch as forerunner
    sys.argv = [forerunner.__file__, '--use_env'] + argv
    try:
        forerunner.main()
    except subprocess.CalledProcessError as e:
        return e.returncode if e.returncode > 0 else 128 - e.returncode
    return 0


if __name__ == '__main__':
    sys.exit(launch(sys.argv[1:]))
