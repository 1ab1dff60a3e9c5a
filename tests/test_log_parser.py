"""The log parser: every format exactly, however a log is damaged; nothing is invented and nothing is raised.

tests/data/logs: short logs by make_logs.py, and in expected.json what they say, worked out from the rules they were made by.
"""
import importlib.util
import io
import json
import random
import subprocess
import sys

import pytest
from conftest import TOP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import log_formats, log_parser, log_report, log_runs, run_log

LOGS = TOP / 'tests' / 'data' / 'logs'
EXPECTED = json.loads((LOGS / 'expected.json').read_text())
PRINTED = {'fps': 2e-3, 'seconds': 2e-3}        # what the rounding of printed times leaves open; everything else is exact
ROUGH = ('path', 'problems')


def parsed(raw, **options):
    """A log's bytes -> its summary, as parse() of a file of them gives it."""
    return log_parser.Log('log', **options).read(io.BytesIO(raw)).summary()


def same(a, b, but=ROUGH):
    for key in a:
        if key not in but:
            assert a[key] == pytest.approx(b[key], rel=1e-9) if isinstance(a[key], float) else a[key] == b[key], key
    return True


def check(found, expected):
    for key, value in expected.items():
        if isinstance(value, float) or key == 'seconds':
            assert found[key] == pytest.approx(value, rel=PRINTED.get(key, 1e-9)), key
        else:
            assert found[key] == value, key


@pytest.mark.parametrize('name', EXPECTED)
def test_formats(name):
    found = log_parser.parse(str(LOGS / name)).summary()
    check(found, EXPECTED[name])
    assert found['runs'] == 1 and bool(found['problems']) == ('crashed_' in name)


def test_logs_are_what_their_script_writes(tmp_path):
    subprocess.run([sys.executable, LOGS / 'make_logs.py', tmp_path], check=True)
    for name in EXPECTED:
        assert (tmp_path / name).read_bytes() == (LOGS / name).read_bytes()


@pytest.mark.parametrize('name', EXPECTED)
def test_quick_expressions(name):
    """What the regex for a whole block finds is what the form's own regex finds in the line; and it finds nearly all that stands alone."""
    lines = (LOGS / name).read_bytes().splitlines(True)
    alone = [line for line in lines if (log_parser.match(line.rstrip())[0] or log_formats.LINES[-1]).kind == 'train' and line[:1] in b'TE{']
    for line in alone:
        form, found = log_parser.match(line.rstrip())
        assert form.quick.fullmatch(line).groups() == found.groups()
        assert form.quick.findall((line + b'nothing\n') * 3) == form.quick.findall(line) * 3
    assert alone or name in ('spach.log', 'mlperf.log', 'stdout.log') or 'summary' in name or 'crashed' in name


# ---- damage

@pytest.mark.parametrize('name', EXPECTED)
def test_cut_at_every_byte(name):
    """A log that ends early says what its whole lines say, or, where the last line is whole but for its end, that too."""
    raw = (LOGS / name).read_bytes()
    start = raw.rfind(b'\n', 0, max(0, len(raw) - 2000)) + 1
    answers = {}
    for cut in range(start, len(raw) + 1):
        begin = raw.rfind(b'\n', 0, cut) + 1
        if begin not in answers:
            end = raw.find(b'\n', begin) + 1 or len(raw)
            answers[begin] = (parsed(raw[:begin]), parsed(raw[:end]))
        found = parsed(raw[:cut])
        without, whole = answers[begin]
        differ = {k: (found[k], without[k], whole[k]) for k in found if k not in ROUGH and found[k] not in (without[k], whole[k])}
        if found['status'] == 'FAILED':
            assert (whole['reason'] or '').startswith(differ.pop('reason', ('',))[0])      # half a sentence is a failure already
        if found['last_acc1'] == whole['last_acc1']:
            differ.pop('eval_loss', None)                                                   # stands at the very end of its line
        assert not differ, raw[begin:cut]


@pytest.mark.parametrize('name', EXPECTED)
def test_dress(name):
    """What does not change a log's meaning: lines printed twice, CRLF, ANSI, progress bars, noise in two encodings, small blocks."""
    raw = (LOGS / name).read_bytes()
    intact, lines = parsed(raw), raw.splitlines(True)
    noise = ('nohup: 忽略输入\n'.encode('gbk'), 'nohup: 忽略输入\n'.encode(), b'\xff\xfe\x00\n', b' 50%|#####     | 5/10 [00:01<00:01]\r')
    nohup = b''.join(noise[i % 4] + line for i, line in enumerate(lines))
    for dressed in (b''.join(line * 2 for line in lines), raw.replace(b'\n', b'\r\n'), nohup,
                    b''.join(b'\x1b[32m' + line[:9] + b'\x1b[0m' + line[9:] for line in lines)):
        assert same(intact, parsed(dressed))
    block = log_parser.BLOCK
    try:
        log_parser.BLOCK = 97
        assert same(intact, parsed(raw))
    finally:
        log_parser.BLOCK = block


@pytest.mark.parametrize('name', EXPECTED)
def test_two_ranks(name):
    """Two ranks print the same lines, one behind the other or in any order."""
    raw = (LOGS / name).read_bytes()
    intact, lines = parsed(raw), raw.splitlines(True)
    if name in ('metrics.jsonl',) or 'summary' in name:
        return                  # written by one rank
    for seed in range(20):
        chance, ranks, mixed = random.Random(seed), [list(lines), list(lines)], []
        while ranks[0] or ranks[1]:
            i = chance.randrange(2) if abs(len(ranks[0]) - len(ranks[1])) < 6 else len(ranks[1]) > len(ranks[0])
            if ranks[i]:
                mixed.append(ranks[i].pop(0))
            else:
                mixed += ranks[1 - i]
                break
        assert same(intact, parsed(b''.join(mixed))), seed


@pytest.mark.parametrize('name', EXPECTED)
def test_random_bytes(name):
    """Bytes that fall into a line take it away or leave it as it was; no other line is touched.

    Digits and points are left out of the bytes: they make another number of the one they fall into, which nothing can tell.
    """
    raw = (LOGS / name).read_bytes()
    lines = raw.splitlines(True)
    alphabet = bytes(set(range(256)) - set(b'0123456789.'))
    for seed in range(60):
        chance = random.Random(seed)
        hit = chance.randrange(len(lines))
        at = chance.randrange(len(lines[hit]))
        burst = bytes(chance.choice(alphabet) for _ in range(chance.randint(2, 12)))
        damaged = lines[hit][:at] + burst + lines[hit][at:]
        found = parsed(b''.join(lines[:hit] + [damaged] + lines[hit + 1:]))
        but = ROUGH + (('reason', 'model', 'network', 'case_name', 'device', 'precision') if b'=' in lines[hit] or b'Err' in lines[hit] or hit == 0 else ())
        others = [parsed(b''.join(lines[:hit] + instead + lines[hit + 1:])) for instead in ([lines[hit]], [])]
        differ = {k: found[k] for k in found if k not in but and found[k] not in (others[0][k], others[1][k])}
        assert not differ, (lines[hit], damaged)


WORDS = [line + end for name in EXPECTED for line in (LOGS / name).read_bytes().splitlines()[:60] for end in (b'\n', b'\r', b'')]


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40), st.sampled_from(
    [b'9' * 5000, b'nan', b'-', b'null', b'{"event": ', b':::MLLOG {', b'\x1b[', b'1e999', b'Train: 0 [0/0 (0%)]  '])), max_size=25), st.randoms())
def test_nothing_is_raised(pieces, chance):
    raw = b''.join(pieces)
    if raw and chance.random() < .5:
        at = chance.randrange(len(raw))
        raw = raw[:at] + bytes([chance.randrange(256)]) + raw[at + chance.randrange(3):]
    found = parsed(raw)
    json.dumps(found, allow_nan=False)
    assert found['status'] in ('OK', 'FAILED', None)


# ---- several runs

def test_runs_are_told_apart():
    raw = (LOGS / 'convmixer.log').read_bytes()
    lines = raw.splitlines(True)
    once = parsed(raw)
    assert same(once, parsed(raw + raw), ROUGH + ('runs',)) and parsed(raw + raw)['runs'] == 2
    second = next(i for i, line in enumerate(lines) if line.startswith(b'Train: 1 [  50'))
    assert parsed(b''.join(lines[:second]) + raw)['runs'] == 2
    # killed in epoch 1 and gone on with from its beginning
    again = next(i for i, line in enumerate(lines) if line.startswith(b'Train: 1 [   0'))
    resumed = parsed(b''.join(lines[:second] + lines[again:]))
    assert (resumed['runs'], resumed['resumed'], resumed['steps'], resumed['epochs']) == (1, 1, 300, 3)
    assert resumed['seconds'] > once['seconds'] and resumed['best_acc1'] == 60.5
    # a crash before it is not the later run's
    failed = (LOGS / 'crashed.log').read_bytes()
    assert parsed(failed + raw)['status'] is None and parsed(failed + raw)['runs'] == 2
    assert parsed(raw + failed)['status'] == 'FAILED'


def test_our_own_resumed_run():
    raw = (LOGS / 'ours.log').read_bytes()
    lines = raw.splitlines(True)
    cut = next(i for i, line in enumerate(lines) if line.startswith(b'Train: 1 [  50'))
    sign = log_formats.RESUMED_LINE.format(resume='/out/checkpoint.pth', epoch=1, step=40).encode() + b'\n'
    found = parsed(b''.join(lines[:cut] + lines[:2] + [sign] + lines[cut - 1:]))
    assert (found['runs'], found['resumed'], found['steps'], found['epochs']) == (1, 1, 300, 3)


# ---- what our writer writes

FIELDS = dict(case='full', model='van_b0', parameters=4.1234, classes=10, img_size=224, ranks=8, device_kind='npu', device='Ascend 910 (B)',
              precision='float32', train_size=1000, steps=120, global_batch=512, epochs=30, lr=1.5e-4, workers=4, resume='/a b/c.pth', epoch=3, step=7,
              percent=5.8, loss=2.34567, fps=12345.678, step_ms=41.4444, data_percent=1.25, eta='1 day, 2:03:04', acc1=81.2345, acc5=95.4321,
              images=50000, seconds=12.34, note=', a sample of 60000', warmup_steps=20, step_ms_p50=40.04, step_ms_p95=50.05, peak_memory_mb=12345.6,
              fps_reason='the run has 3 steps and the first 3 are warm-up')
TEMPLATES = [name for name in vars(log_formats) if name.endswith('_LINE')]


@pytest.mark.parametrize('name', TEMPLATES)
def test_every_template_is_read_back(name):
    template = getattr(log_formats, name)
    line = template.format(**FIELDS).encode()
    form, found = log_parser.match(line)
    assert form.name.startswith('own ')
    for field, raw in found.groupdict().items():
        spec = template.partition('{' + field + ':')[2].partition('}')[0] if '{' + field + ':' in template else ''
        assert raw.decode() == format(FIELDS[field], spec).strip(), field


def test_the_writer_of_runs_is_read_back(tmp_path, capsys):
    """metrics.jsonl by RunLog, then result.json and the summary by finish: each alone says the same, and the lines on stdout too."""
    log = run_log.RunLog(str(tmp_path), primary=True)
    log.event('run', network='Net', case='full', model='m', ranks=2, batch_size=16, device='card', device_kind='npu', precision='float32',
              environment={'versions': {'torch': '2.1'}}, args={}, summary_also=None)
    for step in (10, 20, 30):
        log.train(epoch=0, step=step, steps=30, loss=2.5 - step / 30, fps=320., step_ms=100., data_wait=.1, lr=1e-3, eta=9)
    log.evaluation(epoch=0, weights='model', acc1=51.5, acc5=91., loss=1.25, images=100, seconds=2., best_acc1=51.5, best_epoch=0)
    measured = dict(fps=318.25, fps_reason=None, fps_run=300., step_ms=100.5, step_ms_p50=100., step_ms_p95=120., data_wait=.1, steps=24, warmup_steps=6,
                    images=768, seconds=2.4, peak_memory_mb=100.)
    log.event('throughput', **measured)
    log.say(log_formats.THROUGHPUT_LINE.format(data_percent=10., **measured))
    log.event('end', checkpoint='c.pth', complete=True)
    log.file.close()
    (tmp_path / 'train_0.log').write_text(capsys.readouterr().out)
    assert run_log.finish(str(tmp_path), 'train_0.log', 'Net', 'full', 2, 0, 7) == 0
    (tmp_path / 'stdout.log').write_text(capsys.readouterr().out)
    wanted = {'fps': 318.25, 'best_acc1': 51.5, 'last_acc1': 51.5, 'final_loss': 1.5, 'fps_claimed': 318.25}
    for path, more in ((tmp_path, {'format': 'metrics', 'network': 'Net'}), (tmp_path / 'metrics.jsonl', {'format': 'metrics'}),
                       (tmp_path / 'result.json', {'format': 'result'}), (tmp_path / 'Net_bs16_2p_acc.log', {'format': 'summary', 'ranks': 2}),
                       (tmp_path / 'train_0.log', {'format': 'ours', 'steps': 30}), (tmp_path / 'stdout.log', {'final_loss': None})):
        found = log_parser.parse(str(path)).summary()
        check(found, dict(wanted, fps_source='claimed' if path.name == 'stdout.log' else 'measured', **more))
        assert found['status'] == (None if path.name == 'stdout.log' else 'OK') and found['problems'] == []


# ---- numbers

def test_percentiles_of_many_values():
    times = log_runs.Times()
    times.update(b'%.3f' % (i / 1000) for i in range(1, 101))
    assert (times.percentile(50), times.percentile(95)) == (.05, .095)
    for block in range(10):
        times.update(b'%.6f' % ((block * 10000 + i) / 1e5) for i in range(1, 10001))
    assert len(times.counts) <= 2 * log_runs.VALUES and times.percentile(50) == pytest.approx(.5, rel=.005)


def test_curves_are_bounded():
    curve = log_runs.Curve()
    for i in range(100):
        curve.extend(777, lambda k: (i * 777 + k, 0.))
    points = curve.all()
    assert len(points) <= log_runs.CURVE + 1 and points[0][0] == 0 and points[-1][0] == 77699
    assert len({b[0] - a[0] for a, b in zip(points[:-2], points[1:-1])}) == 1


def test_memory_does_not_grow_with_runs_or_problems():
    log = log_parser.Log('log').read(io.BytesIO((LOGS / 'convmixer.log').read_bytes() * 150 + b'* Acc@1 8\n' * 1000))
    assert log.begun == 150 and len(log.runs) == log_parser.MAX_RUNS and len(log.problems) == log_parser.MAX_PROBLEMS + 1


def test_target_and_mfu():
    log = log_parser.parse(str(LOGS / 'metrics.jsonl'))
    found = log.summary(target_acc=50., model_flops=1e9, peak_tflops=100.)
    assert found['seconds_to_target'] == 200. and found['mfu'] == pytest.approx(3 * 1869.52e9 / 100e12)
    assert log.summary(target_acc=61.)['seconds_to_target'] is None and log.summary(model_flops=1e9)['mfu'] is None
    assert log_parser.parse(str(LOGS / 'imagenet.log'), batch=512).summary()['fps'] == pytest.approx(1149.434, rel=1e-3)


# ---- commands

def call(capsys, *arguments):
    code = log_parser.main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def test_summary_command(capsys, tmp_path):
    code, out, err = call(capsys, 'summary', LOGS / 'spach.log')
    assert code == 0 and 'claimed: all images of the epoch' in out
    code, out, err = call(capsys, 'summary', LOGS / 'crashed.log')
    assert out.startswith('FAILED: RuntimeError: HCCL')
    code, out, err = call(capsys, 'summary', LOGS / 'imagenet.log', '--json')
    found = json.loads(out)
    assert found['fps'] is None and found['problems'] == [] and len(found['loss_curve']) == 30
    assert '| best_acc1 | 60.5 |' in call(capsys, 'summary', LOGS / 'timm.log', '--markdown')[1]
    head, row = call(capsys, 'summary', LOGS / 'timm.log', '--csv')[1].splitlines()
    assert dict(zip(head.split(','), row.split(',')))['best_acc1'] == '60.5'
    (tmp_path / 'noise.log').write_text('nothing\n')
    assert call(capsys, 'summary', tmp_path / 'noise.log')[0] == 1


def test_check_command(capsys):
    assert call(capsys, 'check', LOGS / 'timm.log', '--require', 'fps,acc,loss,epochs')[0] == 0
    code, out, err = call(capsys, 'check', LOGS / 'imagenet.log')
    assert code == 1 and 'fps is missing' in err and 'images a step has' in err
    for name in ('crashed.log', 'crashed_summary.log', 'crashed_spach.log'):
        code, out, err = call(capsys, 'check', LOGS / name, '--require', 'epochs')
        assert code == 1 and err.startswith('FAILED: ')


def test_compare_command(capsys):
    assert call(capsys, 'compare', LOGS / 'timm.log', LOGS / 'timm.log')[0] == 0
    code, out, err = call(capsys, 'compare', LOGS / 'ours.log', LOGS / 'timm.log')
    assert code == 1 and 'fps is worse' in err and 'peak_memory_mb' in out and 'only in A' in out
    assert call(capsys, 'compare', LOGS / 'ours.log', LOGS / 'timm.log', '--fail-under', 'fps=0.5')[0] == 0
    assert 'fps is missing in B' in call(capsys, 'compare', LOGS / 'timm.log', LOGS / 'imagenet.log')[2]
    code, out, err = call(capsys, 'compare', LOGS / 'summary.log', LOGS / 'summary_spach.log', '--scaling', '2')
    assert '389.9 %' in out and 'Warning: above 105 %' in out


def test_table_command(capsys, tmp_path):
    lines = call(capsys, 'table', LOGS / 'metrics.jsonl', LOGS / 'crashed.log')[1].splitlines()
    assert lines[2] == '| 8p-NPU | 60.500 | 1869.52 | measured | - | 3 | float16 | 2.1.0 |' and '| FAILED |' in lines[3]
    one = (LOGS / 'metrics.jsonl').read_text().replace('"ranks": 8', '"ranks": 1').replace('1869.52', '210.0')
    (tmp_path / '1p.jsonl').write_text(one)
    code, out, err = call(capsys, 'table', tmp_path / '1p.jsonl', LOGS / 'metrics.jsonl')
    assert '| 111.3 % |' in out and 'Warning: 8p-NPU scales above 105 %' in err


def test_plot_command(capsys, tmp_path):
    for end in ('svg', 'html'):
        path = tmp_path / ('curves.' + end)
        assert call(capsys, 'plot', LOGS / 'timm.log', LOGS / 'deit.log', '-o', path)[0] == 0
        drawn = path.read_text()
        assert drawn.count('<polyline') == 5 and '</svg>' in drawn and 'http' not in drawn.replace('http://www.w3.org/2000/svg', '')
    code, out, err = call(capsys, 'plot', LOGS / 'timm.log', '-o', tmp_path / 'curves.png')
    if importlib.util.find_spec('matplotlib') is None:
        assert code == 1 and 'needs matplotlib' in err
    else:
        assert code == 0 and (tmp_path / 'curves.png').read_bytes()[1:4] == b'PNG'


@pytest.mark.parametrize('arguments, words', [
    (['summary', 'no such.log'], 'no such.log: No such file'), (['check', '{empty}'], 'holds no metrics.jsonl'),
    (['plot', '{timm}', '-o', 'curves.gif'], '.svg, .html or .png'), (['compare', '{timm}', '{timm}', '--fail-under', 'fps'], "--fail-under 'fps'"),
    (['compare', '{timm}', '{timm}', '--fail-under', 'speed=1'], "'speed'"), (['check', '{timm}', '--require', 'speed'], "'speed'"),
    (['compare', '{timm}', '{timm}', '--scaling'], 'do not state their ranks'), (['plot', '{mlperf}x', '-o', 'x.svg'], 'No such file')])
def test_mistakes_are_one_sentence(capsys, tmp_path, arguments, words):
    code, out, err = call(capsys, *(a.format(empty=tmp_path, timm=LOGS / 'timm.log', mlperf=LOGS / 'mlperf.log') for a in arguments))
    assert code == 1 and words in err and err.startswith('[Error] ') and err.count('\n') == 1
    assert log_report.show(None) == 'N/A'
