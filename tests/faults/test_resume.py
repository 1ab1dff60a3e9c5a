"""A training that was stopped or killed and resumed is the training that was not: weights, averages, moments and best accuracy, to the bit."""

import concurrent.futures.process
import itertools
import os
import signal

import pytest
import torch

from helpers import FOLDERS, VAN, content, describe, in_ranks, train, train_main

SMALL = (
    '--img-size=32 --device=cpu --batch-size=8 --epochs=3 --max-steps=3 --eval-steps=2 --print-freq=2 --lr=1e-3'.split()
)
STOP, KILL = signal.SIGTERM, signal.SIGKILL


def training(argv, stop):
    """In a child, which is one rank. -> exit status

    stop: (signal, epoch, step), after which it is sent; (signal, n): as the evaluation of that number begins; or None.
    """
    import train
    from common import trainer

    after_step, accuracy = trainer.Trainer._after_step, trainer.Evaluator.accuracy
    evaluations = itertools.count()

    def signalled_after_step(self, epoch, step, loss):
        if stop[1:] == (epoch, step):
            os.kill(os.getpid(), stop[0])
        return after_step(self, epoch, step, loss)

    def signalled_accuracy(self, *words):
        if stop[1:] == (next(evaluations),):
            os.kill(os.getpid(), stop[0])
        return accuracy(self, *words)

    if stop is not None:
        trainer.Trainer._after_step, trainer.Evaluator.accuracy = signalled_after_step, signalled_accuracy
    return train_main(train, *argv)


def run(name, ranks, data, out, *words, stop=None):
    argv = [f'--data-path={data}', '--model', describe(name)['model'], *SMALL, *words, f'--output-dir={out}']
    try:
        return in_ranks(ranks, name, training, argv, stop)
    except concurrent.futures.process.BrokenProcessPool:  # it was killed, or its failing rank ended at once
        return None


LAST = 'checkpoint.pth'
EMA = '--model-ema --model-ema-decay=.9'
CONVMIXER, SPACH, TWINS, VIT = (
    f'{name}_for_PyTorch' for name in ('ConvMixer', 'SPACH', 'Twins-PCPVT-S', 'Vit_base_patch32_224')
)
CASES = [  # folder, ranks, options, how it is stopped
    (VAN, 1, f'{EMA} --workers=0', (STOP, 0, 1)),
    (
        VAN,
        2,
        f'{EMA} --workers=1',
        (STOP, 1, 3),
    ),  # after the last step of an epoch: the statistics of the ranks are still apart
    (CONVMIXER, 2, f'{EMA} --workers=0', (STOP, 3)),  # in the evaluation of the averaged weights of epoch 1
    (TWINS, 1, '--sched=plateau --patience-epochs=1 --decay-rate=.5 --workers=2 --warmup-epochs=1', (STOP, 2, 2)),
    (SPACH, 1, '--save-steps=1 --keep=3 --workers=0', (KILL, 1, 2)),
    (VIT, 2, '--mixup=0 --cutmix=0 --reprob=1 --workers=0', (KILL, 2)),  # as the last evaluation begins
]
LONG = [
    *[
        (name, ranks, f'{EMA} --workers=2', stop)
        for name in FOLDERS
        for ranks in (1, 2)
        for stop in ((STOP, 0, 3), (STOP, 2))
    ],
    *[(name, 2, f'{EMA} --workers=0', (KILL, 2, 1)) for name in FOLDERS],
    *[(VAN, 2, f'--sched={name} --epochs=4', (STOP, 1, 2)) for name in ('cosine', 'step', 'tanh', 'poly', 'plateau')],
    *[
        (CONVMIXER, 1, words, (STOP, 1, 2))
        for words in ('', '--sched=plateau', '--opt=sgd', '--opt=lamb --clip-grad=1')
    ],
    (TWINS, 2, '--repeated-aug --drop-path=.5', (STOP, 1, 1)),
    (VIT, 1, '--amp --drop=.2 --color-jitter=.4 --aa=none', (STOP, 2, 3)),
    (VAN, 1, '--save-steps=2 --workers=0 --mixup-off-epoch=1 --cutmix-minmax .2 .8', (KILL, 2, 3)),
    (SPACH, 2, '--lr-noise .1 .9 --mixup-mode=elem --remode=const', (STOP, 1, 2)),
]


@pytest.mark.parametrize(
    'name, ranks, words, stop', [*CASES, *[pytest.param(*case, marks=pytest.mark.long) for case in LONG]]
)
def test_a_trio(few_digits, tmp_path, name, ranks, words, stop):
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    assert run(name, ranks, few_digits, whole, *words.split()) == [0] * ranks
    assert run(name, ranks, few_digits, cut, *words.split(), stop=stop) != [0] * ranks
    left = [path.name for path in cut.glob('checkpoint*.pth')]
    assert left, 'the run that was stopped has saved nothing'
    assert run(name, ranks, few_digits, cut, *words.split(), '--auto-resume', '--workers=0') == [0] * ranks
    for file in ('checkpoint.pth', 'model_best.pth'):
        assert content(cut / file) == content(whole / file)


def test_a_fine_tuning_goes_on_by_the_command_that_it_proposes(few_digits, tmp_path):
    """--resume, alone or with the --finetune of the first command; another checkpoint by that name begins one."""
    assert run(VAN, 1, few_digits, tmp_path / 'before', '--epochs=1') == [0]
    words = ['--case=finetune', f'--finetune={tmp_path / "before" / "checkpoint.pth"}']
    assert run(VAN, 1, few_digits, tmp_path / 'whole', *words) == [0]
    for first in (['--case=finetune'], words):
        cut = tmp_path / str(len(first))
        assert run(VAN, 1, few_digits, cut, *words, stop=(STOP, 1, 1)) == [143]
        assert run(VAN, 1, few_digits, cut, *first, f'--resume={cut / "checkpoint.pth"}') == [0]
        assert content(cut / LAST) == content(tmp_path / 'whole' / LAST)
    again = tmp_path / 'again'
    assert run(VAN, 1, few_digits, again, '--case=finetune', f'--resume={tmp_path / "before" / "checkpoint.pth"}') == [
        0
    ]
    assert content(again / LAST) == content(tmp_path / 'whole' / LAST)


def settings(out):
    saved = torch.load(str(out / 'checkpoint.pth'))
    return {**saved['args'], 'decay of the optimizer': saved['optimizer']['param_groups'][-1]['weight_decay']}


def test_a_resumed_run_takes_its_settings_from_the_checkpoint(few_digits, tmp_path):
    """All that defines the training, for what the command line does not say; that takes effect, and each difference is a line."""
    first = train(
        VAN,
        '--model=van_b0',
        f'--data-path={few_digits}',
        *SMALL,
        '--opt=lamb',
        '--model-ema',
        '--sched=step',
        out=tmp_path / 'a',
    )
    assert first.code == 0, first.text
    words = [
        f'--data-path={few_digits}',
        f'--resume={first.out / "checkpoint-1.pth"}',
        '--weight-decay=.5',
        '--device=cpu',
    ]
    rest = train(VAN, *words, '--workers=0', '--epochs=4', out=tmp_path / 'b')
    assert rest.code == 0, rest.text
    ours, theirs = settings(rest.out), settings(first.out)
    changed = {name for name in ours if ours[name] != theirs[name]}
    assert changed <= {
        'weight_decay',
        'decay of the optimizer',
        'epochs',
        'resume',
        'output_dir',
        'print_freq',
        'eval_steps',
        'workers',
    }
    assert (
        ours['decay of the optimizer'] == 0.5
        and rest.checkpoint()['state_dict_ema']
        and rest.checkpoint()['epoch'] == 4
    )
    said = [line for line in rest.lines if "in place of the checkpoint's" in line]
    assert sorted(line.split()[0] for line in said) == ['--epochs', '--weight-decay']


def test_other_ranks_have_the_same_steps(few_digits, tmp_path):
    """A training of two ranks that one rank goes on with: its batch is that of both."""
    assert run(VAN, 2, few_digits, tmp_path, stop=(STOP, 1, 2)) != [0, 0]
    words = [f'--data-path={few_digits}', '--auto-resume', '--device=cpu', '--workers=0']
    rest = train(VAN, *words, out=tmp_path)
    assert rest.code == 0, rest.text
    saved = rest.checkpoint()
    assert (saved['args']['batch_size'], saved['global_batch'], saved['epoch']) == (16, 16, 3)
