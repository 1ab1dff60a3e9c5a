"""The distributed options of PyTorch's classic ImageNet example, as this folder's README has listed them since 2021.

Under the scripts torchrun starts the processes. Without it these options do what they do in the example: one process for
each device of the machine (--multiprocessing-distributed), or one process of several that are started by hand.
"""
import os
import sys
from urllib.parse import urlparse

from common import accelerator
from common.errors import UserError

TORCHRUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'common', 'torchrun.py')


def add_options(parser):
    option = parser.add_argument_group('ImageNet example').add_argument
    option('-a', '--arch', dest='model', metavar='NAME', help='as --model')
    option('--warm-up-epochs', dest='warmup_epochs', type=int, metavar='N', help='as --warmup-epochs')
    option('--gpu', type=int, default=None, metavar='N', help='train on this one card')
    option('--multiprocessing-distributed', action='store_true', help='one process for each device of this machine')
    option('--world-size', type=int, default=-1, metavar='N',
           help='machines with --multiprocessing-distributed, otherwise processes')
    option('--rank', type=int, default=-1, metavar='N', help='of this machine, or of this process')
    option('--addr', default=None, metavar='HOST', help='where the first process runs, as MASTER_ADDR')
    option('--pretrained', action='store_true', help='insist on the weights of --pretrained-path')
    option('--pretrained-path', '--model-path', dest='finetune', metavar='FILE',
           help='start from these weights: .npz of the JAX release, .pth or .safetensors; as --finetune')


def settle(args, environ=os.environ):
    """Acts on the options: chooses the card, finds the other processes, or starts them (and then does not return)."""
    launched = 'RANK' in environ
    if args.gpu is not None and (args.multiprocessing_distributed or int(environ.get('WORLD_SIZE', 1)) > 1):
        raise UserError('--gpu %d names the card of one process, and several are started; leave it out (CUDA_VISIBLE_DEVICES '
                        'and ASCEND_RT_VISIBLE_DEVICES choose cards for all)' % args.gpu)
    if args.gpu is not None:
        args.device_id = args.gpu
    if args.addr is not None:
        environ['MASTER_ADDR'] = args.addr
        if args.dist_url.startswith('tcp:'):
            args.dist_url = 'tcp://%s:%s' % meeting_place(args, environ)
    if launched and (args.world_size, args.rank) != (-1, -1):
        raise UserError('--world-size and --rank are for a start without torchrun, which has set them already; leave them out, '
                        'or with the scripts set NNODES and NODE_RANK')
    if launched:
        return
    if args.multiprocessing_distributed:
        start_processes(args, environ)
    elif args.world_size > 1:
        join_by_hand(args, environ)


def meeting_place(args, environ):
    """-> (host, port) of the first process, from --dist-url, --addr or the environment."""
    url = urlparse(args.dist_url)
    if url.scheme not in ('env', 'tcp'):
        raise UserError('--dist-url %s: tcp://HOST:PORT and env:// are understood' % args.dist_url)
    return (args.addr or url.hostname or environ.get('MASTER_ADDR', '127.0.0.1'),
            str(url.port or environ.get('MASTER_PORT', 29500)))


def start_processes(args, environ):
    """Becomes torchrun, with one process for each device (or NPROC_PER_NODE) on each of --world-size machines."""
    host, port = meeting_place(args, environ)
    count = environ.get('NPROC_PER_NODE') or accelerator.count(args.device)
    sys.stdout.flush()
    os.execv(sys.executable, [
        sys.executable, '-u', TORCHRUN, '--nproc_per_node=%s' % count, '--nnodes=%d' % max(1, args.world_size),
        '--node_rank=%d' % max(0, args.rank), '--master_addr=' + host, '--master_port=' + port, *without_start(sys.argv)])


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
        raise UserError('--rank %d: with --world-size %d it must be 0 to %d' % (args.rank, args.world_size, args.world_size - 1))
    host, port = meeting_place(args, environ)
    environ.update(RANK=str(args.rank), WORLD_SIZE=str(args.world_size), LOCAL_WORLD_SIZE='1', MASTER_ADDR=host,
                   MASTER_PORT=port)
