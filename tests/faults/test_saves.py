"""What is saved is good, and there is always another: losses that go bad, damaged and half-written files, a full disk, what is kept."""

import contextlib
import os
import re
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from helpers import SMALL, VAN, explains, in_folder, in_ranks, run, train, train_main

WORDS = [*SMALL, '--batch-size=8', '--max-steps=4', '--eval-steps=1']


def fit(data, out, *more, **options):
    result = train(VAN, f'--data-path={data}', *WORDS, *more, out=out, **options)
    assert result.code == 0, result.text
    return result


def place(path):
    saved = torch.load(str(path))
    return saved['epoch'], saved['step']


def all_finite(path):
    saved = torch.load(str(path))
    return all(bool(torch.isfinite(t).all()) for t in saved['state_dict'].values() if t.is_floating_point())


# ---- losses that go bad


def going_bad(argv, said, epoch, step, rank, signum):
    """In a child, which is a rank: the loss of this rank and step is not a number; then it is told signum, if any. -> exit status

    said: the file for what it prints as an error.
    """
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    import train
    from common import trainer

    prepare, after = trainer.Trainer._prepare_training, trainer.Trainer._after_step

    def prepare_badly(self, loaded):
        prepare(self, loaded)
        good = self.criterion

        def criterion(output, target):
            bad = (self.state.epoch, self.state.step, self.ranks.rank) == (epoch, step, rank)
            return good(output, target) * (float('nan') if bad else 1)

        self.criterion = criterion

    def told_after(self, at_epoch, at_step, loss):
        if signum and (at_epoch, at_step) == (epoch, step + 1):
            os.kill(os.getpid(), signum)
        return after(self, at_epoch, at_step, loss)

    trainer.Trainer._prepare_training, trainer.Trainer._after_step = prepare_badly, told_after
    return train_main(train, *argv)


@pytest.mark.parametrize('signum, code', [(0, 1), (signal.SIGTERM, 143)])
def test_a_bad_loss_costs_no_good_checkpoint(few_digits, tmp_path, signum, code):
    """It is not printed, as it lies between two lines; a run that is told to stop then says that it cannot save."""
    argv = [
        f'--data-path={few_digits}',
        *WORDS,
        '--epochs=3',
        '--print-freq=4',
        '--save-steps=1',
        f'--output-dir={tmp_path}',
    ]
    assert in_folder(VAN, going_bad, argv, str(tmp_path / 'said'), 1, 1, 0, signum) == code
    last = (tmp_path / 'said').read_text().strip().splitlines()[-1]
    if signum:
        assert 'could not be saved' in last and 'not finite' in last and '--resume=' in last
    else:
        assert re.search('not finite at epoch 1, step [23]', last), last
    kept = {path.name: place(path) for path in tmp_path.glob('*.pth')}
    assert kept == {'checkpoint.pth': (1, 1), 'checkpoint-1.pth': (1, 0), 'model_best.pth': (1, 0)}
    assert all(map(all_finite, tmp_path.glob('*.pth')))


def test_whose_loss_and_in_which_step(few_digits, tmp_path):
    argv = [f'--data-path={few_digits}', *WORDS, '--epochs=1', '--print-freq=4', f'--output-dir={tmp_path}']
    with contextlib.suppress(BrokenProcessPool):  # a rank that fails ends at once
        in_ranks(2, VAN, going_bad, argv, str(tmp_path / 'said'), 0, 2, 1, 0)
    assert 'the loss of rank 1 is not finite at epoch 0, step 3' in (tmp_path / 'said').read_text()


# ---- damage


def damage(path):
    """Flips bytes in the middle of a tensor of the optimizer."""
    moment = torch.load(str(path))['optimizer']['state'][0]['exp_avg'].numpy().tobytes()
    content = path.read_bytes()
    at = content.index(moment) + len(moment) // 2
    path.write_bytes(content[:at] + bytes(255 - byte for byte in content[at : at + 4]) + content[at + 4 :])


def test_auto_resume_takes_the_newest_whole_checkpoint(few_digits, tmp_path):
    fit(few_digits, tmp_path, '--epochs=3')
    damage(tmp_path / 'checkpoint.pth')
    damaged = (tmp_path / 'checkpoint.pth').read_bytes()
    rest = fit(few_digits, tmp_path, '--epochs=3', '--auto-resume')
    assert any(line.startswith('Passed over: checkpoint') and 'checkpoint.pth' in line for line in rest.lines)
    assert 'at epoch 2, step 0' in rest.text and rest.checkpoint()['epoch'] == 3
    assert damaged in [path.read_bytes() for path in tmp_path.glob('checkpoint.2*.pth')]


def test_the_best_one_is_the_last_resort(few_digits, tmp_path):
    """It has no optimizer, which is said."""
    fit(few_digits, tmp_path, '--epochs=2')
    for name in ('checkpoint.pth', 'checkpoint-1.pth'):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    rest = fit(few_digits, tmp_path, '--epochs=3', '--auto-resume')
    assert 'has no optimizer' in rest.text and rest.checkpoint()['epoch'] == 3


def test_damaged_checkpoints_are_no_new_beginning(few_digits, tmp_path):
    fit(few_digits, tmp_path, '--epochs=1')
    for path in tmp_path.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:1000])
    result = train(VAN, f'--data-path={few_digits}', *WORDS, '--auto-resume', out=tmp_path)
    explains(result, '--auto-resume', 'whole', '--resume')


# ---- when, and what


def test_saves_by_steps_and_by_the_clock(few_digits, tmp_path):
    often = fit(few_digits, tmp_path / 'often', '--epochs=1', '--save-minutes=1e-9', '--keep=9', '--warmup-steps=0')
    places = [place(path) for path in sorted(often.out.glob('checkpoint*.pth'))]
    assert sorted(places) == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]
    by_step = fit(few_digits, tmp_path / 'by_step', '--epochs=1', '--save-steps=2', '--keep=9', '--save-minutes=0')
    assert sorted(place(path) for path in by_step.out.glob('checkpoint*.pth')) == [(0, 2), (0, 4), (1, 0)]
    assert often.events('throughput')[0]['steps'] == 4  # a save divides no step


def test_a_performance_run_writes_none(few_digits, tmp_path):
    words = ['--case=performance', '--max-steps=2', '--eval-steps=1']
    none = fit(few_digits, tmp_path / 'none', *words)
    assert not list(none.out.glob('*.pth')) and none.events('end')[0]['checkpoint'] is None
    some = fit(few_digits, tmp_path / 'some', *words, '--save-checkpoint')
    assert {path.name for path in some.out.glob('*.pth')} == {'checkpoint.pth', 'model_best.pth'}


def test_the_best_one_is_evaluated_and_fine_tuned(few_digits, tmp_path):
    """It has the weights and their average, and is smaller by the optimizer."""
    first = fit(few_digits, tmp_path, '--epochs=1', '--model-ema')
    best = tmp_path / 'model_best.pth'
    assert best.stat().st_size < 0.6 * (tmp_path / 'checkpoint.pth').stat().st_size
    again = fit(few_digits, tmp_path / 'eval', '--case=eval', f'--resume={best}', '--use-ema')
    (average,) = [event for event in first.events('eval') if event['weights'] == 'ema']
    assert (again.events('eval')[0]['acc1'], again.events('eval')[0]['loss']) == (average['acc1'], average['loss'])
    fit(few_digits, tmp_path / 'tuned', '--case=finetune', f'--finetune={best}', '--epochs=1')


def test_the_average_of_two_ranks_is_the_one_in_the_file(few_digits, tmp_path):
    """Batch norm of the averaged weights too: what was logged is what the file gives."""
    words = ['--epochs=1', '--model-ema', '--model-ema-decay=.5', '--lr=.01', '--eval-steps=0']
    first = fit(few_digits, tmp_path, *words, ranks=2)
    again = fit(
        few_digits,
        tmp_path / 'eval',
        '--case=eval',
        f'--resume={tmp_path / "checkpoint.pth"}',
        '--use-ema',
        '--eval-steps=0',
    )
    (average,) = [event for event in first.events('eval') if event['weights'] == 'ema']
    (found,) = again.events('eval')
    assert found['acc1'] == average['acc1'] and found['loss'] == pytest.approx(average['loss'], abs=1e-6)


def test_a_full_disk_in_the_middle_ends_no_training(folder, few_digits, tmp_path):
    """It says so and goes on; at the end, where there is nothing to go on to, it fails."""
    small = tmp_path / 'small.sh'
    small.write_text('ulimit -f 1000; exec bash "$@"')  # KiB
    words = [f'--data_path={few_digits}', *WORDS, '--epochs=1', '--save-steps=2', '--print-freq=1']
    result = run(small, folder / 'test' / 'train_full_1p.sh', *words, out=tmp_path / 'out')
    assert result.code == 1 and 'The training goes on' in result.text and 'cannot be written' in result.lines[-1]
    assert [event['step'] for event in result.events('train')] == [1, 2, 3, 4]
    assert not list(result.out.glob('*.tmp'))
