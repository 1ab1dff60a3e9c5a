"""Throughput, and what is written about a run: on made-up clocks and events, so that the numbers are exact."""
import json
import subprocess
import sys

import pytest
from conftest import TOP

from common import log_summary, run_log, throughput


class Clock:
    """An accelerator whose device takes the time it is told."""

    device = None

    def __init__(self, monkeypatch):
        self.now = 0.
        monkeypatch.setattr(throughput.time, 'perf_counter', lambda: self.now)

    def mark(self):
        return self.now

    def seconds(self, a, b):
        return b - a

    def synchronize(self):
        pass

    def peak_memory(self):
        return 3 * 2 ** 20


class TwoRanks:
    """A second rank that did the same, a little slower."""

    def sum(self, values, device):
        return [2. * v for v in values]

    def max(self, values, device):
        return [1.25 * v for v in values]


class OneRank:
    def sum(self, values, device):
        return list(map(float, values))

    max = sum


def test_fps_is_images_over_seconds_of_the_same_steps(monkeypatch):
    """Two epochs of 4 steps; the first 2 steps are warm-up; a pause between the epochs (an evaluation) does not count."""
    clock = Clock(monkeypatch)
    meter = throughput.Throughput(clock, warmup_steps=2)
    for epoch in range(2):
        meter.open()
        for seconds in (9., 9., 1., 3.) if epoch == 0 else (1., 1., 1., 1.):
            clock.now += seconds
            meter.step(10, waited=.5)
        meter.close()
        clock.now += 100.
    result = meter.result(OneRank())
    assert (result['steps'], result['images'], result['seconds']) == (6, 60, 8.)
    assert result['fps'] == 60 / 8 and result['step_ms'] == pytest.approx(8000 / 6)
    assert (result['step_ms_p50'], result['step_ms_p95']) == (1000., 3000.)
    assert result['data_wait'] == 6 * .5 / 8 and result['fps_run'] == 80 / 226 and result['peak_memory_mb'] == 3
    assert meter.result(TwoRanks())['fps'] == 2 * 60 / (8 * 1.25)      # all ranks' images, the slowest rank's seconds


def test_too_short_a_run_says_why(monkeypatch):
    clock = Clock(monkeypatch)
    meter = throughput.Throughput(clock, warmup_steps=3)
    meter.open()
    for _ in range(3):
        clock.now += 1.
        meter.step(10, 0.)
    meter.close()
    result = meter.result(OneRank())
    assert result['fps_run'] == 10.
    assert result['fps'] is result['step_ms'] is result['step_ms_p95'] is None
    assert result['fps_reason'] == 'the run has 3 steps and the first 3 are warm-up'


@pytest.mark.parametrize('asked, steps, expected', [(None, 120, 20), (None, 12, 2), (None, 3, 1), (None, 5000, 20), (7, 12, 7),
                                                    (0, 12, 0)])
def test_warmup(asked, steps, expected):
    assert throughput.warmup_steps(asked, steps) == expected


def events(complete=True):
    found = [dict(event='run', network='Net', case='full', model='m', ranks=8, batch_size=16, device='card')]
    for epoch in (0, 1):
        found.append(dict(event='train', epoch=epoch, step=5, loss=2. - epoch))
        found.append(dict(event='eval', weights='model', epoch=epoch, acc1=50. - epoch, acc5=90., images=93, loss=1.,
                          best_acc1=50., best_epoch=0))
    found.append(dict(event='throughput', fps=1234.567, step_ms=103.4, step_ms_p50=100., step_ms_p95=120., data_wait=.01,
                      fps_run=900., peak_memory_mb=500., steps=9))
    return found + ([dict(event='end', checkpoint='c.pth', complete=True)] if complete else [])


def write_events(folder, found):
    folder.mkdir(exist_ok=True)
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(e) + '\n' for e in found))


def finish(folder, code=0, case='full'):
    return run_log.finish(str(folder), 'train_0.log', 'Folder', case, 8, code, 77)


def test_summary_of_a_good_run(tmp_path, capsys):
    write_events(tmp_path, events())
    assert finish(tmp_path) == 0
    summary = dict(line.split(' = ') for line in (tmp_path / 'Net_bs16_8p_acc.log').read_text().splitlines())
    assert summary['ActualFPS'] == '1234.57' and summary['TrainingTime'] == '103.40'
    assert (summary['TrainAccuracy'], summary['BestAccuracy'], summary['BestEpoch']) == ('49.000', '50.000', '0')
    assert (summary['ActualLoss'], summary['E2ETrainingTime']) == ('1.0000', '77')
    assert (tmp_path / 'train_Net_bs16_8p_acc_loss.txt').read_text() == '2.0\n1.0\n'
    assert capsys.readouterr().out.splitlines()[-3:] == [
        'Final Performance images/sec : 1234.57', 'Final Train Accuracy : 49.000', 'E2E Training Duration sec : 77']


@pytest.mark.parametrize('log, code, reason', [
    (b'Loss: 1\n[Error] val lacks the class 7\nnoise', 1, 'val lacks the class 7'),
    (b'Traceback (most recent call last):\n  File "x"\nmy.OddError: broken \xff\nbye', 1, 'my.OddError: broken \ufffd'),
    (b'Segmentation fault\n', 139, 'Segmentation fault'), (b'', 1, 'the run left an empty log'),
    (None, 1, 'the run left no log'), (b'all fine\n', 0, 'the trainer ended without an error but before the end of the run'),
])
def test_summary_of_a_failed_run(tmp_path, capsys, log, code, reason):
    """No number that looks like a result, whatever the events say; the exit status is never 0."""
    write_events(tmp_path, events(complete=False))
    if log is not None:
        (tmp_path / 'train_0.log').write_bytes(log)
    assert finish(tmp_path, code) == (code or 1)
    summary = dict(line.split(' = ') for line in (tmp_path / 'Net_bs16_8p_acc.log').read_text().splitlines())
    assert (summary['Status'], summary['Reason']) == ('FAILED', reason)
    assert {summary[k] for k in ('ActualFPS', 'TrainingTime', 'TrainAccuracy', 'ActualLoss')} == {'N/A'}
    assert capsys.readouterr().out.splitlines() == ['[Error] %s (exit %d)' % (reason, code or 1)]


def test_a_run_that_died_before_its_first_word(tmp_path, capsys):
    assert finish(tmp_path, 1, 'performance') == 1
    assert 'Status = FAILED' in (tmp_path / 'Folder_bsNA_8p_perf.log').read_text()


def test_cut_and_foreign_lines_are_problems_not_errors(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    whole = ''.join(json.dumps(e) + '\n' for e in events())
    for cut in range(0, len(whole), 7):
        path.write_text('noise\n' + whole[:cut])
        found, problems = log_summary.read_events(str(path))
        assert problems[0].endswith(':1: not an event') and len(found) >= whole[:cut].count('\n')
        log_summary.summarize(found)


def test_parser_needs_the_standard_library_only(tmp_path):
    """As a command, in an interpreter that sees no site-packages."""
    write_events(tmp_path, events())
    done = subprocess.run([sys.executable, '-S', '-m', 'common.log_parser', 'summary', str(tmp_path), '--json'], cwd=TOP,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)['fps'] == 1234.567
    empty = subprocess.run([sys.executable, '-S', '-m', 'common.log_parser', 'summary', str(tmp_path / 'no')], cwd=TOP,
                           capture_output=True, text=True)
    assert empty.returncode == 1 and '[Error]' in empty.stderr
