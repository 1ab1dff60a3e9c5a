"""The models against upstream's: keys, shapes, logits and gradients of the golden records, sizes of all variants."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOP, VAN

CONVMIXER, SPACH, TWINS, VIT = (name + '_for_PyTorch' for name in ('ConvMixer', 'SPACH', 'Twins-PCPVT-S', 'Vit_base_patch32_224'))
FAMILIES = {'convmixer': CONVMIXER, 'spach': SPACH, 'vit': VIT, 'twins': TWINS, 'van': VAN}
GOLDEN = Path(__file__).parent / 'data' / 'golden'
RECORDS = [(path, json.loads(path.read_text())) for path in sorted(GOLDEN.glob('*.json'))]
# {folder: {name: [million parameters, entries of the state dict]}}: counted on upstream's own code
# one record of each family in the quick tests, all of them in the long ones
QUICK = {'convmixer_256_8_ks5_p2__n10_s32', 'spach_ms_xxs_patch4_224_conv', 'vit_tiny_patch16_224', 'pcpvt_small_v0', 'van_b0'}
# sizes and structure only: drawing hundreds of millions of random numbers takes minutes
NO_INIT = '''
import torch
for fill in ('normal_', 'uniform_', 'trunc_normal_', 'xavier_uniform_', 'kaiming_normal_', 'kaiming_uniform_'):
    setattr(torch.nn.init, fill, lambda tensor, *args, **kwargs: tensor)
'''
VARIANTS = json.loads((Path(__file__).parent / 'data' / 'variants.json').read_text())


def in_folder(folder, code, **env):
    """Runs Python code with the folder, and nothing else of ours, on its path. -> stdout"""
    done = subprocess.run([sys.executable, '-c', code], cwd=TOP / folder, env=dict(os.environ, PYTHONPATH='', **env), text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize('path', [pytest.param(path, marks=[] if path.stem in QUICK else pytest.mark.long, id=path.stem)
                                  for path, _ in RECORDS])
def test_golden(path):
    record = dict(RECORDS)[path]
    name = record['model'].split('__')[0]     # __n10, __s384, ... stand for what check_kwargs says
    done = subprocess.run([sys.executable, GOLDEN / 'check_golden.py', path, '--factory', 'train:create_model', '--path',
                           TOP / FAMILIES[record['family']], '--kwargs', json.dumps(dict(record['check_kwargs'], name=name)),
                           '--init'], capture_output=True, text=True)
    assert done.returncode == 0 and 'fresh init         agrees' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize('folder', sorted(VARIANTS))
def test_sizes_of_all_variants(folder):
    """Parameters and keys of every variant that upstream registers, but for ViT's largest (600 million parameters)."""
    wanted = {name: count for name, count in VARIANTS[folder].items() if 'huge' not in name}
    own = {} if 'vit_' not in str(wanted) else {name: 21843 for name in wanted if name.endswith('in21k')}
    out = in_folder(folder, NO_INIT + '''
import json, os
from train import create_model
def count(name, classes):
    model = create_model(name, num_classes=classes)
    return round(sum(p.numel() for p in model.parameters()) / 1e6, 2), len(model.state_dict())
names, own = json.loads(os.environ['NAMES'])
print(json.dumps({name: count(name, own.get(name, 1000)) for name in names}))
''', NAMES=json.dumps([list(wanted), own]))
    assert json.loads(out) == wanted


@pytest.mark.parametrize('folder, name, size, other', [
    (CONVMIXER, 'convmixer_64_2_ks3_p4', 48, 40), (SPACH, 'spach_ms_xxs_patch4_224_mlp', 64, 64),
    (SPACH, 'spach_xxs_patch16_224_attn', 96, 96), (SPACH, 'smlpnet_tiny', 64, 64), (SPACH, 'shiftvit_light_tiny', 64, 96),
    (TWINS, 'pcpvt_small_v0', 200, 96), (TWINS, 'alt_gvt_small', 96, 64), (VIT, 'vit_tiny_patch16_224', 48, 48),
    (VAN, 'van_tiny', 96, 50)])
def test_classes_sizes_and_heads(folder, name, size, other):
    """Other classes and image sizes than the default, gradients everywhere, and the head by get_classifier."""
    in_folder(folder, '''
import os, torch
from train import create_model
name, size, other = os.environ['CASE'].split()
model = create_model(name, num_classes=7, img_size=int(size))
assert model.get_classifier().out_features == 7
for side in (int(size), int(other)):
    out = model(torch.randn(2, 3, side, side))
    assert out.shape == (2, 7)
    (out ** 2).sum().backward()
head = dict(model.get_classifier().named_parameters())
assert len(head) == 2 and all(p.grad is not None for p in model.parameters())
try:
    create_model('resnet50')
except ValueError as e:
    assert 'resnet50' in str(e) and name.split('_')[0] in str(e)
else:
    raise AssertionError('an unknown name was taken')
''', CASE='%s %d %d' % (name, size, other))


@pytest.mark.parametrize('folder, module, name', [
    (CONVMIXER, 'convmixer', 'convmixer_1024_20_ks9_p14'), (SPACH, 'models.registry', 'spach_ms_xs_patch4_224_hybrid'),
    (TWINS, 'gvt', 'pcpvt_small_v0'), (VIT, 'vision_transformer', 'vit_tiny_patch16_224'), (VAN, 'models.van', 'van_b0')])
def test_upstreams_entry_points(folder, module, name):
    in_folder(folder, '''
import importlib
model = getattr(importlib.import_module(%r), %r)(num_classes=3)
assert model.get_classifier().out_features == 3''' % (module, name))


def test_stochastic_depth_schedules():
    """As in the records: linear over the blocks, for single-stage SPACH constant."""
    for path, record in RECORDS:
        wanted = record['info'].get('drop_path_at_rate_0.1')
        if wanted and path.stem in QUICK | {'spach_xxs_patch16_224_conv', 'shiftvit_light_tiny'}:
            name = record['model'].split('__')[0]
            rate = None if name.startswith('shiftvit') else .1      # there the record has the variant's own
            found = json.loads(in_folder(FAMILIES[record['family']], NO_INIT + '''
import json
from train import create_model
model = create_model(%r, drop_path=%r)
print(json.dumps([round(m.drop_prob, 6) for m in model.modules() if type(m).__name__ == 'DropPath']))''' % (name, rate)))
            found = [rate for rate in found if rate > 0]
            distinct = found[::len(found) // len(wanted)]      # some networks have two of them in a block
            assert distinct == pytest.approx(wanted, abs=1e-5), name


def test_weight_decay_spares_what_upstream_spares():
    """Biases and 1-d weights everywhere; in Twins also the 3x3 convolutions of pos_block."""
    for path, record in RECORDS:
        if path.stem not in QUICK:
            continue
        spared = json.loads(in_folder(FAMILIES[record['family']], NO_INIT + '''
import argparse, json
from timm.optim import create_optimizer
from train import create_model
model = create_model(%r)
optimizer = create_optimizer(argparse.Namespace(opt='adamw', lr=1., weight_decay=.1, momentum=.9), model)
free = {id(p) for g in optimizer.param_groups if g['weight_decay'] == 0 for p in g['params']}
print(json.dumps([n for n, p in model.named_parameters() if id(p) in free and p.ndim > 1]))''' % record['model'].split('__')[0]))
        assert sorted(spared) == sorted(record['info']['multi_dim_params_without_decay']), record['model']


def test_vit_weights_from_elsewhere(tmp_path):
    """Position embeddings of another image size; the JAX release's .npz, written here as that release lays it out."""
    in_folder(VIT, '''
import os
import numpy as np, torch
from vision_transformer import create_model
from weights import fit_to_model, load_npz

small, large = (create_model('vit_tiny_patch16_224', num_classes=5, img_size=s).eval() for s in (32, 64))
state, said = fit_to_model(small.state_dict(), large)
assert said == ['position embedding resampled from 2x2 to 4x4 patches']
large.load_state_dict(state)
assert torch.equal(state['pos_embed'][:, 0], small.pos_embed[:, 0]) and state['pos_embed'].shape[1] == 17
same, nothing = fit_to_model(small.state_dict(), small)
assert nothing == [] and torch.equal(same['pos_embed'], small.pos_embed)

torch.nn.init.normal_(small.head.weight)
s, heads, jax = {k: v.numpy() for k, v in small.state_dict().items()}, 3, {}
jax['cls'], jax['Transformer/posembed_input/pos_embedding'] = s['cls_token'], s['pos_embed']
jax['embedding/kernel'], jax['embedding/bias'] = s['patch_embed.proj.weight'].transpose(2, 3, 1, 0), s['patch_embed.proj.bias']
def norm(name, key):
    jax[name + '/scale'], jax[name + '/bias'] = s[key + '.weight'], s[key + '.bias']
norm('Transformer/encoder_norm', 'norm')
jax['head/kernel'], jax['head/bias'] = s['head.weight'].T, s['head.bias']
for i in range(12):
    name, key = 'Transformer/encoderblock_%d/' % i, 'blocks.%d.' % i
    norm(name + 'LayerNorm_0', key + 'norm1'), norm(name + 'LayerNorm_2', key + 'norm2')
    attention = name + 'MultiHeadDotProductAttention_1/'
    for part, w, b in zip(('query', 'key', 'value'), np.split(s[key + 'attn.qkv.weight'], 3), np.split(s[key + 'attn.qkv.bias'], 3)):
        jax[attention + part + '/kernel'], jax[attention + part + '/bias'] = w.T.reshape(192, heads, 64), b.reshape(heads, 64)
    jax[attention + 'out/kernel'] = s[key + 'attn.proj.weight'].T.reshape(heads, 64, 192)
    jax[attention + 'out/bias'] = s[key + 'attn.proj.bias']
    for part, layer in (('Dense_0', 'fc1'), ('Dense_1', 'fc2')):
        jax[name + 'MlpBlock_3/%s/kernel' % part] = s[key + 'mlp.%s.weight' % layer].T
        jax[name + 'MlpBlock_3/%s/bias' % part] = s[key + 'mlp.%s.bias' % layer]
path = os.path.join(os.environ['TMP_PATH'], 'vit.npz')
np.savez(path, **jax)
again = create_model('vit_tiny_patch16_224', num_classes=5, img_size=32).eval()
again.load_state_dict(load_npz(path))
x = torch.randn(2, 3, 32, 32)
assert torch.equal(again(x), small(x))
''', TMP_PATH=str(tmp_path))
