"""The command line that every train.py shares, and the one place where the options of a run get their values.

`parse` reads the command line, `resolve` fills in what the checkpoint, the data and the machine decide; after that the options
are read-only. A value is taken from the first of these that has one:

    command line > checkpoint > recipe for the case > case > recipe > default

and an option that is still None gets its value from the data (--num-classes) or the machine (--workers, --lr, ...).
A dash and an underscore in an option's name mean the same (--batch_size is --batch-size).
"""

import argparse
import re
import sys
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from common import limits
from common.errors import UserError, report

# What a case changes, whatever the model. full: the recipe as it is.
CASES = {
    'full': {},
    'performance': {
        'epochs': 1,
        'cooldown_epochs': 0,
        'max_steps': 120,
        'eval_steps': 10,
        'print_freq': 10,
        'save_checkpoint': False,
    },
    'eval': {},
    # few steps: mixed images take longer to learn from than there is time
    'finetune': {'epochs': 30, 'warmup_epochs': 2, 'cooldown_epochs': 0, 'mixup': 0.0, 'cutmix': 0.0},
}
# A performance run on a CPU, unless told otherwise: the recipe's sizes would need more memory than there is, and hours. These
# take about 3 minutes for a model of 5 GMAC at 224 pixels on two cores.
CPU_PERFORMANCE = {'batch_size': 8, 'max_steps': 12, 'eval_steps': 2, 'print_freq': 1}
CPU_PERFORMANCE_IMAGES = 16  # images of all ranks in a step, at most

IMAGENET = 1000  # classes of a checkpoint from elsewhere, unless --num-classes or the data says

# What is taken from a checkpoint of this collection that is evaluated, resumed or fine-tuned
ADOPTED = ('model', 'img_size', 'mean', 'std', 'crop_pct', 'interpolation')
# What a resumed training does not take from it: these belong to a run and its machine
OF_A_RUN = set(
    'data_path case eval output_dir resume finetune auto_resume use_ema start_epoch warmup_steps num_classes tensorboard print_freq '
    'keep save_freq save_steps save_minutes save_checkpoint device device_id amp_impl hf32 compile channels_last fused_optimizer '
    'npu_patch profile timeout local_rank dist_backend dist_url addr dist_eval workers pin_mem validation_batch_size skip_bad_images '
    'network batch_per_node summary_also decoder train_split val_split eval_report predict top_k predictions export export_file '
    'opset'.split()
)

DATA_PATH_MISSING = 'para "data_path" must be confing'  # spelled so since 2020; tools match it


class Args(argparse.Namespace):
    """The options of a run. Read-only once resolved.

    origin: {option: 'default', 'recipe', 'command line', 'checkpoint', 'data', 'machine', 'other options'}; notes: lines for the log;
    asked: {option: value} of those that stand on the command line, as they stand there.
    """

    _own = ('origin', 'notes', 'adopted', 'asked', '_frozen')
    _frozen = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._frozen:
            raise AttributeError(f'the options are read-only; {name} gets its value in options.py')
        super().__setattr__(name, value)

    def given(self, name: str) -> bool:
        """Whether the option stands on the command line."""
        return self.origin[name] == 'command line'

    def values(self) -> Dict[str, Any]:
        """-> {option: value}, without the bookkeeping."""
        return {name: value for name, value in sorted(vars(self).items()) if name not in self._own}

    def take(self, values: Mapping[str, Any], origin: str) -> None:
        """Sets options, and notes where their values come from."""
        for name, value in values.items():
            setattr(self, name, value)
            self.origin[name] = origin

    def close(self) -> 'Args':
        self._frozen = True
        return self


# ---- declaring


class Parser(argparse.ArgumentParser):
    """argparse with '_' and '-' made equal in option names, and errors as one sentence."""

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else args
        self.typed = {dashes(a): a for a in args}
        return super().parse_known_args([dashes(a) for a in args], namespace)

    def defaults(self) -> Dict[str, Any]:
        return {**self._defaults, **{a.dest: self.get_default(a.dest) for a in self._actions if a.dest != 'help'}}

    def error(self, message):
        for ours, typed in self.typed.items():
            message = message.replace(ours, typed)
        report(f'{message}; `python train.py --help` lists the options')
        self.exit(2)


class Recorder(argparse.Namespace):
    """Notes the values that each option is given: {option: [value, ...]} in `given`. names: of all options."""

    def __init__(self, names: Iterable[str]):
        vars(self).update(
            dict.fromkeys(names), given={}
        )  # argparse would set the defaults of those that it does not find

    def __setattr__(self, name: str, value: Any) -> None:
        self.given.setdefault(name, []).append(value)


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of an option that takes a value, unless its help text does."""

    def _get_help_string(self, action):
        stated = action.nargs == 0 or action.default in (None, False) or 'default' in action.help
        return action.help if stated else super()._get_help_string(action)


class Side(argparse.Action):
    """[224] or [3, 224, 224] -> 224; [3, 96, 128] -> [96, 128], height and width."""

    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) not in (1, 3) or (len(values) == 3 and values[0] != 3):
            given = ' '.join(map(str, values))
            parser.error(f'{option_string} {given}: give one number, or 3, the height and the width')
        setattr(namespace, self.dest, values[-1] if len(set(values[1:])) < 2 else values[1:])


def sides(img_size: Any) -> Tuple[int, int]:
    """The option --img-size -> (height, width)"""
    return (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)


def dashes(argument: str) -> str:
    """--batch_size=a_b -> --batch-size=a_b; ----epochs, as a README had it, -> --epochs"""
    name, equals, value = argument.partition('=')
    name = re.sub('^--+', '--', name)
    return name.replace('_', '-') + equals + value if name.startswith('--') else argument


def number(least: float, most: float = 1e30, kind: Callable = float) -> Callable[[str], float]:
    """-> what converts the text of an option to a number of this range (both ends are in it)."""

    def convert(text):
        value = kind(text)
        if not least <= value <= most:
            allowed = f'{least:g} or more' if most >= 10**12 else f'{least:g} to {most:g}'
            raise argparse.ArgumentTypeError(f'{text} is out of range: {allowed}')
        return value

    convert.__name__ = kind.__name__  # argparse names the type in its message
    return convert


COUNT, POSITIVE, SEED = number(0, 10**12, int), number(1, 10**12, int), number(0, 2**63 - 1, int)
EPOCHS, SIDE, WORKERS = number(0, 10**6, int), number(1, 10**4, int), number(0, 1024, int)
AMOUNT, SHARE, PART, RATIO = number(0.0), number(0.0, 1.0), number(1e-6, 1.0), number(1e-3, 1e3)


def loss_scale(text: str) -> Any:
    return text if text == 'dynamic' else number(1e-6)(text)


def filled(text: str) -> str:
    """A name or a path. An empty one is mostly a variable of the shell that has no value."""
    if not text.strip() or '\n' in text:
        wrong = 'has a line break' if text.strip() else 'is empty'
        raise argparse.ArgumentTypeError(f'{text!r} {wrong}; give a value, or leave the option out')
    return text


def policy(text: str) -> Optional[str]:
    return None if text.lower() in ('', 'none') else text


def build(description: str, defaults: Mapping[str, Any], hooks: Any = None) -> Parser:
    """-> the parser, with a recipe's defaults and a folder's own options."""
    parser = Parser(description=description, allow_abbrev=False, formatter_class=Help)
    for add in (add_run, add_device, add_model, add_data, add_augmentation, add_optimizer, add_schedule):
        group = parser.add_argument_group(add.__name__[4:])
        add(partial(add_option, group), partial(add_switch, group))
    if hooks is not None:
        hooks.add_options(parser)
    parser.set_defaults(**defaults)
    if defaults.get('lr_scaled'):  # as upstream's --lr
        said = 'learning rate at a global batch of --lr-base-size, scaled to yours unless --no-lr-scaled is given'
    else:
        said = 'learning rate, taken as it is unless --lr-scaled is given'
    next(a for a in parser._actions if a.dest == 'lr').help = f'{said} (default: --lr-base, scaled in any case)'
    return parser


def add_option(group: Any, names: str, help: str, default: Any = None, type: Any = None, **more: Any) -> None:
    """names: all spellings, with blanks between them. type: what converts the text, or the choices with blanks between them."""
    if isinstance(type, str):
        more['choices'] = type.split()
    else:
        if type is not None:
            more.setdefault('metavar', 'N' if type.__name__ == 'int' else 'X')
        more['type'] = type or filled
    group.add_argument(*names.split(), help=help, default=default, **more)


def add_switch(
    group: Any, names: str, help: str, opposite: str = '', default: Optional[bool] = False, off: str = ''
) -> None:
    """--NAME and, with a help text for the opposite, --no-NAME, or what `off` calls it."""
    group.add_argument(*names.split(), action='store_true', default=default, help=help)
    if opposite:
        off, dest = (off or names.replace('--', '--no-')).split(), names.split()[0][2:].replace('-', '_')
        group.add_argument(*off, action='store_false', dest=dest, default=default, help=opposite)


def add_run(option, switch):
    option('data', 'the data set, as --data-path', nargs='?', metavar='DIR')
    option('--data-path --data-dir', 'root of the data set, which holds train/ and val/', metavar='DIR')
    option('--train-split', 'name of the folder of training images', 'train', metavar='NAME')
    option('--val-split', 'name of the folder of images to evaluate on', 'val', metavar='NAME')
    option('--case', 'what to do; sets further defaults', 'full', ' '.join(CASES))
    option('--output-dir --output', 'where logs and checkpoints are written', './output', metavar='DIR')
    help = 'continue the training of this checkpoint; with --eval: evaluate it'
    option('--resume --checkpoint --ckpt-path', help, metavar='FILE')
    help = 'begin with the weights of this checkpoint; a head of another size is made anew'
    option('--finetune --finetune-pth --pth-path --initial-checkpoint', help, metavar='FILE')
    help = 'train the classifier alone, on the features of the checkpoint (a linear probe)'
    switch('--freeze', help, 'train all weights')
    switch(
        '--eval-report', 'with an evaluation: each image, precision, recall and F1 of each class, the confusion matrix'
    )
    help = 'names the classes of these images, and of those in these folders, by the checkpoint of --resume'
    option('--predict', help, metavar='IMAGE|DIR', nargs='+')
    option('--top-k', 'classes that --predict names for an image, the most probable first', 5, POSITIVE)
    help = 'what --predict writes, .csv or .json (default: <output-dir>/predictions.csv)'
    option('--predictions', help, metavar='FILE')
    help = 'writes the model of the checkpoint of --resume for elsewhere, with its classes and how images are prepared'
    option('--export', help, None, 'onnx pth safetensors')
    option('--export-file', 'what --export writes (default: <output-dir>/<model>.<kind>)', metavar='FILE')
    option('--opset', 'of ONNX, for --export onnx; 11 for the ATC of older CANN', 17, number(9, 25, int))
    switch('--eval --evaluate -e', 'evaluate only; as --case eval')
    help = 'continue from the newest whole checkpoint in <output-dir>, where there is one'
    switch('--auto-resume', help, 'begin at epoch 0 even where <output-dir> has checkpoints')
    switch('--use-ema', 'use the averaged weights of the checkpoint; in a training from scratch as --model-ema')
    help = 'if given, without cool-down and with a tenth of warm-up at most, unless given too'
    option('--epochs --epoch', help, 300, POSITIVE)
    option('--start-epoch', 'first epoch (default: 0, or the one in the checkpoint)', None, COUNT)
    option('--max-steps --max-step', 'steps in an epoch at most; 0: all', 0, COUNT)
    option('--warmup-steps', 'steps that FPS leaves out (default: 20, or a fifth of a short epoch)', None, COUNT)
    option('--eval-steps', 'batches in an evaluation, spread over the validation set; 0: every image', 0, COUNT)
    option('--seed', 'seed of the weights, the order and the augmentation', 42, SEED)
    switch('--tensorboard', "also write TensorBoard's files, to <output-dir>/tensorboard")
    option('--print-freq -p --log-interval', 'steps between log lines', 50, POSITIVE)
    option('--save-freq', 'epochs between checkpoints', 1, POSITIVE)
    option('--save-steps', 'steps of an epoch between checkpoints; 0: none by steps', 0, COUNT)
    help = 'minutes between checkpoints, more by default where that takes over 1%% of the time; 0: none by the clock'
    option('--save-minutes', help, 15.0, number(0.0, 1e6))
    option('--keep', 'checkpoints that are kept, beside the best', 2, number(1, 1000, int))
    help = 'write checkpoints (the default, but in a performance run)'
    switch('--save-checkpoint', help, 'write none', True, '--no-checkpoint --no-save-checkpoint')


def add_device(option, switch):
    option('--device', 'auto, npu, cuda (or gpu) or cpu; npu:3 names one card', 'auto')
    option('--device-id', 'number of the card (default: the local rank)', None, COUNT)
    help = 'compute in mixed precision (default: on a card, and on a CPU that has bfloat16)'
    switch('--amp', help, 'compute in float32 (default: on other CPUs)', None)
    option(
        '--amp-dtype',
        'auto: bfloat16 on a CPU and on CUDA from Ampere on, float16 elsewhere and with --loss-scale',
        'auto',
        'auto float16 bfloat16',
    )
    option('--amp-impl', 'of mixed precision; auto: torch, or apex where this torch cannot', 'auto', 'auto native apex')
    option('--opt-level', 'O0: float32; O1, O2: levels of apex, one and the same in autocast', 'O1', 'O0 O1 O2')
    option('--loss-scale', 'dynamic, or a fixed number (float16 only)', 'dynamic', loss_scale)
    help = 'keep images and weights in NHWC memory format (default: on a CPU with AVX2 and on CUDA from Ampere on)'
    switch('--channels-last', help, 'keep them in NCHW (default: elsewhere)', None)
    switch('--compile', 'compile the model by torch.compile (torch >= 2.0)')
    help = 'float32 products in the shorter HF32 (NPU) or TF32 (CUDA)'
    switch('--hf32 --tf32', help, 'float32 products in full float32', None)
    help = "update all parameters in a few kernels: torch_npu's NpuFused*, or torch's fused=True (default: on a CPU and on CUDA)"
    switch('--fused-optimizer', help, 'update them as the optimizer does unless told', None)
    help = 'changes of npu_patch.py on an NPU: all that change no result, none, or names with commas'
    option('--npu-patch', help, 'all', metavar='NAMES')
    option('--profile', 'write a trace of N steps to <output-dir>/profile', 0, COUNT)
    option('--local-rank', 'set by torch.distributed.launch; the scripts and torchrun do not need it', None, COUNT)
    option('--dist-backend', 'of the process group: hccl, nccl or gloo (default: by device)', metavar='NAME')
    option('--dist-url', 'where the ranks meet, such as tcp://10.1.1.20:23456', 'env://', metavar='URL')
    help = 'seconds that a run may wait for another rank, or for images, before it ends; 0: for ever'
    option('--timeout', help, 600, COUNT)
    help = 'each rank evaluates its share of the images (the default)'
    switch('--dist-eval', help, 'each rank evaluates the whole validation set', True)
    switch('--sync-bn', 'batch norm over the images of all ranks', "batch norm over a rank's images")
    option('--dist-bn', 'batch norm statistics of the ranks before an evaluation', 'reduce', 'reduce broadcast none')


def add_model(option, switch):
    option('--model', 'name of the model', metavar='NAME')
    option('--img-size', 'pixels per side of an image', 224, SIDE)
    help = 'as --img-size; also in the form 3 224 224, or 3, height and width, where the model takes these'
    option('--input-size', help, 224, SIDE, nargs='+', action=Side, dest='img_size')
    option(
        '--num-classes --nb-classes',
        'number of classes (default: as many as the data has)',
        None,
        number(1, 10**6, int),
    )
    option('--drop', 'dropout rate', 0.0, SHARE)
    option('--drop-path', "stochastic depth rate (default: the model's own)", None, SHARE)
    help = (
        'keep the inputs of the blocks only, and compute these again for the gradients: less memory, a third more time'
    )
    switch('--grad-checkpointing', help, 'keep all that gradients need')
    help = 'also keep an average of the weights, evaluate it and save it'
    switch('--model-ema', help, 'keep no average of the weights')
    option('--model-ema-decay', 'decay of the average in a step', 0.9998, SHARE)


def add_data(option, switch):
    option('--batch-size -b --b', 'images of a device in a step', 128, POSITIVE)
    help = 'parts in which a batch is computed, one after the other, for less memory; batch norm sees each part alone'
    option('--grad-accum-steps', help, 1, POSITIVE)
    option('--validation-batch-size --vb', 'the same in an evaluation (default: --batch-size)', None, POSITIVE)
    option(
        '--workers --num-workers -j', 'DataLoader workers of a device (default: its cores, at most 8)', None, WORKERS
    )
    switch('--pin-mem', 'page-locked batches where they help (the default)', 'batches in ordinary memory', True)
    option('--mean', 'of each channel, 0 to 1', [0.485, 0.456, 0.406], SHARE, nargs=3)
    option('--std', 'of each channel, 0 to 1', [0.229, 0.224, 0.225], PART, nargs=3)
    option('--crop-pct', 'share of the side that an evaluation keeps', 0.875, number(0.1, 1.0))
    option('--interpolation', 'how an evaluation resizes images', 'bicubic', 'bicubic bilinear')
    help = 'of JPEGs in a training; auto: the first of simplejpeg, torchvision and pillow that is there'
    option('--decoder', help, 'auto', 'auto simplejpeg torchvision pillow')
    help = 'go on without unreadable images, up to N on each rank (100 without N)'
    option('--skip-bad-images', help, 0, COUNT, nargs='?', const=100)


def add_augmentation(option, switch):
    switch('--no-aug', 'no augmentation: training images are resized and cropped at the centre')
    option('--train-interpolation', 'how a training image is resized', 'random', 'random bicubic bilinear')
    option('--scale', 'smallest and largest area of a random crop', [0.08, 1.0], PART, nargs=2)
    option('--ratio', 'smallest and largest aspect ratio of a random crop', [3 / 4, 4 / 3], RATIO, nargs=2)
    option('--hflip', 'probability of a horizontal flip', 0.5, SHARE)
    option('--vflip', 'probability of a vertical flip', 0.0, SHARE)
    option('--color-jitter', 'strength of the colour jitter; used where --aa is none', 0.4, AMOUNT)
    option('--aa', "timm's auto-augment policy, or none", 'rand-m9-mstd0.5-inc1', policy)
    help = 'with several ranks: each image three times in an epoch, in three ways'
    switch('--repeated-aug', help, 'each image once in an epoch')
    option('--reprob', 'probability of random erasing', 0.25, SHARE)
    option('--remode', 'what an erased box is filled with', 'pixel', 'const rand pixel')
    option('--recount', 'erased boxes in an image at most', 1, number(1, 1000, int))
    option('--mixup', 'alpha of mixup; 0: off', 0.8, AMOUNT)
    option('--cutmix', 'alpha of cutmix; 0: off', 1.0, AMOUNT)
    option('--cutmix-minmax', 'smallest and largest cutmix box, in place of alpha', None, SHARE, nargs=2)
    option('--mixup-prob', 'share of batches that are mixed', 1.0, SHARE)
    option('--mixup-switch-prob', 'share of mixed batches that use cutmix', 0.5, SHARE)
    option('--mixup-mode', 'what shares one lambda: a batch, a pair of images or one image', 'batch', 'batch pair elem')
    option('--mixup-off-epoch', 'first epoch without mixup and cutmix; 0: they stay on', 0, EPOCHS)
    option('--smoothing', 'label smoothing', 0.1, SHARE)


def add_optimizer(option, switch):
    option('--opt', "timm's name of the optimizer", 'adamw', metavar='NAME')
    option('--opt-eps', "epsilon (default: the optimizer's own)", None, AMOUNT)
    option('--opt-betas', "betas (default: the optimizer's own)", None, SHARE, nargs='+')
    option('--momentum', 'momentum of SGD', 0.9, SHARE)
    option('--weight-decay --wd', 'weight decay; biases and other 1-d weights have none', 0.05, AMOUNT)
    option('--clip-grad', 'limit of the gradients; 0: no limit', None, AMOUNT)
    option('--clip-mode', 'what --clip-grad limits', 'norm', 'norm value')
    option('--lr --learning-rate', 'learning rate (default: --lr-base, scaled to the batch)', None, AMOUNT)
    help = 'without --lr: the rate at a global batch of --lr-base-size, scaled to yours as --lr-scaling says'
    option('--lr-base', help, 1e-3, AMOUNT)
    switch('--lr-scaled', 'scale --lr to the global batch, as --lr-base', 'take --lr as it is')
    option('--lr-base-size', 'global batch that --lr-base is for', 1024, POSITIVE)
    option('--lr-scaling', 'with the batch, or with its square root', 'linear', 'linear sqrt')
    help = 'share that each layer has of the rate of the next one, such as 0.75; 1: all learn alike'
    option('--layer-decay', help, 1.0, number(1e-3, 1.0))
    help = 'of the classes in the loss: balanced (by how many images each has), or a JSON file {class: weight}'
    option('--class-weights', help, metavar='balanced|FILE')


def add_schedule(option, switch):
    option('--sched', "timm's name of the learning rate schedule", 'cosine', metavar='NAME')
    option('--warmup-epochs', 'epochs of a linear rise from --warmup-lr', 5, EPOCHS)
    option('--warmup-lr', 'learning rate at the start of the warm-up', 1e-6, AMOUNT)
    option('--min-lr', 'learning rate at the end', 1e-6, AMOUNT)
    option('--cooldown-epochs', 'epochs at --min-lr after --epochs', 10, EPOCHS)
    option('--decay-epochs', 'epochs between steps of the step schedule', 30, number(1e-3))
    option('--decay-rate', 'factor of the step and plateau schedules, power of poly', 0.1, number(0.0, 10.0))
    option('--patience-epochs', 'epochs without a better accuracy that the plateau schedule waits for', 10, EPOCHS)
    help = 'share of the training, 0 to 1, from which (and up to which) the rate is noisy'
    option('--lr-noise', help, None, SHARE, nargs='+')
    # timm draws until the noise is in the limit
    option('--lr-noise-pct', 'largest noise, as a share of the rate', 0.67, number(0.01, 1.0))
    option('--lr-noise-std', 'standard deviation of the noise', 1.0, number(0.0, 100.0))


# ---- reading the command line


def parse(description: str, recipe: Mapping[str, Any], argv: Optional[Sequence[str]] = None, hooks: Any = None) -> Args:
    """-> the options as the command line, the recipe and the folder have them. Raises UserError where they contradict."""
    args = read(description, recipe, argv, hooks)
    if hooks is not None:
        changed = hooks.settle(args)
        args.notes.extend(changed.pop('notes', []))
        args.take(changed, 'recipe')
    return args


def read(description: str, recipe: Mapping[str, Any], argv: Optional[Sequence[str]] = None, hooks: Any = None) -> Args:
    """The same before the folder acts on it.

    recipe: {option: value}, with these further keys: 'cases', {case: {option: value}}; 'network', the folder's name;
    'batch_per_node', whether --batch-size counts the images of all ranks of a machine; 'summary_also', {key of the summary: key
    of result.json} for keys that only this folder has.
    """
    own = {'network': 'unknown', 'batch_per_node': False, 'summary_also': None}
    base = {**own, **{name: value for name, value in recipe.items() if name != 'cases'}}
    parser = build(description, base, hooks)
    told = given(parser, argv)
    asked = {name: values[-1] for name, values in told.items()}
    uses = [name for name in ('eval', 'predict', 'export') if asked.get(name)]  # a checkpoint, and train nothing
    case = 'eval' if uses else asked.get('case', 'full')
    args = Args(notes=[*repeated(told)], origin={}, adopted=ADOPTED + getattr(hooks, 'adopted', ()), asked=asked)
    args.take(parser.defaults(), 'default')
    args.take({**base, **CASES[case], **recipe.get('cases', {}).get(case, {})}, 'recipe')
    args.take(asked, 'command line')
    args.take({'case': case, 'eval': case == 'eval'}, args.origin[uses[0] if uses else 'case'])
    for settle in (settle_data, settle_device, settle_checkpoint, settle_learning, settle_values):
        settle(args)
    return args


def given(parser: Parser, argv: Optional[Sequence[str]]) -> Dict[str, List[Any]]:
    """-> {option: its values, in the order of argv} of those that argv names."""
    found = parser.parse_args(argv, Recorder(parser.defaults())).given
    return {name: values for name, values in found.items() if (name, values) != ('data', [None])}  # DIR is not there


def repeated(given: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yields a sentence for each option that is given again with another value."""
    for name, values in given.items():
        last = values[-1]
        if any(value != last for value in values):
            before = next(value for value in reversed(values) if value != last)
            yield f'{spelled(name, before, True)} has no effect: {spelled(name, last, True)} comes after it'


def spelled(name: str, value: Any, whole: bool = False) -> str:
    """-> the option as the command line has it, as a whole with its value."""
    text = ('--no-' if value is False else '--') + name.replace('_', '-')
    words = value if isinstance(value, list) else [value]
    return text if isinstance(value, bool) or not whole else ' '.join([text, *map(str, words)])


def settle_data(args: Args) -> None:
    """DIR and --data-path are one thing."""
    if args.data_path and args.data and args.data != args.data_path:
        raise UserError(f'the data set is given twice, as {args.data} and as --data-path {args.data_path}; give one')
    args.take({'data_path': args.data_path or args.data}, 'command line')
    del args.data
    if not (args.data_path or args.predict or args.export):
        raise UserError(DATA_PATH_MISSING)


def settle_device(args: Args) -> None:
    if not re.match('(auto|cpu|(npu|cuda|gpu)(:[0-9]{1,3})?)$', args.device):
        raise UserError(f'--device {args.device} is not known: choose auto, npu, cuda, cpu, or one card, such as npu:3')
    if args.dist_backend not in (None, 'hccl', 'nccl', 'gloo', 'mpi'):
        raise UserError(f'--dist-backend {args.dist_backend} is not known: choose hccl, nccl or gloo, or leave it out')
    if not re.match('(env|tcp|file)://', args.dist_url):
        raise UserError(f'--dist-url {args.dist_url} is no address: give tcp://HOST:PORT, or leave it out')


def settle_checkpoint(args: Args) -> None:
    """--resume, --finetune and the names that the scripts have for them; at most one of the two remains."""
    # the ModelZoo's "--finetune yes --resume FILE"
    if args.resume and str(args.finetune).lower() in ('yes', 'true', '1'):
        args.take({'finetune': args.resume, 'resume': None}, 'command line')
    if args.case == 'eval':  # one checkpoint, by whichever name the script calls it
        args.take({'resume': args.resume or args.finetune, 'finetune': None}, 'command line')
    if args.case in ('eval', 'finetune') and not (args.resume or args.finetune):
        only = {'eval': 'resume', 'finetune': 'finetune'}[args.case]
        what = '--predict' if args.predict else '--export' if args.export else f'--case {args.case}'
        raise UserError(f'{what} needs a checkpoint: add --{only}=FILE')
    if args.case != 'eval':
        args.take({'eval_report': False}, args.origin['eval_report'])
    if args.predict and args.export:
        raise UserError('--predict and --export are two things; give one of them')
    if args.predictions and not args.predictions.endswith(('.csv', '.json')):
        raise UserError(f'--predictions {args.predictions}: give the name of a .csv or .json file')
    if args.resume and args.finetune and args.case != 'finetune':
        raise UserError('--resume continues a training and --finetune begins one; give one of them')
    if args.freeze and args.case != 'eval' and not (args.resume or args.finetune or args.auto_resume):
        raise UserError('--freeze keeps the weights of a checkpoint, and there is none: add --finetune=FILE')
    # the ModelZoo's name for --model-ema
    if args.use_ema and args.case not in ('eval', 'finetune') and not args.finetune:
        args.take({'use_ema': False, 'model_ema': True}, 'command line')


def settle_learning(args: Args) -> None:
    """Options of the training that depend on each other."""
    if args.given('lr_base') and not args.given('lr'):
        args.take({'lr': None}, 'other options')
    if args.given('epochs'):  # a short training is not all warm-up, nor mostly cool-down
        short = {'cooldown_epochs': 0, 'warmup_epochs': min(args.warmup_epochs, args.epochs // 10)}
        args.take({name: value for name, value in short.items() if not args.given(name)}, 'other options')
    end = args.epochs + args.cooldown_epochs
    if args.start_epoch is not None and args.start_epoch >= end:
        raise UserError(
            f'--start-epoch {args.start_epoch} is not before the end of the training, epoch {end}; lower it'
        )


def settle_values(args: Args) -> None:
    """Checks what an option's own type does not see: the order and the count of several numbers, and a sense together."""
    for name in ('scale', 'ratio', 'cutmix_minmax', 'lr_noise'):
        values = list(getattr(args, name) or ())
        if values != sorted(values):
            raise UserError(f'{spelled(name, values, True)}: give the smaller number first')
    betas = 3 if re.search('adan|ademamix', args.opt) else 2
    for name, counts in (('opt_betas', (betas,)), ('lr_noise', (1, 2))):
        values = getattr(args, name)
        if values and len(values) not in counts:
            wanted = ' or '.join(map(str, counts))
            raise UserError(f'{spelled(name, values, True)}: it takes {wanted} numbers, not {len(values)}')
    if args.epochs > 10**6:
        raise UserError(
            f'--epochs {args.epochs} is more than a million; --max-steps shortens an epoch, where that is meant'
        )
    if args.given('epochs') and args.given('warmup_epochs') and args.warmup_epochs > args.epochs:
        raise UserError(
            f'--warmup-epochs {args.warmup_epochs} is longer than the training of {args.epochs} epochs; lower it'
        )
    if args.decay_rate > 1 and args.sched != 'poly':
        raise UserError(
            f'--decay-rate {args.decay_rate:g} would make the rate grow; give 0 to 1 (--sched poly takes more)'
        )


# ---- filling in the rest


def resolve(args: Args, saved: Any = None, classes: Any = None, device: Any = None, ranks: Any = None) -> Args:
    """Gives every option its last value and makes args read-only. -> args

    saved: the checkpoint, where one is read. classes: names of the classes in the data. device: the Accelerator. ranks: the Ranks.
    Raises UserError.
    """
    ours = saved is not None and saved.get('format') == 1
    if ours:
        args.take(from_checkpoint(args, saved, ranks), 'checkpoint')
    if classes is not None:
        args.take(from_data(args, classes), 'data')
    if device is not None:
        from_machine(args, device, ranks)
    if ours and continues(args, saved):
        args.notes.extend(differences(args, saved['args']))
    return args.close()


def continues(args: Args, saved: Mapping[str, Any]) -> bool:
    """Whether the run goes on with the training of the checkpoint."""
    return bool(args.resume) and args.case != 'eval' and 'epoch' in saved


def from_checkpoint(args: Args, saved: Mapping[str, Any], ranks: Any = None) -> Dict[str, Any]:
    """What the checkpoint says of its model and of how images are prepared for it; to a resumed training, all that defines it."""
    written = saved['args']
    wanted = set(args.values()) - OF_A_RUN if continues(args, saved) else args.adopted
    found = {name: written[name] for name in sorted(set(wanted) & set(written)) if not args.given(name)}
    if args.resume and args.num_classes is None and written['num_classes'] != len(saved['classes']):
        found['num_classes'] = written['num_classes']  # it was chosen, not counted in the data
    if 'batch_size' in found and saved['global_batch'] % ranks.world == 0:  # the same steps, on however many ranks
        found['batch_size'] = saved['global_batch'] // ranks.world
    of_base = scaled_rate(written['lr_base'], saved['global_batch'], written) if 'lr_base' in written else None
    if 'lr' in found and of_base == found['lr'] and any(map(args.given, ('batch_size', 'lr_base', 'lr_base_size'))):
        found['lr'] = None  # it was scaled to the batch, and is again
    return {name: value for name, value in found.items() if value != getattr(args, name)}


def scaled_rate(rate: float, batch: int, values: Mapping[str, Any]) -> float:
    """-> the rate for `batch` images of all ranks, from the one for --lr-base-size; values: of the options."""
    times = batch / values['lr_base_size']
    return rate * (times if values.get('lr_scaling', 'linear') == 'linear' else times**0.5)


def differences(args: Args, written: Mapping[str, Any]) -> List[str]:
    """-> a line for each option by which a resumed training is another one than the checkpoint's."""
    names = sorted((set(args.values()) - OF_A_RUN) & set(written))
    changed = [name for name in names if plain(getattr(args, name)) != plain(written[name])]
    return [
        f"--{name.replace('_', '-')} is {getattr(args, name)}, in place of the checkpoint's {written[name]}, from here on."
        for name in changed
    ]


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def classes_of(saved: Mapping[str, Any], args: Args, data: Optional[Sequence[str]] = None) -> List[str]:
    """-> the names of the classes that the model tells apart.

    saved: the checkpoint that is used. Where it is of this collection they stand in it, and the data may have some of them only.
    data: those of the data set, where there is one.
    """
    ours = saved is not None and saved.get('format') == 1
    trained = list(saved['classes']) if ours else []
    if data is None:
        return trained or [str(k) for k in range(args.num_classes or IMAGENET)]
    return trained if args.case == 'eval' and set(data) < set(trained) else list(data)


def from_data(args: Args, classes: Sequence[str]) -> Dict[str, Any]:
    if args.num_classes is None:
        return {'num_classes': len(classes)}
    if args.num_classes < len(classes):
        raise UserError(
            f'--num-classes {args.num_classes} is fewer than the {len(classes)} classes in {args.data_path}'
        )
    return {}


def how_to_load(args: Args, device: Any, ranks: Any) -> None:
    """Workers, decoder, memory format."""
    if args.workers is None:
        share = limits.cores() // ranks.local_world
        args.take({'workers': min(8, share if device.kind != 'cpu' or share == 0 else max(1, share // 2))}, 'machine')
    if args.case != 'eval' and not args.no_aug:
        from common import jpeg  # here, because it brings torch

        origin = 'machine' if args.decoder == 'auto' else args.origin['decoder']
        args.take({'decoder': jpeg.chosen(args.decoder)}, origin)
    if args.channels_last is None:
        args.take({'channels_last': device.channels_last}, 'machine')


def from_machine(args: Args, device: Any, ranks: Any) -> None:
    """Batch, the sizes of a performance run on a CPU, and the learning rate, in this order, after what loads the images."""
    how_to_load(args, device, ranks)
    if args.batch_per_node and args.given('batch_size'):
        if args.batch_size % ranks.local_world:
            raise UserError(
                f'--batch-size {args.batch_size} is for all ranks of a machine and does not divide by their number, '
                f'{ranks.local_world}; give a multiple of it'
            )
        args.take({'batch_size': args.batch_size // ranks.local_world}, 'command line')
    if args.case == 'performance' and device.kind == 'cpu':
        images = max(2, min(CPU_PERFORMANCE['batch_size'], CPU_PERFORMANCE_IMAGES // ranks.world))
        small = {**CPU_PERFORMANCE, 'batch_size': images}
        kept = ('command line', 'checkpoint')
        args.take({name: value for name, value in sorted(small.items()) if args.origin[name] not in kept}, 'machine')
        args.notes.append('On a CPU a performance run takes these small sizes, unless the command line gives others.')
    if args.grad_accum_steps > args.batch_size:
        raise UserError(
            f'--grad-accum-steps {args.grad_accum_steps} is more than the {args.batch_size} images of a batch; lower it'
        )
    if args.validation_batch_size is None:
        args.take({'validation_batch_size': args.batch_size}, 'other options')
    settle_rate(args, args.batch_size * ranks.world)


def settle_rate(args: Args, batch: int) -> None:
    """The learning rate for `batch` images of all ranks, and how it came about."""
    if args.case == 'eval':
        return
    rule = 'as --lr gives it' if args.given('lr') else f'by the {args.origin["lr"]}, for any batch'
    if args.lr is None or (args.lr_scaled and args.origin['lr'] != 'checkpoint'):
        rate, name = (args.lr_base, '--lr-base') if args.lr is None else (args.lr, '--lr')
        by = 'linearly' if args.lr_scaling == 'linear' else 'by the square root'
        rule = f'{name} {rate:g} for a batch of {args.lr_base_size}, scaled {by} to {batch}'
        args.take({'lr': scaled_rate(rate, batch, args.values())}, 'machine')
    args.notes.append(f'Learning rate {args.lr:.6g}: {rule}.')


def described(args: Args) -> List[str]:
    """-> lines for the log: which options have their values not from the recipe, and from where."""
    lines = []
    for origin in ('command line', 'checkpoint', 'machine'):
        found = [name for name in args.values() if args.origin[name] == origin and getattr(args, name) is not None]
        if found:
            lines.append(f'Options from the {origin}: ' + ', '.join(f'{name} {getattr(args, name)}' for name in found))
    return lines
