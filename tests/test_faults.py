"""What a user can do wrong, and what the machine can do to a run: one sentence with the cause, no success left behind."""
import contextlib
import io
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
from conftest import SMALL, run, start

from common import log_parser, log_summary

TRAIN = SMALL + ['--batch-size', '8', '--epochs', '2', '--max-steps', '2']


@pytest.fixture(scope='module')
def trained(folder, few_digits, tmp_path_factory):
    """A checkpoint of van_b0, two epochs of two steps."""
    result = run(folder / 'test' / 'train_full_1p.sh', '--data_path', few_digits, *TRAIN, out=tmp_path_factory.mktemp('out'))
    assert result.code == 0, result.text
    return result.out / 'checkpoint.pth'


@pytest.mark.parametrize('arguments, words', [
    (['--amp'], 'autocast to bfloat16'), (['--amp', '--opt-level=O0'], 'float32.'),
    (['--sched=plateau', '--lr=1e-3', '--clip-grad=.1', '--clip-mode=value', '--mixup-mode=elem'], 'LR: 1.000e-03'),
    (['--opt=sgd', '--sched=step', '--decay-epochs=1', '--lr=.1'], 'LR: 1.000e-02')], ids=lambda v: str(v)[:20])
def test_options_that_change_a_run(folder, few_digits, tmp_path, arguments, words):
    result = run(folder / 'test' / 'train_full_1p.sh', '--data_path', few_digits, *TRAIN, *arguments, out=tmp_path / 'out')
    assert result.code == 0 and words in result.text, result.text


def assert_fails(result, *words):
    """One sentence that names the cause, as the last thing said; no traceback; no result that looks like a success."""
    assert result.code != 0, result.text
    last = result.lines[-1]
    assert last.startswith('[Error] ') and all(word in last for word in words), result.text
    assert 'Traceback' not in result.text, result.text
    assert result.seconds < 120        # it did not wait for a time-out
    assert result.summary['Status'] == 'FAILED' and result.summary['Reason'] in last
    assert not any(result.summary[key] != 'N/A' for key in ('ActualFPS', 'TrainAccuracy') if key in result.summary)
    assert not list(result.out.glob('train_*_loss.txt'))
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):      # what a CI asks of the folder afterwards
        assert log_parser.main(['check', str(result.out), '--require', 'fps,acc']) == 1
    assert result.summary['Reason'] in said.getvalue(), said.getvalue()


def damage_nothing(data):
    return data


def give_train(data):
    return data / 'train'


def lose_class_in_val(data):
    shutil.rmtree(data / 'val' / '7')
    return data


def empty_class(data):
    for image in (data / 'train' / '4').iterdir():
        image.unlink()
    return data


def lose_root(data):
    return data / 'nowhere'


def lose_val(data):
    shutil.rmtree(data / 'val')
    return data


def cut_first_image(data):
    image = sorted((data / 'train' / '0').iterdir())[0]
    image.write_bytes(image.read_bytes()[:300])
    return data


@pytest.mark.parametrize('damage, arguments, words', [
    (lose_root, [], ['nowhere', 'does not exist']),
    (give_train, [], ['train is one split', 'give its root', 'my data']),
    (lose_val, [], ['has no val/']),
    (lose_class_in_val, [], ['val lacks the class 7']),
    (empty_class, [], ['train/4', 'holds no image']),
    (cut_first_image, [], ['train/0/', 'cannot be read', '--skip-bad-images']),
    (damage_nothing, ['--model', 'van_b9'], ["unknown model 'van_b9'", 'van_b0', 'van_large']),
    (damage_nothing, ['--batch-size', '300'], ['300', 'larger than the training set of 200']),
    (damage_nothing, ['--batch-size', '7'], ['7 is odd', '--mixup 0']),
    (damage_nothing, ['--device', 'cuda'], ['--device cuda', 'sees no CUDA device']),
    (damage_nothing, ['--device', 'npu'], ['--device npu', 'CANN']),
    (damage_nothing, ['--device', 'tpu'], ['--device tpu is not known', 'npu, cuda, cpu']),
    (damage_nothing, ['--num-classes', '3'], ['--num-classes 3 is fewer than the 10 classes']),
    (damage_nothing, ['--epochs', 'many'], ['--epochs', 'many']),
    (damage_nothing, ['--no-such-option=1'], ['--no-such-option=1']),
    (damage_nothing, ['--opt', 'adamx'], ['--opt adamx']),
    (damage_nothing, ['--sched', 'zigzag'], ['--sched zigzag']),
    (damage_nothing, ['--aa', 'much'], ['--aa much']),
    (damage_nothing, ['--sync-bn'], ['--sync-bn']),
    (damage_nothing, ['--amp', '--amp-impl=apex'], ['needs apex', 'PyPI']),
    (damage_nothing, ['--resume=/nowhere.pth'], ['/nowhere.pth does not exist']),
    (damage_nothing, ['--lr', '1e30', '--warmup-lr', '1e30', '--max-steps=0'], ['the loss is', '--lr']),
], ids=lambda value: getattr(value, '__name__', None) or ' '.join(value)[:30] if value != [] else '-')
def test_mistakes(folder, data, tmp_path, damage, arguments, words):
    result = run(folder / 'test' / 'train_full_1p.sh', '--data_path', damage(data), *TRAIN, *arguments, out=tmp_path / 'out')
    assert_fails(result, *words)


@pytest.mark.parametrize('log, reason', [
    ('Train: 0\n[Error] no room (x)\n[Error] another rank ended\n', 'no room (x)'),
    ('Traceback (most recent call last):\n  File "a.py"\nKeyError: \'a\'\n[Error] another rank ended\n', "KeyError: 'a'"),
    ('bash: line 1: killed\n\n', 'bash: line 1: killed'), ('\n', 'the run left an empty log')])
def test_the_first_reason_counts(tmp_path, log, reason):
    (tmp_path / 'log').write_text(log)
    assert log_summary.failure_reason(str(tmp_path / 'log')) == reason


def test_no_data_path(folder):
    result = run(folder / 'test' / 'train_performance_1p.sh')
    assert (result.code, result.lines) == (1, ['[Error] para "data_path" must be confing'])
    assert not result.out.exists()


@pytest.mark.parametrize('damage, arguments, words', [(lose_class_in_val, [], 'val lacks the class 7'),
                                                      (damage_nothing, ['--no-such-option'], '--no-such-option')], ids=['data', 'option'])
def test_eight_ranks_say_it_once(folder, data, tmp_path, damage, arguments, words):
    result = run(folder / 'test' / 'train_full_8p.sh', '--data_path', damage(data), *TRAIN, *arguments, out=tmp_path / 'out')
    assert_fails(result, words)
    assert sum('[Error]' in line for line in result.lines) == 2      # when it happens, and as the last line


@pytest.mark.parametrize('script', ['train_eval_1p.sh', 'train_finetune_1p.sh', 'train_full_1p.sh'])
def test_wrong_checkpoints(folder, few_digits, trained, tmp_path, script):
    """Cut in half; of another model; text. The file itself is never touched."""
    cut, text = tmp_path / 'cut.pth', tmp_path / 'text.pth'
    cut.write_bytes(trained.read_bytes()[:trained.stat().st_size // 2])
    text.write_text('not a checkpoint')
    flag = '--finetune_pth' if 'finetune' in script else '--resume'
    for path, model, words in ((cut, 'van_b0', ['cut.pth', 'cut short']), (text, 'van_b0', ['text.pth']),
                               (trained, 'van_b1', ['is of another model than van_b1', 'give --model van_b0'])):
        before = path.read_bytes()
        result = run(folder / 'test' / script, '--data_path', few_digits, flag, path, '--model', model, '--img-size', '32',
                     '--device', 'cpu', out=tmp_path / 'out')
        assert_fails(result, *words)
        assert path.read_bytes() == before


def test_evaluation_needs_a_checkpoint_of_these_classes(folder, data, trained, tmp_path):
    assert_fails(run(folder / 'test' / 'train_eval_1p.sh', data, out=tmp_path / 'a'), 'needs a checkpoint', '--resume')
    for split in ('train', 'val'):
        (data / split / '9').rename(data / split / 'nine')
    assert_fails(run(folder / 'test' / 'train_eval_1p.sh', data, trained, '--device=cpu', out=tmp_path / 'b'),
                 'was trained on 10 classes')


def test_another_optimizer_cannot_go_on(folder, few_digits, trained, tmp_path):
    result = run(folder / 'test' / 'train_full_1p.sh', '--data_path', few_digits, '--resume', trained, *TRAIN, '--epochs=3',
                 '--opt=sgd', out=tmp_path / 'out')
    assert_fails(result, 'was trained with --opt adamw')


def test_a_rank_that_fails_alone_is_heard(folder, data, tmp_path):
    """The other one waits for it in a collective, and both have loading processes."""
    image = sorted((data / 'train' / '0').iterdir())[7]
    image.write_bytes(image.read_bytes()[:200])
    result = run(folder / 'test' / 'train_full_8p.sh', '--data_path', data, *SMALL, '--nproc_per_node=2', '--workers=1',
                 '--batch-size=8', '--epochs=1', out=tmp_path / 'out')
    assert_fails(result, 'cannot be read', image.name)
    assert sum('cannot be read' in line for line in result.lines) == 2, result.text


def test_a_port_in_use_is_left_alone(folder, few_digits, trained, tmp_path):
    with socket.socket() as taken:
        taken.bind(('', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run(folder / 'test' / 'train_eval_8p.sh', few_digits, trained, '--nproc_per_node=2', '--device=cpu',
                     out=tmp_path / 'out', MASTER_PORT=port)
    assert result.code == 0 and 'Port %s is in use' % port in result.text


def test_bad_images_are_skipped_up_to_a_limit(folder, data, trained, tmp_path):
    """In validation: left out and counted. In training: replaced, so that every step keeps its size."""
    for split, which in (('val', ('0', '5')), ('train', ('0', '6'))):
        for name in which:
            image = sorted((data / split / name).iterdir())[0]
            image.write_bytes(image.read_bytes()[:200])
    arguments = ['--data_path', data] + SMALL + ['--batch-size', '20', '--epochs', '1', '--reprob', '0']
    script = folder / 'test' / 'train_full_1p.sh'
    assert_fails(run(script, *arguments, out=tmp_path / 'a'), 'cannot be read')
    assert_fails(run(script, *arguments, '--skip-bad-images', '1', out=tmp_path / 'b'), 'more than 1 images')
    skipping = run(script, *arguments, '--skip-bad-images', out=tmp_path / 'c')
    assert skipping.code == 0 and '(91 images' in skipping.text and '2 unreadable' in skipping.text
    assert len(re.findall('^image .*/my data/(?:train|val)/.* cannot be read .*; skipped, [12] of at most 100$', skipping.text, re.M)) == 4


# ---- kills

def wait_for(process, path, text, limit=120):
    """Until the file holds the text."""
    end = time.monotonic() + limit
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and text in path.read_text():
            return
        time.sleep(.05)
    process.kill()
    pytest.fail('%s never showed %r:\n%s' % (path, text, process.communicate()[0]))


def ranks_of(out):
    """Process ids of the train.py processes that write to out."""
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / 'cmdline').read_bytes().split(b'\0')
            except OSError:      # gone meanwhile
                continue
            if any(w.endswith(b'/train.py') for w in words[:4]) and b'--output-dir=%s' % os.fsencode(out) in words:
                found.append(int(entry.name))
    return sorted(found)


@pytest.mark.parametrize('script, extra, signum, code', [
    pytest.param('train_full_1p.sh', ['--model-ema'], signal.SIGINT, 130, marks=pytest.mark.long),
    ('train_full_8p.sh', ['--nproc_per_node=2'], signal.SIGTERM, 143),
    pytest.param('train_full_1p.sh', ['--model-ema', '--device=npu', '--amp', '--amp-impl=apex', '--opt-level=O2'], signal.SIGTERM, 143,
                 marks=pytest.mark.long),
], ids=['1p INT', '2p TERM', 'apex O2 TERM'])
def test_a_stopped_run_saves_and_goes_on_as_if_nothing_had_been(folder, few_digits, tmp_path, request, script, extra, signum, code):
    """The run that was stopped and resumed gives the same weights, to the bit, as one that was not.

    The signal goes to all its processes, the loading ones too, as from a terminal, torchrun or a scheduler.
    """
    common = ['--data_path', few_digits] + SMALL + extra + ['--workers=2'] + [
        '--batch-size', '8', '--epochs', '2', '--print-freq', '1', '--lr=1e-3', '--warmup-epochs=1', '--max-steps=12']
    script, env = folder / 'test' / script, request.getfixturevalue('npusim') if '--device=npu' in extra else {}
    whole = run(script, *common, out=tmp_path / 'whole', **env)
    assert whole.code == 0, whole.text
    process = start(script, *common, '--output_dir=%s' % (tmp_path / 'cut'), **env)
    wait_for(process, tmp_path / 'cut' / 'metrics.jsonl', '"epoch": 0, "step": 4,')
    os.killpg(process.pid, signum)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == code, text
    assert 'stopped by' in text.splitlines()[-1] and '--resume=' in text.splitlines()[-1]
    assert 'Status = FAILED' in next((tmp_path / 'cut').glob('*_acc.log')).read_text()
    rest = run(script, *common, '--resume', tmp_path / 'cut' / 'checkpoint.pth', out=tmp_path / 'cut', **env)
    assert rest.code == 0 and 'Resumed from' in rest.text, rest.text
    assert rest.summary['TrainAccuracy'] == whole.summary['TrainAccuracy']
    assert rest.summary['BestAccuracy'] == whole.summary['BestAccuracy']
    assert weights(tmp_path / 'cut') == weights(tmp_path / 'whole')


def test_a_stop_before_the_first_step(folder, few_digits, tmp_path):
    """While torch is still being imported, for instance."""
    process = start(folder / 'test' / 'train_full_1p.sh', '--data_path', few_digits, *TRAIN, '--output_dir=%s' % (tmp_path / 'out'))
    while not ranks_of(tmp_path / 'out'):
        time.sleep(.02)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and 'stopped by a signal' in text.splitlines()[-1], text


def test_a_full_disk_keeps_the_checkpoint_that_is_there(folder, few_digits, trained, tmp_path):
    """The second run may not write files as large as a checkpoint."""
    out = tmp_path / 'out'
    out.mkdir()
    shutil.copy(trained, out / 'checkpoint.pth')
    small = tmp_path / 'small.sh'
    small.write_text('ulimit -f 1000; exec bash "$@"')      # KiB
    result = run(small, folder / 'test' / 'train_full_1p.sh', '--data_path=%s' % few_digits, *TRAIN,
                 '--resume=%s' % (out / 'checkpoint.pth'), '--epochs=3', out=out)
    assert_fails(result, 'cannot be written', 'an earlier checkpoint of that name is untouched')
    assert (out / 'checkpoint.pth').read_bytes() == trained.read_bytes() and not list(out.glob('*.tmp'))


def weights(out):
    """Bytes of all tensors of the model, its average and the optimizer's moments."""
    import torch
    state = torch.load(str(out / 'checkpoint.pth'))
    tensors = list(state['state_dict'].values()) + list((state['state_dict_ema'] or {}).values())
    tensors += [v for moments in state['optimizer']['state'].values() for v in moments.values() if torch.is_tensor(v)]
    return [t.numpy().tobytes() for t in tensors]


def test_a_rank_that_dies_takes_the_others_down(folder, few_digits, tmp_path):
    process = start(folder / 'test' / 'train_full_8p.sh', '--data_path', few_digits, *SMALL, '--nproc_per_node=2',
                    '--batch-size=8', '--epochs=50', '--output_dir=%s' % (tmp_path / 'out'))
    wait_for(process, tmp_path / 'out' / 'metrics.jsonl', '"step": 4,')
    ranks = [pid for pid in ranks_of(tmp_path / 'out') if b'torchrun.py' not in Path('/proc/%d/cmdline' % pid).read_bytes()]
    assert len(ranks) == 2
    begun = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    text = process.communicate(timeout=60)[0]
    assert process.returncode not in (0, None) and time.monotonic() - begun < 45
    assert text.splitlines()[-1].startswith('[Error]') and not ranks_of(tmp_path / 'out'), text


def test_an_earlier_run_is_moved_aside_and_nothing_is_deleted(folder, few_digits, trained, tmp_path):
    """Two runs into one folder: the first one's log, summary and checkpoints are all still there."""
    out = tmp_path / 'out'
    first = run(folder / 'test' / 'train_full_1p.sh', '--data_path', few_digits, *TRAIN, '--seed=1', out=out)
    assert first.code == 0
    kept = {path.read_bytes() for path in out.iterdir()}
    second = run(folder / 'test' / 'train_finetune_1p.sh', '--data_path', few_digits, '--finetune_pth', out / 'checkpoint.pth',
                 *TRAIN, out=out)
    assert second.code == 0, second.text
    assert kept <= {path.read_bytes() for path in out.rglob('*') if path.is_file()}
    assert len(list(out.glob('checkpoint.*.pth'))) == len(list(out.glob('model_best.*.pth'))) == 1
