"""The scripts of VAN's folder, copied away alone and run as a user does: what only real scripts show.

test_every_script.py runs every script of every folder.
"""

import json
import os
import pty
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from helpers import NUMBER, SMALL, VAN, environment, judge, run, start


def check(result, script, batch, fps=True):
    """What holds after every script that ended well. -> its summary"""
    assert judge(result, VAN, script, batch) == [], result.text
    summary = result.summary
    assert NUMBER.match(summary['ActualFPS']) if fps else summary['ActualFPS'] == 'N/A' and summary['FPSReason']
    own = 'eval_' if script.startswith('eval') else ''
    events = [json.loads(line)['event'] for line in (result.out / f'{own}metrics.jsonl').read_text().splitlines()]
    assert [events[0], events[-1]] == ['run', 'end']
    assert json.loads((result.out / f'{own}result.json').read_text())['case_name'] == summary['CaseName']
    if not script.startswith('eval'):
        losses = (result.out / f'train_{summary["CaseName"]}_loss.txt').read_text().split()
        assert len(losses) == events.count('train') and all(map(float, losses))
    return summary


@pytest.fixture(scope='module')
def trained(folder, few_digits, tmp_path_factory):
    """full_8p, from the folder, with recipe options overridden in each spelling."""
    words = [*SMALL, '--batch_size=4', '--epochs', '4', '--lr=1e-3', '--channels_last', '--max-steps', '5']
    out = tmp_path_factory.mktemp('out') / 'full 8p'
    return run('./test/train_full_8p.sh', f'--data_path={few_digits}', *words, cwd=folder, out=out)


def test_full_8p(trained):
    summary = check(trained, 'full_8p', 4)
    assert trained.text.count('* Acc@1') >= 4
    assert float(summary['BestAccuracy']) >= float(summary['TrainAccuracy'])
    # 4 epochs of 5 steps of 32 images, of which the first is warm-up
    measured = trained.events('throughput')[0]
    assert (measured['steps'], measured['images'], measured['warmup_steps']) == (19, 19 * 32, 1)
    assert float(summary['ActualFPS']) == pytest.approx(measured['images'] / measured['seconds'], abs=0.01)


def test_evaluations_agree_to_the_last_digit(trained, folder, few_digits, tmp_path):
    checkpoint, test = trained.out / 'checkpoint.pth', folder / 'test'
    words = [few_digits, checkpoint, '--batch-size=4', '--device=cpu']
    eight = run(test / 'train_eval_8p.sh', *words, out=tmp_path / '8', cwd=tmp_path)
    words = ['--data_path', few_digits, '--resume', checkpoint, '--batch-size', '16', '--device', 'cpu']
    one = run('train_eval_1p.sh', *words, out=tmp_path / '1', cwd=test)
    check(eight, 'eval_8p', 4)
    summary = check(one, 'eval_1p', 16)
    assert summary['ActualAccuracy'] == eight.summary['ActualAccuracy'] == trained.summary['TrainAccuracy']
    assert summary['EvalImages'] == eight.summary['EvalImages'] == '93'


def test_full_1p_then_eval_beside_it(folder, few_digits):
    """Default output folder; the evaluation touches no file of the training."""
    words = ['--data_path', few_digits, *SMALL, '--b', '16', '--epoch=1', '--max-steps=3']
    full = run('train_full_1p.sh', *words, cwd=folder / 'test')
    check(full, 'full_1p', 16)
    checkpoint = full.out / 'checkpoint.pth'
    before = {path: path.read_bytes() for path in full.out.iterdir() if path.name != '.lock'}
    evaluated = run('test/train_eval_1p.sh', few_digits, checkpoint, '--device', 'cpu', cwd=folder)
    check(evaluated, 'eval_1p', 128, fps=False)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_two_runs_want_one_folder(folder, few_digits, tmp_path):
    """A second training is refused and changes nothing of the first; an evaluation may go on beside it."""
    words = [f'--data_path={few_digits}', *SMALL, '--batch-size=16', '--max-steps=3', f'--output_dir={tmp_path}']
    first = start(folder / 'test' / 'train_full_1p.sh', *words, '--epochs=400')
    while not (tmp_path / 'model_best.pth').is_file():
        assert first.poll() is None
        time.sleep(0.1)
    second = run(folder / 'test' / 'train_performance_1p.sh', *words)
    assert second.code == 1 and second.lines[-1].startswith('[Error] a training is at work'), second.text
    assert str(first.pid) in second.lines[-1] and '--output_dir' in second.lines[-1]
    words = [few_digits, tmp_path / 'model_best.pth', '--device=cpu', f'--output_dir={tmp_path}']
    evaluated = run(folder / 'test' / 'train_eval_1p.sh', *words)
    assert evaluated.code == 0, evaluated.text
    first.send_signal(signal.SIGTERM)
    text = first.communicate(timeout=60)[0]
    assert first.returncode == 143, text
    events = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert len({event['run_id'] for event in events}) == 1 and not list(tmp_path.glob('previous'))
    assert (
        run(folder / 'test' / 'train_full_1p.sh', *words[:1], *SMALL, '--max-steps=1', '--epochs=1', out=tmp_path).code
        == 0
    )


def test_performance_1p_takes_a_small_batch_on_a_cpu(folder, few_digits, tmp_path):
    """No size but the model's is given; ASCEND_DEVICE_ID names the output folder."""
    words = [f'--data_path={few_digits}', '--model=van_b0', '--img_size=32', '--device=cpu']
    result = run(folder / 'test' / 'train_performance_1p.sh', *words, cwd=tmp_path, ASCEND_DEVICE_ID='3')
    assert result.code == 0 and result.out.name == '3', result.text
    assert (result.out / 'train_3.log').is_file() and result.summary['CaseName'] == VAN + '_bs8_1p_perf'
    measured = json.loads((result.out / 'result.json').read_text())
    assert (measured['steps'], measured['warmup_steps'], measured['images']) == (10, 2, 80)
    assert measured['step_ms_p50'] <= measured['step_ms_p95'] and 0 <= measured['data_wait'] < 1
    assert measured['eval_images'] == 16


def test_two_machines(folder, few_digits, tmp_path):
    """The same command twice, as on two machines that share a port; the results are on the first."""
    with socket.socket() as s:
        s.bind(('', 0))
        port = str(s.getsockname()[1])
    words = ['--data_path', few_digits, *SMALL, '--nproc_per_node=1', '--batch-size=8', '--epochs=1', '--max-steps=2']
    script, place = (
        folder / 'test' / 'train_full_8p.sh',
        {'NNODES': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port},
    )
    second = start(script, *words, f'--output_dir={tmp_path / "1"}', NODE_RANK='1', **place)
    first = run(script, *words, out=tmp_path / '0', NODE_RANK='0', **place)
    text = second.communicate(timeout=60)[0]
    assert first.code == 0 and first.summary['CaseName'] == VAN + '_bs8_2p_acc', first.text
    assert second.returncode == 0 and 'NODE_RANK=0' in text.splitlines()[-1], text


def test_a_finetuning_makes_a_new_head(trained, folder, data, tmp_path):
    """From ten classes to three: weights kept, head anew, from epoch 0, and it learns."""
    for split in ('train', 'val'):
        for name in '3456789':
            (data / split / name).rename(data / (split + name))
    words = ['--device=cpu', '--batch-size', '8', '--epochs=8', '--lr=1e-3', '--workers=0', '--print-freq=2']
    words += ['--aa=none', '--mixup=0', '--cutmix=0', '--reprob=0', f'--finetune_pth={trained.out / "checkpoint.pth"}']
    result = run(folder / 'test' / 'train_finetune_1p.sh', f'--data_path={data}', *words, out=tmp_path / 'out')
    check(result, 'finetune_1p', 8)
    assert 'head.weight, head.bias' in result.text and result.events('train')[0]['epoch'] == 0
    losses = [event['loss'] for event in result.events('train')]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_a_terminal_gets_a_bar_and_the_log_does_not(folder, few_digits, tmp_path):
    pytest.importorskip('tqdm')
    script, words = folder / 'test' / 'train_performance_1p.sh', [*SMALL, '--batch-size=4', '--max-steps=4']
    command = ['bash', script, f'--data_path={few_digits}', *words, f'--output_dir={tmp_path}']
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment(sys.executable))
        os.system('stty cols 100 rows 30')
        os.execvp('bash', list(map(str, command)))
    said = b''
    try:
        while True:
            said += os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side has closed
        os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0, said.decode()
    assert b'epoch' in said and b'4/4' in said and b'Final Train Accuracy' in said
    assert '4/4 [' not in (Path(tmp_path) / 'train_0.log').read_text()
