"""The parts of a training, each made from the options: model, loaders, loss, optimizer. trainer.py puts them together."""

import argparse
import contextlib
import os
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from common import (
    batch_counters,
    class_weights,
    compat,
    data,
    drop_path,
    images,
    npu_patches,
    recompute,
    transfer,
    weights,
)
from common.averaging import Average
from common.device_data import BadImages, EvalTransform, PrefetchLoader, TrainTransform, mixup_of
from common.errors import UserError

Say = Callable[[str], None]
At = Callable[[str], None]  # tells the watchdog where this rank is


@contextlib.contextmanager
def blame(option: str) -> Iterator[None]:
    """Makes what timm cannot use of an option's value a sentence with the option's name."""
    try:
        yield
    except (ValueError, TypeError, AssertionError, AttributeError, KeyError, IndexError, RuntimeError) as e:
        what = f'{type(e).__name__}: {e}'
        raise UserError(f'{option}: timm cannot use it ({what}); its documentation lists the names it knows') from e


# ---- the model


def model(args: Any, hooks: Any, accelerator: Any, ranks: Any, classes: List[str], loaded: Any, say: Say) -> nn.Module:
    """-> the model on the device, patched for it, with the weights of the checkpoint where there is one."""
    size = args.img_size if isinstance(args.img_size, int) else tuple(args.img_size)
    wanted = {'num_classes': args.num_classes, 'img_size': size, 'drop_path': args.drop_path}
    wanted.update({'drop_rate': args.drop} if args.drop else {})
    wanted.update(hooks.model_options(args))
    try:
        made = (hooks.create_model if isinstance(size, int) else partial(oblong, hooks))(args.model, **wanted)
    except ValueError as e:
        if args.origin['model'] == 'checkpoint':
            path = args.resume or args.finetune
            raise UserError(
                f'checkpoint {path} is of {args.model}, which is no model of this folder; take its own folder'
            ) from e
        raise UserError(f'--model: {e}') from e
    if loaded is not None:
        load_weights(made, loaded, args, hooks, classes, say)
    patch(made, args, hooks, accelerator, say)
    if not args.export:
        exchange(made, args, hooks, accelerator)
    if args.sync_bn and ranks.world > 1 and accelerator.kind == 'cpu':
        raise UserError('--sync-bn: torch has it for accelerators only; leave it out on a CPU')
    if args.sync_bn and ranks.world > 1:
        made = nn.SyncBatchNorm.convert_sync_batchnorm(made)
    made = made.to(accelerator.device)
    batch_counters.count_together(made)
    return made.to(memory_format=torch.channels_last) if args.channels_last else made


def oblong(hooks: Any, name: str, img_size: Tuple[int, int], **wanted: Any) -> nn.Module:
    """-> the model for images of this height and width. Raises UserError where it does not take them."""
    try:
        made = hooks.create_model(name, img_size=img_size, **wanted)
        with torch.no_grad():
            made.eval()(torch.zeros(1, 3, *img_size))
        return made
    except (RuntimeError, ValueError, AssertionError, TypeError) as e:
        given = ' '.join(map(str, img_size))
        raise UserError(f'--input-size 3 {given}: {name} does not take it ({e}); give a square, as --img-size') from e


def load_weights(made: nn.Module, loaded: Dict[str, Any], args: Any, hooks: Any, classes: List[str], say: Say) -> None:
    """With --resume all weights must fit; with --finetune the head may differ, and is then initialised."""
    path = args.resume or args.finetune
    saved = loaded.get('classes') if loaded.get('format') == 1 else None
    if args.resume and saved and list(saved) != classes:
        raise UserError(
            f'checkpoint {path} was trained on {len(saved)} classes ({saved[0]}, ...) and {args.data_path} has {len(classes)} '
            f'({classes[0]}, ...); take the data set of the training, or --finetune'
        )
    found = weights.find(loaded, made, path, hooks.other_names(made), args.use_ema)
    try:
        state, changes = hooks.fit_weights(found.state, made)
    except ValueError as e:
        raise UserError(f'checkpoint {path}: {e}') from e
    found = found._replace(state=state)
    changes += weights.fit(made, found, path, args.model, loaded.get('arch'), new_head=bool(args.finetune))
    say('; '.join([f'Weights from {path}', *found.said, *changes]))


def patch(made: nn.Module, args: Any, hooks: Any, accelerator: Any, say: Say) -> None:
    """Changes the model for the device as --npu-patch says."""
    wanted = npu_patches.chosen(hooks.patches(), args.npu_patch)
    if accelerator.patched:
        for line in npu_patches.apply(wanted, made, accelerator):
            say(f'Patch {line}')


def exchange(made: nn.Module, args: Any, hooks: Any, accelerator: Any) -> None:
    """Exchanges modules for ones that are faster or take less memory. Names, weights and results stay."""
    if not args.compile:
        accelerator.adapt(made)
    drop_path.draw_together(made)
    if args.grad_checkpointing and args.case != 'eval':
        recompute.recompute(made, hooks.blocks)


def network(args: Any, made: nn.Module, precision: Any, accelerator: Any, ranks: Any) -> nn.Module:
    """-> what is trained: the model, compiled and distributed as asked. Its weights are the model's."""
    net = made
    if args.compile:
        net = compat.compiled(net)
        if net is None:
            raise UserError(f'--compile needs torch 2.0 or newer, and this is {torch.__version__}; leave it out')
    elif accelerator.launches_cost:
        net = precision.network(net)
    if ranks.world > 1:
        # a fused optimizer of torch_npu keeps the gradients in a memory of its own
        options = compat.ddp_options(gradient_as_bucket_view=not args.fused_optimizer)
        net = DistributedDataParallel(net, device_ids=accelerator.ddp_devices, **options)
    return net


def kernels(made: nn.Module, optimizer: Any) -> str:
    """-> which kernels update the weights and attend, for the log."""
    said = f'Optimizer: {compat.optimizer_kernels(optimizer)}'
    attention = {name for name in map(attention_kernel, made.modules()) if name}
    return f'{said}; attention: {", ".join(sorted(attention))}.' if attention else f'{said}.'


def attention_kernel(module: nn.Module) -> str:
    """-> the kernel of an attention, '' for another module. kernel: set by a patch; fused_attn: timm's name."""
    plain = {True: 'scaled_dot_product_attention', False: 'an explicit softmax', None: ''}
    return getattr(module, 'kernel', '') or plain[getattr(module, 'fused_attn', None)]


def average(args: Any, made: nn.Module) -> Optional[Average]:
    return Average(made, decay=args.model_ema_decay) if args.model_ema else None


# ---- the data


def split(args: Any, name: str) -> str:
    """-> the folder of 'train' or 'val'"""
    return os.path.join(args.data_path, args.train_split if name == 'train' else args.val_split)


def val_images(args: Any, classes: List[str]) -> Tuple[Any, Any]:
    """-> paths and targets. classes: of the model, in order; the data may have some of them only."""
    folder = split(args, 'val')
    paths, targets = data.listed(folder)
    places = np.array([classes.index(name) for name in data.class_names(folder)])
    return paths, places[targets]


def val_loader(
    args: Any, accelerator: Any, ranks: Any, found: Tuple[Any, Any], bad: BadImages, at: At
) -> PrefetchLoader:
    """found: paths and targets"""
    read = images.Reader(data.transform_of(args, training=False), 'pillow')
    dataset = data.Images(*found, read)
    sampler = data.EvalBatchSampler(len(dataset), args.validation_batch_size, ranks, args.eval_steps)
    loader = data.make_loader(dataset, sampler, args, accelerator)
    return PrefetchLoader(loader, EvalTransform(args, accelerator), accelerator, bad, at)


def train_loader(args: Any, accelerator: Any, ranks: Any, bad: BadImages, at: At) -> PrefetchLoader:
    with blame(f'--aa {args.aa}'):
        transform = data.transform_of(args, training=True)
    read = images.Reader(transform, args.decoder)
    dataset = data.Images(*data.listed(split(args, 'train')), read, args.seed, replace=args.skip_bad_images)
    repeats = 3 if args.repeated_aug and ranks.world > 1 else 1
    sampler = data.TrainBatchSampler(len(dataset), args.batch_size, ranks, args.seed, args.max_steps, repeats)
    loader = data.make_loader(dataset, sampler, args, accelerator)
    return PrefetchLoader(loader, TrainTransform(args, accelerator, ranks), accelerator, bad, at)


# ---- the training


def criterion(args: Any, classes: List[str], accelerator: Any) -> nn.Module:
    """classes: their names, in order."""
    if args.class_weights:
        weights = class_weights.chosen(args.class_weights, classes, data.counts(split(args, 'train')))
        return class_weights.WeightedCrossEntropy(weights, args.smoothing).to(accelerator.device)
    if mixup_of(args) is not None:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(args.smoothing) if args.smoothing else nn.CrossEntropyLoss()


def plain_optimizer(args: Any, made: nn.Module) -> Any:
    """-> timm's, with one rate for all; of --layer-decay timm knows more or less by its version."""
    return create_optimizer(argparse.Namespace(**{**vars(args), 'layer_decay': None}), made)


def optimizer(args: Any, made: nn.Module, accelerator: Any, layers: str = '') -> Any:
    """layers: see hooks.py"""
    with blame(f'--opt {args.opt}'):
        plain = plain_optimizer(args, made)
    if getattr(plain, 'is_second_order', False):
        raise UserError(f'--opt {args.opt} needs second derivatives, which are not computed here; choose another')
    if by_layers(args):
        transfer.split_by_layer(plain, made, layers, args.layer_decay)
    if args.fused_optimizer is None:
        return accelerator.faster_optimizer(plain)
    return accelerator.fused_optimizer(plain) if args.fused_optimizer else plain


def by_layers(args: Any) -> bool:
    return args.layer_decay < 1 and not args.freeze


def schedule(args: Any, hooks: Any, optimizer: Any, steps: int) -> Tuple[Any, int]:
    """-> (schedule, number of epochs), see hooks.py"""
    with blame(f'--sched {args.sched}'):
        made, epochs = hooks.schedule(args, optimizer, steps)
    return (transfer.LayerRates(made, optimizer) if by_layers(args) else made), epochs


def resume_optimizer(made: Any, loaded: Dict[str, Any], args: Any) -> None:
    """Takes over the moments. Decay, betas and the like are those of the options, and the rates are the schedule's."""
    saved = loaded['args']['opt']
    if saved != args.opt:
        raise UserError(
            f'checkpoint {args.resume} was trained with --opt {saved} and cannot go on with --opt {args.opt}; give the same, or '
            'begin a training with --finetune'
        )
    names = {'lr', 'initial_lr', *made.defaults}
    ours = [{name: group[name] for name in names if name in group} for group in made.param_groups]
    with blame(f'--resume {args.resume} (its optimizer)'):
        made.load_state_dict(loaded['optimizer'])
    for group, settings in zip(made.param_groups, ours):
        group.update(settings)
