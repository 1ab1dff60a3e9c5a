"""Options that change a training or an evaluation, through train.py."""

import json
import math
import multiprocessing.process
import os
import re
import sys
import time

import pytest
import torch

from common import log_parser
from helpers import FOLDERS, SMALL, VAN, describe, explains, in_folder, in_ranks, train, train_main

QUICK = [*SMALL, '--batch-size=8', '--max-steps=2', '--print-freq=1']


def fit(data, out, *more, epochs=2, **options):
    result = train(VAN, data, *QUICK, f'--epochs={epochs}', *more, out=out, **options)
    assert result.code == 0, result.text
    return result


def test_the_parser_reads_what_a_training_writes(few_digits, tmp_path):
    """Each event and each line, of all epochs: nothing is left out, and both say the same."""
    result = fit(few_digits, tmp_path, '--model-ema', '--model-ema-decay=.5', '--warmup-steps=1')
    steps, evaluated = result.events('train'), [e for e in result.events('eval') if e['weights'] == 'model']
    (tmp_path / 'said.txt').write_text(result.text)
    for name, form, near in (('metrics.jsonl', 'metrics', 0), ('said.txt', 'ours', 5e-4)):
        found = log_parser.parse(str(tmp_path / name)).summary()
        assert (found['format'], found['problems'], found['steps'], found['epochs']) == (form, [], 4, 2)
        assert found['final_loss'] == pytest.approx(steps[-1]['loss'], abs=near)
        assert found['last_acc1'] == pytest.approx(evaluated[-1]['acc1'], abs=near)
        assert found['fps'] == pytest.approx(result.events('throughput')[0]['fps'], abs=0.01)
        assert [y for _, y in found['loss_curve']] == pytest.approx([step['loss'] for step in steps], abs=near)


def rates(result):
    return {(event['epoch'], event['step']): event['lr'] for event in result.events('train')}


def tensors(result):
    return {key: value for key, value in result.checkpoint()['state_dict'].items() if value.is_floating_point()}


def same(a, b):
    return all(torch.equal(value, b[key]) for key, value in a.items())


@pytest.mark.parametrize('words, precision, lr', [
    ('--amp --lr=1e-3', 'bfloat16', None),
    ('--amp --opt-level=O0', 'float32', None),
    ('--no-amp --sched=plateau --lr=1e-3 --clip-grad=.1 --clip-mode=value --mixup-mode=elem', 'float32', 1e-3),
    ('--no-amp --opt=sgd --sched=step --decay-epochs=1 --lr=.1', 'float32', 0.01),
    ('--no-amp --opt=sgd --sched=step --decay-epochs=9 --lr=.4 --lr-scaled --lr-base-size=64', 'float32', 0.05),
], ids=lambda value: str(value)[:25])  # fmt: skip
def test_precision_and_rate(few_digits, tmp_path, words, precision, lr):
    result = fit(few_digits, tmp_path, *words.split())
    assert precision in result.events('run')[0]['precision']
    assert lr is None or rates(result)[1, 2] == pytest.approx(lr)


def test_optimizer_options(few_digits, tmp_path):
    group = fit(few_digits, tmp_path, '--opt-betas', '.5', '.6', '--opt-eps=1e-3').checkpoint()['optimizer'][
        'param_groups'
    ][0]
    assert (list(group['betas']), group['eps']) == ([0.5, 0.6], 1e-3)


def test_auto_resume(few_digits, tmp_path):
    """Goes on from the checkpoint in the output folder, or begins; --no-auto-resume begins anyway."""
    out = tmp_path / 'out'
    assert set(rates(fit(few_digits, out, '--auto-resume', epochs=1))) == {(0, 1), (0, 2)}
    for switch, epochs in (('--auto-resume', {1}), ('--no-auto-resume', {0, 1})):
        (out / 'metrics.jsonl').unlink()
        assert {epoch for epoch, _ in rates(fit(few_digits, out, switch))} == epochs
        assert torch.load(str(out / 'checkpoint.pth'))['epoch'] == 2


def test_start_epoch(few_digits, tmp_path):
    """Of a resumed training; the learning rate is that of the epoch."""
    whole = fit(few_digits, tmp_path / 'whole', epochs=3)
    again = fit(few_digits, tmp_path / 'again', '--start-epoch=1', f'--resume={whole.out / "checkpoint.pth"}', epochs=3)
    assert {epoch for epoch, _ in rates(again)} == {1, 2}
    assert rates(again).items() <= rates(whole).items()


def test_start_epoch_of_a_new_training(few_digits, tmp_path):
    later = fit(few_digits, tmp_path / 'later', '--start-epoch=2', epochs=3)
    assert {epoch for epoch, _ in rates(later)} == {2}


def saves(data, out):
    """In a child. -> [(epoch, whether it is the last one, the best one)] that a training with --save-freq 2 writes"""
    import train
    from common import checkpoint

    save, found = checkpoint.CheckpointFolder.save, []

    def noted(self, state, last, best):
        found.append((state['epoch'], last, best))
        save(self, state, last, best)

    checkpoint.CheckpointFolder.save = noted
    words = [*QUICK, '--epochs=5', '--max-steps=1', '--eval-steps=1', '--save-freq=2', f'--output-dir={out}']
    assert train_main(train, data, *words) == 0
    return found


def test_save_freq(few_digits, tmp_path):
    """Every second epoch and the last one; and always the best so far."""
    written = in_folder(VAN, saves, few_digits, tmp_path)
    assert [epoch for epoch, last, _ in written if last] == [2, 4, 5] and written[0] == (1, False, True)
    best = torch.load(str(tmp_path / 'model_best.pth'))
    assert best['epoch'] == best['best_epoch'] + 1


def test_a_plateau_is_resumed_exactly(few_digits, tmp_path):
    """Rates and weights of a training that was resumed, after two epochs or three, are those of one that was not."""
    words = ['--sched=plateau', '--patience-epochs=1', '--decay-rate=.5', '--lr=1e-4', '--min-lr=0', '--eval-steps=1']
    whole = fit(few_digits, tmp_path / 'whole', *words, epochs=5)
    assert len(set(rates(whole).values())) > 1
    for cut in (2, 3):
        part = fit(few_digits, tmp_path / str(cut), *words, epochs=cut)
        rest = fit(few_digits, tmp_path / str(cut), *words, f'--resume={part.out / "checkpoint.pth"}', epochs=5)
        assert rates(rest) == rates(whole)
        assert same(tensors(rest), tensors(whole))


def test_a_plateau_goes_on_without_the_accuracies_of_the_past(few_digits, tmp_path):
    """A checkpoint written before they were saved."""
    path = fit(few_digits, tmp_path / 'a', '--sched=plateau', '--lr=1e-3', epochs=1).out / 'checkpoint.pth'
    state = torch.load(str(path))
    state.pop('accuracies', None)
    torch.save(state, str(path))
    assert set(rates(fit(few_digits, tmp_path / 'b', '--sched=plateau', '--lr=1e-3', f'--resume={path}')).values()) == {
        1e-3
    }


def test_an_evaluation_of_the_averaged_weights(few_digits, tmp_path):
    """With --use-ema those, else the model's: each as the training has seen it. A fine-tuning can begin with them."""
    trained = fit(few_digits, tmp_path, '--model-ema', '--model-ema-decay=.5', '--lr=1e-2')
    seen, checkpoint = {}, trained.out / 'checkpoint.pth'
    for event in trained.events('eval'):
        seen[event['weights']] = event['loss']
    assert seen['ema'] != seen['model']
    for more, weights in (([], 'model'), (['--use-ema'], 'ema')):
        again = train(VAN, few_digits, '--eval', f'--resume={checkpoint}', *SMALL, *more, out=tmp_path / weights)
        assert again.code == 0, again.text
        assert again.events('eval')[0]['loss'] == pytest.approx(seen[weights], abs=1e-6)
    assert fit(few_digits, tmp_path / 'tuned', '--use-ema', f'--finetune={checkpoint}', epochs=1).code == 0
    plain = fit(few_digits, tmp_path / 'plain', epochs=1).out / 'checkpoint.pth'
    lacks = train(VAN, few_digits, '--eval', f'--resume={plain}', '--use-ema', *SMALL, out=tmp_path / 'lacks')
    explains(lacks, str(plain), '--use-ema')


def test_a_fine_tuning_has_the_image_size_of_the_checkpoint(few_digits, tmp_path):
    begun = fit(few_digits, tmp_path / 'a', '--img-size=48', epochs=1)
    words = [few_digits, '--case=finetune', f'--finetune={begun.out / "checkpoint.pth"}', '--device=cpu', '--workers=0']
    words += ['--batch-size=8', '--epochs=1', '--max-steps=1', '--eval-steps=1']
    for more, size, origin in (([], 48, 'checkpoint'), (['--img-size=32'], 32, 'command line')):
        run = train(VAN, *words, *more, out=tmp_path / str(size)).events('run')[0]
        assert (run['args']['img_size'], run['origin']['img_size']) == (size, origin)
        assert (run['args']['model'], run['origin']['model']) == ('van_b0', 'checkpoint')


def statistics(data, out, how):
    """In a child, one rank. -> a batch norm's running mean when the evaluation begins"""
    import train
    from common import trainer

    evaluate, seen = trainer.evaluate, []

    def look(model, *arguments, **options):
        norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
        seen.append(norm.running_mean.tolist())
        return evaluate(model, *arguments, **options)

    trainer.evaluate = look
    words = [*QUICK, '--epochs=1', '--eval-steps=1', f'--dist-bn={how}', f'--output-dir={out}']
    assert train_main(train, data, *words) == 0
    return seen[0]


def test_ranks_agree_on_batch_norm_statistics(few_digits, tmp_path):
    found = {
        how: in_ranks(2, VAN, statistics, few_digits, tmp_path / how, how) for how in ('none', 'broadcast', 'reduce')
    }
    first, second = found['none']
    assert first != second
    assert found['broadcast'] == [first, first]
    mean = [(a + b) / 2 for a, b in zip(first, second)]
    assert found['reduce'][0] == found['reduce'][1] == pytest.approx(mean, abs=1e-6)


def leftovers(data, out):
    """In a child, one rank. -> exit status, workers that had to be terminated, children and threads that are left"""
    import train

    terminated = []
    terminate = multiprocessing.process.BaseProcess.terminate
    multiprocessing.process.BaseProcess.terminate = lambda self: terminated.append(self.name) or terminate(self)
    words = [*QUICK, '--epochs=1', '--workers=1', f'--output-dir={out}']
    code = train_main(train, data, *words)
    return code, terminated, multiprocessing.active_children(), len(os.listdir('/proc/self/task'))


@pytest.mark.skipif(not os.path.isdir('/proc/self/task'), reason='this system does not show the threads of a process')
def test_nothing_of_a_training_is_left_at_its_end(few_digits, tmp_path):
    """No worker that must be waited for and terminated, and no thread but the main one.

    One of the process group's might abort the process while the interpreter ends: rarely, but after hours of training.
    """
    assert in_ranks(2, VAN, leftovers, few_digits, tmp_path) == [(0, [], [], 1)] * 2


@pytest.mark.long
@pytest.mark.skipif(not hasattr(torch, 'compile'), reason='torch.compile came with torch 2.0')
def test_compile(few_digits, tmp_path):
    """The same losses as without it, nearly; the checkpoint has the model's own names."""
    words = [
        few_digits,
        '--model=convmixer_64_2_ks5_p4',
        '--img-size=32',
        '--device=cpu',
        '--workers=0',
        '--batch-size=8',
    ]
    words += ['--epochs=1', '--max-steps=3', '--eval-steps=1', '--print-freq=1', '--no-amp']
    plain = train('ConvMixer_for_PyTorch', *words, out=tmp_path / 'plain')
    quick = train('ConvMixer_for_PyTorch', *words, '--compile', out=tmp_path / 'compiled', timeout=300)
    if quick.code and 'compiler' in quick.text:
        pytest.skip(f'torch.compile needs a C++ compiler: {quick.lines[-1]}')
    assert quick.code == 0, quick.text
    losses = [[event['loss'] for event in result.events('train')] for result in (plain, quick)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert list(quick.checkpoint()['state_dict']) == list(plain.checkpoint()['state_dict'])


def test_tensorboard_files(few_digits, tmp_path):
    """The event files hold the numbers of metrics.jsonl; without the package one sentence says what to install."""
    blocked = tmp_path / 'path' / 'tensorboard'
    blocked.mkdir(parents=True)
    (blocked / '__init__.py').write_text('raise ImportError("no tensorboard here")')
    path = str(blocked.parent)
    explains(
        train(VAN, few_digits, *QUICK, '--tensorboard', out=tmp_path / 'a', PYTHONPATH=path), 'pip install tensorboard'
    )
    event_accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    result = fit(few_digits, tmp_path / 'b', '--tensorboard')
    events = event_accumulator.EventAccumulator(str(tmp_path / 'b' / 'tensorboard')).Reload()
    for group, name in (('train', 'loss'), ('eval', 'acc1')):
        written = [event[name] for event in result.events(group)]
        assert [e.value for e in events.Scalars(f'{group}/{name}')] == pytest.approx(written)


class Stamped:
    """A standard output that notes when each line came."""

    def __init__(self):
        self.lines = []

    def write(self, text):
        self.lines += [(time.perf_counter(), line) for line in text.splitlines() if line]

    def flush(self):
        pass


def sleepy(data, out):
    """In a child: trains a model that sleeps a quarter of a second in each step. -> [(time, line of the log)]"""
    import train

    def create(*arguments, **options):
        model = create_model(*arguments, **options)
        model.register_forward_pre_hook(lambda *_: time.sleep(0.25))
        return model

    create_model, train.HOOKS.create_model = train.HOOKS.create_model, create
    sys.stdout = Stamped()
    words = ['--batch-size=4', '--print-freq=1', '--epochs=1', '--max-steps=24', '--warmup-steps=4', '--eval-steps=1']
    assert train_main(train, data, *SMALL, *words, f'--output-dir={out}') == 0
    return sys.stdout.lines


def test_fps_agrees_with_a_stopwatch(few_digits, tmp_path):
    """The sleep outweighs this machine's noise; within 2 %."""
    steps = (
        (at, re.match(r'Train: 0 \[ *(\d+)/24', line)) for at, line in in_folder(VAN, sleepy, few_digits, tmp_path)
    )
    at = {int(step.group(1)): time for time, step in steps if step}
    events = map(json.loads, (tmp_path / 'metrics.jsonl').read_text().splitlines())
    measured = next(event['fps'] for event in events if event['event'] == 'throughput')
    assert measured == pytest.approx(20 * 4 / (at[24] - at[4]), rel=0.02)


@pytest.mark.long
@pytest.mark.parametrize('name', FOLDERS)
def test_what_is_fast_by_default_trains_as_float32_does(name, few_digits, tmp_path):
    """50 steps with three seeds: the losses are nearer to those of the plain float32 than seeds are to one another."""
    words = ['--model', describe(name)['model'], '--img-size=32', '--device=cpu', '--workers=0', '--batch-size=16']
    words += '--epochs=5 --max-steps=10 --eval-steps=1 --print-freq=1 --warmup-epochs=0 --no-checkpoint'.split()
    if 'Vit' not in name:  # the other recipes' rates, at so small a batch, move little
        words += ['--lr=1e-3', '--no-lr-scaled']
    plain = ['--no-amp', '--no-channels-last', '--no-fused-optimizer', '--decoder=pillow']
    curves = {}
    for fast, options in enumerate((plain, [])):
        for seed in range(3):
            out = tmp_path / f'{fast} {seed}'
            result = train(name, '--data-path', few_digits, *words, *options, f'--seed={seed}', out=out)
            assert result.code == 0, result.text
            curves[fast, seed] = [event['loss'] for event in result.events('train')]
    assert {len(curve) for curve in curves.values()} == {50}
    noise = min(apart(curves[0, a], curves[0, b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    differences = [apart(curves[0, seed], curves[1, seed]) for seed in range(3)]
    assert max(differences) < noise, (differences, noise)


def apart(one, other):
    """The root of the mean square of what two curves differ by."""
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other)) / len(one))
