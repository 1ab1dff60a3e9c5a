"""What each folder trains with: one step of its recipe against the same step from timm's parts, and its schedule."""

import argparse
import contextlib
import copy
import random
import tempfile

import numpy as np
import pytest
import torch
from timm.data import Mixup, create_transform
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from torchvision.datasets import ImageFolder

from helpers import VAN, in_folder

CONVMIXER, SPACH, TWINS, VIT = (
    f'{name}_for_PyTorch' for name in ('ConvMixer', 'SPACH', 'Twins-PCPVT-S', 'Vit_base_patch32_224')
)
IMAGENET = {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}
HALF = {'mean': (0.5,) * 3, 'std': (0.5,) * 3}
RANDOM = {'auto_augment': 'rand-m9-mstd0.5-inc1', 'color_jitter': 0.4, 'interpolation': 'random'}
BICUBIC = dict(RANDOM, interpolation='bicubic')
PLAIN = {'auto_augment': None, 'color_jitter': None, 'interpolation': 'bicubic'}
MIX = {'mixup_alpha': 0.8, 'cutmix_alpha': 1.0}
ADAMW = {'decay': 0.05, 'lr': 5e-4 * 8 / 512}
# folder: model, its stochastic depth, colours, transform, mixup, erasing, optimizer, clipping; from upstream's recipes,
# not from the RECIPEs. The rate is that of a batch of 8 without warm-up; ConvMixer's that of the first of 150 steps.
RECIPES = {
    CONVMIXER: ('convmixer_64_2_ks5_p4', None, IMAGENET, RANDOM, {'mixup_alpha': 0.5, 'cutmix_alpha': 0.5}, 0.25,
                {'decay': 2e-5, 'lr': 0.01 / 60, 'eps': 1e-3}, 1.0),
    SPACH: ('spach_ms_xxs_patch4_224_conv', 0.1, IMAGENET, BICUBIC, MIX, 0.25, ADAMW, None),
    VIT: ('vit_tiny_patch16_224', None, HALF, PLAIN, None, 0, {'decay': 1e-4, 'lr': 0.03, 'momentum': 0.9}, None),
    TWINS: ('pcpvt_small_v0', 0.3, IMAGENET, BICUBIC, MIX, 0.25, ADAMW, 5.0),
    VAN: ('van_b0', 0.1, HALF, RANDOM, MIX, 0.25, {'decay': 0.05, 'lr': 1e-3 * 8 / 1024}, None),
}  # fmt: skip


@pytest.mark.parametrize('name', sorted(RECIPES))
def test_one_step_equals_timms_parts(name, few_digits):
    """Loss and updated weights within 1e-5, from the same seed and batch."""
    loss, reference, gap, moved = in_folder(name, one_step, str(few_digits), RECIPES[name])
    assert abs(loss - reference) < 1e-5 and gap < 1e-5 and moved > 1e-6


def one_step(root, case):
    """In a child. -> the loss, the reference's, the largest gap between the weights then, and how far they moved"""
    trainer = step_of_the_recipe(root, case[0])
    reference, loss, begun = step_of_timm(root, trainer, *case)
    pairs = zip(
        reference.parameters(), trainer.model.parameters()
    )  # AdamW makes a whole step of a gradient that is rounding alone
    gap = max(((p - q).abs() * (p.grad.abs() > 1e-7)).max().item() for p, q in pairs)
    moved = max((p - begun[n]).abs().max().item() for n, p in reference.named_parameters())
    return trainer.logged[0], loss, gap, moved


def step_of_the_recipe(root, model):
    """-> a Trainer after one step, with the weights that it had before (`begun`) and the losses that it logged"""
    import train
    from common import accelerator, options, trainer
    from common.distributed import Ranks

    words = ['--data-path', root, '--model', model, '--img-size=32', '--batch-size=8', '--max-steps=1', '--workers=0']
    words += ['--device=cpu', '--no-amp', '--decoder=pillow', '--print-freq=1', '--output-dir', tempfile.mkdtemp()]
    args = options.parse('', train.RECIPE, words, train.HOOKS)
    args.warmup_epochs = 0
    classes, device = list('0123456789'), accelerator.choose('cpu')
    options.resolve(args, None, classes, device, Ranks())
    device.seed(args.seed)
    made = trainer.Trainer(args, Ranks(), device, classes, None, train.HOOKS)
    made.begun, made.logged = copy.deepcopy(made.model.state_dict()), []
    made.log.train = lambda **fields: made.logged.append(fields['loss'])
    made.evaluate = end_it
    with contextlib.suppress(InterruptedError):
        made.fit()
    return made


def end_it(epoch):
    raise InterruptedError('one epoch, of one step, is enough')


def step_of_timm(root, trainer, name, drop_path, colours, transform, mixup, erasing, optimizer, clip):
    """Which images stand in the batch, the seeds, and how the masks of stochastic depth are drawn from them are taken over;
    everything else is timm's and torch's."""
    from common import data
    from common import drop_path as stochastic_depth
    from train import create_model

    def seed(*parts):
        number = data.derive_seed(*parts)
        random.seed(number), np.random.seed(number), torch.manual_seed(number)

    args = trainer.args
    model = create_model(name, num_classes=10, img_size=32, drop_path=drop_path)
    stochastic_depth.draw_together(model)
    model.load_state_dict(trainer.begun)
    model.train()
    augment = create_transform(32, is_training=True, use_prefetcher=True, mean=colours['mean'], **transform)
    samples, images, targets = ImageFolder(f'{root}/train'), [], []
    for epoch, index, repeat in next(iter(data.TrainBatchSampler(200, 8, trainer.ranks, args.seed, 1))):
        seed(args.seed, epoch, index, repeat)
        image, target = samples[index]
        images.append(torch.as_tensor(augment(image)))
        targets.append(target)
    mean, std = (torch.tensor(colours[key]).mul(255).view(1, 3, 1, 1) for key in ('mean', 'std'))  # as timm's loader
    x, y = torch.stack(images).float().sub_(mean).div_(std), torch.tensor(targets)
    seed('batch', args.seed, 0, 0, 0)
    if erasing:
        x = RandomErasing(erasing, mode='pixel', device='cpu')(x)
    if mixup:
        x, y = Mixup(label_smoothing=0.1, num_classes=10, **mixup)(x, y)
    torch.manual_seed(data.derive_seed('step', args.seed, 0, 0, 0))
    loss = (SoftTargetCrossEntropy() if mixup else torch.nn.CrossEntropyLoss())(model(x), y)
    loss.backward()
    if clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer_of(model, **optimizer).step()
    return model, loss.item(), trainer.begun


def optimizer_of(model, decay, **options):
    """torch's AdamW, or SGD where there is a momentum; biases and what the model names are spared from weight decay."""
    named = getattr(model, 'no_weight_decay', set)()
    spared = {n for n, p in model.named_parameters() if p.ndim <= 1 or n.startswith('pos_block') or n in named}
    groups = [
        {
            'params': [p for n, p in model.named_parameters() if (n in spared) == free],
            'weight_decay': 0.0 if free else decay,
        }
        for free in (True, False)
    ]
    return (torch.optim.SGD if 'momentum' in options else torch.optim.AdamW)(groups, **options)


def one_cycle_rates(epochs):
    """In a child. -> the rate of each of 100 steps an epoch, and the shape of the schedule"""
    from one_cycle import OneCycle, one_cycle

    optimizer, rates = argparse.Namespace(param_groups=[{}, {}]), []
    schedule = OneCycle(optimizer, 0.01, 100 * epochs)
    for epoch in range(epochs):
        schedule.step(epoch)
        schedule.step_update(epoch * 100)
        for step in range(100):
            rates.append(optimizer.param_groups[1]['lr'])
            schedule.step_update(epoch * 100 + step + 1)
    return rates, [one_cycle(x, 1.0) for x in (0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)]


@pytest.mark.parametrize('epochs', [1, 150])
def test_one_cycle(epochs):
    """0 -> lr at 40 %, lr/20 at 80 %, 0 at the end, by the step; right for a single epoch too."""
    rates, shape = in_folder(CONVMIXER, one_cycle_rates, epochs)
    assert shape == pytest.approx([0, 0.5, 1, 0.525, 0.05, 0.025, 0])
    assert rates[0] > 0 and max(rates) == pytest.approx(0.01) and rates[-1] == 0 and rates[:-1].count(0) == 0
    assert rates.index(max(rates)) == 40 * epochs - 1


def imagenet_options(argv, environ):
    """In a child. -> options, environment and what was started; or the sentence of a UserError"""
    import os
    import sys

    import imagenet_cli
    import train
    from common import options
    from common.errors import UserError

    sys.argv, became = ['train.py', *argv.split()], []
    os.environ.update(environ)
    imagenet_cli.os.execv = lambda python, words: became.append(words)
    try:
        args = options.parse('', train.RECIPE, ['--data-path', 'x', *argv.split()], train.HOOKS)
    except UserError as e:
        return str(e)
    return dict(args.values(), **os.environ, argv=' '.join(became[0]) if became else '')


@pytest.mark.parametrize('argv, environ, expected', [
    ('--gpu 3', {}, {'device_id': 3}),
    ('--addr 10.0.0.1', {'RANK': '0'}, {'MASTER_ADDR': '10.0.0.1'}),
    ('--world-size 2 --rank 1 --dist-url tcp://10.0.0.1:4567', {},
     {'RANK': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': '10.0.0.1', 'MASTER_PORT': '4567'}),
    ('--addr h --world-size 2 --rank 0 --dist-url tcp://g:5', {}, {'dist_url': 'tcp://h:5', 'MASTER_ADDR': 'h'}),
    ('--model vit_base_patch32_384', {}, {'img_size': 384}),
    ('--model vit_base_patch32_384 --img-size 64', {}, {'img_size': 64}),
    ('--pretrained --model-path w.npz', {}, {'finetune': 'w.npz'}),
    ('-a vit_tiny_patch16_224 --warm_up_epochs 2', {}, {'model': 'vit_tiny_patch16_224', 'warmup_epochs': 2}),
    ('--multiprocessing-distributed --world-size 2 --rank 1 --dist_url=tcp://h:1 --lr 1', {'NPROC_PER_NODE': '4'},
     {'argv': '--nproc_per_node=4 --nnodes=2 --node_rank=1 --master_addr=h --master_port=1 train.py --lr 1'}),
    ('--gpu 1 --multiprocessing-distributed', {}, '--gpu'), ('--world-size 2 --rank 2', {}, '0 to 1'),
    ('--world-size 2', {'RANK': '0'}, 'NODE_RANK'),
    ('--world-size 2 --rank 0 --dist-url file:///x', {}, 'tcp://HOST:PORT'),
    ('--pretrained', {}, '--pretrained-path')])  # fmt: skip
def test_the_imagenet_examples_options(argv, environ, expected):
    found = in_folder(VIT, imagenet_options, argv, environ)
    if isinstance(expected, str):
        assert isinstance(found, str) and expected in found
    else:
        started = expected.get('argv', '')
        assert (
            found['argv'].endswith(started)
            and {key: found[key] for key in expected if key != 'argv'}.items() <= expected.items()
        )


def spach_options(argv):
    """In a child of SPACH's folder. -> the options, and what create_model is given beyond every folder's"""
    import train
    from common import options

    args = options.parse('', train.RECIPE, ['--data-path', 'x', *argv.split()], train.HOOKS)
    return args.values(), train.HOOKS.model_options(args)


def test_spachs_own_options():
    def of(argv):
        return in_folder(SPACH, spach_options, argv)

    assert of('--npu')[0]['device'] == 'npu'
    assert of('--stem-type=conv4')[1] == {'stem_type': 'conv4', 'shared_spatial_func': False, 'drop_path': 0.1}
    assert 'drop_path' not in of('--drop-path=.2')[1] and 'drop_path' not in of('--model=smlpnet_tiny')[1]
    plain, without = of('')[0], of('--no-repeated-aug --no-dist-eval')[0]
    assert (plain['repeated_aug'], without['repeated_aug'], without['dist_eval']) == (True, False, False)
