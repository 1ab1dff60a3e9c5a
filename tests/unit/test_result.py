"""What is written about a training while it goes on and when it has ended, from made-up events."""

import json
import subprocess
import sys

import pytest

from common import log_parser, result
from common.run_logger import RunLogger
from helpers import TOP

METRICS = 'metrics.jsonl'


def events(complete=True, **run):
    first = dict(event='run', network='Net', case='full', model='m', ranks=8, batch_size=16, device='card')
    found = [dict(first, **run)]
    for epoch in (0, 1):
        found.append(dict(event='train', epoch=epoch, step=5, loss=2.0 - epoch))
        evaluation = dict(event='eval', weights='model', epoch=epoch, acc1=50.0 - epoch, acc5=90.0, images=93, loss=1.5)
        found.append(dict(evaluation, best_acc1=50.0, best_epoch=0))
    found.append(dict(event='eval', weights='ema', epoch=1, acc1=45.0))
    throughput = dict(event='throughput', fps=1234.567, step_ms=103.4, step_ms_p50=100.0, step_ms_p95=120.0)
    found.append(dict(throughput, data_wait=0.01, fps_run=900.0, peak_memory_mb=500.0, steps=9))
    return found + ([dict(event='end', checkpoint='c.pth', complete=True)] if complete else [])


def write_events(folder, found):
    (folder / METRICS).write_text(''.join(json.dumps(event) + '\n' for event in found))


def finish(folder, code=0, case='full'):
    arguments = ['--folder', folder, '--log-name', 'train_0.log', '--case', case, '--network', 'Folder', '--ranks', 8]
    return result.main(['finish', *map(str, arguments), '--code', str(code), '--seconds', '77'])


def summary(folder, case):
    return dict(line.split(' = ') for line in (folder / f'Net_bs16_8p_{case}.log').read_text().splitlines())


def test_a_good_training(tmp_path, capsys):
    also = {'AvgFPS': 'fps', 'MinLoss': 'min_loss', 'MaxAccuracy': 'best_acc1'}
    write_events(tmp_path, events(summary_also=also))
    assert finish(tmp_path) == 0
    found = summary(tmp_path, 'acc')
    expected = {
        'Network': 'Net', 'RankSize': '8', 'BatchSize': '16', 'CaseName': 'Net_bs16_8p_acc', 'Status': 'OK',
        'ActualFPS': '1234.57', 'TrainingTime': '103.40', 'TrainAccuracy': '49.000', 'ActualLoss': '1.0000',
        'E2ETrainingTime': '77', 'BestAccuracy': '50.000', 'BestEpoch': '0', 'EmaAccuracy': '45.000',
        'Checkpoint': 'c.pth', 'AvgFPS': '1234.57', 'MinLoss': '1.0000', 'MaxAccuracy': '50.000', 'Model': 'm',
        'Device': 'card', 'EvalImages': '93', 'StepTimeP50': '100.00', 'StepTimeP95': '120.00', 'DataWait': '0.0100',
        'PeakMemoryMB': '500', 'FPSWholeRun': '900.00',
    }  # fmt: skip
    assert found.pop('DeviceType') and found == expected
    assert (tmp_path / 'train_Net_bs16_8p_acc_loss.txt').read_text() == '2.0\n1.0\n'
    written = json.loads((tmp_path / 'result.json').read_text())
    assert (written['status'], written['fps'], written['case_name']) == ('OK', 1234.567, 'Net_bs16_8p_acc')
    assert capsys.readouterr().out.splitlines() == [
        '------------------ Final result ------------------',
        'Final Performance images/sec : 1234.57',
        'Final Train Accuracy : 49.000',
        'E2E Training Duration sec : 77',
    ]


def test_an_evaluation(tmp_path):
    write_events(tmp_path, [event for event in events(case='eval') if event['event'] != 'train'])
    assert finish(tmp_path, case='eval') == 0
    found = summary(tmp_path, 'eval')
    assert (found['ActualAccuracy'], found['E2EEvalTime'], found['ActualLoss']) == ('49.000', '77', '1.5000')
    assert found['TrainingTime'] == 'N/A' and 'BestAccuracy' not in found
    assert not list(tmp_path.glob('*_loss.txt'))


@pytest.mark.parametrize(
    'log, code, reason',
    [
        (b'Loss: 1\n[Error] val lacks the class 7\nnoise', 1, 'val lacks the class 7'),
        (b'Traceback:\n  File "x"\nmy.OddError: broken \xff\nbye', 1, 'my.OddError: broken \ufffd'),
        (b'[Error] no room (x)\n[Error] another rank ended\n', 1, 'no room (x)'),
        (b'  File "a.py"\nKeyError: \'a\'\n[Error] another rank ended\n', 1, "KeyError: 'a'"),
        (b'Segmentation fault\n\n', 139, 'Segmentation fault'),
        (b'\n', 1, 'the run left an empty log'),
        (None, 1, 'the run left no log'),
        (b'[Error] stopped by SIGTERM at step 3\n', 143, 'stopped by SIGTERM at step 3'),
        (b'Train: 0\n', 143, 'stopped by a signal before there was anything to save'),
        (b'all fine\n', 0, 'the trainer ended without an error but before the end of the run'),
        (b'[Error]\n', 1, ''),
        (b'[Error] a\n[Error] rank 1 was killed by SIGKILL; x\n', 137, 'rank 1 was killed by SIGKILL; x'),
        (
            b'cannsim: EI0002: late\n[Error] rank 0 was killed by SIGABRT\n',
            134,
            'rank 0 was killed by SIGABRT (EI0002: late)',
        ),
    ],
)
def test_a_failed_training(tmp_path, capsys, log, code, reason):
    """No number that looks like a result, whatever the events say; the exit status is never 0."""
    write_events(tmp_path, events(complete=False, summary_also={'AvgFPS': 'fps'}))
    if log is not None:
        (tmp_path / 'train_0.log').write_bytes(log)
    assert finish(tmp_path, code) == (code or 1)
    found = summary(tmp_path, 'acc')
    assert (found['Status'], found['Reason']) == ('FAILED', reason)
    assert {found[k] for k in ('ActualFPS', 'TrainingTime', 'TrainAccuracy', 'ActualLoss', 'AvgFPS')} == {'N/A'}
    assert capsys.readouterr().out.splitlines() == [f'[Error] {reason} (exit {code or 1})']


def test_a_training_that_died_before_its_first_event(tmp_path):
    assert finish(tmp_path, 1, 'performance') == 1
    assert 'Status = FAILED' in (tmp_path / 'Folder_bsNA_8p_perf.log').read_text()


def test_cut_and_foreign_lines_are_left_out(tmp_path):
    path = tmp_path / METRICS
    whole = ''.join(json.dumps(event) + '\n' for event in events())
    for cut in range(0, len(whole), 7):
        path.write_text('noise\n3\n{}\n' + whole[:cut])
        found = result.read_events(str(path))
        assert len(found) - whole[:cut].count('\n') in (0, 1)
        result.summarize(found)


@pytest.mark.parametrize(
    'case, moved',
    [
        ('eval', {METRICS, 'result.json', 'eval_0.log', 'N_eval.log'}),
        ('full', {METRICS, 'result.json', 'eval_0.log', 'N_eval.log', 'train_0.log', 'N_acc.log'}),
    ],
)
def test_files_of_an_earlier_training_are_moved(tmp_path, capsys, case, moved):
    """Twice within a second; checkpoints stay, and an evaluation leaves the files of the training."""
    for _ in range(2):
        for name in (METRICS, 'result.json', 'eval_0.log', 'N_eval.log', 'train_0.log', 'N_acc.log', 'a.pth'):
            (tmp_path / name).touch()
        assert result.main(['begin', '--folder', str(tmp_path), '--log-name', 'eval_0.log', '--case', case]) == 0
        assert str(tmp_path / 'previous') in capsys.readouterr().out
    folders = list((tmp_path / 'previous').iterdir())
    assert len(folders) == 2 and all({path.name for path in folder.iterdir()} == moved for folder in folders)
    assert (tmp_path / 'a.pth').is_file()


def test_a_folder_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert result.main(['begin', '--folder', str(tmp_path / 'file'), '--log-name', 'x', '--case', 'full']) == 1
    err = capsys.readouterr().err
    assert str(tmp_path / 'file') in err and '--output_dir' in err and err.count('\n') == 1


def test_standard_library_only(tmp_path):
    """The commands in an interpreter that sees no site-packages."""
    write_events(tmp_path, events())
    place = [str(tmp_path), '--log-name', 'x', '--case', 'full']
    for module in (['result', 'finish', '--folder', *place], ['log_parser', 'summary', str(tmp_path), '--json']):
        command = [sys.executable, '-S', '-m', f'common.{module[0]}', *module[1:]]
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)['fps'] == 1234.567
    assert log_parser.parse(str(tmp_path / METRICS)).summary()['status'] == 'OK'


def test_other_ranks_are_silent(tmp_path, capsys):
    logger = RunLogger(str(tmp_path), primary=False)
    logger.say('a')
    logger.event('end', complete=True)
    logger.say('b', any_rank=True)
    assert capsys.readouterr().out == 'b\n' and not list(tmp_path.iterdir())


def test_events_are_json_that_any_reader_takes(tmp_path):
    logger = RunLogger(str(tmp_path), primary=True)
    logger.event('run', loss=float('nan'), size=(1, 2), device=tmp_path, nested={1: float('inf')})
    found = result.read_events(str(tmp_path / METRICS))[0]
    logger.file.close()
    assert {key: found[key] for key in ('loss', 'size', 'device', 'nested')} == {
        'loss': None,
        'size': [1, 2],
        'device': str(tmp_path),
        'nested': {'1': None},
    }
