"""The models against upstream's: keys, shapes, logits and gradients of the golden records, sizes of all variants."""

import argparse
import importlib
import json
import sys

import numpy as np
import pytest
import torch
from timm.optim import create_optimizer

from helpers import FOLDERS, TOP, VAN, describe, in_folder

CONVMIXER, SPACH, TWINS, VIT = (
    f'{name}_for_PyTorch' for name in ('ConvMixer', 'SPACH', 'Twins-PCPVT-S', 'Vit_base_patch32_224')
)
GOLDEN = TOP / 'tests' / 'data' / 'golden'
RECORDS = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob('*.json'))}
FAMILIES = {describe(name)['golden_family']: name for name in FOLDERS}
SMALL = [record for name in FOLDERS for record in describe(name)['golden'][1:]]  # the others are long tests
# {folder: {name: [million parameters, entries of the state dict]}}: counted on upstream's own code
VARIANTS = json.loads((TOP / 'tests' / 'data' / 'variants.json').read_text())


def factory_of(record):
    """-> the folder, and keywords of its create_model; __n10 and __s384 in a name stand for what check_kwargs says."""
    return FAMILIES[record['family']], dict(record['check_kwargs'], name=record['model'].split('__')[0])


def compared(record, kwargs):
    """In a child. -> what differs from the record, and which fresh weights do"""
    sys.path.append(str(GOLDEN))
    import check_golden
    import golden

    model = golden.build('train:create_model', '.', kwargs)
    odd = check_golden.compare_init(golden.init_stats(model), record)
    return [(what, detail) for holds, what, detail in check_golden.compare(model, record) if not holds], odd


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[] if name in SMALL else pytest.mark.long) for name in RECORDS]
)
def test_golden(name):
    folder, kwargs = factory_of(RECORDS[name])
    assert in_folder(folder, compared, RECORDS[name], kwargs) == ([], [])


def without_init():
    """Sizes and structure only: drawing hundreds of millions of random numbers takes minutes."""
    for fill in ('normal_', 'uniform_', 'trunc_normal_', 'xavier_uniform_', 'kaiming_normal_', 'kaiming_uniform_'):
        setattr(torch.nn.init, fill, lambda tensor, *args, **kwargs: tensor)


def sizes(classes):
    """In a child. {name: number of classes} -> {name: [million parameters, entries of the state dict]}"""
    from train import create_model

    without_init()
    found = {}
    for name, number in classes.items():
        model = create_model(name, num_classes=number)
        found[name] = [round(sum(p.numel() for p in model.parameters()) / 1e6, 2), len(model.state_dict())]
    return found


@pytest.mark.parametrize('folder', sorted(VARIANTS))
def test_sizes_of_all_variants(folder):
    """Parameters and keys of every variant that upstream registers, but for ViT's largest (600 million parameters)."""
    wanted = {name: count for name, count in VARIANTS[folder].items() if 'huge' not in name}
    assert in_folder(folder, sizes, {name: 21843 if name.endswith('in21k') else 1000 for name in wanted}) == wanted


def learns(name, size, other):
    """In a child: seven classes, at two image sizes; a gradient for every weight."""
    from train import create_model

    model = create_model(name, num_classes=7, img_size=size)
    for side in (size, other):
        out = model(torch.randn(2, 3, side, side))
        assert out.shape == (2, 7)
        out.square().sum().backward()
    assert len(list(model.get_classifier().parameters())) == 2 and model.get_classifier().out_features == 7
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('folder, name, size, other', [
    (CONVMIXER, 'convmixer_64_2_ks3_p4', 48, 40), (SPACH, 'spach_ms_xxs_patch4_224_mlp', 64, 64),
    (SPACH, 'spach_xxs_patch16_224_attn', 96, 96), (SPACH, 'smlpnet_tiny', 64, 64),
    (SPACH, 'shiftvit_light_tiny', 64, 96),
    (TWINS, 'pcpvt_small_v0', 200, 96), (TWINS, 'alt_gvt_small', 96, 64), (VIT, 'vit_tiny_patch16_224', 48, 48),
    (VAN, 'van_tiny', 96, 50)])  # fmt: skip
def test_classes_sizes_and_heads(folder, name, size, other):
    in_folder(folder, learns, name, size, other)


def entry_point(module, name):
    """In a child. -> number of classes"""
    return getattr(importlib.import_module(module), name)(num_classes=3).get_classifier().out_features


@pytest.mark.parametrize('folder, module, name', [
    (CONVMIXER, 'convmixer', 'convmixer_1024_20_ks9_p14'), (SPACH, 'models.registry', 'spach_ms_xs_patch4_224_hybrid'),
    (TWINS, 'gvt', 'pcpvt_small_v0'), (VIT, 'vision_transformer', 'vit_tiny_patch16_224'),
    (VAN, 'models.van', 'van_b0')])  # fmt: skip
def test_upstreams_entry_points(folder, module, name):
    assert in_folder(folder, entry_point, module, name) == 3


def drop_rates(name, rate):
    """In a child. -> of each DropPath that is on, in order"""
    from train import create_model

    without_init()
    rates = [m.drop_prob for m in create_model(name, drop_path=rate).modules() if type(m).__name__ == 'DropPath']
    return [rate for rate in rates if rate > 0]


@pytest.mark.parametrize('name', [*SMALL, 'spach_xxs_patch16_224_conv', 'shiftvit_light_tiny'])
def test_stochastic_depth_schedules(name):
    """As in the records: linear over the blocks, for single-stage SPACH constant."""
    wanted = RECORDS[name]['info'].get('drop_path_at_rate_0.1')
    if not wanted:
        pytest.skip('the record says nothing of it')
    folder, kwargs = factory_of(RECORDS[name])
    rate = None if name.startswith('shiftvit') else 0.1  # there the record has the variant's own
    found = in_folder(folder, drop_rates, kwargs['name'], rate)
    assert found[:: len(found) // len(wanted)] == pytest.approx(wanted, abs=1e-5)  # some networks have two in a block


def spared(name):
    """In a child. -> the names of weights with several dimensions that get no weight decay"""
    from train import create_model

    without_init()
    model = create_model(name)
    optimizer = create_optimizer(argparse.Namespace(opt='adamw', lr=1.0, weight_decay=0.1, momentum=0.9), model)
    free = {id(p) for g in optimizer.param_groups if g['weight_decay'] == 0 for p in g['params']}
    return sorted(name for name, p in model.named_parameters() if id(p) in free and p.ndim > 1)


@pytest.mark.parametrize('name', SMALL)
def test_weight_decay_spares_what_upstream_spares(name):
    """Biases and 1-d weights everywhere; in Twins also the 3x3 convolutions of pos_block."""
    folder, kwargs = factory_of(RECORDS[name])
    assert in_folder(folder, spared, kwargs['name']) == sorted(RECORDS[name]['info']['multi_dim_params_without_decay'])


def other_size():
    """In a child: position embeddings of another image size."""
    from vision_transformer import create_model
    from weights import fit_to_model

    small, large = (create_model('vit_tiny_patch16_224', num_classes=5, img_size=side).eval() for side in (32, 64))
    state, said = fit_to_model(small.state_dict(), large)
    assert len(said) == 1 and '2x2' in said[0] and '4x4' in said[0]
    large.load_state_dict(state)
    assert torch.equal(state['pos_embed'][:, 0], small.pos_embed[:, 0]) and state['pos_embed'].shape[1] == 17
    same, nothing = fit_to_model(small.state_dict(), small)
    assert nothing == [] and torch.equal(same['pos_embed'], small.pos_embed)


def as_jax(state, heads=3, blocks=12, width=192):
    """-> the weights of ViT-Ti/16 as the JAX release names and shapes them."""

    def norm(name, key):
        return {f'{name}/scale': state[f'{key}.weight'], f'{name}/bias': state[f'{key}.bias']}

    jax = {'cls': state['cls_token'], 'Transformer/posembed_input/pos_embedding': state['pos_embed']}
    jax['embedding/kernel'] = state['patch_embed.proj.weight'].transpose(2, 3, 1, 0)
    jax['embedding/bias'] = state['patch_embed.proj.bias']
    jax['head/kernel'], jax['head/bias'] = state['head.weight'].T, state['head.bias']
    jax.update(norm('Transformer/encoder_norm', 'norm'))
    for i in range(blocks):
        name, key = f'Transformer/encoderblock_{i}/', f'blocks.{i}.'
        attention, split = name + 'MultiHeadDotProductAttention_1/', (heads, width // heads)
        jax.update({**norm(name + 'LayerNorm_0', key + 'norm1'), **norm(name + 'LayerNorm_2', key + 'norm2')})
        qkv = zip(*(np.split(state[f'{key}attn.qkv.{part}'], 3) for part in ('weight', 'bias')))
        for part, (weight, bias) in zip(('query', 'key', 'value'), qkv):
            jax[f'{attention}{part}/kernel'] = weight.T.reshape(width, *split)
            jax[f'{attention}{part}/bias'] = bias.reshape(*split)
        jax[attention + 'out/kernel'] = state[key + 'attn.proj.weight'].T.reshape(*split, width)
        jax[attention + 'out/bias'] = state[key + 'attn.proj.bias']
        for part, layer in (('Dense_0', 'fc1'), ('Dense_1', 'fc2')):
            jax[f'{name}MlpBlock_3/{part}/kernel'] = state[f'{key}mlp.{layer}.weight'].T
            jax[f'{name}MlpBlock_3/{part}/bias'] = state[f'{key}mlp.{layer}.bias']
    return jax


def npz(path):
    """In a child: written as that release lays it out, read, and the same logits."""
    from vision_transformer import create_model
    from weights import load_npz

    plain, again = (create_model('vit_tiny_patch16_224', num_classes=5, img_size=32).eval() for _ in range(2))
    torch.nn.init.normal_(plain.head.weight)
    np.savez(path, **as_jax({key: value.numpy() for key, value in plain.state_dict().items()}))
    again.load_state_dict(load_npz(str(path)))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(images), plain(images))


def test_vit_weights_from_elsewhere(tmp_path):
    in_folder(VIT, other_size)
    in_folder(VIT, npz, tmp_path / 'vit.npz')
