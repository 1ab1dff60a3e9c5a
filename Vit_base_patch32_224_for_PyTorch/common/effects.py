"""Which options of the command line have no effect in this run, and why.

A row of NEEDS names options, what they need, and what is said where it is missing. What the schedule, the optimizer and the
augmentation make of an option is timm's affair, and differs from version to version: they are asked, see `matters`.
"""

import argparse
import contextlib
import io
import os
import re
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from common import build
from common.data import transform_of
from common.device_data import mixup_of
from common.options import scaled_rate, spelled
from common.precision import Apex, Precision

Need = Tuple[str, Callable[[Any], Any], str]  # options; run -> whether they have what they need; the reason where not

# options that always have an effect
ALWAYS = (
    'predict top_k predictions export export_file opset data data_path output_dir resume finetune eval use_ema warmup_steps eval_steps tensorboard device channels_last model '
    'val_split timeout img_size num_classes validation_batch_size workers mean std crop_pct interpolation skip_bad_images'
)
MIXING = 'mixup cutmix cutmix_minmax mixup_switch_prob mixup_mode mixup_off_epoch'
ERASING = 'remode recount'
AUGMENTATION = (
    f'decoder train_interpolation scale ratio hflip vflip color_jitter aa reprob {ERASING} {MIXING} mixup_prob'
)
OPTIMIZER = 'opt_eps opt_betas momentum weight_decay'
SCHEDULE = (
    'warmup_epochs warmup_lr min_lr cooldown_epochs decay_epochs decay_rate patience_epochs lr_noise lr_noise_std'
)
SAVING = 'keep save_freq save_steps save_minutes'
NO_RATE = 'no learning rate of --sched {sched} over {epochs} epochs depends on it'
TRAINING = (
    'auto_resume epochs start_epoch max_steps seed print_freq save_checkpoint loss_scale compile fused_optimizer profile sync_bn dist_bn '
    'drop drop_path grad_accum_steps grad_checkpointing model_ema model_ema_decay no_aug repeated_aug smoothing opt clip_grad clip_mode lr lr_base lr_scaled '
    f'lr_base_size sched lr_noise_pct lr_scaling layer_decay class_weights freeze train_split {AUGMENTATION} {OPTIMIZER} {SCHEDULE} {SAVING}'
)


def idle(run: Any) -> List[str]:
    """-> a sentence for each option that stands on the command line and has no effect in this run.

    run: the Trainer, with all its parts made.
    """
    args, said = run.args, []
    words = {**args.values(), 'kind': run.accelerator.kind, 'precision': run.precision.words}
    needs = by_option([*NEEDS, *run.hooks.needs])
    for name in args.asked:
        missing = next((reason for has, reason in needs.get(name, ()) if not has(run)), None)
        if missing is not None:
            said.append(f'{spelled(name, args.asked[name])} has no effect: {missing.format(**words)}')
    return said


def by_option(rows: Sequence[Need]) -> Dict[str, List[Tuple[Callable[[Any], Any], str]]]:
    """-> {option: its needs, in the order of the rows}"""
    found: Dict[str, List[Any]] = {}
    for names, has, reason in rows:
        for name in names.split():
            found.setdefault(name, []).append((has, reason))
    return found


# ---- what timm makes of an option


def matters(name: str, args: Any, make: Callable[[Any], Any]) -> bool:
    """Whether make(options) would give something else, were the value of this option another one."""
    variants = ({**args.values(), name: value} for value in others(getattr(args, name)))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # timm's old plateau schedule prints what it does
            made = make(args)
            return any(make(argparse.Namespace(**values)) != made for values in variants)
    except Exception:  # whatever it is: who refuses a value has read it
        return True


def others(value: Any) -> Iterator[Any]:
    """Yields values that an option could have in place of this one; the small ones show in a short training too."""
    if value is None:
        return
    if isinstance(value, (list, tuple)):
        yield from ([number / 2 + 0.1 for number in value], None)
    elif isinstance(value, int):
        yield from (value + 1, value // 2, 1)
    else:
        yield from (value / 2 + 0.1, 2 * value + 0.1, 1.0)


def rates(run: Any, args: Any) -> List[float]:
    """-> the learning rates of the first 1000 epochs and the last one, where no epoch is better than the one before; then
    the number of epochs."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=args.lr)
    schedule, epochs = run.hooks.schedule(args, optimizer, run.steps)
    found = []
    for epoch in [*range(min(epochs, 1000)), epochs - 1]:
        if epoch:
            schedule.step(epoch, 0.0)
        schedule.step_update(epoch * run.steps)
        found.append(optimizer.param_groups[0]['lr'])
    return [*found, epochs]


def settings(args: Any) -> List[Dict[str, Any]]:
    """-> what timm's optimizer has for each of its groups of weights."""
    with torch.random.fork_rng(devices=[]):  # the numbers of the training stay its own
        groups = build.plain_optimizer(args, nn.Linear(2, 2)).param_groups
    return [{key: value for key, value in group.items() if key != 'params'} for group in groups]


def augmentation(args: Any) -> str:
    return re.sub(' at 0x[0-9a-f]+', '', repr(transform_of(args, training=True)))


def each(names: str, make: Callable[[Any, Any], Any], reason: str) -> List[Need]:
    """-> a need for each option, that it matters to what make(run, options) makes."""

    def need(name):
        return name, lambda run: matters(name, run.args, partial(make, run)), reason

    return [need(name) for name in names.split()]


# ---- what else an option needs


def several(run: Any) -> bool:
    return run.ranks.world > 1


def mixed(run: Any) -> bool:
    return type(run.precision) is not Precision


def amp_wanted(run: Any) -> bool:
    return run.accelerator.mixes if run.args.amp is None else run.args.amp


def from_base(run: Any) -> bool:
    """Whether the learning rate is that of --lr-base."""
    args = run.args
    return args.lr == scaled_rate(args.lr_base, args.batch_size * run.ranks.world, args.values())


NEEDS: Sequence[Need] = (
    (TRAINING, lambda run: run.args.case != 'eval', 'an evaluation does not train'),
    # run
    ('eval_report', lambda run: run.args.case == 'eval', 'only an evaluation writes a report'),
    ('case', lambda run: run.args.asked['case'] == run.args.case, 'this is an evaluation, by --eval'),
    (
        'auto_resume',
        lambda run: run.args.case in ('full', 'finetune'),
        'a run of --case {case} is not continued by itself',
    ),
    ('auto_resume', lambda run: 'resume' not in run.args.asked, '--resume names the checkpoint'),
    (SAVING, lambda run: run.args.save_checkpoint, 'no checkpoint is written (--no-checkpoint)'),
    # device
    ('device_id', lambda run: run.accelerator.kind != 'cpu', 'a CPU has no number'),
    ('device_id', lambda run: ':' not in run.args.device, '--device {device} names the card'),
    ('pin_mem', lambda run: run.accelerator.pinning(), 'a run on {kind} has no use for page-locked batches'),
    ('hf32', lambda run: run.accelerator.kind != 'cpu', 'a CPU has no shorter float32 format'),
    ('npu_patch', lambda run: run.accelerator.patched, 'nothing is patched for {kind}'),
    ('local_rank', lambda run: run.accelerator.kind != 'cpu', 'a CPU has no number'),
    ('local_rank', lambda run: 'LOCAL_RANK' not in os.environ, 'LOCAL_RANK is set, and taken'),
    ('amp', lambda run: mixed(run) or not run.args.amp, '--opt-level O0 is float32'),
    ('amp_dtype amp_impl', mixed, 'this run computes in {precision}'),
    ('opt_level', amp_wanted, 'this run computes in {precision} at every level'),
    (
        'opt_level',
        lambda run: run.args.opt_level == 'O0' or isinstance(run.precision, Apex),
        'O1 and O2 are one and the same ({precision})',
    ),
    (
        'loss_scale',
        lambda run: isinstance(run.precision, Apex) or getattr(run.precision, 'scaler', None) is not None,
        'this run computes in {precision}',
    ),
    # ranks
    ('dist_backend dist_url dist_eval dist_bn sync_bn repeated_aug', several, 'this run has one process'),
    (
        'dist_bn sync_bn',
        lambda run: any(isinstance(module, _BatchNorm) for module in run.model.modules()),
        '{model} has no batch norm',
    ),
    # model, data
    ('grad_checkpointing', lambda run: run.hooks.blocks, '{network} names no blocks of its models'),
    ('model_ema_decay', lambda run: run.args.model_ema, 'no average is kept (--model-ema)'),
    (
        'batch_size',
        lambda run: run.args.case != 'eval' or 'validation_batch_size' not in run.args.asked,
        'an evaluation takes that of --validation-batch-size',
    ),
    # augmentation
    (AUGMENTATION, lambda run: not run.args.no_aug, 'this run has no augmentation (--no-aug)'),
    *each('color_jitter', lambda run, args: augmentation(args), '--aa {aa} takes its place'),
    (ERASING, lambda run: run.args.reprob > 0, 'nothing is erased (--reprob 0)'),
    (MIXING, lambda run: run.args.mixup_prob > 0, 'no batch is mixed (--mixup-prob 0)'),
    (
        'mixup_prob mixup_switch_prob mixup_mode mixup_off_epoch',
        lambda run: mixup_of(run.args) is not None,
        'mixup and cutmix are off',
    ),
    ('cutmix', lambda run: not run.args.cutmix_minmax, '--cutmix-minmax takes its place'),
    (
        'mixup_switch_prob',
        lambda run: run.args.mixup > 0 and (run.args.cutmix > 0 or run.args.cutmix_minmax),
        'of mixup and cutmix one is off',
    ),
    # optimizer
    *each(OPTIMIZER, lambda run, args: settings(args), '--opt {opt} has no such setting'),
    ('clip_mode', lambda run: run.args.clip_grad, 'gradients have no limit (--clip-grad)'),
    ('lr_base', from_base, 'the learning rate is that of --lr'),
    ('lr_base_size lr_scaling', lambda run: from_base(run) or run.args.lr_scaled, 'the learning rate is not scaled'),
    (
        'layer_decay',
        lambda run: run.args.layer_decay == 1 or not run.args.freeze,
        'only the classifier learns (--freeze)',
    ),
    ('lr_scaled', lambda run: not from_base(run), 'the rate of --lr-base is scaled in any case'),
    # schedule
    *each(SCHEDULE, rates, NO_RATE),
    ('lr_noise_pct', lambda run: matters('lr_noise', run.args, partial(rates, run)), NO_RATE),
)
