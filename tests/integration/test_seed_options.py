"""Every option that the five original READMEs list, in each folder and in each spelling, has its effect."""

import pytest

from helpers import TOP, explains, run, train

CONVMIXER, SPACH, TWINS, VAN, VIT = (
    f'{name}_for_PyTorch'
    for name in ('ConvMixer', 'SPACH', 'Twins-PCPVT-S', 'VAN-Classification', 'Vit_base_patch32_224')
)
SHORT = '--max-steps=2 --print-freq=1 --warmup-steps=0'.split()


def facts(result):
    """What a training left, from its log, its events and its checkpoint."""
    event, saved = result.events('run')[0], result.checkpoint()
    group = max(saved['optimizer']['param_groups'], key=lambda group: group.get('weight_decay', 0))
    weights = saved['state_dict']
    return {
        'model': event['model'], 'device': event['device_kind'], 'amp': 'bfloat16' in event['precision'],
        'batch': event['batch_size'], 'workers': event['args']['workers'], 'seed': event['args']['seed'],
        'side': event['args']['img_size'], 'classes': next(reversed(weights.values())).shape[0],
        'epochs': {train['epoch'] for train in result.events('train')}, 'steps': len(result.events('train')),
        'lr': max(train['lr'] for train in result.events('train')), 'warm': result.events('train')[0]['lr'],
        'decay': group['weight_decay'], 'momentum': group.get('momentum'), 'mixing': (event['args']['mixup'], event['args']['cutmix']),
        'drop_path': event['args']['drop_path'], 'images': result.events('eval')[-1]['images'],
    }  # fmt: skip


CASES = [
    (CONVMIXER, '--model convmixer_64_3_ks5_p4 --opt momentum --input-size 32 --cutmix 0.3 --mixup 0.2 --epochs 2 --b 8 --lr 0.02 '
     '--num-classes 12 --amp --device cpu --sched=cosine --warmup-epochs=0 --momentum=0.8',
     {'model': 'convmixer_64_3_ks5_p4', 'side': 32, 'mixing': (0.2, 0.3), 'epochs': {0, 1}, 'batch': 8, 'lr': 0.02, 'classes': 12,
      'amp': True, 'device': 'cpu', 'momentum': 0.8}),
    (CONVMIXER, '--model=convmixer_64_2_ks5_p4 --input-size 3 48 48 --b=16 --lr=0.01 --num_classes=11 --device=cpu --epochs=1 --no-amp '
     '--opt=momentum --sched=cosine --warmup_epochs=0',
     {'side': 48, 'batch': 16, 'lr': 0.01, 'classes': 11, 'amp': False, 'epochs': {0}}),
    (SPACH, '--model smlpnet_tiny --img-size 32 --num_workers 1 --weight-decay 0.01 --batch-size 8 --dist-eval --epochs 2 --seed 3 '
     '--device cpu',
     {'model': 'smlpnet_tiny', 'workers': 1, 'decay': 0.01, 'batch': 8, 'images': 93, 'epochs': {0, 1}, 'seed': 3}),
    (SPACH, '--model=spach_ms_xxs_patch4_224_conv --img_size=32 --num-workers=0 --weight_decay=0.02 --batch_size=16 --epochs=1 --seed=4 '
     '--device=cpu', {'workers': 0, 'decay': 0.02, 'batch': 16, 'epochs': {0}, 'seed': 4}),
    (VIT, '--model=vit_tiny_patch16_224 --img-size=32 --amp --seed 5 --workers 1 --learning-rate 0.02 --momentum 0.7 --weight-decay 0.03 '
     '--device cpu --epochs 2 --batch-size 8 --gpu 0 --addr 127.0.0.1 --dist-backend gloo',
     {'amp': True, 'seed': 5, 'workers': 1, 'lr': 0.02, 'momentum': 0.7, 'decay': 0.03, 'epochs': {0, 1}, 'batch': 8, 'device': 'cpu'}),
    (TWINS, '--model alt_gvt_small --device cpu --batch_size 8 --dist-eval --drop-path 0.2 --epoch 3 --lr 0.512 --warmup_epochs 1 '
     '--weight_decay 0.04 --img-size=32 --warmup-lr=0.001 --sched=step --decay-epochs=9',
     {'model': 'alt_gvt_small', 'batch': 8, 'images': 93, 'drop_path': 0.2, 'epochs': {0, 1, 2}, 'lr': 0.008, 'decay': 0.04,
      'warm': 0.001}),
    (VAN, '--workers 1 --model van_b1 --img-size 48 --opt momentum --momentum 0.8 --weight-decay 0.02 --lr 0.03 --epochs 2 --amp '
     '--device=cpu --batch-size=8 --warmup-epochs=0',
     {'workers': 1, 'model': 'van_b1', 'side': 48, 'momentum': 0.8, 'decay': 0.02, 'lr': 0.03, 'epochs': {0, 1}, 'amp': True}),
]  # fmt: skip


@pytest.mark.parametrize('name, words, wanted', CASES, ids=[f'{case[0]} {case[1][:25]}' for case in CASES])
def test_the_value_arrives(name, words, wanted, few_digits, tmp_path):
    result = train(name, '--data-path', few_digits, *words.split(), *SHORT, out=tmp_path)
    assert result.code == 0, result.text
    found = facts(result)
    assert {key: found[key] for key in wanted} == {
        key: pytest.approx(value) if isinstance(value, float) else value for key, value in wanted.items()
    }


def test_print_freq(few_digits, tmp_path):
    words = '--model=vit_tiny_patch16_224 --img-size=32 --device=cpu --workers=0 --epochs=1 --batch-size=8 --max-steps=6'.split()
    result = train(VIT, few_digits, *words, '--print-freq', '3', out=tmp_path)
    assert [event['step'] for event in result.events('train')] == [3, 6]


def test_npu_asks_for_one(few_digits, tmp_path):
    explains(train(SPACH, few_digits, '--npu', out=tmp_path), 'torch_npu')


def test_fine_tuning_by_the_names_of_the_seeds(few_digits, tmp_path):
    """--finetune_pth FILE, --finetune yes --resume FILE, and the output folder."""
    words = '--model pcpvt_small_v0 --img-size=32 --device=cpu --workers=0 --epoch=1 --batch_size=8'.split()
    first = train(TWINS, few_digits, *words, *SHORT, out=tmp_path / 'first')
    file = first.out / 'checkpoint.pth'
    for number, given in enumerate(
        (['--finetune_pth', file], ['--finetune', 'yes', '--resume', file], ['--finetune-pth', file])
    ):
        result = train(TWINS, few_digits, *words, *SHORT, '--case=finetune', *given, out=tmp_path / str(number))
        assert result.code == 0 and f'Weights from {file}' in result.text and (result.out / 'checkpoint.pth').exists()


def test_four_dashes(few_digits, tmp_path):
    """As Twins' README has it; two processes then."""
    script = TOP / VAN / 'test' / 'train_performance_8p.sh'
    words = (
        '--model van_b0 --img-size 32 --batch-size 4 --max-steps 2 --warmup-steps 1 --workers 0 --device cpu'.split()
    )
    result = run(script, f'--data_path={few_digits}', '----nproc_per_node', '2', *words, out=tmp_path)
    assert result.code == 0 and result.summary['RankSize'] == '2', result.text
