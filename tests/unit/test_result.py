"""What is written about a training while it goes on and when it has ended, from made-up events."""

import json
import subprocess
import sys

import pytest

from common import log_parser, result, run_folder, run_logger
from common.errors import RANK_ENDED, UserError, killed_by
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


def write_events(folder, found, name=METRICS):
    (folder / name).write_text(''.join(json.dumps(event) + '\n' for event in found))


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
        'Acc@1, last: 49.000, best: 50.000 (epoch 0)',
        '------------------ Final result ------------------',
        'Final Performance images/sec : 1234.57',
        'Final Train Accuracy : 49.000',
        'E2E Training Duration sec : 77',
    ]


@pytest.mark.parametrize('beside_a_training', [False, True])
def test_an_evaluation(tmp_path, capsys, beside_a_training):
    """Its record has names of its own, and the common ones too where no training has them."""
    if beside_a_training:
        write_events(tmp_path, events())
        assert finish(tmp_path) == 0
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    write_events(tmp_path, [event for event in events(case='eval') if event['event'] != 'train'], 'eval_metrics.jsonl')
    assert finish(tmp_path, case='eval') == 0
    assert 'Acc@1, evaluation: 49.000 of 93 images' in capsys.readouterr().out.splitlines()
    found = summary(tmp_path, 'eval')
    assert (found['ActualAccuracy'], found['E2EEvalTime'], found['ActualLoss']) == ('49.000', '77', '1.5000')
    assert found['TrainingTime'] == 'N/A' and 'BestAccuracy' not in found
    assert len(list(tmp_path.glob('*_loss.txt'))) == int(beside_a_training)
    assert all(path.read_text() == text for path, text in before.items())
    case = json.loads((tmp_path / 'result.json').read_text())['case']
    assert case == ('full' if beside_a_training else 'eval') and (tmp_path / 'eval_result.json').is_file()


@pytest.mark.parametrize(
    'log, code, reason',
    [
        (b'Loss: 1\n[Error] val lacks the class 7\nnoise', 1, 'val lacks the class 7'),
        (b'Traceback:\n  File "x"\nmy.OddError: broken \xff\nbye', 1, 'my.OddError: broken \ufffd'),
        (b'[Error] no room (x)\n[Error] another rank ended\n', 1, 'no room (x)'),
        (b'  File "a.py"\nKeyError: \'a\'\n[Error] another rank ended\n', 1, "KeyError: 'a'"),
        (b'\n', 139, 'the trainer was killed by SIGSEGV'),
        (b'\n', 1, 'the trainer ended with exit 1 and gave no reason; its log is empty'),
        (None, 1, 'the trainer ended with exit 1 and gave no reason; it left no log'),
        (b'Train: 0\n', 3, 'the trainer ended with exit 3 and gave no reason; its last line: Train: 0'),
        (b'Exception ignored in: f\nok\n', 1, 'the trainer ended with exit 1 and gave no reason; its last line: ok'),
        (f'[Error] {RANK_ENDED} (x)\nOSError: y\n'.encode(), 1, 'OSError: y'),
        (f'RuntimeError: Connection closed by peer\n[Error] {RANK_ENDED}\n[Error] no room\n'.encode(), 1, 'no room'),
        (f'[Error] {RANK_ENDED} (x)\n'.encode(), 1, f'{RANK_ENDED} (x)'),
        (b'[Error] stopped by SIGTERM at step 3\n', 143, 'stopped by SIGTERM at step 3'),
        (b'Train: 0\n', 143, 'stopped by a signal before it could save; the last checkpoint is as it was'),
        (b'[Error] c.pth cannot be written\n', 143, 'c.pth cannot be written'),
        (
            b'[Error] stopped by SIGTERM at step 3\n',
            137,
            f'the trainer {killed_by("SIGKILL")}; its ranks were stopped by SIGTERM at step 3',
        ),
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
    told = log is not None and log.decode(errors='replace').splitlines()[-1:] == [f'[Error] {reason}']  # by its trainer
    assert capsys.readouterr().out.splitlines() == ([] if told else [f'[Error] {reason} (exit {code or 1})'])


@pytest.mark.parametrize('code, reason', [(1, 'its log is empty'), (130, 'before there was anything to save')])
def test_a_training_that_died_before_its_first_event(tmp_path, code, reason):
    (tmp_path / 'train_0.log').write_text('KeyboardInterrupt\n' if code == 130 else '')
    assert finish(tmp_path, code, 'performance') == code
    said = (tmp_path / 'Folder_bsNA_8p_perf.log').read_text()
    assert 'Status = FAILED' in said and reason in said


def test_another_machine_leaves_the_results_to_the_first(tmp_path, capsys):
    (tmp_path / 'train_0_node1.log').write_text('[Error] no room\nand more\n')
    words = ['--folder', str(tmp_path), '--log-name', 'train_0_node1.log', '--case', 'full', '--node', '1']
    assert result.main(['finish', *words, '--code', '1']) == 1 and result.main(['finish', *words]) == 0
    assert capsys.readouterr().out.splitlines()[0] == '[Error] no room (exit 1)'
    assert [path.name for path in tmp_path.iterdir()] == ['train_0_node1.log']


def test_a_record_that_cannot_be_written_waits(tmp_path, monkeypatch, capsys):
    """A directory stands in its place for a while. Of too many events the oldest are lost, and that is said."""
    monkeypatch.setattr(run_logger, 'MOST_WAITING', 3)
    (tmp_path / METRICS).mkdir()
    logger = RunLogger(str(tmp_path), primary=True)
    for step in range(5):
        logger.event('train', step=step)
    (tmp_path / METRICS).rmdir()
    logger.event('train', step=5)
    logger.event('end', complete=True)
    logger.file.close()
    kept = [event.get('step') for event in result.read_events(str(tmp_path / METRICS))]
    assert kept == [0, 4, 5, None]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and METRICS in said[0] and 'again' in said[1] and '3' in said[1]


def test_cut_and_foreign_lines_are_left_out(tmp_path):
    path = tmp_path / METRICS
    whole = ''.join(json.dumps(event) + '\n' for event in events())
    for cut in range(0, len(whole), 7):
        path.write_text('noise\n3\n{}\n' + whole[:cut])
        found = result.read_events(str(path))
        assert len(found) - whole[:cut].count('\n') in (0, 1)
        result.summarize(found)


def begin(folder, case='full'):
    name = 'eval_0.log' if case == 'eval' else 'train_0.log'
    return result.main(['begin', '--folder', str(folder), '--log-name', name, '--case', case])


OURS = {  # what runs of ours write
    METRICS: '{"event": "run"}\n',
    'result.json': '{"case_name": "x"}',
    'train_0.log': 'Run 1\n',
    'N_bs4_1p_acc.log': 'Network = N\n',
    'train_N_bs4_1p_acc_loss.txt': '2.5\n',
}
EVALUATION = {'eval_metrics.jsonl': '{"event": "run"}\n', 'eval_0.log': 'Run 2\n', 'N_bs4_1p_eval.log': 'Network = N\n'}
FOREIGN = {
    '.bashrc': 'x',
    'thesis.tex': 'x',
    'notes.log': 'x',
    'a.pth': 'x',
    'data.jsonl': '{}',
    'train_loss.txt': 'hello',
}


@pytest.mark.parametrize('case, moved, kept', [('full', OURS, EVALUATION), ('eval', EVALUATION, OURS)])
def test_files_of_an_earlier_run_are_moved_and_no_others(tmp_path, capsys, case, moved, kept):
    """Twice within a second. A training leaves an evaluation's files, and the other way round; a user's files stay always."""
    for _ in range(2):
        for name, text in {**OURS, **EVALUATION, **FOREIGN}.items():
            (tmp_path / name).write_text(text)
        assert begin(tmp_path, case) == 0
        assert str(tmp_path / 'previous') in capsys.readouterr().out
    folders = list((tmp_path / 'previous').iterdir())
    assert len(folders) == 2 and all({path.name for path in folder.iterdir()} == set(moved) for folder in folders)
    assert all((tmp_path / name).read_text() == text for name, text in {**kept, **FOREIGN}.items())


def test_a_log_of_somebody_else_is_left_alone(tmp_path, capsys):
    (tmp_path / 'train_0.log').write_text('the diary of a locomotive\n')
    assert begin(tmp_path) == 1 and 'train_0.log' in capsys.readouterr().err
    assert (tmp_path / 'train_0.log').read_text() == 'the diary of a locomotive\n'


def test_a_failed_start_leaves_the_earlier_run_where_it_was(tmp_path, capsys):
    for name, text in OURS.items():
        (tmp_path / name).write_text(text)
    assert begin(tmp_path) == 0
    assert finish(tmp_path, 1) == 1
    assert all((tmp_path / name).read_text() == text for name, text in OURS.items())
    failed = next((tmp_path / 'failed').iterdir())
    assert 'Status = FAILED' in next(failed.glob('*_acc.log')).read_text() and str(failed) in capsys.readouterr().out


def test_a_failed_start_gives_way_to_the_next_one(tmp_path):
    for reason in ('first', 'second'):
        assert begin(tmp_path) == 0
        (tmp_path / 'train_0.log').write_text(f'[Error] {reason}\n')
        assert finish(tmp_path, 1) == 1
        said = next(tmp_path.glob('*_bsNA_*_acc.log')).read_text()
        assert f'Reason = {reason}\n' in said and not (tmp_path / 'failed').exists()


def test_another_machine_has_its_own_log_in_a_shared_folder(tmp_path):
    """It moves its own earlier log and nothing of the first machine, which is at work there."""
    for name, text in {**OURS, 'train_0_node1.log': 'Run 0\n'}.items():
        (tmp_path / name).write_text(text)
    words = ['--folder', str(tmp_path), '--log-name', 'train_0_node1.log', '--case', 'full', '--node', '1']
    with open(tmp_path / '.lock_node1', 'w+') as lock, run_folder.claim(str(tmp_path), 'full'):
        assert result.main(['begin', *words, '--lock', str(lock.fileno())]) == 0
    assert all((tmp_path / name).read_text() == text for name, text in OURS.items())
    assert [path.name for path in tmp_path.glob('previous/*/*')] == ['train_0_node1.log']


def test_one_training_and_one_evaluation_at_a_time(tmp_path):
    """A second one is refused with the process and the way out; when the first has ended, also by force, the folder is free."""
    first = run_folder.claim(str(tmp_path), 'full', pid=4711)
    with pytest.raises(UserError, match=r'a training is at work.*process 4711, or.*--output_dir'):
        run_folder.claim(str(tmp_path), 'performance')
    run_folder.claim(str(tmp_path), 'eval').close()
    first.close()
    run_folder.claim(str(tmp_path), 'finetune').close()


def test_only_this_runs_events_count(tmp_path, monkeypatch):
    """Another run of the same folder wrote its own, before and after."""
    monkeypatch.setenv('RUN_ID', 'mine')
    mine, other = ([dict(event, run_id=who) for event in events()] for who in ('mine', 'other'))
    for event in other:
        event.update({'fps': 1.0} if event['event'] == 'throughput' else {})
    write_events(tmp_path, other + mine + other)
    assert finish(tmp_path, 0) == 0
    assert summary(tmp_path, 'acc')['ActualFPS'] == '1234.57'


def test_a_folder_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert begin(tmp_path / 'file') == 1
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
