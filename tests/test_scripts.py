"""Every script of VAN's folder, copied away alone and run as a user does: files, lines and numbers of the contract.

The same is done for all folders, more briefly, by ci/smoke.py (ci/versions.sh, test_npu.py).
"""
import json
import socket
from pathlib import Path

import pytest
from conftest import SMALL, VAN, run, start
from smoke import NUMBER, judge


def check(result, script, batch, fps=True):
    """What holds after every run that ended well. -> its summary"""
    assert judge(result, VAN, script, batch) == [], result.text
    summary = result.summary
    assert NUMBER.match(summary['ActualFPS']) if fps else summary['ActualFPS'] == 'N/A' and summary['FPSReason']
    events = [json.loads(line) for line in (result.out / 'metrics.jsonl').read_text().splitlines()]
    assert [events[0]['event'], events[-1]['event']] == ['run', 'end']
    assert json.loads((result.out / 'result.json').read_text())['case_name'] == summary['CaseName']
    if not script.startswith('eval'):
        losses = (result.out / ('train_%s_loss.txt' % summary['CaseName'])).read_text().split()
        assert len(losses) == sum(e['event'] == 'train' for e in events) and all(map(float, losses))
    return summary


@pytest.fixture(scope='module')
def trained(folder, few_digits, tmp_path_factory):
    """full_8p, from the folder, with recipe options overridden in each spelling."""
    out = tmp_path_factory.mktemp('out') / 'full 8p'
    return run('./test/train_full_8p.sh', '--data_path=%s' % few_digits, *SMALL, '--batch_size=4', '--epochs', '4',
               '--lr=1e-3', '--channels_last', '--max-steps', '5', cwd=folder, out=out)


def test_full_8p(trained):
    summary = check(trained, 'full_8p', 4)
    assert 'of warm-up' in trained.text and trained.text.count('* Acc@1') >= 4
    assert float(summary['BestAccuracy']) >= float(summary['TrainAccuracy'])
    # 4 epochs of 5 steps of 32 images, of which the first is warm-up
    events = [json.loads(line) for line in (trained.out / 'metrics.jsonl').read_text().splitlines()]
    measured = next(e for e in events if e['event'] == 'throughput')
    assert (measured['steps'], measured['images'], measured['warmup_steps']) == (19, 19 * 32, 1)
    assert float(summary['ActualFPS']) == pytest.approx(measured['images'] / measured['seconds'], abs=.01)


def test_evaluations_agree_to_the_last_digit(trained, folder, few_digits, tmp_path):
    checkpoint = trained.out / 'checkpoint.pth'
    eight = run(folder / 'test' / 'train_eval_8p.sh', few_digits, checkpoint, '--batch-size=4', '--device=cpu',
                out=tmp_path / '8', cwd=tmp_path)
    one = run('train_eval_1p.sh', '--data_path', few_digits, '--resume', checkpoint, '--batch-size', '16', '--device', 'cpu',
              out=tmp_path / '1', cwd=folder / 'test')
    check(eight, 'eval_8p', 4)
    summary = check(one, 'eval_1p', 16)
    assert summary['ActualAccuracy'] == eight.summary['ActualAccuracy'] == trained.summary['TrainAccuracy']
    assert summary['EvalImages'] == eight.summary['EvalImages'] == '93'


def test_full_1p_then_eval_beside_it(folder, few_digits):
    """Default output folder; the evaluation must not touch the checkpoint that lies there, nor the training's summary."""
    full = run('train_full_1p.sh', '--data_path', few_digits, *SMALL, '--b', '16', '--epoch=1', '--max-steps=3',
               cwd=folder / 'test')
    check(full, 'full_1p', 16)
    checkpoint = full.out / 'checkpoint.pth'
    before = checkpoint.read_bytes()
    evaluated = run('test/train_eval_1p.sh', few_digits, checkpoint, '--device', 'cpu', cwd=folder)
    check(evaluated, 'eval_1p', 128, fps=False)
    assert checkpoint.read_bytes() == before
    assert (full.out / (full.summary['CaseName'].replace('128_1p_eval', '16_1p_acc') + '.log')).is_file()
    assert list((full.out / 'previous').glob('*/metrics.jsonl'))


def test_performance_1p_takes_a_small_batch_on_a_cpu(folder, few_digits, tmp_path):
    """No size but the model's is given; ASCEND_DEVICE_ID names the output folder."""
    result = run(folder / 'test' / 'train_performance_1p.sh', '--data_path=%s' % few_digits, '--model=van_b0',
                 '--img_size=32', '--device=cpu', cwd=tmp_path, ASCEND_DEVICE_ID='3')
    assert result.code == 0 and result.out.name == '3' and 'On a CPU' in result.text, result.text
    assert (result.out / 'train_3.log').is_file() and result.summary['CaseName'] == VAN + '_bs8_1p_perf'
    measured = json.loads((result.out / 'result.json').read_text())
    assert (measured['steps'], measured['warmup_steps'], measured['images']) == (10, 2, 80)
    assert measured['step_ms_p50'] <= measured['step_ms_p95'] and 0 <= measured['data_wait'] < 1
    assert measured['eval_images'] == 16


def test_performance_8p(folder, few_digits, tmp_path):
    result = run(folder / 'test' / 'train_performance_8p.sh', '--data_path', few_digits, *SMALL, '--max-steps', '4',
                 out=tmp_path / 'out')
    check(result, 'performance_8p', 2)


def test_two_machines(folder, few_digits, tmp_path):
    """The same command twice, as on two machines that share a port; the results are on the first."""
    with socket.socket() as s:
        s.bind(('', 0))
        port = str(s.getsockname()[1])
    arguments = ['--data_path', few_digits, *SMALL, '--nproc_per_node=1', '--batch-size=8', '--epochs=1', '--max-steps=2']
    second = start(folder / 'test' / 'train_full_8p.sh', *arguments, '--output_dir=%s' % (tmp_path / '1'), NNODES='2',
                   NODE_RANK='1', MASTER_PORT=port)
    first = run(folder / 'test' / 'train_full_8p.sh', *arguments, out=tmp_path / '0', NNODES='2', NODE_RANK='0', MASTER_PORT=port)
    text = second.communicate(timeout=60)[0]
    assert first.code == 0 and first.summary['CaseName'] == VAN + '_bs8_2p_acc', first.text
    assert second.returncode == 0 and 'NODE_RANK=0' in text.splitlines()[-1], text


WITNESS = """
import atexit, os
from multiprocessing.process import BaseProcess
def write(what):
    with open(os.environ['WITNESS'] + os.environ['RANK'], 'a') as f:
        f.write('%s ' % what)
def terminate(self, terminate=BaseProcess.terminate):
    write('terminated')
    terminate(self)
if 'RANK' in os.environ:
    BaseProcess.terminate = terminate
    atexit.register(lambda: write(len(os.listdir('/proc/self/task'))))
"""


@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='this system does not show the threads of a process')
def test_nothing_of_a_run_is_left_at_its_end(folder, few_digits, tmp_path):
    """No loading process that must be waited for and terminated, and no thread but the main one.

    One of the process group's might abort the process while the interpreter ends: rarely, but after hours of training.
    """
    (tmp_path / 'sitecustomize.py').write_text(WITNESS)
    result = run(folder / 'test' / 'train_full_8p.sh', '--data_path', few_digits, *SMALL, '--nproc_per_node=2', '--workers=1',
                 '--batch-size=4', '--epochs=1', '--max-steps=2', out=tmp_path / 'out', PYTHONPATH=str(tmp_path),
                 WITNESS=str(tmp_path / 'rank'), OMP_NUM_THREADS='1')
    assert result.code == 0, result.text
    assert [(tmp_path / name).read_text() for name in ('rank0', 'rank1')] == ['1 ', '1 ']


def test_finetune_makes_a_new_head(trained, folder, data, tmp_path):
    """From ten classes to three: weights kept, head anew, from epoch 0, and it trains."""
    for split in ('train', 'val'):
        for name in '3456789':
            (data / split / name).rename(data / (split + name))
    result = run(folder / 'test' / 'train_finetune_1p.sh', '--data_path=%s' % data, '--device=cpu',
                 '--finetune_pth=%s' % (trained.out / 'checkpoint.pth'), '--batch-size', '8', '--epochs=8', '--lr=1e-3', '--aa=none',
                 '--mixup=0', '--cutmix=0', '--reprob=0', '--workers=0', '--print-freq=2', out=tmp_path / 'out')
    check(result, 'finetune_1p', 8)
    assert 'made anew: head.weight, head.bias' in result.text and 'Train: 0 [' in result.text
    losses = [float(x) for x in next((tmp_path / 'out').glob('train_*_loss.txt')).read_text().split()]
    assert sum(losses[-4:]) < .8 * sum(losses[:4])
