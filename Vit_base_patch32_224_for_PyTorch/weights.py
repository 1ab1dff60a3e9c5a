"""Weights for a ViT from elsewhere: of another image size or task, and the .npz files of the original JAX release."""

import math
import os
import zipfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# ---- weights of another image size or task


def resample_pos_embed(state_dict, model):
    """Brings the position embedding of a checkpoint to the model's image size.

    -> (state dict, sentence saying what was done, or None where nothing was). The class token's embedding is kept, the
    patches' is resampled as a picture, bicubic (paper, section 3.2). The given dict is not changed.
    Raises ValueError where the checkpoint's embedding is no square grid and does not fit as it is.
    """
    old = state_dict.get('pos_embed')
    if old is None or old.shape[1] == model.pos_embed.shape[1]:
        return state_dict, None
    tokens = model.pos_embed.shape[1] - model.patch_embed.num_patches  # the class token
    side = round(math.sqrt(max(old.shape[1] - tokens, 0)))
    if side < 1 or side * side != old.shape[1] - tokens:
        raise ValueError(
            f'the position embedding of the checkpoint has {old.shape[1]} tokens, which is no square grid of patches '
            f'and {tokens} more'
        )
    grid = tuple(model.patch_embed.grid_size)
    picture = old[:, tokens:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    picture = F.interpolate(picture, size=grid, mode='bicubic', align_corners=False)
    patches = picture.permute(0, 2, 3, 1).reshape(1, grid[0] * grid[1], -1).to(old.dtype)
    adapted = dict(state_dict, pos_embed=torch.cat([old[:, :tokens], patches], dim=1))
    return adapted, f'position embedding resampled from {side}x{side} to {grid[0]}x{grid[1]} patches'


def drop_representation(state_dict, model):
    """Leaves pre_logits out where the model has none and has other classes, so that the head is made anew anyway.

    -> (state dict, sentence or None), as resample_pos_embed. With equal classes it stays: the head needs it.
    """
    head = state_dict.get('head.weight')
    if isinstance(model.pre_logits, nn.Sequential) or head is None or head.shape[0] == model.num_classes:
        return state_dict, None
    kept = {key: value for key, value in state_dict.items() if not key.startswith('pre_logits.')}
    return kept, 'representation layer left out' if len(kept) < len(state_dict) else None


def fit_to_model(state_dict, model):
    """resample_pos_embed and drop_representation. -> (state dict, list of sentences saying what was done).

    Raises ValueError for a distilled DeiT, which is another network.
    """
    if 'dist_token' in state_dict:
        raise ValueError('it is a distilled DeiT (dist_token), which has no model here; give one without distillation')
    said = []
    for step in (resample_pos_embed, drop_representation):
        state_dict, sentence = step(state_dict, model)
        said += [sentence] if sentence else []
    return state_dict, said


# ---- the original JAX release


def load_npz(path):
    """The state dict in a .npz file of the JAX release (github.com/google-research/vision_transformer).

    A kernel there is (*inputs, *outputs), heads apart; query, key and value are three; convolutions are HWIO.
    timm's own reader (VisionTransformer.load_pretrained) is not used: in timm 1.x it leaves pre_logits out, and it needs
    a model of the right size first.
    Raises ValueError for a file that holds no plain ViT.
    """
    if os.path.isfile(path) and not zipfile.is_zipfile(path):
        raise ValueError(f'{path} is not an .npz file, or is cut short')
    with np.load(os.fspath(path)) as archive:
        prefix = 'opt/target/' if 'opt/target/cls' in archive.files else ''
        source = {name[len(prefix) :]: archive[name] for name in archive.files if name.startswith(prefix)}
    if 'conv_root/kernel' in source:
        raise ValueError(f'{path} holds a hybrid of ResNet and ViT, which has no model here')
    try:
        return _state_dict(source)
    except KeyError as e:
        raise ValueError(f'{path} is not a ViT of the JAX release: it has no {e.args[0]}') from e


def _state_dict(source):
    state = {
        'cls_token': source['cls'],
        'pos_embed': source['Transformer/posembed_input/pos_embedding'],
        'patch_embed.proj.weight': source['embedding/kernel'].transpose(3, 2, 0, 1),
        'patch_embed.proj.bias': source['embedding/bias'],
    }
    _norm(state, 'norm', source, 'Transformer/encoder_norm')
    depth = len({name.split('/')[1] for name in source if name.startswith('Transformer/encoderblock_')})
    for i in range(depth):
        _block(state, f'blocks.{i}.', source, f'Transformer/encoderblock_{i}/')
    for name, key in (('pre_logits', 'pre_logits.fc'), ('head', 'head')):
        if name + '/kernel' in source:
            _linear(state, key, source, name)
    return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in state.items()}


def _block(state, key, source, name):
    attention = name + 'MultiHeadDotProductAttention_1/'
    _norm(state, key + 'norm1', source, name + 'LayerNorm_0')
    _linear(state, key + 'attn.qkv', source, attention + 'query', attention + 'key', attention + 'value')
    _linear(state, key + 'attn.proj', source, attention + 'out')
    _norm(state, key + 'norm2', source, name + 'LayerNorm_2')
    _linear(state, key + 'mlp.fc1', source, name + 'MlpBlock_3/Dense_0')
    _linear(state, key + 'mlp.fc2', source, name + 'MlpBlock_3/Dense_1')


def _norm(state, key, source, name):
    state[key + '.weight'], state[key + '.bias'] = source[name + '/scale'], source[name + '/bias']


def _linear(state, key, source, *names):
    """One linear layer out of those named, one above the other; their kernels become (outputs, inputs)."""
    biases = [source[name + '/bias'].reshape(-1) for name in names]
    kernels = [source[name + '/kernel'].reshape(-1, bias.size).T for name, bias in zip(names, biases)]
    state[key + '.weight'], state[key + '.bias'] = np.concatenate(kernels), np.concatenate(biases)
