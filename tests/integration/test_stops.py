"""Trainings that are stopped, killed or out of disk: what they save, how they go on, what becomes of earlier files."""

import os
import signal
import time
from pathlib import Path

import pytest

from helpers import SMALL, content, fails, run, start, train

TRAIN = [*SMALL, '--batch-size', '8', '--epochs', '2', '--max-steps', '2']
APEX = ['--device=npu', '--amp', '--amp-impl=apex', '--opt-level=O2']


def wait_for(process, path, text, limit=120):
    """Until the file holds the text."""
    end = time.monotonic() + limit
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.05)
    process.kill()
    pytest.fail(f'{path} never showed {text!r}:\n{process.communicate()[0]}')


def processes_of(out):
    """{id: its parent's} of the processes that run train.py with this output folder."""
    found = {}
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / 'cmdline').read_bytes().split(b'\0')
                parent = int((entry / 'stat').read_text().rpartition(')')[2].split()[1])
            except OSError:  # gone meanwhile
                continue
            if any(word.endswith(b'/train.py') for word in words) and b'--output-dir=%s' % os.fsencode(out) in words:
                found[int(entry.name)] = parent
    return found


@pytest.mark.parametrize('script, extra, signum, code', [
    pytest.param('train_full_1p.sh', ['--model-ema'], signal.SIGINT, 130, marks=pytest.mark.long),
    ('train_full_8p.sh', ['--nproc_per_node=2'], signal.SIGTERM, 143),
    pytest.param('train_full_1p.sh', ['--model-ema', *APEX], signal.SIGTERM, 143, marks=pytest.mark.long),
], ids=['1p INT', '2p TERM', 'apex O2 TERM'])  # fmt: skip
def test_a_stopped_run_saves_and_goes_on_as_if_nothing_had_been(
    folder, few_digits, tmp_path, request, script, extra, signum, code
):
    """The run that was stopped and resumed gives the same weights, to the bit, as one that was not.

    The signal goes to all its processes, DataLoader workers too, as from a terminal, torchrun or a scheduler.
    """
    sizes = ['--workers=2', '--batch-size', '8', '--epochs', '2', '--print-freq', '1', '--max-steps=12']
    words = ['--data_path', few_digits, *SMALL, *extra, *sizes, '--lr=1e-3', '--warmup-epochs=1']
    script, env = folder / 'test' / script, request.getfixturevalue('npu') if '--device=npu' in extra else {}
    whole = run(script, *words, out=tmp_path / 'whole', **env)
    assert whole.code == 0, whole.text
    process = start(script, *words, f'--output_dir={tmp_path / "cut"}', **env)
    wait_for(process, tmp_path / 'cut' / 'metrics.jsonl', '"epoch": 0, "step": 4,')
    os.killpg(process.pid, signum)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == code, text
    assert 'stopped by' in text.splitlines()[-1] and '--resume=' in text.splitlines()[-1]
    assert 'Status = FAILED' in next((tmp_path / 'cut').glob('*_acc.log')).read_text()
    rest = run(script, *words, '--resume', tmp_path / 'cut' / 'checkpoint.pth', out=tmp_path / 'cut', **env)
    assert rest.code == 0, rest.text
    assert rest.summary['TrainAccuracy'] == whole.summary['TrainAccuracy']
    assert rest.summary['BestAccuracy'] == whole.summary['BestAccuracy']
    assert content(tmp_path / 'cut' / 'checkpoint.pth') == content(tmp_path / 'whole' / 'checkpoint.pth')


def test_a_stop_before_the_first_step(folder, few_digits, tmp_path):
    """While torch is still being imported, for instance."""
    out = tmp_path / 'out'
    process = start(folder / 'test' / 'train_full_1p.sh', '--data_path', few_digits, *TRAIN, f'--output_dir={out}')
    while not processes_of(out):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and 'stopped by a signal' in text.splitlines()[-1], text


def test_a_rank_that_dies_takes_the_others_down(folder, few_digits, tmp_path):
    out = tmp_path / 'out'
    arguments = [*SMALL, '--nproc_per_node=2', '--batch-size=8', '--epochs=50', f'--output_dir={out}']
    process = start(folder / 'test' / 'train_full_8p.sh', '--data_path', few_digits, *arguments)
    wait_for(process, out / 'metrics.jsonl', '"step": 4,')
    found = processes_of(out)
    ranks = sorted(pid for pid, parent in found.items() if pid not in found.values())  # the launcher has children
    assert len(ranks) == 2, found
    begun = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    text = process.communicate(timeout=60)[0]
    assert process.returncode not in (0, None) and time.monotonic() - begun < 45
    assert text.splitlines()[-1].startswith('[Error]') and not processes_of(out), text


def test_a_full_disk_keeps_the_checkpoint_that_is_there(folder, few_digits, tmp_path):
    """The second run may not write files as large as a checkpoint."""
    out = tmp_path / 'out'
    assert train(folder, few_digits, *TRAIN, out=out).code == 0
    before = (out / 'checkpoint.pth').read_bytes()
    small = tmp_path / 'small.sh'
    small.write_text('ulimit -f 1000; exec bash "$@"')  # KiB
    words = [f'--data_path={few_digits}', *TRAIN, f'--resume={out / "checkpoint.pth"}', '--epochs=3']
    result = run(small, folder / 'test' / 'train_full_1p.sh', *words, out=out)
    fails(result, 'cannot be written', 'untouched')
    assert (out / 'checkpoint.pth').read_bytes() == before and not list(out.glob('*.tmp'))


def test_an_earlier_run_is_moved_aside_and_nothing_is_deleted(folder, few_digits, tmp_path):
    """Two runs into one folder: the first one's log, summary and checkpoints are all still there."""
    out = tmp_path / 'out'
    script = folder / 'test' / 'train_full_1p.sh'
    assert run(script, '--data_path', few_digits, *TRAIN, '--seed=1', out=out).code == 0
    kept = {path.read_bytes() for path in out.iterdir() if path.name != '.lock'}
    words = ['--data_path', few_digits, '--finetune_pth', out / 'checkpoint.pth', *TRAIN]
    second = run(folder / 'test' / 'train_finetune_1p.sh', *words, out=out)
    assert second.code == 0, second.text
    assert kept <= {path.read_bytes() for path in out.rglob('*') if path.is_file()}
    assert len(list(out.glob('checkpoint.*.pth'))) == len(list(out.glob('model_best.*.pth'))) == 1
