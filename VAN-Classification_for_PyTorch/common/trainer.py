"""The story of a run, top to bottom: command line -> parts -> train or evaluate -> exit status.

A folder's train.py calls `main` with its recipe and its create_model. What differs between the models is data (recipe)
or a hook; no model's name stands here.
"""
import gc
import os
import sys
import traceback

import torch.distributed as dist

from common import accelerator, checkpoint, data, options
from common.compat import is_distributed
from common.distributed import Ranks
from common.errors import Interrupted, UserError, explain, report
from common.run import Run

# What an evaluation or a continued run takes over from the checkpoint, unless the command line says otherwise.
ADOPTED = ('model', 'img_size', 'mean', 'std', 'crop_pct', 'interpolation')


def main(description, recipe, hooks, argv=None):
    """Runs what the command line asks for. -> the exit status: 0, 1 (a user's mistake, or with a traceback our own), 128 + signal.

    recipe: see options.parse; hooks: see hooks.py.
    """
    said, code = None, 0
    try:
        args = options.parse(description, recipe, argv, hooks.add_options)
        hooks.settle(args)
        ranks = Ranks(args.local_rank)
        run(args, ranks, hooks)
    except Interrupted as e:
        said, code = str(e) if ranks.primary else None, e.code
    except Exception as e:
        said, code = explain(e), 1
        if said is None:
            traceback.print_exc()
    leave(said, code)
    return code


def leave(said, code):
    """Ends what is left of the run, says why it failed and, where it was one of several processes that failed, ends the process.

    What is left hangs together in rings, which only the collector finds: process groups, with gloo's threads. Such a thread, if
    it lets go of a tensor while the interpreter takes itself apart, aborts the process after a run that was good. A rank that
    failed may have work under way that the others never join, and would wait for it: it takes no group apart.
    """
    gc.collect()
    if said:
        report(said)
    if is_distributed():
        if code:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        dist.destroy_process_group()


def run(args, ranks, hooks):
    """One run, from arguments to the last event."""
    loaded = read_checkpoint(args, hooks)
    device = accelerator.choose(args.device, args.device_id if args.device_id is not None else ranks.local)
    splits = ('train', 'val')
    if args.case == 'eval' and not os.path.isdir(os.path.join(args.data_path, 'train')):
        splits = ('val',)
    classes = data.check_root(args.data_path, splits, read=not args.skip_bad_images)
    if args.num_classes is None:
        args.num_classes = len(classes)
    elif args.num_classes < len(classes):
        raise UserError('--num-classes %d is fewer than the %d classes in %s' % (args.num_classes, len(classes), args.data_path))
    settle_sizes(args, device, ranks)
    os.makedirs(args.output_dir, exist_ok=True)
    ranks.connect(args.dist_backend or device.backend, args.dist_url)
    device.seed(args.seed)
    device.short_float32(args.hf32)
    this = Run(args, ranks, device, classes, loaded, hooks)
    this.introduce()
    try:
        if args.case == 'eval':
            this.evaluate_only()
        else:
            this.fit()
    except (UserError, RuntimeError):
        if not ranks.primary:        # all ranks tend to fail together, and torchrun stops those that have not said why yet
            this.stop.leave_when_told()
        raise
    finally:
        this.close()


def read_checkpoint(args, hooks):
    """The checkpoint that the command line names, or None; takes over what it says of its model."""
    if args.auto_resume and not args.resume and args.case == 'full':
        last = os.path.join(args.output_dir, 'checkpoint.pth')
        args.resume = last if os.path.isfile(last) else None
    path = args.resume or args.finetune
    if not path:
        return None
    loaded = hooks.read_weights(path) or checkpoint.load(path)
    saved = loaded.get('args') if loaded.get('format') == 1 else None
    for name in ADOPTED + hooks.adopted if saved else ():
        if name in saved and name not in args.explicit:
            setattr(args, name, saved[name])
    if saved and args.resume and args.num_classes is None and saved['num_classes'] != len(loaded['classes']):
        args.num_classes = saved['num_classes']       # it was chosen for the run, not counted in the data
    return loaded


def settle_sizes(args, device, ranks):
    """Fills in what depends on the machine: workers, batch, a CPU's steps, learning rate."""
    if args.workers is None:
        share = (os.cpu_count() or 1) // ranks.local_world
        args.workers = min(8, share if device.kind != 'cpu' or share == 0 else max(1, share // 2))
    if args.batch_per_node and 'batch_size' in args.explicit:
        if args.batch_size % ranks.local_world:
            raise UserError('--batch-size %d is for all processes of a machine and does not divide by its %d; take a multiple'
                            % (args.batch_size, ranks.local_world))
        args.batch_size //= ranks.local_world
    if args.case == 'performance' and device.kind == 'cpu':
        args.notes.append(make_do(args, ranks))
    if args.validation_batch_size is None:
        args.validation_batch_size = args.batch_size
    if args.lr is None or args.lr_scaled:
        base = args.lr_base if args.lr is None else args.lr
        args.lr = base * args.batch_size * ranks.world / args.lr_base_size


def make_do(args, ranks):
    """A CPU's performance run: smaller sizes for what the command line leaves open. -> the line that says so."""
    small = dict(options.CPU_PERFORMANCE)
    small['batch_size'] = max(2, min(small['batch_size'], small.pop('global_batch') // ranks.world))
    taken = {k: v for k, v in sorted(small.items()) if k not in args.explicit}
    vars(args).update(taken)
    return ('On a CPU the recipe\'s batch neither fits nor ends; a performance run takes %s unless told otherwise.'
            % ', '.join('--%s %s' % (k.replace('_', '-'), v) for k, v in taken.items()))
