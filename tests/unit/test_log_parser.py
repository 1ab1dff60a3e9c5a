"""The log parser: every format exactly, however a log is damaged; nothing is invented and nothing is raised.

tests/data/logs: short logs by make_logs.py, and in expected.json what they say, worked out from the rules they were made by.
"""

import importlib.util
import io
import json
import math
import random
from contextlib import redirect_stdout
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import log_parser, messages, result
from common.logs import curve, forms, log, reader
from common.run_logger import RunLogger
from helpers import TOP

LOGS = TOP / 'tests' / 'data' / 'logs'
EXPECTED = json.loads((LOGS / 'expected.json').read_text())
PRINTED = {'fps': 2e-3, 'seconds': 2e-3}  # what the rounding of printed times leaves open; everything else is exact
UNEQUAL = ('path', 'problems')
HAVE_PROBLEMS = ('crashed_summary.log', 'crashed_spach.log', 'summary.csv')
NAMES = pytest.mark.parametrize('name', EXPECTED)


@pytest.fixture(params=['sample', pytest.param('whole', marks=pytest.mark.long)])
def whole(request):
    """Damage in many places: by default a sample of them, drawn from fixed seeds."""
    return request.param == 'whole'


def lines_of(name):
    return (LOGS / name).read_bytes().splitlines(True)


def parsed(pieces, **options):
    """The bytes of a log, or a list of them -> its summary."""
    raw = pieces if isinstance(pieces, bytes) else b''.join(pieces)
    return log.Log('log', **options).read(io.BytesIO(raw)).summary()


def equal(a, b):
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=1e-9))


def differences(found, *allowed):
    """The values of a summary that are in none of the others."""
    keys = [key for key in found if key not in UNEQUAL]
    return {key: found[key] for key in keys if not any(equal(found[key], other[key]) for other in allowed)}


def check(found, expected):
    for key, value in expected.items():
        if isinstance(value, float) or (key == 'seconds' and value is not None):
            assert found[key] == pytest.approx(value, rel=PRINTED.get(key, 1e-9)), key
        else:
            assert found[key] == value, key


@NAMES
def test_formats(name):
    found = log_parser.parse(str(LOGS / name)).summary()
    check(found, EXPECTED[name])
    assert found['runs'] == 1 and bool(found['problems']) == (name in HAVE_PROBLEMS)


def test_logs_are_what_their_script_writes(tmp_path):
    spec = importlib.util.spec_from_file_location('make_logs', LOGS / 'make_logs.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: (LOGS / name).read_bytes() for name in EXPECTED
    }


# ---- damage


@NAMES
def test_cut_at_any_byte(name, whole):
    """A log that ends early says what its whole lines say, or, where its last line lacks nothing but the end, that too."""
    raw = (LOGS / name).read_bytes()
    start = raw.rfind(b'\n', 0, max(0, len(raw) - 2000)) + 1
    cuts = range(start, len(raw) + 1)
    for cut in cuts if whole else random.Random(name).sample(cuts, min(len(cuts), 60)):
        begin = raw.rfind(b'\n', 0, cut) + 1
        end = raw.find(b'\n', begin) + 1 or len(raw)
        found, without, complete = parsed(raw[:cut]), parsed(raw[:begin]), parsed(raw[:end])
        differ = differences(found, without, complete)
        if found['status'] == 'FAILED':  # half a sentence is a failure already
            assert (complete['reason'] or '').startswith(differ.pop('reason', ''))
        if found['last_acc1'] == complete['last_acc1']:  # the loss may stand at the very end of the line
            differ.pop('eval_loss', None)
        assert not differ, raw[begin:cut]


@NAMES
def test_what_does_not_change_the_meaning(name, monkeypatch):
    """Lines printed twice, CRLF, ANSI, progress bars, noise in two encodings, small blocks."""
    lines = lines_of(name)
    intact = parsed(lines)
    noise = (
        'nohup: 忽略输入\n'.encode('gbk'),
        'nohup: 忽略输入\n'.encode(),
        b'\xff\xfe\x00\n',
        b' 50%|####    | 5/10\r',
    )
    for dressed in (
        [line * 2 for line in lines],
        [line.replace(b'\n', b'\r\n') for line in lines],
        [noise[i % 4] + line for i, line in enumerate(lines)],
        [b'\x1b[32m' + line[:9] + b'\x1b[0m' + line[9:] for line in lines],
    ):
        assert not differences(parsed(dressed), intact)
    monkeypatch.setattr(reader, 'BLOCK', 97)
    assert not differences(parsed(lines), intact)


ONE_PROCESS = ('metrics.jsonl', 'log.txt', 'summary')  # parts of names of files that one process alone writes


@pytest.mark.parametrize('name', [name for name in EXPECTED if not any(part in name for part in ONE_PROCESS)])
def test_two_ranks(name, whole):
    """Two ranks print the same lines, one behind the other, in any order."""
    lines = lines_of(name)
    intact = parsed(lines)
    for seed in range(20 if whole else 4):
        chance, done, mixed = random.Random(seed), [0, 0], []
        while min(done) < len(lines):
            i = done.index(min(done)) if abs(done[0] - done[1]) >= 6 or max(done) == len(lines) else chance.randrange(2)
            mixed.append(lines[done[i]])
            done[i] += 1
        assert not differences(parsed(mixed), intact), seed


@NAMES
def test_random_bytes(name, whole):
    """Bytes that fall into a line take it away or leave it as it was; no other line is touched.

    No digits and points among them: they would make another number, which nothing can tell from the right one.
    """
    lines = lines_of(name)
    alphabet = bytes(set(range(256)) - set(b'0123456789.'))
    texts = ('reason', 'model', 'network', 'case_name', 'device', 'precision')
    for seed in range(60 if whole else 12):
        chance = random.Random(seed)
        hit = chance.randrange(len(lines))
        at = chance.randrange(len(lines[hit]))
        burst = bytes(chance.choices(alphabet, k=chance.randint(2, 12)))
        damaged = lines[hit][:at] + burst + lines[hit][at:]
        before, after = lines[:hit], lines[hit + 1 :]
        differ = differences(parsed([*before, damaged, *after]), parsed(lines), parsed(before + after))
        if hit == 0 or b'=' in lines[hit] or b'Err' in lines[hit]:  # a text may hold any bytes
            differ = {key: value for key, value in differ.items() if key not in texts}
        assert not differ, (lines[hit], damaged)


WORDS = [line.rstrip() + end for name in EXPECTED for line in lines_of(name)[:60] for end in (b'\n', b'\r', b'')]
ODD = [b'9' * 5000, b'nan', b'-', b'null', b'{"event": ', b'\x1b[', b'1e999', b'Train: 0 [0/0 (0%)]  ']
ODD += [b'{"event": "eval", "acc1": 1, "epoch": "x", "best_acc1": 2, "best_epoch": []}\n', b'{"event": []}\n']
PIECES = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40), st.sampled_from(ODD)), max_size=25)


def nothing_is_raised(pieces, chance):
    raw = b''.join(pieces)
    if raw and chance.random() < 0.5:
        at = chance.randrange(len(raw))
        raw = raw[:at] + bytes([chance.randrange(256)]) + raw[at + chance.randrange(3) :]
    found = parsed(raw)
    json.dumps(found, allow_nan=False)
    assert found['status'] in ('OK', 'FAILED', 'UNFINISHED', None)


def test_nothing_is_raised(whole):
    checks = settings(
        max_examples=2000 if whole else 300,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    checks(given(PIECES, st.randoms())(nothing_is_raised))()


@pytest.mark.parametrize(
    'text', ['{"status": "OK", "environment": [1]}', '{"status": 3, ', '{"a": 1}', '{"a":' * 9999, '']
)
def test_a_file_that_is_no_result(tmp_path, text):
    (tmp_path / 'result.json').write_text(text)
    assert log_parser.parse(str(tmp_path)).summary()['status'] in (None, 'OK')


# ---- several trainings in a log


def test_trainings_are_told_apart():
    lines = lines_of('convmixer.log')
    once, twice = parsed(lines), parsed(lines * 2)
    assert twice['runs'] == 2 and set(differences(twice, once)) == {'runs'}
    middle = next(i for i, line in enumerate(lines) if line.startswith(b'Train: 1 [  50'))
    assert parsed(lines[:middle] + lines)['runs'] == 2
    # killed in epoch 1, and resumed at the beginning of that epoch
    again = next(i for i, line in enumerate(lines) if line.startswith(b'Train: 1 [   0'))
    resumed = parsed(lines[:middle] + lines[again:])
    check(resumed, {'runs': 1, 'resumed': 1, 'steps': 300, 'epochs': 3, 'best_acc1': 60.5})
    assert resumed['seconds'] > once['seconds']
    # the failure of an earlier training is not that of the last one
    failed = lines_of('crashed.log')
    check(parsed(failed + lines), {'status': 'OK', 'runs': 2})
    assert parsed(lines + failed)['status'] == 'FAILED'


def test_our_own_resumed_training():
    lines = lines_of('ours.log')
    cut = next(i for i, line in enumerate(lines) if line.startswith(b'Train: 1 [  50'))
    sign = messages.RESUMED_LINE.format(resume='/out/checkpoint.pth', epoch=1, step=40).encode() + b'\n'
    found = parsed([*lines[:cut], *lines[:2], sign, *lines[cut - 1 :]])
    check(found, {'runs': 1, 'resumed': 1, 'steps': 300, 'epochs': 3})


# ---- what our writer writes

FIELDS = dict(
    case='full', model='van_b0', parameters=4.1234, classes=10, img_size=224, ranks=8, device_kind='npu',
    device='Ascend 910 (B)', precision='float32', train_size=1000, steps=120, global_batch=512, epochs=30, lr=1.5e-4,
    workers=4, resume='/a b/c.pth', epoch=3, step=7, percent=5.8, loss=2.34567, fps=12345.678, step_ms=41.4444,
    data_percent=1.25, eta='1 day, 2:03:04', acc1=81.2345, acc5=95.4321, images=50000, seconds=12.34,
    note=', a sample of 60000', warmup_steps=20, step_ms_p50=40.04, step_ms_p95=50.05, peak_memory_mb=12345.6,
    fps_reason='the run has 3 steps and the first 3 are warm-up',
)  # fmt: skip


@pytest.mark.parametrize('name', [name for name in vars(messages) if name.endswith('_LINE')])
def test_every_template_is_read_back(name):
    template = getattr(messages, name)
    line = template.format(**FIELDS).encode().strip()
    form, found, _ = forms.match(line, forms.candidates_of(line))
    if form is None:
        form = forms.TRAIN_FORMS[0]
        found = form.regex.match(line + b'\n')
    assert form.name.startswith('own ')
    for field, raw in found.groupdict().items():
        if field == 'stamp':
            continue
        spec = template.partition('{' + field + ':')[2].partition('}')[0]
        assert raw.decode() == format(FIELDS[field], spec).strip(), field


def write_training(folder):
    """metrics.jsonl and the lines on stdout of a small training, by our own writer."""
    logger = RunLogger(str(folder), primary=True)
    run = dict(network='Net', case='full', model='m', ranks=2, batch_size=16, device='card', device_kind='npu')
    run.update(precision='float32', environment={'versions': {'torch': '2.1'}}, args={}, summary_also=None)
    logger.event('run', **run)
    for step in (10, 20, 30):
        loss = 2.5 - step / 30
        logger.train(epoch=0, step=step, steps=30, loss=loss, fps=320.0, step_ms=100.0, data_wait=0.1, lr=1e-3, eta=9)
    best = dict(best_acc1=51.5, best_epoch=0)
    logger.evaluation(epoch=0, weights='model', acc1=51.5, acc5=91.0, loss=1.25, images=100, seconds=2.0, **best)
    measured = dict(fps=318.25, fps_reason=None, fps_run=300.0, step_ms=100.5, step_ms_p50=100.0, step_ms_p95=120.0)
    measured.update(data_wait=0.1, steps=24, warmup_steps=6, images=768, seconds=2.4, peak_memory_mb=100.0)
    logger.event('throughput', **measured)
    logger.say(messages.THROUGHPUT_LINE.format(data_percent=10.0, **measured))
    logger.event('end', checkpoint='c.pth', complete=True)
    logger.file.close()


def test_all_that_our_writer_leaves_says_the_same(tmp_path):
    with redirect_stdout((tmp_path / 'train_0.log').open('w')) as file, file:
        write_training(tmp_path)
    with redirect_stdout((tmp_path / 'stdout.log').open('w')) as file, file:
        assert result.finish(str(tmp_path), 'train_0.log', 'Net', 'full', 2, 0, 7) == 0
    wanted = {'fps': 318.25, 'best_acc1': 51.5, 'last_acc1': 51.5, 'final_loss': 1.5, 'fps_claimed': 318.25}
    measured = {'fps_source': 'measured', 'status': 'OK', 'problems': []}
    for name, more in (
        ('', {'format': 'metrics', 'network': 'Net', **measured}),
        ('metrics.jsonl', {'format': 'metrics', **measured}),
        ('result.json', {'format': 'result', **measured}),
        ('Net_bs16_2p_acc.log', {'format': 'summary', 'ranks': 2, **measured}),
        ('train_0.log', {'format': 'ours', 'steps': 30, **measured}),
        ('stdout.log', {'final_loss': None, 'fps_source': 'claimed', 'status': None}),
    ):
        check(log_parser.parse(str(tmp_path / name)).summary(), {**wanted, **more})


# ---- bounded memory


def test_curves_are_bounded():
    long = curve.Curve()
    for i in range(100):
        long.extend(777, lambda k, i=i: (i * 777 + k, 0.0))
    points = long.all()
    assert len(points) <= curve.MOST + 1 and points[0][0] == 0 and points[-1][0] == 77699
    assert len({b[0] - a[0] for a, b in pairwise(points[:-1])}) == 1


def test_memory_does_not_grow_with_trainings_or_problems():
    raw = (LOGS / 'convmixer.log').read_bytes() * 110 + b'* Acc@1 8\n' * 1000
    found = log.Log('log').read(io.BytesIO(raw))
    assert found.begun == 110 and len(found.runs) == log.MAX_RUNS and len(found.problems) == log.MAX_PROBLEMS + 1


def test_target_and_batch():
    found = log_parser.parse(str(LOGS / 'metrics.jsonl'))
    assert found.summary(target_acc=50.0)['seconds_to_target'] == 200.0
    assert found.summary(target_acc=61.0)['seconds_to_target'] is None
    given = log_parser.parse(str(LOGS / 'imagenet.log'), batch=512).summary()
    assert given['fps'] == pytest.approx(1149.434, rel=1e-3)
