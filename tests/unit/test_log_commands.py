"""The commands of the log parser: python -m common.log_parser summary | compare | check | plot | table."""

import io
import json
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from common import log_parser
from helpers import TOP

LOGS = TOP / 'tests' / 'data' / 'logs'


@pytest.fixture
def call(capsys):
    """-> exit status, stdout and stderr of a command; names of logs without a folder are those of tests/data/logs."""

    def call(*arguments):
        places = [str(LOGS / a) if (LOGS / a).is_file() else str(a) for a in arguments]
        return log_parser.main(places), *capsys.readouterr()

    return call


def test_summary(call, tmp_path):
    code, out, _ = call('summary', 'spach.log')
    assert code == 0 and 'claimed: all images of the epoch' in out
    assert call('summary', 'crashed.log')[1].startswith('FAILED: RuntimeError: HCCL')
    found = json.loads(call('summary', 'imagenet.log', '--json')[1])
    assert found['fps'] is None and found['problems'] == [] and len(found['loss_curve']) == 30
    assert '| best_acc1 | 60.5 |' in call('summary', 'timm.log', '--markdown')[1]
    head, row = call('summary', 'timm.log', '--csv')[1].splitlines()
    assert dict(zip(head.split(','), row.split(',')))['best_acc1'] == '60.5'
    (tmp_path / 'noise.log').write_text('nothing\n')
    assert call('summary', tmp_path / 'noise.log')[0] == 3


def test_check(call):
    assert call('check', 'timm.log', '--require', 'fps,acc,loss,epochs')[0] == 0
    code, _, err = call('check', 'imagenet.log')
    assert code == 1 and 'fps is missing' in err and '--batch' in err
    for name in ('crashed.log', 'crashed_summary.log', 'crashed_spach.log'):
        code, _, err = call('check', name, '--require', 'epochs')
        assert code == 1 and err.startswith('FAILED: ')


def test_check_of_limits(call, tmp_path):
    assert call('check', 'timm.log', '--min', 'acc1=60.5', 'fps=1000', '--target-acc', '60', '--finished')[0] == 0
    for more, word in (
        (['--min', 'acc1=61'], 'acc1 is 60.5, and at least 61'),
        (['--min', 'fps=1e6'], 'fps is'),
        (['--min', 'acc1=60', 'ema_acc1=1'], 'ema_acc1 is missing'),
        (['--target-acc', '75.9'], 'best_acc1 is 60.5, and at least 75.9'),
    ):
        code, _, err = call('check', 'timm.log', *more)
        assert code == 1 and word in err and err.count('\n') == 1
    cut = tmp_path / 'cut.log'
    cut.write_bytes(b''.join((LOGS / 'timm.log').read_bytes().splitlines(True)[:20]))
    assert call('check', cut, '--require', 'fps')[0] == 0
    code, _, err = call('check', cut, '--require', 'fps', '--finished')
    assert code == 1 and 'the log ends in epoch' in err
    assert 'does not say' in call('check', 'imagenet.log', '--require', 'acc', '--finished')[2]


def test_check_for_a_ci(call, tmp_path):
    report = tmp_path / 'report.xml'
    code, out, err = call('check', 'crashed.log', '--require', 'fps,acc', '--junit', report, '--markdown')
    assert code == 1 and '| status | FAILED | FAILED: RuntimeError' in out and 'acc is missing' in err
    suite = ElementTree.parse(report).getroot()
    assert suite.tag == 'testsuite' and (suite.get('tests'), suite.get('failures')) == ('3', '2')
    assert [case.get('name') for case in suite if case.find('failure') is not None] == ['status', 'acc']
    (tmp_path / 'odd.log').write_text('RuntimeError: \x01 <&>\n')
    assert call('check', tmp_path / 'odd.log', '--junit', report)[0] == 1 and ElementTree.parse(report)


def test_formats_that_are_not_known_have_an_exit_status(call, tmp_path):
    for text in ('epoch 1, loss 2.0\n', '{"epoch": 1}\n{"epoch": 2}\n', 'epoch,loss\n1,2\n'):
        (tmp_path / 'other.log').write_text(text)
        for command in ('summary', 'check'):
            code, out, err = call(command, tmp_path / 'other.log')
            assert code == 3 and 'the format is not known; looked for' in out + err and 'FAILED' not in out + err
    assert call('table', tmp_path / 'other.log', 'timm.log')[1].count('format not known') == 1
    code, _, err = call('compare', tmp_path / 'other.log', tmp_path / 'other.log')
    assert code == 1 and err.count('the format is not known') == 2
    (tmp_path / 'other.log').write_text('RuntimeError: no card\n')
    assert [call(command, tmp_path / 'other.log')[0] for command in ('summary', 'check')] == [1, 1]


def test_a_run_of_a_file(call, tmp_path):
    (tmp_path / 'two.log').write_bytes(
        b''.join((LOGS / name).read_bytes() for name in ('crashed.log', 'convmixer.log'))
    )
    both = str(tmp_path / 'two.log')
    statuses = [
        json.loads(call('summary', both + run, '--json')[1])['status'] for run in ('', '#1', '#2', '#-1', '#-2')
    ]
    assert statuses == ['OK', 'FAILED', 'OK', 'OK', 'FAILED']
    assert '#1' in call('summary', both)[1]
    code, _, err = call('check', both + '#3')
    assert code == 1 and 'there is no run 3' in err
    assert call('table', both + '#1', both + '#2')[1].count('FAILED') == 1
    (tmp_path / 'a#1').write_bytes((LOGS / 'timm.log').read_bytes())  # a name may have such an end
    assert call('check', tmp_path / 'a#1')[0] == 0


def test_standard_input(call, monkeypatch):
    for name in ('timm.log', 'result'):
        raw = b'{"status": "OK", "fps": 5.0, "last_acc1": 7}' if name == 'result' else (LOGS / name).read_bytes()
        monkeypatch.setattr('sys.stdin', io.TextIOWrapper(io.BufferedReader(io.BytesIO(raw))))
        code, out, _ = call('summary', '-', '--json')
        assert code == 0 and json.loads(out)['status'] == 'OK' and json.loads(out)['path'] == '-'


def test_one_folder_is_enough(tmp_path):
    """As a CI image may have it: common/ copied alone, an interpreter without any package."""
    shutil.copytree(TOP / 'common', tmp_path / 'common')
    log = str(LOGS / 'swin.log')
    command = [sys.executable, '-S', '-m', 'common.log_parser', 'check', log, '--min', 'acc1=60', '--finished']
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    library = f'from common.log_parser import *; print(parse({log!r}).summary()["best_acc1"])'
    assert subprocess.check_output([sys.executable, '-S', '-c', library], cwd=tmp_path, text=True) == '60.5\n'


@pytest.mark.parametrize('bad', ['NaN', 'Infinity', '-Infinity', '1e999'])
def test_json_holds_no_nan(call, tmp_path, bad):
    (tmp_path / 'result.json').write_text(
        f'{{"status": "OK", "fps": {bad}, "ranks": {bad}, "last_acc1": {bad}, "epochs": {bad}}}'
    )
    (tmp_path / 'a.jsonl').write_text(
        f'{{"event": "run", "time": {bad}, "ranks": {bad}, "batch_size": {bad}, "args": {{"epochs": {bad}}}}}\n'
    )
    for name in ('result.json', 'a.jsonl'):
        out = call('summary', tmp_path / name, '--json')[1]
        assert json.loads(out, parse_constant=lambda name: pytest.fail(name))['ranks'] is None


def test_compare(call):
    assert call('compare', 'timm.log', 'timm.log')[0] == 0
    code, out, err = call('compare', 'ours.log', 'timm.log')
    assert code == 1 and 'fps is worse' in err and 'peak_memory_mb' in out and 'only in A' in out
    assert call('compare', 'ours.log', 'timm.log', '--fail-under', 'fps=0.5')[0] == 0
    assert 'fps is missing in B' in call('compare', 'timm.log', 'imagenet.log')[2]
    assert call('compare', 'imagenet.log', 'timm.log')[0] == 0
    assert 'fps is missing in A' in call('compare', 'imagenet.log', 'timm.log', '--fail-under', 'fps=1')[2]
    code, out, err = call(
        'compare', 'timm.log', 'timm.log', 'vit.log', 'ours.log', '--fail-under', 'fps=0.97,acc=0.5', '--markdown'
    )
    assert code == 1 and 'fps is worse in C' in err and err.count('\n') == 1 and '| B/A | C/A | D/A |' in out
    assert '| fps |' in out and 'D = ours.log' in out and 'claimed' not in out
    out = call('compare', 'summary.log', 'summary_spach.log', '--scaling', '2')[1]
    assert '389.9 %' in out and 'Warning: above 105 %' in out


def test_table(call, tmp_path):
    lines = call('table', 'metrics.jsonl', 'crashed.log')[1].splitlines()
    assert lines[2] == '| 8p-NPU | van_b0 | 58.125 | 60.500 | 1869.52 | measured | - | 3 | float16 | 2.1.0 |'
    assert '| FAILED |' in lines[3]
    one = (LOGS / 'metrics.jsonl').read_text().replace('"ranks": 8', '"ranks": 1').replace('1869.52', '210.0')
    (tmp_path / '1p.jsonl').write_text(one)
    _, out, err = call('table', tmp_path / '1p.jsonl', 'metrics.jsonl')
    assert '| 111.3 % |' in out and 'Warning: 8p-NPU scales above 105 %' in err
    code, out, err = call('table', 'no such.log', 'metrics.jsonl')
    assert code == 1 and '| 8p-NPU |' in out and 'no such.log' in err and err.count('\n') == 1


def test_plot(call, tmp_path):
    """Axes say what they are, each curve stands in the legend with its model and run; the warm-up is marked."""
    pytest.importorskip('matplotlib')
    for end, begin in (('png', b'\x89PNG'), ('pdf', b'%PDF'), ('svg', b'<?xml')):
        path = tmp_path / f'curves.{end}'
        assert call('plot', 'ours.log', 'log.txt', '-o', path)[0] == 0 and path.read_bytes().startswith(begin)
    words = re.findall(r'>([^<>\n]+)</text>', path.read_text())
    for said in 'Loss|Acc@1 (%)|Learning rate|FPS (images/s)|Epoch|van_b0, ours.log: train|log.txt: validation'.split(
        '|'
    ):
        assert words.count(said) == 1, said
    assert words.count('warm-up, not counted') == 1
    assert call('plot', 'ours.log', '-o', path, '--panels', 'acc')[0] == 0
    words = re.findall(r'>([^<>\n]+)</text>', path.read_text())
    assert 'Acc@1 (%)' in words and 'Loss' not in words


def test_plot_without_matplotlib(call, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    code, _, err = call('plot', 'ours.log', '-o', tmp_path / 'curves.png')
    assert code == 1 and 'pip install matplotlib' in err and err.count('\n') == 1


@pytest.mark.parametrize(
    'arguments, word',
    [
        (['summary', 'no such.log'], 'no such.log'),
        (['check', '{empty}'], '{empty}'),
        (['plot', 'timm.log', '-o', 'curves.gif'], 'curves.gif'),
        (['plot', 'summary.log', '-o', 'curves.svg'], 'summary.log'),
        (['compare', 'timm.log', 'timm.log', '--fail-under', 'fps'], "--fail-under 'fps'"),
        (['compare', 'timm.log', 'timm.log', '--fail-under', 'speed=1'], "'speed'"),
        (['compare', 'vit.log', 'timm.log', '--scaling'], '--scaling 8'),
        (['check', 'timm.log', '--require', 'speed'], "'speed'"),
        (['check', 'timm.log', '--min', 'speed=1'], "'speed'"),
        (['check', 'timm.log', '--min', 'fps=nan'], 'nan'),
        (['check', 'timm.log', '--min', 'acc1=0.759'], 'give 75.9'),
        (['check', 'timm.log', '--target-acc', '0.759'], 'give 75.9'),
        (['summary', 'timm.log', '--target-acc', '101'], 'percent'),
        (['check', 'timm.log', '--junit', '{empty}/no/such.xml'], 'no/such.xml'),
    ],
)
def test_mistakes_are_one_sentence(call, tmp_path, arguments, word):
    code, _, err = call(*(a.format(empty=tmp_path) for a in arguments))
    assert code == 1 and word.format(empty=tmp_path) in err and err.startswith('[Error] ') and err.count('\n') == 1


@pytest.mark.parametrize(
    'arguments',
    [['summary', 'timm.log', '--batch', '-5'], ['summary', 'timm.log', '--batch', '0'], ['compare', 'a'], []],
)
def test_wrong_arguments(call, arguments):
    with pytest.raises(SystemExit) as e:
        call(*arguments)
    assert e.value.code == 2
