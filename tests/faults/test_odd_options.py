"""Options: one without an effect is said, an odd value is one sentence at once, and a proposed command can be pasted."""

import argparse
import contextlib
import io
import subprocess
import sys

import pytest
from torch import nn

from common import effects, errors, options, result
from common.errors import UserError
from common.hooks import Hooks
from common.precision import Precision
from helpers import FOLDERS, SMALL, VAN, copy_alone, in_folder, run, train

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
    device = argparse.Namespace(kind=kind, patched=False, pinning=dict, channels_last=False, mixes=kind != 'cpu')
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
    ('--amp --opt-level=O0', '--amp'), ('--lr-noise 0 1', ''), ('--lr-noise=.5 --sched=step', ''),
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


# ---- odd values

ODD = ('nan', 'inf', '-inf', '-1', '1e400', '1e308', 'x', '', ' ', 'a\nb', '99999999999999999999')


def sweep():
    """In a child. -> (option, odd value, exit status) of each that `python -m common.cli` takes, or does not refuse in a sentence"""
    import train
    from common import cli, options

    found = []
    for action in options.build('', {}, train.HOOKS)._actions:
        if not action.option_strings or action.nargs == 0 or action.dest == 'help':
            continue
        count = action.nargs if isinstance(action.nargs, int) else 1
        for value in ODD:
            option = action.option_strings[-1]
            words = [f'{option}={value}'] if count == 1 else [option, *[value] * count]
            said = io.StringIO()
            with contextlib.redirect_stderr(said):
                try:
                    code = cli.check(['--data-path=/d', *words])
                except SystemExit as e:
                    code = e.code
            sentence = said.getvalue().count('\n') == 1 and said.getvalue().startswith('[Error] ')
            if code == 0 or not sentence:
                found.append((action.dest, value, code))
    return found


NAMES = 'data_path output_dir resume finetune model opt sched npu_patch aa addr train_split val_split class_weights export_file'.split()  # what they name is sought later
# 2^66 and more is a number like another
ANY_SIZE = 'loss_scale color_jitter mixup cutmix opt_eps weight_decay clip_grad lr lr_base warmup_lr min_lr decay_epochs'.split()


@pytest.mark.parametrize('name', FOLDERS)
def test_odd_values_are_refused_at_once(name):
    for option, value, code in in_folder(name, sweep):
        text = option in NAMES and ((value.strip() and '\n' not in value) or option == 'aa')
        number = option in ANY_SIZE and value == ODD[-1]
        unset = option in ('world_size', 'rank') and value == '-1'
        assert code == 0 and (text or number or unset), (option, value, code)


@pytest.mark.parametrize('words', [
    '--opt-betas .9', '--opt-betas .9 .99 .999', '--opt=adan --opt-betas .9 .99', '--lr-noise .1 .2 .3', '--lr-noise .9 .1',
    '--scale 1 .1', '--cutmix-minmax .5 .2', '--mean .5', '--std 0 0 0', '--crop-pct=.001', '--img-size=100000',
    '--workers=100000', '--epochs=1000001', '--epochs=2 --warmup-epochs=3', '--decay-epochs=0', '--decay-rate=2',
    '--lr-noise-pct=0', '--model-ema-decay=2', '--loss-scale=0', '--device=npu:x', '--device=npu:', '--device=auto:1',
    '--dist-url=nonsense', '--dist-backend=nonsense', '--recount=0', '--print-freq=0', '--input-size 4 64 64',
])  # fmt: skip
def test_values_that_make_no_sense(words, capsys):
    """None of them was refused, and some made a training hang or end with a traceback."""
    option = [word.partition('=')[0] for word in words.split() if word.startswith('--')][-1]
    with pytest.raises((UserError, SystemExit)) as stopped:
        options.parse('', RECIPE, ['--data-path=/data', *words.split()])
    said = str(stopped.value) if stopped.type is UserError else capsys.readouterr().err
    assert option in said


@pytest.mark.parametrize(
    'words, said',
    [
        (['--cutmix-minmax', '.3', '.31'], '--cutmix-minmax 0.3 0.31'),  # no whole pixel between them
        (['--sched=plateau', '--decay-rate=1'], '--sched plateau'),
        (['--output-dir=/dev/null/x'], '/dev/null/x'),
    ],
)
def test_values_that_only_the_run_can_judge(few_digits, tmp_path, words, said):
    result = in_folder(VAN, one_step, few_digits, ['--output-dir', str(tmp_path), *words])
    assert result[0] == 1 and result[1].startswith('[Error] ') and said in result[1], result


def one_step(data, words):
    """In a child. -> exit status and the last line of train.py"""
    import train
    from common import cli

    said = io.StringIO()
    words = [*SMALL, '--batch-size=8', '--epochs=1', '--max-steps=1', *words]
    with contextlib.redirect_stderr(said):
        code = cli.main('', train.RECIPE, train.HOOKS, ['--data-path', str(data), *words])
    return code, said.getvalue().splitlines()[-1]


# ---- an evaluation counts each image once


def test_each_image_counts_once(few_digits, tmp_path):
    """Whether two ranks share the images, or each has them all."""
    words = [*SMALL, '--batch-size=20', '--epochs=1', '--max-steps=1']
    assert train(VAN, few_digits, *words, out=tmp_path / 'a').code == 0
    for way in ('--dist-eval', '--no-dist-eval'):
        words = [*SMALL, '--eval', f'--resume={tmp_path}/a', '--batch-size=20', '--warmup-steps=0', way]
        done = train(VAN, few_digits, *words, out=tmp_path / way, ranks=2)
        (measured,), (counted,) = done.events('throughput'), done.events('eval')
        assert (measured['images'], counted['images']) == (93, 93)
        assert measured['fps'] == pytest.approx(93 / measured['seconds'])


# ---- what is told


@pytest.mark.parametrize('error, words', [
    (RuntimeError('CUDA error: out of memory'), '--batch-size'),
    (RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'), '--batch-size'),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory"), '--workers'),
    (MemoryError(), '--batch-size'),
    (RuntimeError('unable to write to file </torch_12_0>: No space left on device (28)'), '--shm-size'),
    (RuntimeError('unable to open shared memory object </torch_1> in read-write mode'), '--shm-size'),
    (OSError(24, 'Too many open files'), 'ulimit -n'),
    (RuntimeError('received 0 items of ancdata'), 'ulimit -n'),
    (OSError(28, 'No space left on device', '/out/a'), '--output-dir'),
    (OSError(30, 'Read-only file system', '/out'), '--output-dir'),
    (PermissionError(13, 'Permission denied', '/out'), 'rights'),
    (RuntimeError('The server socket has failed to bind to [::]:29500 (errno: 98 - Address already in use).'), 'MASTER_PORT'),
    (RuntimeError('[pair.cc:299] writev [127.0.0.1]:1: Broken pipe'), 'another rank'),
    (BrokenPipeError(32, 'Broken pipe'), 'reads the output'),
    (ConnectionRefusedError(111, 'Connection refused'), 'another process'),
    (RuntimeError('NCCL error in: ProcessGroupNCCL.cpp:1, unhandled system error'), 'NCCL_DEBUG=INFO'),
])  # fmt: skip
def test_known_errors_have_a_way_out(error, words):
    said = errors.explain(error)
    assert words in said and '\n' not in said and str(error)[:100] in said


@pytest.mark.parametrize('error', [
    ValueError('out of memory'), KeyError('a'), RuntimeError('Caught IndexError in DataLoader worker process 0.\nOriginal Traceback')
])  # fmt: skip
def test_other_errors_are_not_explained(error):
    assert errors.explain(error) is None


def test_an_unforeseen_error_ends_with_a_sentence(tmp_path, few_digits):
    """The traceback stays, the last line is ours, and it is the reason in the summary."""
    said = in_folder(VAN, break_down, few_digits, tmp_path)
    lines = said.splitlines()
    assert 'Traceback (most recent call last):' in lines and 'KeyError: ' in lines[-2]
    assert lines[-1].startswith('[Error] KeyError: ') and 'fault of the program' in lines[-1]
    (tmp_path / 'log').write_text(said)
    assert result.stated_reason(result.log_lines(str(tmp_path / 'log'))) == lines[-1][8:]


def break_down(data, out):
    """In a child. -> what train.py says where a part of it has a fault"""
    import train
    from common import build, cli

    build.criterion = lambda *args: {}['no such key']
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert cli.main('', train.RECIPE, train.HOOKS, ['--data-path', str(data), *SMALL, f'--output-dir={out}']) == 1
    return said.getvalue()


def test_a_proposed_command_can_be_pasted(tmp_path):
    """A script whose Python lacks torch, both in paths with blanks."""
    folder, python = copy_alone(VAN, tmp_path / 'my models'), tmp_path / 'my python'
    lacks_torch = f'#!/bin/sh\n[ "$1" = -c ] && exit 1\n[ "$2" = pip ] && exec cat "$5"\nexec {sys.executable} "$@"\n'
    python.write_text(lacks_torch)
    python.chmod(0o755)
    said = run(folder / 'test' / 'train_full_1p.sh', tmp_path, out=tmp_path / 'out', python=python).lines
    proposed = next(line for line in said if 'torch is not installed' in line).split(': ', 1)[1]
    assert subprocess.check_output(['bash', '-c', proposed], text=True) == (folder / 'requirements.txt').read_text()
