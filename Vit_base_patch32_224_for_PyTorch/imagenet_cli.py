"""The distributed options of PyTorch's classic ImageNet example, as this folder's README has listed them since 2021.

Under the scripts common/launcher.py starts the processes. Without it these options do what they do in the example: one process for
each device of the machine (--multiprocessing-distributed), or one process of several that are started by hand.
"""

import os
import sys
from urllib.parse import urlparse

from common.errors import UserError
from common.options import COUNT, EPOCHS, filled, number

LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'common', 'launcher.py')

PLACE = number(-1, 10**6, int)  # -1: not told, as in the example

# Of these options, see common/effects.py. The launcher's ranks are not told what it was told.
NEEDS = (
    ('gpu', lambda run: run.accelerator.kind != 'cpu', 'a CPU has no number'),
    ('gpu', lambda run: ':' not in run.args.device, '--device {device} names the card'),
    ('device_id', lambda run: run.args.gpu is None, '--gpu {gpu} names the card'),
    ('addr world_size rank', lambda run: run.ranks.world > 1, 'this run has one process'),
    ('multiprocessing_distributed', lambda run: False, 'the processes had been started before'),
    ('pretrained', lambda run: False, 'it insists on a file of weights, and there is one'),
)


def add_options(parser):
    option = parser.add_argument_group('ImageNet example').add_argument
    option('-a', '--arch', dest='model', type=filled, metavar='NAME', help='as --model')
    option('--warm-up-epochs', dest='warmup_epochs', type=EPOCHS, metavar='N', help='as --warmup-epochs')
    option('--gpu', type=COUNT, default=None, metavar='N', help='train on this one card')
    option('--multiprocessing-distributed', action='store_true', help='one process for each device of this machine')
    option(
        '--world-size',
        type=PLACE,
        default=-1,
        metavar='N',
        help='machines with --multiprocessing-distributed, otherwise processes',
    )
    option('--rank', type=PLACE, default=-1, metavar='N', help='of this machine, or of this process')
    option('--addr', type=filled, metavar='HOST', help='where the first process runs, as MASTER_ADDR')
    option('--pretrained', action='store_true', help='insist on the weights of --pretrained-path')
    option(
        '--pretrained-path',
        '--model-path',
        dest='finetune',
        type=filled,
        metavar='FILE',
        help='start from these weights: .npz of the JAX release, .pth or .safetensors; as --finetune',
    )


def settle(args, environ=os.environ):
    """Acts on the options: chooses the card, finds the other processes, or starts them (and then does not return).

    -> {option of common/: value} that follow from them
    """
    launched, changed = 'RANK' in environ, {}
    if args.gpu is not None and (args.multiprocessing_distributed or int(environ.get('WORLD_SIZE', 1)) > 1):
        raise UserError(
            f'--gpu {args.gpu} names the card of one process, and several are started; leave it out (CUDA_VISIBLE_DEVICES '
            'and ASCEND_RT_VISIBLE_DEVICES choose cards for all)'
        )
    if args.gpu is not None:
        changed['device_id'] = args.gpu
    if args.addr is not None:
        environ['MASTER_ADDR'] = args.addr
        if args.dist_url.startswith('tcp:'):
            host, port = meeting_place(args, environ)
            changed['dist_url'] = f'tcp://{host}:{port}'
    if launched and (args.world_size, args.rank) != (-1, -1):
        raise UserError(
            '--world-size and --rank are for a start without torchrun, which has set them already; leave them out, '
            'or with the scripts set NNODES and NODE_RANK'
        )
    if launched:
        return changed
    if args.multiprocessing_distributed:
        start_processes(args, environ)
    elif args.world_size > 1:
        join_by_hand(args, environ)
    return changed


def meeting_place(args, environ):
    """-> (host, port) of the first process, from --dist-url, --addr or the environment."""
    url = urlparse(args.dist_url)
    if url.scheme not in ('env', 'tcp'):
        raise UserError(f'--dist-url {args.dist_url}: tcp://HOST:PORT and env:// are understood')
    return (
        args.addr or url.hostname or environ.get('MASTER_ADDR', '127.0.0.1'),
        str(url.port or environ.get('MASTER_PORT', 29500)),
    )


def start_processes(args, environ):
    """Becomes the launcher, with one process for each device (or NPROC_PER_NODE) on each of --world-size machines."""
    from common import accelerator  # brings torch

    host, port = meeting_place(args, environ)
    count = environ.get('NPROC_PER_NODE') or accelerator.count(args.device)
    sys.stdout.flush()
    os.execv(
        sys.executable,
        [
            sys.executable,
            '-u',
            LAUNCHER,
            f'--nproc_per_node={count}',
            f'--nnodes={max(1, args.world_size)}',
            f'--node_rank={max(0, args.rank)}',
            '--master_addr=' + host,
            '--master_port=' + port,
            *without_start(sys.argv),
        ],
    )


def without_start(argv):
    """argv for the processes: without the options that torchrun has been told."""
    kept, skip = [], False
    for word in argv:
        name = word.partition('=')[0].replace('_', '-')
        taken = name in ('--world-size', '--rank', '--dist-url', '--addr')
        if not (skip or taken or name == '--multiprocessing-distributed'):
            kept.append(word)
        skip = taken and '=' not in word
    return kept


def join_by_hand(args, environ):
    """Takes the place that --world-size and --rank name among processes that were started one by one."""
    if not 0 <= args.rank < args.world_size:
        raise UserError(
            f'--rank {args.rank}: with --world-size {args.world_size} it must be 0 to {args.world_size - 1}'
        )
    host, port = meeting_place(args, environ)
    environ.update(
        RANK=str(args.rank), WORLD_SIZE=str(args.world_size), LOCAL_WORLD_SIZE='1', MASTER_ADDR=host, MASTER_PORT=port
    )
