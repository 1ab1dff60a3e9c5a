"""The command line: spellings, precedence, and that what is asked for arrives."""
import sys

import pytest
from conftest import TOP, VAN

from common import options
from common.errors import UserError

DATA = ['--data-path', '/data']
RECIPE = {'model': 'm', 'epochs': 300, 'warmup_epochs': 20, 'cooldown_epochs': 10, 'batch_size': 128,
          'cases': {'finetune': {'lr_base': 5e-5}}}


def parse(*argv, recipe=RECIPE):
    return options.parse('', recipe, list(argv))


@pytest.mark.parametrize('argv, dest, value', [
    (['--batch-size', '7'], 'batch_size', 7), (['--batch_size=7'], 'batch_size', 7), (['-b', '7'], 'batch_size', 7),
    (['--b', '7'], 'batch_size', 7), (['--workers', '3'], 'workers', 3), (['--num_workers=3'], 'workers', 3),
    (['-j', '3'], 'workers', 3), (['--epoch=5'], 'epochs', 5), (['--epochs', '5'], 'epochs', 5),
    (['--learning-rate', '.1'], 'lr', .1), (['--lr=.1'], 'lr', .1), (['--weight_decay', '.2'], 'weight_decay', .2),
    (['--wd', '.2'], 'weight_decay', .2), (['--warmup_epochs=2'], 'warmup_epochs', 2),
    (['--warmup-epochs', '2'], 'warmup_epochs', 2), (['--input-size', '64'], 'img_size', 64),
    (['--input-size', '3', '64', '64'], 'img_size', 64), (['--img_size=64'], 'img_size', 64), (['--nb_classes', '5'], 'num_classes', 5), (['--drop_path', '.3'], 'drop_path', .3),
    (['--print_freq=1'], 'print_freq', 1), (['-p', '1'], 'print_freq', 1), (['--momentum', '.8'], 'momentum', .8),
    (['--amp'], 'amp', True), (['--no-amp'], 'amp', False), (['--opt', 'sgd'], 'opt', 'sgd'),
    (['--output_dir', 'x_y'], 'output_dir', 'x_y'), (['--checkpoint=a_b.pth'], 'resume', 'a_b.pth'),
    (['--ckpt_path=a.pth'], 'resume', 'a.pth'), (['--finetune_pth', 'a.pth'], 'finetune', 'a.pth'),
    (['--pth_path', 'a.pth'], 'finetune', 'a.pth'), (['--aa', 'none'], 'aa', None), (['--loss-scale=128'], 'loss_scale', 128.),
    (['--skip-bad-images'], 'skip_bad_images', 100), (['--skip_bad_images=3'], 'skip_bad_images', 3),
])
def test_spellings(argv, dest, value):
    assert getattr(parse(*DATA, *argv), dest) == value


def test_van_accepts_what_its_seed_lists():
    """--workers --model --img-size --opt --momentum --weight-decay --lr --epochs --amp, on its own recipe."""
    sys.path.insert(0, str(TOP / VAN))
    try:
        import train
    finally:
        sys.path.pop(0)
    recipe = train.RECIPE
    args = parse('/data', '--workers', '4', '--model', 'van_tiny', '--img-size', '192', '--opt', 'sgd', '--momentum', '.8',
                 '--weight-decay', '.1', '--lr', '.01', '--epochs', '100', '--amp', recipe=recipe)
    assert (args.workers, args.model, args.img_size, args.opt, args.momentum, args.weight_decay, args.lr, args.epochs,
            args.amp) == (4, 'van_tiny', 192, 'sgd', .8, .1, .01, 100, True)
    unknown = set(recipe) - set(vars(args)) - {'cases'}
    assert not unknown, 'the recipe sets options that do not exist: %s' % unknown


def test_precedence():
    """Command line over case over recipe over default."""
    assert (parse(*DATA).epochs, parse(*DATA).cooldown_epochs, parse(*DATA).max_steps) == (300, 10, 0)
    short = parse(*DATA, '--case=performance')
    assert (short.epochs, short.cooldown_epochs, short.max_steps) == (1, 0, 120)
    assert parse(*DATA, '--case=performance', '--max-steps=7').max_steps == 7
    tuned = parse(*DATA, '--case=finetune', '--finetune=a.pth')
    assert (tuned.lr_base, tuned.epochs, tuned.batch_size) == (5e-5, 30, 128)
    assert parse(*DATA, '--lr=1').explicit == {'data_path', 'lr'}


def test_learning_rate_that_is_asked_for_wins():
    assert parse(*DATA, '--lr-base=.5', recipe=dict(RECIPE, lr=.01)).lr is None
    assert parse(*DATA, recipe=dict(RECIPE, lr=.01)).lr == .01


def test_use_ema_reads_the_average_or_makes_one():
    assert parse(*DATA, '--use-ema').model_ema and not parse(*DATA, '--use-ema').use_ema
    assert parse(*DATA, '--eval', '--resume=a', '--use-ema').use_ema and parse(*DATA, '--finetune=a', '--use-ema').use_ema


def test_epochs_that_are_given_are_the_whole_run():
    args = parse(*DATA, '--epochs=10')
    assert (args.cooldown_epochs, args.warmup_epochs) == (0, 1)
    args = parse(*DATA, '--epochs=10', '--warmup-epochs=4', '--cooldown-epochs=3')
    assert (args.cooldown_epochs, args.warmup_epochs) == (3, 4)


def test_eval_and_finetune_take_the_checkpoint_under_any_name():
    for flag in ('--resume', '--checkpoint', '--ckpt_path', '--finetune_pth', '--pth_path', '--finetune'):
        assert parse(*DATA, '--eval', flag, 'a.pth').resume == 'a.pth'
        tuned = parse(*DATA, '--case', 'finetune', flag, 'a.pth')
        assert (tuned.finetune, tuned.resume) == ('a.pth', None)
    with pytest.raises(UserError, match='one of them'):
        parse(*DATA, '--resume=a', '--finetune=b')


def test_mistakes_are_one_sentence(capsys):
    with pytest.raises(UserError, match='para "data_path" must be confing'):
        parse()
    with pytest.raises(UserError, match='twice'):
        parse('/a', '--data-path=/b')
    for argv in (['--epochs=0'], ['--input-size', '3', '64', '32'], ['--lr=fast'], ['--epoc=3'], ['--opt-level=O3']):
        with pytest.raises(SystemExit) as stopped:
            parse(*DATA, *argv)
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.startswith('[Error] ') and said.count('\n') == 1


def test_every_option_is_documented():
    parser = options.build('', {})
    assert all(action.help for action in parser._actions)
    parser.format_help()      # a stray % in a help text would raise here
