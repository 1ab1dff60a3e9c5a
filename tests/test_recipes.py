"""What each folder trains with: one step of its recipe against the same step from timm's parts, and its schedule."""
import os
import subprocess
import sys

import pytest
from conftest import TOP, VAN
from test_models import CONVMIXER, SPACH, TWINS, VIT, in_folder

IMAGENET = '(.485, .456, .406), (.229, .224, .225)'
HALF = '(.5, .5, .5), (.5, .5, .5)'
ADAMW = 'torch.optim.AdamW(groups(.05), lr=%s)'
RA = "dict(auto_augment='rand-m9-mstd0.5-inc1', color_jitter=.4, interpolation='%s')"
# folder: model, its stochastic depth, mean and std, transform, mixup, erasing, loss, optimizer, clipping; written from
# RECIPES.md, not from the RECIPEs. The rate is that of a batch of 8 without warm-up; ConvMixer's of the first of 150 steps.
RECIPES = {
    CONVMIXER: ('convmixer_64_2_ks5_p4', None, IMAGENET, RA % 'random', 'dict(mixup_alpha=.5, cutmix_alpha=.5)', .25,
                'SoftTargetCrossEntropy()', 'torch.optim.AdamW(groups(2e-5), lr=.01 / 60, eps=1e-3)', 1.),
    SPACH: ('spach_ms_xxs_patch4_224_conv', .1, IMAGENET, RA % 'bicubic', 'dict(mixup_alpha=.8, cutmix_alpha=1.)', .25,
            'SoftTargetCrossEntropy()', ADAMW % '5e-4 * 8 / 512', None),
    VIT: ('vit_tiny_patch16_224', None, HALF, "dict(auto_augment=None, color_jitter=None, interpolation='bicubic')", None, 0,
          'torch.nn.CrossEntropyLoss()', 'torch.optim.SGD(groups(1e-4), lr=.03, momentum=.9)', None),
    TWINS: ('pcpvt_small_v0', .3, IMAGENET, RA % 'bicubic', 'dict(mixup_alpha=.8, cutmix_alpha=1.)', .25,
            'SoftTargetCrossEntropy()', ADAMW % '5e-4 * 8 / 512', 5.),
    VAN: ('van_b0', .1, HALF, RA % 'random', 'dict(mixup_alpha=.8, cutmix_alpha=1.)', .25, 'SoftTargetCrossEntropy()',
          ADAMW % '1e-3 * 8 / 1024', None),
}


@pytest.mark.parametrize('name', sorted(RECIPES))
def test_one_step_equals_timms_parts(name, few_digits):
    """Loss and updated weights within 1e-5, from the same seed and batch."""
    out = in_folder(name, STEP, DATA=str(few_digits), CASE=repr(RECIPES[name]))
    loss, reference, gap, moved = map(float, out.split()[-4:])
    assert abs(loss - reference) < 1e-5 and gap < 1e-5 and moved > 1e-6


STEP = '''
import os, random, tempfile
import numpy as np, torch
from timm.data import Mixup, create_transform
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from torchvision.datasets import ImageFolder
import train
from common import accelerator, data, engine, options, throughput, trainer
from common.distributed import Ranks

torch.set_num_threads(1)
name, drop_path, colours, transform, mixup, erasing, criterion, optimizer, clip = eval(os.environ['CASE'])
hooks = next((v for v in vars(train).values() if isinstance(v, type) and issubclass(v, train.Hooks) and v is not train.Hooks),
             train.Hooks)(train.create_model, [])

# ours
args = options.parse('', train.RECIPE, ['--data-path', os.environ['DATA'], '--model', name, '--img-size', '32', '--batch-size', '8',
                                        '--max-steps', '1', '--workers', '0', '--device', 'cpu', '--print-freq', '1',
                                        '--output-dir', tempfile.mkdtemp()], hooks.add_options)
args.warmup_epochs = 0
hooks.settle(args)
args.num_classes = 10
device = accelerator.choose('cpu')
trainer.settle_sizes(args, device, Ranks())
device.seed(args.seed)
run = trainer.Run(args, Ranks(), device, list('0123456789'), None, hooks)
start = {k: v.clone() for k, v in run.model.state_dict().items()}
losses = []
run.log.train = lambda **fields: losses.append(fields['loss'])
run.meter = throughput.Throughput(device, 0)
run.schedule.step_update(0)
engine.train_one_epoch(run, 0)

# the reference: which images stand in the batch, and the seeds, are taken over; everything else is timm's and torch's
model = train.create_model(name, num_classes=10, img_size=32, drop_path=drop_path)
model.load_state_dict(start)
model.train()
mean, std = eval(colours)
transform = create_transform(32, is_training=True, use_prefetcher=True, mean=mean, **eval(transform))
samples = ImageFolder(os.path.join(os.environ['DATA'], 'train'))
def seed(*parts):
    number = data.derive_seed(*parts)
    random.seed(number), np.random.seed(number), torch.manual_seed(number)
images, targets = [], []
for epoch, index, repeat in next(iter(data.TrainOrder(200, 8, Ranks(), args.seed, 1))):
    seed(args.seed, epoch, index, repeat)
    image, target = samples[index]
    images.append(torch.as_tensor(transform(image)))
    targets.append(target)
mean, std = (torch.tensor(v).mul(255).view(1, 3, 1, 1) for v in (mean, std))      # as timm's PrefetchLoader
x, y = torch.stack(images).float().sub_(mean).div_(std), torch.tensor(targets)
seed('batch', args.seed, 0, 0, 0)
if erasing:
    x = RandomErasing(erasing, mode='pixel', device='cpu')(x)
if mixup:
    x, y = Mixup(label_smoothing=.1, num_classes=10, **eval(mixup))(x, y)
def groups(decay):
    free = [p for n, p in model.named_parameters() if p.ndim <= 1 or n.startswith('pos_block')
            or n in getattr(model, 'no_weight_decay', set)()]
    ids = {id(p) for p in free}
    return [{'params': free, 'weight_decay': 0.}, {'params': [p for p in model.parameters() if id(p) not in ids],
                                                   'weight_decay': decay}]
optimizer = eval(optimizer)
torch.manual_seed(data.derive_seed('step', args.seed, 0, 0, 0))
loss = eval(criterion)(model(x), y)
loss.backward()
if clip:
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
optimizer.step()
gap = max((p - q).abs().max().item() for p, q in zip(model.parameters(), run.model.parameters()))
moved = max((p - start[n]).abs().max().item() for n, p in model.named_parameters())
print(losses[0], loss.item(), gap, moved)
'''


def test_one_cycle():
    """0 -> lr at 40 %, lr/20 at 80 %, 0 at the end, by the step; right for a single epoch too."""
    in_folder(CONVMIXER, '''
import argparse
from one_cycle import OneCycle, one_cycle
assert [round(one_cycle(x, 1.), 9) for x in (0, .2, .4, .6, .8, .9, 1.)] == [0, .5, 1, .525, .05, .025, 0]
optimizer = argparse.Namespace(param_groups=[{}, {}])
for epochs in (1, 150):
    schedule, rates = OneCycle(optimizer, .01, 100 * epochs), []
    for epoch in range(epochs):
        schedule.step(epoch)
        schedule.step_update(epoch * 100)
        for step in range(100):
            rates.append(optimizer.param_groups[1]['lr'])
            schedule.step_update(epoch * 100 + step + 1)
    assert rates[0] > 0 and abs(max(rates) - .01) < 1e-12 and rates[-1] == 0 and rates[:-1].count(0) == 0
    assert rates.index(max(rates)) == 40 * epochs - 1
''')


@pytest.mark.parametrize('argv, environ, expected', [
    ('--gpu 3', {}, {'device_id': 3}),
    ('--addr 10.0.0.1', {'RANK': '0'}, {'MASTER_ADDR': '10.0.0.1'}),
    ('--world-size 2 --rank 1 --dist-url tcp://10.0.0.1:4567', {}, {'RANK': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': '10.0.0.1',
                                                                   'MASTER_PORT': '4567'}),
    ('--gpu 1 --multiprocessing-distributed', {}, 'names the card of one process'),
    ('--addr h --world-size 2 --rank 0 --dist-url tcp://g:5', {}, {'dist_url': 'tcp://h:5', 'MASTER_ADDR': 'h'}),
    ('--model vit_base_patch32_384', {}, {'img_size': 384}), ('--model vit_base_patch32_384 --img-size 64', {}, {'img_size': 64}),
    ('--world-size 2 --rank 2', {}, 'must be 0 to 1'), ('--world-size 2', {'RANK': '0'}, 'NODE_RANK'),
    ('--world-size 2 --rank 0 --dist-url file:///x', {}, 'tcp://HOST:PORT'),
    ('--multiprocessing-distributed --world-size 2 --rank 1 --dist_url=tcp://h:1 --lr 1', {'NPROC_PER_NODE': '4'}, {
        'argv': '--nproc_per_node=4 --nnodes=2 --node_rank=1 --master_addr=h --master_port=1 train.py --lr 1'}),
    ('--pretrained', {}, '--pretrained-path'), ('--pretrained --model-path w.npz', {}, {'finetune': 'w.npz'}),
    ('-a vit_tiny_patch16_224 --warm_up_epochs 2', {}, {'model': 'vit_tiny_patch16_224', 'warmup_epochs': 2})])
def test_the_imagenet_examples_options(argv, environ, expected):
    in_folder(VIT, '''
import os, sys
import imagenet_cli, train
from common import options
from common.errors import UserError
argv, environ, expected = eval(os.environ['CASE'])
sys.argv = ['train.py'] + argv.split()
became = []
imagenet_cli.os = type('os', (), dict(vars(os), execv=lambda python, words: became.append(words)))
hooks = train.ViTHooks(None, None)
settle = imagenet_cli.settle
imagenet_cli.settle = lambda args: settle(args, environ)
try:
    args = options.parse('', train.RECIPE, ['--data-path', 'x'] + argv.split(), hooks.add_options)
    hooks.settle(args)
except UserError as e:
    assert isinstance(expected, str) and expected in str(e), e
else:
    assert not isinstance(expected, str)
    found = dict(vars(args), **environ, argv=' '.join(became[0][3:]) if became else '')
    assert {k: found[k] for k in expected} == expected, found
''', CASE=repr((argv, environ, expected)))


def test_vit_starts_its_own_processes(few_digits, tmp_path):
    """python train.py DIR --multiprocessing-distributed, without a script; --batch-size counts all processes' images."""
    done = subprocess.run([sys.executable, TOP / VIT / 'train.py', few_digits, '--multiprocessing-distributed', '--dist-backend',
                           'gloo', '--device', 'cpu', '--model', 'vit_tiny_patch16_224', '--img-size', '32', '--batch-size', '16',
                           '--epochs', '1', '--max-steps', '2', '--print-freq', '1', '--output-dir', tmp_path], text=True,
                          env=dict(os.environ, NPROC_PER_NODE='2', PYTHONPATH=''), capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '2 x cpu' in done.stdout and '2 steps of 16 images' in done.stdout and ' * Acc@1' in done.stdout


def test_spachs_own_options():
    in_folder(SPACH, '''
import train
from common import options
hooks = train.SpachHooks(None, None)
def parse(*argv):
    args = options.parse('', train.RECIPE, ['--data-path', 'x', *argv], hooks.add_options)
    hooks.settle(args)
    return args
assert parse('--npu').device == 'npu'
options_of = lambda *argv: hooks.model_options(parse(*argv))
assert options_of('--stem-type=conv4') == {'stem_type': 'conv4', 'shared_spatial_func': False, 'drop_path': .1}
assert 'drop_path' not in options_of('--drop-path=.2') and 'drop_path' not in options_of('--model=smlpnet_tiny')
assert parse().repeated_aug and not parse('--no-repeated-aug').repeated_aug and parse('--no-dist-eval').dist_eval is False
model = train.create_model('spach_xxs_patch16_224_attn', shared_spatial_func=True, stem_type='conv4')
''')
