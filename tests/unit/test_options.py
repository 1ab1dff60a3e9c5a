"""The command line: spellings, precedence, where each value comes from, and that nobody changes one later."""

import argparse
import os
import subprocess
import sys

import pytest

from common import options
from common.errors import UserError
from helpers import FOLDERS, TOP, in_folder

DATA = ['--data-path', '/data']
RECIPE = {
    'model': 'm', 'epochs': 300, 'warmup_epochs': 20, 'cooldown_epochs': 10, 'batch_size': 128, 'lr_base': 1e-3,
    'cases': {'finetune': {'lr_base': 5e-5}},
}  # fmt: skip
CPU = argparse.Namespace(kind='cpu', channels_last=False)
ONE, EIGHT = (argparse.Namespace(rank=0, local=0, world=world, local_world=world) for world in (1, 8))


def parse(*argv, recipe=RECIPE):
    return options.parse('', recipe, [*DATA, *argv])


def resolve(*argv, saved=None, classes='ab', ranks=ONE, recipe=RECIPE):
    return options.resolve(parse(*argv, recipe=recipe), saved, list(classes), CPU, ranks)


@pytest.mark.parametrize('argv, dest, value', [
    ('--batch-size 7', 'batch_size', 7), ('--batch_size=7', 'batch_size', 7),
    ('-b 7', 'batch_size', 7), ('--b 7', 'batch_size', 7),
    ('--workers 3', 'workers', 3), ('--num_workers=3', 'workers', 3), ('-j 3', 'workers', 3),
    ('--epoch=5', 'epochs', 5), ('--epochs 5', 'epochs', 5), ('--learning-rate .1', 'lr', 0.1), ('--lr=.1', 'lr', 0.1),
    ('--weight_decay .2', 'weight_decay', 0.2), ('--wd .2', 'weight_decay', 0.2), ('--momentum .8', 'momentum', 0.8),
    ('--warmup_epochs=2', 'warmup_epochs', 2), ('--warmup-epochs 2', 'warmup_epochs', 2),
    ('--img_size=64', 'img_size', 64),
    ('--input-size 64', 'img_size', 64), ('--input-size 3 64 64', 'img_size', 64), ('--input-size 3 64 32', 'img_size', [64, 32]), ('--nb_classes 5', 'num_classes', 5),
    ('--drop_path .3', 'drop_path', 0.3), ('--print_freq=1', 'print_freq', 1), ('-p 1', 'print_freq', 1),
    ('--amp', 'amp', True), ('--no-amp', 'amp', False), ('--opt sgd', 'opt', 'sgd'),
    ('--output_dir x_y', 'output_dir', 'x_y'),
    ('--checkpoint=a_b.pth', 'resume', 'a_b.pth'), ('--ckpt_path=a.pth', 'resume', 'a.pth'),
    ('--finetune_pth a.pth', 'finetune', 'a.pth'), ('--pth_path a.pth', 'finetune', 'a.pth'),
    ('--finetune yes --resume a', 'finetune', 'a'), ('--aa none', 'aa', None),
    ('--loss-scale=128', 'loss_scale', 128.0),
    ('--skip-bad-images', 'skip_bad_images', 100), ('--skip_bad_images=3', 'skip_bad_images', 3),
    ('--opt-betas .5 .6', 'opt_betas', [0.5, 0.6]), ('--tf32', 'hf32', True), ('--no-hf32', 'hf32', False),
])  # fmt: skip
def test_spellings(argv, dest, value):
    assert getattr(parse(*argv.split()), dest) == value
    assert getattr(resolve(*argv.split()), dest) == value or dest == 'num_classes'


def recipe_of_a_folder():
    """In a child. -> what the recipe sets that is no option, and whether all options have a help text"""
    import train
    from common import options

    parser = options.build('', {}, train.HOOKS)
    parser.format_help()  # a stray % in a help text would raise here
    known = vars(options.parse('', train.RECIPE, DATA + ['--model=van_tiny', '--opt=sgd', '--amp'], train.HOOKS))
    return set(train.RECIPE) - set(known) - {'cases'}, all(action.help for action in parser._actions)


@pytest.mark.parametrize('name', FOLDERS)
def test_recipes_set_options_that_there_are(name):
    assert in_folder(name, recipe_of_a_folder) == (set(), True)


def test_precedence():
    """Command line over case over recipe over default."""
    assert (parse().epochs, parse().cooldown_epochs, parse().max_steps) == (300, 10, 0)
    short = parse('--case=performance')
    assert (short.epochs, short.cooldown_epochs, short.max_steps) == (1, 0, 120)
    assert parse('--case=performance', '--max-steps=7').max_steps == 7
    tuned = parse('--case=finetune', '--finetune=a.pth')
    assert (tuned.lr_base, tuned.epochs, tuned.batch_size) == (5e-5, 30, 128)


def test_every_value_has_an_origin():
    saved = {
        'format': 1,
        'classes': ['a', 'b'],
        'args': {'model': 'other', 'img_size': 64, 'mean': [0.5] * 3, 'num_classes': 2},
    }
    args = resolve('--resume=x', '--mean', '.1', '.2', '.3', saved=saved)
    found = {
        'opt': 'default', 'batch_size': 'recipe', 'mean': 'command line', 'img_size': 'checkpoint',
        'model': 'checkpoint', 'num_classes': 'data', 'workers': 'machine', 'lr': 'machine',
    }  # fmt: skip
    assert {name: args.origin[name] for name in found} == found
    assert (args.model, args.img_size, args.mean, args.num_classes) == ('other', 64, [0.1, 0.2, 0.3], 2)
    assert args.given('mean') and not args.given('img_size')
    assert set(args.origin) >= set(args.values())
    assert resolve('--lr=.1').origin['lr'] == 'command line' and args.origin['network'] == 'recipe'


def test_options_are_read_only_once_they_are_resolved():
    draft = parse()
    draft.seed = 1
    args = options.resolve(draft, None, ['a'], CPU, ONE)
    for name in ('lr', 'anew'):
        with pytest.raises(AttributeError):
            setattr(args, name, 1.0)
    assert args.seed == 1 and args.lr != 1.0 and not hasattr(args, 'anew')


def test_a_checkpoint_of_a_chosen_number_of_classes():
    """Of --num-classes 5 on two classes: a resumed training has five again, a fine-tuning has what the data has."""
    saved = {'format': 1, 'classes': ['a', 'b'], 'args': {'num_classes': 5}}
    assert resolve('--resume=x', saved=saved).num_classes == 5
    assert resolve('--finetune=x', saved=saved).num_classes == 2
    assert resolve('--resume=x', saved={'state_dict': {}}).num_classes == 2
    with pytest.raises(UserError, match=r'--num-classes 1 .*2 classes'):
        resolve('--num-classes=1')


def test_learning_rate_that_is_asked_for_wins():
    with_lr = dict(RECIPE, lr=0.01)
    assert resolve(recipe=with_lr).lr == 0.01
    assert resolve('--lr-base=.5', '--batch-size=64', '--lr-base-size=32', recipe=with_lr).lr == 1.0
    assert resolve('--lr=.5', '--batch-size=64', '--lr-base-size=32', '--lr-scaled', ranks=EIGHT).lr == 8.0
    assert resolve('--lr=.5', '--batch-size=64', '--lr-base-size=32', '--no-lr-scaled', ranks=EIGHT).lr == 0.5
    assert resolve('--batch-size=64', ranks=EIGHT).lr == 1e-3 * 512 / 1024


def test_sizes_that_the_machine_decides(monkeypatch):
    """Workers, a performance run on a CPU, and a batch that counts the images of all ranks of a machine."""
    monkeypatch.setattr(options.limits, 'cores', lambda: 12)
    assert (resolve().workers, resolve(ranks=EIGHT).workers, resolve('--workers=0').workers) == (6, 1, 0)
    performance = [resolve('--case=performance', ranks=ranks) for ranks in (ONE, EIGHT)]
    assert [(args.batch_size, args.max_steps) for args in performance] == [(8, 12), (2, 12)]
    assert resolve('--case=performance', '--batch-size=32').batch_size == 32
    node = dict(RECIPE, batch_per_node=True)
    assert resolve('--batch-size=64', recipe=node, ranks=EIGHT).batch_size == 8
    assert resolve(recipe=node, ranks=EIGHT).batch_size == resolve().validation_batch_size == 128
    with pytest.raises(UserError, match=r'--batch-size 63 .* 8'):
        resolve('--batch-size=63', recipe=node, ranks=EIGHT)


def test_use_ema_reads_the_average_or_makes_one():
    assert parse('--use-ema').model_ema and not parse('--use-ema').use_ema
    assert parse('--eval', '--resume=a', '--use-ema').use_ema and parse('--finetune=a', '--use-ema').use_ema


def test_epochs_that_are_given_are_the_whole_run():
    args = parse('--epochs=10')
    assert (args.cooldown_epochs, args.warmup_epochs) == (0, 1)
    args = parse('--epochs=10', '--warmup-epochs=4', '--cooldown-epochs=3')
    assert (args.cooldown_epochs, args.warmup_epochs) == (3, 4)


def test_eval_and_finetune_take_the_checkpoint_under_any_name():
    for flag in ('--resume', '--checkpoint', '--ckpt_path', '--finetune_pth', '--pth_path', '--finetune'):
        assert parse('--eval', flag, 'a.pth').resume == 'a.pth'
        tuned = parse('--case', 'finetune', flag, 'a.pth')
        assert [path for path in (tuned.finetune, tuned.resume) if path] == ['a.pth']  # what is in it decides


def test_mistakes_are_one_sentence(capsys):
    with pytest.raises(UserError, match='para "data_path" must be confing'):
        options.parse('', RECIPE, [])
    for argv, words in ((['/b'], '/b .*--data-path /data'), (['--resume=a', '--finetune=b'], '--resume .*--finetune')):
        with pytest.raises(UserError, match=words):
            parse(*argv)
    for argv in ('--epochs=0', '--input-size 64 32', '--lr=fast', '--epoc=3', '--opt-level=O3'):
        with pytest.raises(SystemExit) as stopped:
            parse(*argv.split())
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.startswith('[Error] ') and said.count('\n') == 1
        assert argv.partition('=')[0].split()[0] in said


@pytest.mark.parametrize('name', FOLDERS)
def test_a_command_line_needs_no_torch(name, tmp_path):
    """Help, and the word for a mistyped option, come at once: torch and what stands on it are not imported for them."""
    for package in ('torch', 'torchvision', 'timm'):
        (tmp_path / f'{package}.py').write_text('raise ImportError("this is not the time")')
    for word, code, said in (('--help', 0, '--batch-size'), ('--bach-size=3', 2, '--bach-size=3')):
        command = [sys.executable, 'train.py', word]
        env = {**os.environ, 'PYTHONPATH': str(tmp_path)}
        done = subprocess.run(command, cwd=TOP / name, env=env, capture_output=True, text=True)
        assert done.returncode == code and said in done.stdout + done.stderr, done
