"""What a fine-tuning changes less than the rest, and what it makes of classes of unequal size."""

import itertools
import json
import re

import numpy as np
import pytest
import torch

from helpers import FOLDERS, SMALL, TOP, VAN, describe, explains, in_folder, train


def small(name):
    """The folder's small model, for steps of a few images."""
    return [
        '--model',
        describe(name)['model'],
        *SMALL[2:],
        '--batch-size=8',
        '--max-steps=3',
        '--epochs=1',
        '--lr=.01',
        '--no-amp',
    ]


@pytest.fixture(scope='session')
def trained(few_digits, tmp_path_factory):
    """-> a function: the checkpoint of a folder's small model after a few steps"""
    made = {}

    def checkpoint(name):
        if name not in made:
            out = tmp_path_factory.mktemp('trained')
            result = train(name, few_digits, *small(name), out=out)
            assert result.code == 0, result.text
            made[name] = out / 'checkpoint.pth'
        return made[name]

    return checkpoint


@pytest.mark.parametrize('name', FOLDERS)
def test_a_linear_probe_changes_the_classifier_alone(name, few_digits, trained, tmp_path):
    """The statistics of batch norm stay, too; the features of an image are those of the checkpoint."""
    result = train(
        name, few_digits, '--case=finetune', f'--finetune={trained(name)}', '--freeze', *small(name), out=tmp_path
    )
    assert result.code == 0, result.text
    before = torch.load(trained(name), weights_only=True)['state_dict']
    after = result.checkpoint()['state_dict']
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed and changed == classifier(name)


def classifier(name):
    return in_folder(name, names_of_classifier, describe(name)['model'])


def names_of_classifier(model):
    import train

    made = train.create_model(model, num_classes=10, img_size=32)
    head = {id(p) for p in made.get_classifier().parameters()}
    return {key for key, p in made.named_parameters() if id(p) in head}


def rate_of_a_fine_tuning():
    import train

    case = train.RECIPE['cases']['finetune']
    return case['lr_base'], case['lr_base_size'], case['lr_scaling']


@pytest.mark.parametrize('name', FOLDERS)
def test_the_readme_says_the_rate_of_a_fine_tuning(name):
    readme = ' '.join((TOP / name / 'README.md').read_text().split())
    rate, batch = re.search(r'at (\S+) for a batch of (\d+), by the square root of the batch', readme).groups()
    assert in_folder(name, rate_of_a_fine_tuning) == (float(rate), int(batch), 'sqrt')


def test_freezing_needs_weights(few_digits, tmp_path):
    explains(train(VAN, few_digits, *small(VAN), '--freeze', out=tmp_path), '--freeze', '--finetune')


def scales(model):
    """In a child. -> {name of a weight: its share of the rate}, and of timm's, where its model has layers"""
    import timm.optim

    import train
    from common import transfer

    made = train.create_model(model, num_classes=10, img_size=64)
    optimizer = torch.optim.SGD(made.parameters(), lr=1.0)
    transfer.split_by_layer(optimizer, made, train.HOOKS.layers, 0.5)
    names = {id(p): name for name, p in made.named_parameters()}
    ours = {names[id(p)]: group['layer_scale'] for group in optimizer.param_groups for p in group['params']}
    groups = timm.optim.param_groups_layer_decay(made, layer_decay=0.5) if hasattr(made, 'group_matcher') else []
    theirs = {names[id(p)]: group['lr_scale'] for group in groups for p in group['params']}
    return ours, theirs, sorted(names_of_classifier(model))


@pytest.mark.parametrize('name', FOLDERS)
def test_earlier_layers_learn_more_slowly(name):
    ours, _, head = in_folder(name, scales, describe(name)['model'])
    assert {ours[key] for key in head} == {1.0} == {max(ours.values())}
    first = next(iter(ours.values()))
    values = sorted(set(ours.values()))
    assert len(values) > 2 and min(values) < 0.5 and all(b == 2 * a for a, b in itertools.pairwise(values)), values
    assert min(ours, key=ours.get) and first in values


@pytest.mark.parametrize('name', ['Vit_base_patch32_224_for_PyTorch', 'Twins-PCPVT-S_for_PyTorch'])
def test_the_layers_are_timms_where_timm_has_the_model(name):
    ours, theirs, _ = in_folder(name, scales, describe(name)['model'])
    assert theirs and ours == pytest.approx(theirs)


def test_layer_decay_reaches_the_rates_of_every_step(few_digits, trained, tmp_path):
    result = train(
        VAN, few_digits, '--case=finetune', f'--finetune={trained(VAN)}', '--layer-decay=.5', *small(VAN), out=tmp_path
    )
    assert result.code == 0, result.text
    groups = result.checkpoint()['optimizer']['param_groups']
    largest = max(group['lr'] for group in groups)
    assert len({group['layer_scale'] for group in groups}) > 3
    assert all(group['lr'] == pytest.approx(largest * group['layer_scale']) for group in groups)
    assert result.events('train')[-1]['lr'] == pytest.approx(largest)


def rules(values):
    from common import class_weights

    weights, logits, targets, shares = values
    ours = class_weights.WeightedCrossEntropy(weights)
    return ours(logits, targets), ours(logits, shares)


def test_the_weighted_loss_is_torchs():
    torch.manual_seed(0)
    weights, logits, targets = [0.5, 2.0, 1.0], torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 1])
    shares = torch.rand(6, 3).softmax(1)
    hard, soft = in_folder(VAN, rules, (weights, logits, targets, shares))
    assert hard == pytest.approx(torch.nn.CrossEntropyLoss(torch.tensor(weights))(logits, targets))
    counted = shares * torch.tensor(weights)
    assert soft == pytest.approx((-(counted * logits.log_softmax(1)).sum() / counted.sum()).item())


def balanced(counts):
    from common import class_weights

    return class_weights.chosen('balanced', ['a', 'b', 'c'], counts)


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    labels = [0] * 7 + [1] * 2 + [2]
    assert in_folder(VAN, balanced, [7, 2, 1]) == pytest.approx(
        compute_class_weight('balanced', classes=np.arange(3), y=labels)
    )


def test_class_weights_from_a_file(few_digits, tmp_path):
    """A class that does not count is not learnt: no image is taken for it. A file that does not fit is a sentence."""
    file = tmp_path / 'weights.json'
    file.write_text(json.dumps({str(digit): float(digit > 4) for digit in range(10)}))
    words = [
        *small(VAN)[:-5],
        '--epochs=2',
        '--lr=2e-3',
        '--mixup=0',
        '--cutmix=0',
        '--aa=none',
        '--reprob=0',
        '--smoothing=0',
    ]
    result = train(
        VAN, few_digits, *words, '--no-amp', '--batch-size=16', f'--class-weights={file}', out=tmp_path / 'a'
    )
    assert result.code == 0, result.text
    weights = torch.load(tmp_path / 'a' / 'checkpoint.pth', weights_only=True)['state_dict']['head.bias']
    assert weights[:5].max() < weights[5:].min()
    file.write_text('{"0": 1}')
    explains(train(VAN, few_digits, *words, f'--class-weights={file}', out=tmp_path / 'b'), str(file), '1')


# README of locuslab/convmixer at 4704811: the arguments of its train.py for ConvMixer-1536/20, but for the data set's place
CONVMIXERS = (
    '--train-split train --val-split val --model convmixer_1536_20 -b 64 -j 10 --opt adamw --epochs 150 --sched onecycle --amp '
    '--input-size 3 224 224 --lr 0.01 --aa rand-m9-mstd0.5-inc1 --cutmix 0.5 --mixup 0.5 --reprob 0.25 --remode pixel '
    '--num-classes 1000 --warmup-epochs 0 --opt-eps=1e-3 --clip-grad 1.0'
)


def test_the_command_line_that_convmixer_published(data, tmp_path):
    """On a data set whose folders have other names; made small by what comes after it."""
    (data / 'train').rename(data / 'training')
    (data / 'val').rename(data / 'validation')
    small_words = (
        '--train-split training --val-split validation --model convmixer_64_2_ks5_p4 -b 8 -j 0 --epochs 1 --max-steps 2'
    )
    words = [
        *CONVMIXERS.split(),
        *small_words.split(),
        *'--input-size 3 32 48 --num-classes 10 --print-freq 1 --device=cpu'.split(),
    ]
    result = train('ConvMixer_for_PyTorch', data, *words, out=tmp_path / 'a')
    assert result.code == 0 and ', 10 classes, 32x48 pixels;' in result.text, result.text
    saved = result.checkpoint()['args']
    assert (saved['sched'], saved['opt_eps'], saved['clip_grad'], saved['img_size']) == (
        'onecycle',
        1e-3,
        1.0,
        [32, 48],
    )
    explains(train('ConvMixer_for_PyTorch', data, '-b', '8', out=tmp_path / 'b'), 'train/', '--train-split=training')


@pytest.mark.parametrize('name', FOLDERS)
def test_oblong_images_or_a_sentence(name, few_digits, tmp_path):
    result = train(name, few_digits, *small(name), '--input-size', '3', '64', '96', '--max-steps=1', out=tmp_path)
    assert (result.code == 0 and '64x96 pixels' in result.text) or '--input-size 3 64 96' in result.lines[-1], (
        result.text
    )
