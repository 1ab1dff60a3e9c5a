"""The commands of the log parser: python -m common.log_parser summary | compare | check | plot | table."""

import importlib.util
import json

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


def test_compare(call):
    assert call('compare', 'timm.log', 'timm.log')[0] == 0
    code, out, err = call('compare', 'ours.log', 'timm.log')
    assert code == 1 and 'fps is worse' in err and 'peak_memory_mb' in out and 'only in A' in out
    assert call('compare', 'ours.log', 'timm.log', '--fail-under', 'fps=0.5')[0] == 0
    assert 'fps is missing in B' in call('compare', 'timm.log', 'imagenet.log')[2]
    assert call('compare', 'imagenet.log', 'timm.log')[0] == 0
    assert 'fps is missing in A' in call('compare', 'imagenet.log', 'timm.log', '--fail-under', 'fps=1')[2]
    out = call('compare', 'summary.log', 'summary_spach.log', '--scaling', '2')[1]
    assert '389.9 %' in out and 'Warning: above 105 %' in out


def test_table(call, tmp_path):
    lines = call('table', 'metrics.jsonl', 'crashed.log')[1].splitlines()
    assert lines[2] == '| 8p-NPU | 60.500 | 1869.52 | measured | - | 3 | float16 | 2.1.0 |' and '| FAILED |' in lines[3]
    one = (LOGS / 'metrics.jsonl').read_text().replace('"ranks": 8', '"ranks": 1').replace('1869.52', '210.0')
    (tmp_path / '1p.jsonl').write_text(one)
    _, out, err = call('table', tmp_path / '1p.jsonl', 'metrics.jsonl')
    assert '| 111.3 % |' in out and 'Warning: 8p-NPU scales above 105 %' in err


def test_plot(call, tmp_path):
    for end in ('svg', 'html'):
        path = tmp_path / f'curves.{end}'
        assert call('plot', 'timm.log', 'deit.log', '-o', path)[0] == 0
        drawn = path.read_text()
        assert drawn.count('<polyline') == 5 and '</svg>' in drawn
        assert 'http' not in drawn.replace('http://www.w3.org/2000/svg', '')
    code, _, err = call('plot', 'timm.log', '-o', tmp_path / 'curves.png')
    if importlib.util.find_spec('matplotlib') is None:
        assert code == 1 and 'matplotlib' in err
    else:
        assert code == 0 and (tmp_path / 'curves.png').read_bytes()[1:4] == b'PNG'


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
    ],
)
def test_mistakes_are_one_sentence(call, tmp_path, arguments, word):
    code, _, err = call(*(a.format(empty=tmp_path) for a in arguments))
    assert code == 1 and word.format(empty=tmp_path) in err and err.startswith('[Error] ') and err.count('\n') == 1
