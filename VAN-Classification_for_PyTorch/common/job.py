"""A training or an evaluation as a process: from the options of the command line to the exit status."""

import gc
import os
import traceback
from typing import Any, Optional

import torch
import torch.distributed as dist

from common import accelerator, agreement, data, limits, options, report, run_folder, weights
from common.compat import is_distributed
from common.distributed import Ranks, end_with
from common.errors import Interrupted, UserError, explain, unexpected
from common.errors import report as tell
from common.stop import end_now, kill_workers
from common.trainer import Trainer


def run(args: options.Args, hooks: Any) -> int:
    """Does what the options ask for. -> exit status: 0, 1 (an error), 128 + signal

    A user's mistake is a sentence; another error has a traceback before it.
    """
    message, code = None, 0
    if 'TORCHELASTIC_RUN_ID' in os.environ:  # torchrun's rank; launcher.py sees to its own
        end_with(os.getppid())
    try:
        ranks = Ranks(args.local_rank)
        if args.predict or args.export:
            code = use(args, ranks, hooks)
        else:
            train_or_evaluate(args, ranks, hooks)
    except Interrupted as e:
        message, code = str(e) if ranks.primary else None, e.code
    except Exception as e:
        message, code = explain(e), 1
        if message is None:
            traceback.print_exc()
            message = unexpected(e)
    leave(message, code)
    return code


def use(args: options.Args, ranks: Ranks, hooks: Any) -> int:
    """--predict or --export, which one process does. -> exit status"""
    if ranks.world > 1:
        raise UserError('--predict and --export are for one process; start them without torchrun')
    from common import export, predict  # a training has no need of them

    share_cores(1)
    return (predict if args.predict else export).run(args, hooks)


def share_cores(processes: int) -> None:
    """Of as many processes on this machine. torch counts the cores that it sees; the threads of a container that may use
    fewer would wait for one another.
    """
    share = max(1, limits.cores() // processes)
    if torch.get_num_threads() > share:
        torch.set_num_threads(share)


def train_or_evaluate(args: options.Args, ranks: Ranks, hooks: Any) -> None:
    """What is asked for, from the options of the command line to the last event."""
    loaded = weights.asked_for(args, hooks)
    if args.eval_report:
        report.check()
    device = accelerator.choose(args.device, ranks.local if args.device_id is None else args.device_id)
    val_only = args.case == 'eval' and not os.path.isdir(os.path.join(args.data_path, args.train_split))
    splits = (args.val_split,) if val_only else (args.train_split, args.val_split)
    classes = data.check_root(args.data_path, splits, read=not args.skip_bad_images)
    trained = options.classes_of(loaded, args, classes)
    if len(trained) > len(classes):
        args.notes.append(f'The data has {len(classes)} of the {len(trained)} classes of the checkpoint.')
    classes = trained
    options.resolve(args, loaded, classes, device, ranks)
    limits.check(args, ranks)
    share_cores(ranks.local_world)
    device.set_up()
    lock = take_folder(args, ranks)
    backend = args.dist_backend or device.backend
    ranks.meet(args.dist_url, args.timeout)
    agreement.check(args, ranks, backend, loaded)
    ranks.connect(backend, args.dist_url, args.timeout)
    device.seed(args.seed)
    device.short_float32(args.hf32)
    work(Trainer(args, ranks, device, classes, loaded, hooks))
    if lock is not None:
        lock.close()


def take_folder(args: options.Args, ranks: Ranks) -> Any:
    """Makes the output folder. -> its lock where this process has taken it, else None. Raises UserError."""
    try:
        os.makedirs(args.output_dir, exist_ok=True)
        if ranks.primary and 'RUN_ID' not in os.environ:  # a script has taken the folder already
            return run_folder.claim(args.output_dir, args.case)
    except OSError as e:
        raise UserError(
            f'the output folder {args.output_dir} cannot be used ({e}); choose another by --output-dir'
        ) from e
    return None


def work(trainer: Trainer) -> None:
    """Trains or evaluates. Does not return where the device fails: even to free its events would abort the process."""
    try:
        trainer.evaluate_only() if trainer.args.case == 'eval' else trainer.fit()
    except (UserError, RuntimeError) as e:
        trainer.rescue()
        told = trainer.accelerator.failure(e)
        if not trainer.ranks.primary:  # all ranks tend to fail together; those that have not said why are stopped
            trainer.requests.leave_when_told()
        if told:
            tell(f'{trainer.accelerator.called} {trainer.accelerator.index} failed: {told}')
            end_now(1)
        raise
    finally:
        trainer.close()


def leave(message: Optional[str], code: int) -> None:
    """Frees what is left of the training, prints the message and, where one of several ranks failed, ends the process.

    Process groups and the threads of gloo are in reference cycles, which only the garbage collector finds. Such a thread,
    if it frees a tensor while the interpreter shuts down, aborts the process after a training that was good. A rank that
    failed may have a collective under way that the others never join: it does not wait for it, and ends at once.
    """
    gc.collect()
    kill_workers()
    if message:
        tell(message)
    if is_distributed():
        if code:
            end_now(code)
        dist.destroy_process_group()
