"""The command line that every train.py shares: groups of options, all spellings, one meaning each.

Precedence: command line > the folder's recipe for the case > the folder's recipe > the case > the defaults below.
A dash and an underscore inside an option's name mean the same (--batch_size is --batch-size).
"""
import argparse
import sys

from common.errors import UserError, report

# What a case changes, whatever the model. full: the recipe as it is.
CASES = {
    'full': {},
    'performance': {'epochs': 1, 'cooldown_epochs': 0, 'max_steps': 120, 'eval_steps': 10, 'print_freq': 10},
    'eval': {},
    'finetune': {'epochs': 30, 'warmup_epochs': 2, 'cooldown_epochs': 0},
}
# A CPU neither holds the recipe's batch nor ends: what a performance run takes there unless told. About 3 minutes
# for a 5 GMAC model at 224 pixels on two cores.
CPU_PERFORMANCE = {'batch_size': 8, 'global_batch': 16, 'max_steps': 12, 'eval_steps': 2, 'print_freq': 1}

DATA_PATH_MISSING = 'para "data_path" must be confing'   # spelled so since 2020; tools match it


class Parser(argparse.ArgumentParser):
    """argparse with '_' and '-' made equal in option names, and errors in the collection's form."""

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else args
        return super().parse_known_args([dashes(a) for a in args], namespace)

    def error(self, message):
        report('%s; `python %s --help` lists the options' % (message, self.prog))
        self.exit(2)


class Side(argparse.Action):
    """[224] or [3, 224, 224] -> 224; images are square."""

    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) not in (1, 3) or values[-1] != values[-min(2, len(values))]:
            parser.error('%s %s: one number, or 3 and the side twice, is understood' % (option_string, ' '.join(map(str, values))))
        setattr(namespace, self.dest, values[-1])


def dashes(argument):
    """--batch_size=a_b -> --batch-size=a_b"""
    name, equals, value = argument.partition('=')
    return name.replace('_', '-') + equals + value if name.startswith('--') else argument


def at_least(minimum, kind=int):
    def convert(text):
        value = kind(text)
        if not value >= minimum:
            raise argparse.ArgumentTypeError('%s is less than %s' % (text, minimum))
        return value
    convert.__name__ = kind.__name__   # argparse names the type in its message
    return convert


count, positive, amount = at_least(0), at_least(1), at_least(0., float)


def loss_scale(text):
    return text if text == 'dynamic' else amount(text)


def build(description, recipe, add_options=None):
    """-> the parser with a recipe's defaults. recipe: {dest: value}; add_options(parser) adds a folder's own."""
    parser = Parser(description=description, allow_abbrev=False,
                    formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for add in (add_run, add_device, add_model, add_data, add_augmentation, add_optimizer, add_schedule):
        add(parser)
    if add_options is not None:
        add_options(parser)
    parser.set_defaults(**recipe)
    return parser


def add_run(parser):
    group = parser.add_argument_group('run')
    option = group.add_argument
    option('data', nargs='?', metavar='DIR', help='the data set, as --data-path')
    option('--data-path', '--data-dir', metavar='DIR', help='data set root, which holds train/ and val/')
    option('--case', choices=list(CASES), default='full', help='what kind of run this is; sets further defaults')
    option('--output-dir', '--output', default='./output', metavar='DIR', help='where logs and checkpoints go')
    option('--resume', '--checkpoint', '--ckpt-path', metavar='FILE',
           help='continue the run of this checkpoint (with --eval: the checkpoint to evaluate)')
    option('--finetune', '--finetune-pth', '--pth-path', '--initial-checkpoint', metavar='FILE',
           help='start a new run from the weights of this checkpoint; a head of another size is made anew')
    option('--eval', '--evaluate', '-e', action='store_true', help='evaluate and stop; as --case eval')
    option('--auto-resume', action='store_true', help='continue from <output-dir>/checkpoint.pth where there is one')
    option('--no-auto-resume', action='store_false', dest='auto_resume', help='do not')
    option('--use-ema', action='store_true', help='evaluate or fine-tune the averaged weights of the checkpoint; '
           'otherwise as --model-ema')
    option('--epochs', '--epoch', type=positive, default=300, metavar='N',
           help='length of the run; given, it means exactly so many: no cool-down, and warm-up for a tenth at most, unless '
                'those are given too')
    option('--start-epoch', type=count, default=None, metavar='N', help='first epoch (0, or the checkpoint\'s)')
    option('--max-steps', '--max-step', type=count, default=0, metavar='N', help='steps per epoch; 0 = all')
    option('--warmup-steps', type=count, default=None, metavar='N',
           help='steps that the throughput leaves out (default: 20, in a short epoch a fifth of it)')
    option('--eval-steps', type=count, default=0, metavar='N',
           help='batches per evaluation, spread evenly over the validation set; 0 = every image')
    option('--seed', type=int, default=42, metavar='N', help='of weights, order and augmentation')
    option('--tensorboard', action='store_true', help='also write TensorBoard\'s event files, to <output-dir>/tensorboard')
    option('--print-freq', '-p', '--log-interval', type=positive, default=50, metavar='N', help='steps between lines')
    option('--save-freq', type=positive, default=1, metavar='N', help='epochs between checkpoints')


def add_device(parser):
    option = parser.add_argument_group('device').add_argument
    option('--device', default='auto', help='auto, npu, cuda (or gpu), cpu; npu:3 names one card')
    option('--device-id', type=count, default=None, metavar='N', help='which card (default: the local rank)')
    option('--amp', action='store_true', default=None, help='mixed precision (default: where there is an accelerator)')
    option('--no-amp', action='store_false', dest='amp', default=None, help='float32 throughout')
    option('--amp-dtype', choices=['auto', 'float16', 'bfloat16'], default='auto',
           help='auto: float16 on an accelerator, bfloat16 on a CPU')
    option('--amp-impl', choices=['auto', 'native', 'apex'], default='auto', help='auto: native where torch has it')
    option('--opt-level', choices=['O0', 'O1', 'O2'], default='O1',
           help='O0: no mixed precision; O1, O2: levels of apex, which native autocast does not tell apart')
    option('--loss-scale', type=loss_scale, default='dynamic', help='dynamic, or a number that stays (float16 only)')
    option('--channels-last', action='store_true', help='NHWC memory format')
    option('--compile', action='store_true', help='torch.compile the model (torch >= 2.0)')
    option('--hf32', '--tf32', action='store_true', default=None, help='float32 convolutions and matrix products by a shorter '
           'format, HF32 (NPU) or TF32 (CUDA) (default: as the framework has it)')
    option('--no-hf32', '--no-tf32', action='store_false', dest='hf32', default=None, help='by float32 proper')
    option('--fused-optimizer', action='store_true', help='update all parameters in a few kernels: torch_npu.optim.NpuFused*, or '
           'torch\'s fused=True')
    option('--npu-patch', default='all', metavar='NAMES', help='what npu_patch.py changes on an NPU: all (that leaves results as '
           'they are), none, or names with commas')
    option('--profile', type=count, default=0, metavar='STEPS', help='write a trace of so many steps to <output-dir>/profile')
    option('--local-rank', type=count, default=None, help='as torch.distributed.launch passes it; torchrun need not')
    option('--dist-backend', default=None, metavar='NAME', help='of the process group (default: hccl, nccl or gloo, by device)')
    option('--dist-url', default='env://', metavar='URL', help='where the processes meet, such as tcp://10.1.1.20:23456')
    option('--dist-eval', action='store_true', default=True, help='share an evaluation among the ranks')
    option('--no-dist-eval', action='store_false', dest='dist_eval', help='every rank evaluates the whole set')
    option('--sync-bn', action='store_true', help='batch norm over all ranks')
    option('--dist-bn', choices=['reduce', 'broadcast', 'none'], default='reduce',
           help='how ranks agree on batch-norm statistics before an evaluation')


def add_model(parser):
    option = parser.add_argument_group('model').add_argument
    option('--model', metavar='NAME', help='which model')
    option('--img-size', type=positive, default=224, metavar='N', help='pixels per side')
    option('--input-size', type=positive, nargs='+', action=Side, dest='img_size', default=224, metavar='N',
           help='as --img-size; also as timm has it, 3 224 224')
    option('--num-classes', '--nb-classes', type=positive, default=None, metavar='N', help='default: as many as the data has')
    option('--drop', type=amount, default=0., metavar='P', help='dropout')
    option('--drop-path', type=amount, default=None, metavar='P', help='stochastic depth (default: the model\'s own)')
    option('--model-ema', action='store_true', help='also average the weights, evaluate and save them')
    option('--no-model-ema', action='store_false', dest='model_ema', help='no averaging')
    option('--model-ema-decay', type=amount, default=.9998, metavar='D', help='decay per step')


def add_data(parser):
    option = parser.add_argument_group('data').add_argument
    option('--batch-size', '-b', '--b', type=positive, default=128, metavar='N', help='images per device and step')
    option('--validation-batch-size', '--vb', type=positive, default=None, metavar='N', help='default: --batch-size')
    option('--workers', '--num-workers', '-j', type=count, default=None, metavar='N',
           help='loading processes per device (default: 8, at most the cores there are per device)')
    option('--pin-mem', action='store_true', default=True, help='page-locked batches, where the device copies faster so')
    option('--no-pin-mem', action='store_false', dest='pin_mem', help='ordinary memory')
    option('--mean', type=float, nargs=3, default=[.485, .456, .406], metavar='X', help='per channel, in 0..1')
    option('--std', type=float, nargs=3, default=[.229, .224, .225], metavar='X', help='per channel, in 0..1')
    option('--crop-pct', type=at_least(.01, float), default=.875, metavar='P', help='share of the side an evaluation keeps')
    option('--interpolation', choices=['bicubic', 'bilinear'], default='bicubic', help='of an evaluation')
    option('--skip-bad-images', type=count, nargs='?', const=100, default=0, metavar='N',
           help='go on without images that cannot be read, up to N of them (100 where N is left out)')


def add_augmentation(parser):
    option = parser.add_argument_group('augmentation').add_argument
    option('--no-aug', action='store_true', help='resize and crop the centre; no augmentation at all')
    option('--train-interpolation', choices=['random', 'bicubic', 'bilinear'], default='random', help='of a training image')
    option('--scale', type=float, nargs=2, default=[.08, 1.], metavar='P', help='area of a random crop')
    option('--ratio', type=float, nargs=2, default=[3 / 4., 4 / 3.], metavar='R', help='aspect of a random crop')
    option('--hflip', type=amount, default=.5, metavar='P', help='horizontal flip')
    option('--vflip', type=amount, default=0., metavar='P', help='vertical flip')
    option('--color-jitter', type=amount, default=.4, metavar='F', help='used where --aa is none')
    option('--aa', type=policy, default='rand-m9-mstd0.5-inc1', metavar='POLICY', help='timm\'s auto-augment policy, or none')
    option('--repeated-aug', action='store_true', help='with several ranks: each image three times, differently augmented')
    option('--no-repeated-aug', action='store_false', dest='repeated_aug', help='each image once')
    option('--reprob', type=amount, default=.25, metavar='P', help='random erasing')
    option('--remode', choices=['const', 'rand', 'pixel'], default='pixel', help='what erases')
    option('--recount', type=positive, default=1, metavar='N', help='erased boxes at most')
    option('--mixup', type=amount, default=.8, metavar='A', help='alpha; 0 = off')
    option('--cutmix', type=amount, default=1., metavar='A', help='alpha; 0 = off')
    option('--cutmix-minmax', type=float, nargs=2, default=None, metavar='P', help='box size limits, instead of alpha')
    option('--mixup-prob', type=amount, default=1., metavar='P', help='share of batches that are mixed')
    option('--mixup-switch-prob', type=amount, default=.5, metavar='P', help='cutmix rather than mixup')
    option('--mixup-mode', choices=['batch', 'pair', 'elem'], default='batch', help='what shares one lambda')
    option('--mixup-off-epoch', type=count, default=0, metavar='N', help='no mixing from this epoch on; 0 = never off')
    option('--smoothing', type=amount, default=.1, metavar='S', help='label smoothing')


def add_optimizer(parser):
    option = parser.add_argument_group('optimizer').add_argument
    option('--opt', default='adamw', metavar='NAME', help='by timm\'s names')
    option('--opt-eps', type=amount, default=None, metavar='E', help='default: the optimizer\'s')
    option('--opt-betas', type=float, nargs='+', default=None, metavar='B', help='default: the optimizer\'s')
    option('--momentum', type=amount, default=.9, metavar='M', help='of SGD')
    option('--weight-decay', '--wd', type=amount, default=.05, metavar='W', help='not on biases and other 1-d weights')
    option('--clip-grad', type=amount, default=None, metavar='C', help='limit of the gradients; 0 = none')
    option('--clip-mode', choices=['norm', 'value'], default='norm', help='what is limited')
    option('--lr', '--learning-rate', type=amount, default=None, metavar='LR', help='taken as it is')
    option('--lr-base', type=amount, default=1e-3, metavar='LR',
           help='without --lr: the rate at a global batch of --lr-base-size, scaled linearly to this run\'s')
    option('--lr-scaled', action='store_true', help='scale --lr like --lr-base')
    option('--no-lr-scaled', action='store_false', dest='lr_scaled', help='take --lr as it is')
    option('--lr-base-size', type=positive, default=1024, metavar='N', help='global batch that --lr-base is for')


def add_schedule(parser):
    option = parser.add_argument_group('schedule').add_argument
    option('--sched', default='cosine', metavar='NAME', help='by timm\'s names')
    option('--warmup-epochs', type=count, default=5, metavar='N', help='linear rise from --warmup-lr')
    option('--warmup-lr', type=amount, default=1e-6, metavar='LR', help='where it begins')
    option('--min-lr', type=amount, default=1e-6, metavar='LR', help='where it ends')
    option('--cooldown-epochs', type=count, default=10, metavar='N', help='at --min-lr, after --epochs')
    option('--decay-epochs', type=amount, default=30, metavar='N', help='of the step schedule')
    option('--decay-rate', type=amount, default=.1, metavar='R', help='of the step and plateau schedules')
    option('--patience-epochs', type=count, default=10, metavar='N', help='of the plateau schedule')
    option('--lr-noise', type=float, nargs='+', default=None, metavar='P', help='where noise goes on and off, in 0..1')
    option('--lr-noise-pct', type=amount, default=.67, metavar='P', help='its limit')
    option('--lr-noise-std', type=amount, default=1., metavar='S', help='its width')


def policy(text):
    return None if text.lower() in ('', 'none') else text


def parse(description, recipe, argv=None, add_options=None):
    """-> the options of this run, as a Namespace.

    recipe: {dest: value}, and under the key 'cases' {case: {dest: value}} for what a case changes; 'network' is the folder's
    name, 'batch_per_node' says that --batch-size counts the images of all processes of a machine, and 'summary_also' is
    {key of the summary: field of log_parser's result} for keys that only this folder has.
    `explicit` in the result is the set of dests that stand on the command line.
    """
    base = dict({'network': 'unknown', 'batch_per_node': False, 'summary_also': None}, **{k: v for k, v in recipe.items() if k != 'cases'})
    case = _first_pass(build(description, base, add_options).parse_known_args(argv)[0])
    defaults = dict(base, **CASES[case])
    defaults.update(recipe.get('cases', {}).get(case, {}))
    parser = build(description, defaults, add_options)
    args = parser.parse_args(argv)
    args.explicit = explicit(parser, argv)
    args.case, args.eval = case, case == 'eval'
    return finish(args)


def _first_pass(args):
    return 'eval' if args.eval else args.case


def explicit(parser, argv):
    """The dests of the options that argv names: those that parsing changes although every default was taken away."""
    untouched = object()
    dests = {action.dest for action in parser._actions if action.option_strings}
    probe = argparse.Namespace(**{dest: untouched for dest in dests})
    parser.parse_known_args(argv, probe)
    return {dest for dest in dests if getattr(probe, dest) is not untouched}


def finish(args):
    """Checks what concerns more than one option. args.notes: lines that the run begins with."""
    args.notes = []
    if 'lr_base' in args.explicit and 'lr' not in args.explicit:
        args.lr = None
    if args.data_path and args.data and args.data != args.data_path:
        raise UserError('the data set is given twice, as %s and as --data-path %s; give one' % (args.data, args.data_path))
    args.data_path = args.data_path or args.data
    del args.data
    if not args.data_path:
        raise UserError(DATA_PATH_MISSING)
    if args.case in ('eval', 'finetune'):     # one checkpoint, by whichever name the script calls it
        only = {'eval': 'resume', 'finetune': 'finetune'}[args.case]
        given = args.resume or args.finetune
        if not given:
            raise UserError('--case %s needs a checkpoint: add --%s=FILE' % (args.case, only))
        args.resume = args.finetune = None
        setattr(args, only, given)
    if 'epochs' in args.explicit:             # a short run is not all warm-up, nor mostly cool-down
        if 'cooldown_epochs' not in args.explicit:
            args.cooldown_epochs = 0
        if 'warmup_epochs' not in args.explicit:
            args.warmup_epochs = min(args.warmup_epochs, args.epochs // 10)
    if str(args.finetune).lower() in ('yes', 'true', '1') and args.resume:     # the ModelZoo's "--finetune yes --resume FILE"
        args.finetune, args.resume = args.resume, None
    if args.use_ema and args.case != 'eval' and not args.finetune:       # the ModelZoo's word for it
        args.use_ema, args.model_ema = False, True
    if args.profile and args.case == 'eval':
        raise UserError('--profile %d traces training steps, and an evaluation has none; leave it out' % args.profile)
    if args.resume and args.finetune:
        raise UserError('--resume continues a run and --finetune begins one; give one of them')
    return args
