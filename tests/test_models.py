"""The models against upstream's: keys, shapes, logits and gradients of the golden records, and one step of the recipe."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOP, VAN

GOLDEN = Path(__file__).parent / 'data' / 'golden'
FAMILIES = {'convmixer': 'ConvMixer_for_PyTorch', 'spach': 'SPACH_for_PyTorch', 'vit': 'Vit_base_patch32_224_for_PyTorch',
            'twins': 'Twins-PCPVT-S_for_PyTorch', 'van': VAN}
RECORDS = [(path, json.loads(path.read_text())) for path in sorted(GOLDEN.glob('*.json'))]

# parameters and state-dict entries of every variant (upstream's, counted on its own code)
COUNTS = {'van_b0': (4.11, 402), 'van_b1': (13.86, 318), 'van_b2': (26.58, 626), 'van_b3': (44.77, 1102),
          'van_b4': (60.28, 1494), 'van_b5': (89.97, 962), 'van_b6': (199.83, 3062)}


def in_folder(folder, code, **env):
    """Runs Python code with the folder, and nothing else of ours, on its path. -> stdout"""
    done = subprocess.run([sys.executable, '-c', code], cwd=TOP / folder, env=dict(os.environ, PYTHONPATH='', **env), text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize('path, record', RECORDS, ids=lambda v: v.stem if isinstance(v, Path) else '')
def test_golden(path, record):
    folder = FAMILIES[record['family']]
    name = record['model'].split('__')[0]     # __n10, __s384, ... stand for what check_kwargs says
    done = subprocess.run([sys.executable, GOLDEN / 'check_golden.py', path, '--factory', 'train:create_model', '--path',
                           TOP / folder, '--kwargs', json.dumps(dict(record['check_kwargs'], name=name)), '--init'],
                          capture_output=True, text=True)
    assert done.returncode == 0 and 'fresh init         agrees' in done.stdout, done.stdout + done.stderr


def test_van_variants():
    counts = json.loads(in_folder(VAN, '''
import json
from models.van import ALIASES, VARIANTS, create_model
def count(name):
    model = create_model(name)
    return sum(p.numel() for p in model.parameters()) / 1e6, len(model.state_dict())
print(json.dumps([{name: count(name) for name in VARIANTS}, ALIASES]))'''))
    assert {name: (round(m, 2), keys) for name, (m, keys) in counts[0].items()} == COUNTS
    assert counts[1] == {'van_tiny': 'van_b0', 'van_small': 'van_b1', 'van_base': 'van_b2', 'van_large': 'van_b3'}


def test_van_options():
    """Other classes, sizes and stochastic depth; upstream's factories; another head."""
    in_folder(VAN, '''
import torch
from models import van
model = van.create_model('van_tiny', num_classes=7, img_size=96, drop_path=.2)
rates = [b.drop_path.drop_prob for s in range(1, 5) for b in getattr(model, 'block%d' % s) if hasattr(b.drop_path, 'drop_prob')]
assert len(rates) == 12 and abs(rates[-1] - .2) < 1e-6 and rates == sorted(rates)
assert model.eval()(torch.zeros(2, 3, 96, 64)).shape == (2, 7)
model.reset_classifier(3)
assert model(torch.zeros(1, 3, 50, 50)).shape == (1, 3)
assert van.van_b0(num_classes=5).head.out_features == 5
''')


def test_one_step_of_the_recipe_equals_timms_parts(few_digits):
    """One step of the whole trainer against the same step written from timm's own parts: loss and weights within 1e-5."""
    out = in_folder(VAN, REFERENCE_STEP, DATA=str(few_digits))
    loss, reference, gap = map(float, out.split()[-3:])
    assert abs(loss - reference) < 1e-5 and gap < 1e-5


REFERENCE_STEP = '''
import os, random, tempfile
import numpy as np, torch
from timm.data import Mixup, create_transform
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from torchvision.datasets import ImageFolder
import train
from common import accelerator, data, engine, hooks, options, trainer
from common.distributed import Ranks

torch.set_num_threads(1)
args = options.parse('', train.RECIPE, ['--data-path', os.environ['DATA'], '--model', 'van_b0', '--img-size', '32', '--batch-size', '8',
                                  '--max-steps', '1', '--workers', '0', '--warmup-epochs', '0', '--lr', '1e-3', '--device', 'cpu',
                                  '--print-freq', '1', '--output-dir', tempfile.mkdtemp()])
args.num_classes, args.validation_batch_size = 10, 8
device = accelerator.choose('cpu')
device.seed(args.seed)
run = trainer.Run(args, Ranks(), device, list('0123456789'), None, hooks.Hooks(train.create_model, None))
start = {k: v.clone() for k, v in run.model.state_dict().items()}
losses = []
run.log.train = lambda **fields: losses.append(fields['loss'])
run.meter = trainer.throughput.Throughput(device, 0)
run.schedule.step(0)
engine.train_one_epoch(run, 0)

# the reference: the order of the batch is taken over, everything else is timm's
model = train.create_model('van_b0', num_classes=10, drop_path=.1)
model.load_state_dict(start)
model.train()
order = data.TrainOrder(200, 8, Ranks(), args.seed, 1)
transform = create_transform(32, is_training=True, use_prefetcher=True, auto_augment='rand-m9-mstd0.5-inc1', color_jitter=.4,
                             interpolation='random', mean=(.5, .5, .5))
samples = ImageFolder(os.path.join(os.environ['DATA'], 'train'))
images, targets = [], []
for epoch, index, repeat in next(iter(order)):
    number = data.derive_seed(args.seed, epoch, index, repeat)
    random.seed(number), np.random.seed(number), torch.manual_seed(number)
    image, target = samples[index]
    images.append(torch.as_tensor(transform(image)))
    targets.append(target)
x = torch.stack(images).float().sub_(.5 * 255).div_(.5 * 255)     # as timm's PrefetchLoader
number = data.derive_seed('batch', args.seed, 0, 0, 0)
random.seed(number), np.random.seed(number), torch.manual_seed(number)
x = RandomErasing(.25, mode='pixel', device='cpu')(x)
x, y = Mixup(mixup_alpha=.8, cutmix_alpha=1., label_smoothing=.1, num_classes=10)(x, torch.tensor(targets))
decayed = [p for n, p in model.named_parameters() if p.ndim > 1]
others = [p for n, p in model.named_parameters() if p.ndim <= 1]
optimizer = torch.optim.AdamW([{'params': others, 'weight_decay': 0.}, {'params': decayed, 'weight_decay': .05}], lr=1e-3)
torch.manual_seed(data.derive_seed('step', args.seed, 0, 0, 0))
loss = SoftTargetCrossEntropy()(model(x), y)
loss.backward()
optimizer.step()
gap = max((p - q).abs().max().item() for p, q in zip(model.parameters(), run.model.parameters()))
moved = max((p - start[n]).abs().max().item() for n, p in model.named_parameters())
assert moved > 5e-4, 'the step moved nothing'
print(losses[0], loss.item(), gap)
'''
