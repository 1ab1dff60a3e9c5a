"""Options: one without an effect is said, an odd value is one sentence at once, and a proposed command can be pasted."""

import argparse

import pytest
from torch import nn

from common import effects, options
from common.hooks import Hooks
from common.precision import Precision
from helpers import FOLDERS, SMALL, VAN, in_folder, train

RECIPE = {'model': 'm', 'epochs': 30, 'batch_size': 8}


# ---- options without an effect


def options_of_a_folder():
    """In a child. -> the folder's options, and those of which effects.py knows what they need"""
    import train
    from common import effects, options

    known = effects.by_option([*effects.NEEDS, *train.HOOKS.needs])
    always = f'{effects.ALWAYS} {train.HOOKS.always}'.split()
    assert not set(known) & set(always)
    return set(options.build('', {}, train.HOOKS).defaults()), {*known, *always}


@pytest.mark.parametrize('name', FOLDERS)
def test_every_option_says_when_it_has_an_effect(name):
    there, known = in_folder(name, options_of_a_folder)
    assert there == known


def run_of(argv, kind='cpu', world=1):
    """-> what effects.idle reads of a Trainer, for a command line."""
    device = argparse.Namespace(kind=kind, patched=False, pinning=dict)
    ranks = argparse.Namespace(rank=0, local=0, world=world, local_world=world)
    args = options.parse('', RECIPE, ['--data-path=/data', *argv.split()], Hooks(None))
    options.resolve(args, None, ['a', 'b'], device, ranks)
    ema = 'an average' if args.model_ema else None
    parts = {'precision': Precision(), 'hooks': Hooks(None), 'model': nn.BatchNorm2d(3), 'ema': ema, 'steps': 2}
    return argparse.Namespace(args=args, accelerator=device, ranks=ranks, **parts)


@pytest.mark.parametrize('argv, idle', [
    ('--opt=adamw --momentum=.8 --opt-betas .8 .9 --opt-eps=1e-6 --weight-decay=0', '--momentum'),
    ('--opt=sgd --momentum=.9 --opt-betas .8 .9 --opt-eps=1e-6', '--opt-betas --opt-eps'),
    ('--opt=rmsproptf --momentum=.9 --opt-eps=1e-6', ''),
    ('--sched=cosine --min-lr=0 --cooldown-epochs=1 --decay-rate=.5 --decay-epochs=2 --patience-epochs=1',
     '--decay-rate --decay-epochs --patience-epochs'),
    ('--sched=step --min-lr=0 --cooldown-epochs=1 --decay-rate=.1 --decay-epochs=9 --warmup-epochs=0 --warmup-lr=1',
     '--min-lr --cooldown-epochs --warmup-lr'),
    ('--sched=step --decay-rate=.1 --decay-epochs=30', '--decay-rate'),
    ('--sched=plateau --lr=.1 --min-lr=1e-5 --decay-rate=.1 --patience-epochs=10 --decay-epochs=9', '--decay-epochs'),
    ('--lr-noise .2 .9 --lr-noise-pct=.5 --lr-noise-std=.1', ''),
    ('--lr-noise-pct=.5 --lr-noise-std=.1', '--lr-noise-pct --lr-noise-std'),
    ('--color-jitter=.2', '--color-jitter'), ('--color-jitter=.2 --aa=none', ''),
    ('--mixup=0 --cutmix=0 --mixup-prob=.5 --mixup-mode=elem', '--mixup-prob --mixup-mode'),
    ('--mixup-switch-prob=.5 --cutmix=0', '--mixup-switch-prob'), ('--mixup-switch-prob=.5', ''),
    ('--no-aug --aa=none --hflip=0 --mixup=1 --smoothing=0', '--aa --hflip --mixup'),
    ('--reprob=0 --recount=2', '--recount'), ('--recount=2', ''),
    ('--model-ema-decay=.9', '--model-ema-decay'), ('--model-ema-decay=.9 --use-ema', ''),
    ('--clip-mode=value', '--clip-mode'), ('--clip-mode=value --clip-grad=1', ''),
    ('--lr=1 --lr-base=1 --lr-base-size=64', '--lr-base --lr-base-size'), ('--lr-base=1 --lr-base-size=64', ''),
    ('--lr=1 --lr-base-size=64 --lr-scaled', ''), ('--lr-scaled', '--lr-scaled'),
    ('--loss-scale=128 --amp-dtype=bfloat16', '--amp-dtype --loss-scale'),
    ('--dist-url=tcp://a:1 --dist-bn=none --sync-bn --repeated-aug --no-dist-eval',
     '--dist-url --no-dist-eval --sync-bn --dist-bn --repeated-aug'),
    ('--resume=a --auto-resume', '--auto-resume'), ('--case=performance --auto-resume', '--auto-resume'),
    ('--device-id=1 --no-hf32 --npu-patch=none --pin-mem', '--device-id --no-hf32 --npu-patch --pin-mem'),
    ('--eval --resume=a --epochs=3 --lr=1 --aa=none --mixup=1 --profile=3 --case=full --eval-steps=1 --workers=2',
     '--case --epochs --lr --aa --mixup --profile'),
    ('--eval --resume=a --batch-size=4', ''), ('--eval --resume=a --batch-size=4 --vb=2', '--batch-size'),
])  # fmt: skip
def test_an_option_without_an_effect_is_said(argv, idle):
    said = effects.idle(run_of(argv))
    assert all(' has no effect: ' in line for line in said)
    assert sorted(line.split()[0] for line in said) == sorted(idle.split())


def test_several_ranks_use_their_options():
    assert effects.idle(run_of('--dist-url=tcp://a:1 --dist-bn=none --sync-bn --repeated-aug', world=2)) == []


def test_the_log_says_it(few_digits, tmp_path):
    """Once each, also of an option that is given twice; a folder's own options too."""
    words = ['--batch-size=20', '--epochs=1', '--max-steps=1', '--lr=.1', '--learning-rate=.2', '--momentum=.1']
    said = train(VAN, few_digits, *SMALL, *words, out=tmp_path / 'a').lines
    assert [line for line in said if 'has no effect' in line] == [
        '--lr 0.1 has no effect: --lr 0.2 comes after it',
        '--momentum has no effect: --opt adamw has no such setting',
    ]
    words = [*words[:3], '--model=vit_tiny_patch16_224', '--addr=nonsense', '--gpu=7', '--momentum=.1']
    said = train('Vit_base_patch32_224_for_PyTorch', few_digits, *SMALL[2:], *words, out=tmp_path / 'b').lines
    assert {line.split()[0] for line in said if 'has no effect' in line} == {'--addr', '--gpu'}
