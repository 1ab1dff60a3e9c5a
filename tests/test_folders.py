"""The other four folders: upstream's checkpoints, and the same mistakes as in test_faults.py, each through its own scripts."""
import argparse
import shutil

import pytest
import smoke
from conftest import run
from test_faults import assert_fails
from test_models import CONVMIXER, SPACH, TWINS, VIT, in_folder

pytestmark = pytest.mark.long

# folder: a small model, another one, and the container its upstream keeps weights in
MODELS = {
    CONVMIXER: ('convmixer_64_2_ks5_p4', 'convmixer_64_3_ks5_p4', 'state_dict'),
    SPACH: ('spach_ms_xxs_patch4_224_conv', 'spach_ms_xxs_patch4_224_attn', 'model'),
    TWINS: ('pcpvt_small_v0', 'alt_gvt_small', 'model'),
    VIT: ('vit_tiny_patch16_224', 'vit_small_patch32_224', 'state_dict'),
}
ARGUMENTS = ['--img-size=32', '--device=cpu', '--workers=0', '--batch-size=16']


@pytest.fixture(scope='module', params=sorted(MODELS))
def case(request, tmp_path_factory):
    """A folder copied alone, its models, and a checkpoint as its upstream writes one: a Namespace, 'module.' prefixes."""
    name = request.param
    small, other, container = MODELS[name]
    path = tmp_path_factory.mktemp('upstream') / 'checkpoint.pth.tar'
    in_folder(name, '''
import argparse, torch
from train import create_model
model = create_model(%r, num_classes=10, img_size=32)
torch.nn.init.normal_(model.get_classifier().weight)
state = {'module.' + key: value for key, value in model.state_dict().items()}
torch.save({%r: state, 'epoch': 3, 'args': argparse.Namespace(lr=.1), 'optimizer': {}}, %r)''' % (small, container, str(path)))
    folder = smoke.copy_alone(name, tmp_path_factory.mktemp('server'))
    return argparse.Namespace(name=name, test=folder / 'test', small=small, other=other, checkpoint=path)


def test_upstreams_checkpoint_is_evaluated(case, few_digits, tmp_path):
    one = run(case.test / 'train_eval_1p.sh', few_digits, case.checkpoint, '--model', case.small, *ARGUMENTS, out=tmp_path / 'a')
    assert smoke.judge(one, case.name, 'eval_1p', 16) == [], one.text
    flags = {CONVMIXER: '--checkpoint', SPACH: '--resume', TWINS: '--finetune_pth', VIT: '--pth_path'}
    two = run(case.test / 'train_eval_8p.sh', '--data_path', few_digits, flags[case.name], case.checkpoint, '--model', case.small,
              *ARGUMENTS, '--nproc_per_node=2', out=tmp_path / 'b')
    assert two.code == 0 and two.summary['ActualAccuracy'] == one.summary['ActualAccuracy'], two.text


def test_upstreams_checkpoint_is_fine_tuned_to_other_classes(case, data, tmp_path):
    """By train_full_1p.sh --finetune, which every folder has: head anew, epoch 0."""
    for split in ('train', 'val'):
        for name in '56789':
            (data / split / name).rename(data / (split + name))
    result = run(case.test / 'train_full_1p.sh', '--data_path', data, '--finetune=%s' % case.checkpoint, '--model', case.small,
                 *ARGUMENTS, '--epochs=1', '--print-freq=1', out=tmp_path / 'out')
    assert smoke.judge(result, case.name, 'full_1p', 16) == [] and 'made anew: ' in result.text, result.text


def test_mistakes(case, few_digits, data, tmp_path):
    """One sentence each, through the folder's own scripts."""
    for image in (data / 'train' / '4').iterdir():
        image.unlink()
    lacking = tmp_path / 'lacking'
    shutil.copytree(few_digits, lacking)
    shutil.rmtree(lacking / 'val' / '7')
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(case.checkpoint.read_bytes()[:case.checkpoint.stat().st_size // 2])
    full, evaluate = case.test / 'train_full_1p.sh', case.test / 'train_eval_1p.sh'
    small = ['--model', case.small] + ARGUMENTS
    for number, (script, arguments, words) in enumerate([
            (full, ['--data_path=%s' % (few_digits / 'no')] + small, ['does not exist']),
            (full, ['--data_path=%s' % (few_digits / 'train')] + small, ['is one split', 'give its root']),
            (full, ['--data_path=%s' % lacking] + small, ['val lacks the class 7']),
            (full, ['--data_path=%s' % data] + small, ['train/4 holds no image']),
            (full, ['--data_path=%s' % few_digits] + small + ['--device=cuda'], ['--device cuda']),
            (full, ['--data_path=%s' % few_digits] + small + ['--device=npu'], ['--device npu', 'CANN']),
            (full, ['--data_path=%s' % few_digits, '--model=resnet50'] + ARGUMENTS, ["unknown model 'resnet50'", case.small[:6]]),
            (full, ['--data_path=%s' % few_digits] + small + ['--batch-size=1000'], ['larger than the training set']),
            (evaluate, [few_digits, cut] + small, ['cut short']),
            (evaluate, [few_digits, case.checkpoint, '--model', case.other] + ARGUMENTS, ['another model than ' + case.other])]):
        assert_fails(run(script, *arguments, out=tmp_path / str(number)), *words)
    result = run(full)
    assert (result.code, result.lines) == (1, ['[Error] para "data_path" must be confing'])


def test_spach_averages_weights_and_keeps_its_names(few_digits, tmp_path):
    """The average is updated, evaluated and saved; the summary has AvgFPS, MinLoss, MaxAccuracy."""
    import torch
    test = smoke.copy_alone(SPACH, tmp_path) / 'test'
    result = run(test / 'train_full_1p.sh', '--data_path', few_digits, '--model', MODELS[SPACH][0], *ARGUMENTS, '--epochs=2',
                 '--lr=1', '--model-ema-decay=.5', '--print-freq=1', out=tmp_path / 'out')
    assert smoke.judge(result, SPACH, 'full_1p', 16) == [], result.text
    summary = result.summary
    assert smoke.NUMBER.match(summary['EmaAccuracy']) and result.text.count('averaged weights') == 2
    assert (summary['AvgFPS'], summary['MaxAccuracy']) == (summary['ActualFPS'], summary['BestAccuracy'])
    losses = next((tmp_path / 'out').glob('train_*_loss.txt')).read_text().split()
    assert float(summary['MinLoss']) == pytest.approx(min(map(float, losses)), abs=1e-4)
    saved = torch.load(str(tmp_path / 'out' / 'checkpoint.pth'))
    gaps = [(saved['state_dict_ema'][k] - v).abs().max().item() for k, v in saved['state_dict'].items() if v.is_floating_point()]
    assert 0 < max(gaps) < 1


def test_vit_takes_weights_of_another_size_and_format(few_digits, tmp_path):
    """--pretrained-path with .npz-free formats: a bare .pth at another image size, and .safetensors."""
    in_folder(VIT, '''
import torch
from safetensors.torch import save_file
from train import create_model
model = create_model('vit_tiny_patch16_224', num_classes=21, img_size=64)
torch.save(model.state_dict(), '%s/bare.pth')
save_file(model.state_dict(), '%s/bare.safetensors')''' % (tmp_path, tmp_path))
    test = smoke.copy_alone(VIT, tmp_path) / 'test'
    for path in (tmp_path / 'bare.pth', tmp_path / 'bare.safetensors'):
        result = run(test / 'train_full_1p.sh', '--data_path', few_digits, '--pretrained', '--pretrained-path', path, '--model',
                     'vit_tiny_patch16_224', *ARGUMENTS, '--epochs=1', '--max-steps=2', '--print-freq=1', out=tmp_path / path.suffix)
        assert result.code == 0 and 'resampled from 4x4 to 2x2' in result.text and 'made anew: head' in result.text, result.text
    (tmp_path / 'bad.npz').write_bytes(b'no zip')
    assert_fails(run(test / 'train_full_1p.sh', '--data_path', few_digits, '--pretrained-path', tmp_path / 'bad.npz',
                     out=tmp_path / 'bad'), 'bad.npz', 'not an .npz file')
