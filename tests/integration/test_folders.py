"""Each folder: upstream's checkpoints, and the mistakes of test_faults.py; and what SPACH and ViT have beyond that."""

import argparse
import shutil

import pytest
import torch

from helpers import FOLDERS, TOP, describe, explains, in_folder, run, train

SPACH, VIT = 'SPACH_for_PyTorch', 'Vit_base_patch32_224_for_PyTorch'
ARGUMENTS = ['--img-size=32', '--device=cpu', '--workers=0', '--batch-size=16']
ONE_EPOCH = ['--epochs=1', '--max-steps=2', '--print-freq=1']


def write_as_upstream(name, container, path):
    """In a child: a Namespace, 'module.' prefixes, the folder's container."""
    from train import HOOKS

    model = HOOKS.create_model(name, num_classes=10, img_size=32)
    torch.nn.init.normal_(model.get_classifier().weight)
    state = {'module.' + key: value for key, value in model.state_dict().items()}
    torch.save({container: state, 'epoch': 3, 'args': argparse.Namespace(lr=0.1), 'optimizer': {}}, str(path))


@pytest.fixture(scope='module', params=FOLDERS)
def case(request, tmp_path_factory):
    """A folder and a checkpoint as its upstream writes one."""
    name, known = request.param, describe(request.param)
    path = tmp_path_factory.mktemp('upstream') / 'checkpoint.pth.tar'
    in_folder(name, write_as_upstream, known['model'], known['checkpoint_key'], path)
    return argparse.Namespace(name=name, checkpoint=path, **known)


def test_upstreams_checkpoint_is_evaluated(case, few_digits, tmp_path):
    """On one rank and on two, given by the option that the folder's README names."""
    losses = []
    for ranks in (1, 2):
        words = ['--eval', case.checkpoint_option, case.checkpoint, '--model', case.model, *ARGUMENTS]
        result = train(case.name, few_digits, *words, out=tmp_path / str(ranks), ranks=ranks)
        assert result.code == 0, result.text
        losses.append(result.events('eval')[0]['loss'])
        assert result.events('eval')[0]['images'] == 93
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_upstreams_checkpoint_is_fine_tuned_to_other_classes(case, data, tmp_path):
    """By --finetune, which every folder's train_full_1p.sh takes: the head is made anew, from epoch 0."""
    for split in ('train', 'val'):
        for name in '56789':
            (data / split / name).rename(data / (split + name))
    words = [f'--finetune={case.checkpoint}', '--model', case.model, *ARGUMENTS, *ONE_EPOCH]
    result = train(case.name, data, *words, out=tmp_path)
    assert result.code == 0 and result.events('train')[0]['epoch'] == 0, result.text
    shapes = [value.shape for value in result.checkpoint()['state_dict'].values()]
    assert torch.Size([5]) in shapes and torch.Size([10]) not in shapes


def test_mistakes(case, few_digits, data, tmp_path):
    """One sentence each."""
    for image in (data / 'train' / '4').iterdir():
        image.unlink()
    lacking, half = tmp_path / 'lacking', tmp_path / 'cut.pth'
    shutil.copytree(few_digits, lacking)
    shutil.rmtree(lacking / 'val' / '7')
    half.write_bytes(case.checkpoint.read_bytes()[: case.checkpoint.stat().st_size // 2])
    small, evaluate = ['--model', case.model, *ARGUMENTS], ['--eval', case.checkpoint_option]
    for number, (arguments, words) in enumerate([
        ([few_digits / 'no', *small], ['does not exist']),
        ([few_digits / 'train', *small], ['is one split', 'give its root']),
        ([lacking, *small], ['val lacks the class 7']),
        ([data, *small], ['train/4', 'no image']),
        ([few_digits, *small, '--device=cuda'], ['--device cuda']),
        ([few_digits, '--model=resnet50', *ARGUMENTS], ["'resnet50'", case.model[:6]]),
        ([few_digits, *small, '--batch-size=1000'], ['larger than the training set']),
        ([few_digits, *evaluate, half, *small], ['cut.pth', 'cut short']),
        ([few_digits, *evaluate, case.checkpoint, *ARGUMENTS, '--model', case.other_model], [case.other_model]),
    ]):  # fmt: skip
        explains(train(case.name, *arguments, out=tmp_path / str(number)), *words)


def test_a_script_without_data_path(case):
    result = run(TOP / case.name / 'test' / 'train_full_1p.sh')
    assert (result.code, result.lines) == (1, ['[Error] para "data_path" must be confing'])


def test_spach_averages_weights(few_digits, tmp_path):
    """The average is updated, evaluated and saved."""
    words = [
        '--model',
        describe(SPACH)['model'],
        *ARGUMENTS,
        '--epochs=2',
        '--lr=1',
        '--model-ema-decay=.5',
        '--print-freq=1',
    ]
    result = train(SPACH, few_digits, *words, out=tmp_path)
    assert [event['weights'] for event in result.events('eval')] == ['model', 'ema'] * 2, result.text
    saved = result.checkpoint()
    gaps = [
        (saved['state_dict_ema'][k] - v).abs().max().item()
        for k, v in saved['state_dict'].items()
        if v.is_floating_point()
    ]
    assert 0 < max(gaps) < 1


def test_spach_keeps_its_names_in_the_summary(few_digits, tmp_path):
    """AvgFPS, MinLoss, MaxAccuracy."""
    words = ['--model', describe(SPACH)['model'], *ARGUMENTS, '--epochs=1', '--max-steps=6', '--print-freq=1']
    result = run(TOP / SPACH / 'test' / 'train_full_1p.sh', '--data_path', few_digits, *words, out=tmp_path)
    summary = result.summary
    assert result.code == 0 and 'EmaAccuracy' in summary, result.text
    assert (summary['AvgFPS'], summary['MaxAccuracy']) == (summary['ActualFPS'], summary['BestAccuracy'])
    assert float(summary['MinLoss']) == pytest.approx(min(event['loss'] for event in result.events('train')), abs=1e-4)


def write_vit_weights(folder):
    """In a child: weights of another image size and number of classes, as a bare .pth and as .safetensors."""
    from safetensors.torch import save_file

    from train import create_model

    state = create_model('vit_tiny_patch16_224', num_classes=21, img_size=64).state_dict()
    torch.save(state, str(folder / 'bare.pth'))
    save_file(state, str(folder / 'bare.safetensors'))


def test_vit_takes_weights_of_another_size_and_format(few_digits, tmp_path):
    pytest.importorskip('safetensors')
    in_folder(VIT, write_vit_weights, tmp_path)
    (tmp_path / 'bad.npz').write_bytes(b'no zip')
    for path in (tmp_path / 'bare.pth', tmp_path / 'bare.safetensors'):
        words = ['--pretrained', '--pretrained-path', path, '--model', 'vit_tiny_patch16_224', *ARGUMENTS, *ONE_EPOCH]
        result = train(VIT, few_digits, *words, out=tmp_path / path.suffix)
        assert result.code == 0 and '4x4 to 2x2' in result.text and 'head.weight' in result.text, result.text
    result = train(VIT, few_digits, '--pretrained-path', tmp_path / 'bad.npz', out=tmp_path / 'bad')
    explains(result, 'bad.npz', 'not an .npz file')


def test_vit_starts_its_own_processes(few_digits, tmp_path):
    """train.py DIR --multiprocessing-distributed, without a script; --batch-size counts all processes' images."""
    words = [
        '--multiprocessing-distributed',
        '--dist-backend',
        'gloo',
        '--model',
        'vit_tiny_patch16_224',
        *ARGUMENTS,
        *ONE_EPOCH,
    ]
    result = train(VIT, few_digits, *words, out=tmp_path, NPROC_PER_NODE='2')
    assert result.code == 0, result.text
    run = result.events('run')[0]
    assert (run['ranks'], run['batch_size'], run['args']['batch_size']) == (2, 16, 8) and ' * Acc@1' in result.text
