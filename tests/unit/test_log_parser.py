"""The log parser: every format exactly, however a log is damaged; nothing is invented and nothing is raised.

tests/data/logs: short logs by make_logs.py, and in expected.json what they say, worked out from the rules they were made by.
"""

import gzip
import importlib.util
import io
import json
import math
import random
import re
import time
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


STEPS = 'convmixer timm spach vit twins deit convnext van imagenet imagenet_old swin mlla torchvision ours'.split()


@pytest.mark.parametrize('name', [*map('{}.log'.format, STEPS), 'metrics.jsonl'])
def test_a_line_with_what_is_no_number(name):
    """A training line whose loss is damaged is left out, and that is said; a damaged learning rate is on no curve."""
    lines = lines_of(name)
    at = next(i for i, line in enumerate(lines) if re.search(rb'\b(?:5[01]|60)/ *100\b|"step": 60', line))
    damaged = re.sub(rb'(\b[Ll]oss"?:? +)(\d)', rb'\g<1>4.\2', lines[at], count=1)
    assert damaged != lines[at]
    found = parsed([*lines[:at], damaged, *lines[at + 1 :]])
    assert not differences(found, parsed(lines[:at] + lines[at + 1 :]))
    assert any('left out' in problem for problem in found['problems'])
    odd = [re.sub(rb'(\b(?:lr|LR)"?:? +)(\d)', rb'\g<1>4.\2', line) for line in lines]
    if name != 'ours.log':  # whose lines are taken in their exact form only
        assert set(differences(parsed(odd), parsed(lines))) <= {'lr_curve'}


def test_an_older_timm_is_told_by_the_digits_of_its_loss(monkeypatch):
    """Four that count, where today's prints three; also below 1, and when both stand in one file."""
    old, new = b''.join(lines_of('convmixer.log')), b''.join(lines_of('timm.log'))
    small = [
        re.sub(rb'Loss: \d\.(\d+)', rb'Loss: %s' % zeros + rb'1\g<1>', log)
        for log in (old, new)
        for zeros in (b'0.', b'0.0')
    ]
    assert [parsed(log)['format'] for log in small] == ['convmixer'] * 2 + ['timm'] * 2
    monkeypatch.setattr(reader, 'BLOCK', 997)
    assert [parsed(log)['format'] for log in (new + old, old + new)] == ['convmixer', 'timm']


TORCH_NPU = (  # what torch_npu 2.12 itself writes between the lines of a training that goes well
    '[W1126 04:47:26.241 NPUCachingAllocator.cpp:203] Warning: The current CANN and Soc versions require processing for 32 padding '
    'size, with memory allocation. (function operator())\n',
    '[rank0]:[W1126 04:47:26.384 AmpForeachNonFiniteCheckAndUnscaleKernelNpuOpApi.cpp:132] Warning: Non finite check and unscale on '
    'NPU device! (function operator())\n',
    'Gradient overflow. Skipping step\nLoss scaler reducing loss scale to 32768.0\n',
    '[WARNING] [991] profiler.py: Invalid parameter aic_metrics, reset it to AiCMetrics.PipeUtilization.\n',
    '[W1126 04:50:08.630 ToKernelNpu.cpp:40] Warning: Device do not support double dtype now, dtype cast replace with float.\n',
)


@pytest.mark.parametrize('name', ['ours.log', 'timm.log', 'van.log'])
def test_the_lines_of_torch_npu_change_nothing(name):
    lines = lines_of(name)
    dressed = [piece for i, line in enumerate(lines) for piece in (line, TORCH_NPU[i % len(TORCH_NPU)].encode())]
    assert not differences(parsed(dressed), parsed(lines))


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


ODD_VALUES = (math.nan, math.inf, 'x', '', [math.nan], {'a': math.nan}, True, -5, 0, 2.5, 10**30, None)


@pytest.mark.parametrize('odd', ODD_VALUES, ids=str)
def test_odd_values_of_json(odd, tmp_path):
    """Whatever a field holds: a summary that is JSON, and a table."""
    events = [json.loads(line) for line in lines_of('metrics.jsonl')]
    firsts = {event['event']: event for event in reversed(events)}
    result = {
        'status': 'OK',
        'environment': {'versions': {}},
        **firsts['run'],
        **firsts['throughput'],
        **firsts['eval'],
    }
    records = [json.loads(line) for line in lines_of('log.txt')]
    for changed, others in [(result, [])] + [(event, events) for event in firsts.values()] + [(records[0], records)]:
        for key in changed:
            lines = [json.dumps({**changed, key: odd})] + [json.dumps(other) for other in others]
            path = tmp_path / f'odd.{"json" if changed is result else "jsonl"}'
            path.write_text('\n'.join([*lines, '']))
            json.dumps(log_parser.parse(str(path)).summary(), allow_nan=False)
            assert log_parser.main(['table', str(path)]) in (0, 1)


@pytest.mark.parametrize(
    'text', ['{"status": "OK", "environment": [1]}', '{"status": 3, ', '{"a": 1}', '{"a":' * 9999, '']
)
def test_a_file_that_is_no_result(tmp_path, text):
    (tmp_path / 'result.json').write_text(text)
    assert log_parser.parse(str(tmp_path)).summary()['status'] in (None, 'OK')


# ---- what one log does not say, and another does

METERS = 'Epoch: [{epoch}]  [{step:>3d}/100]  eta: 0:00:30  lr: 0.1  {before}loss: {loss} ({loss})  time: 0.2500  data: 0.0100  max mem: 99'
STEPS = [METERS.format(epoch=0, step=step, loss='1.5000', before='') for step in range(0, 60, 10)]
ENDED = 'Training time 0:10:00'


def of_lines(*lines, **options):
    return parsed('\n'.join([*lines, '']).encode(), **options)


@pytest.mark.parametrize('words', ['network', 'model'])
def test_an_accuracy_belongs_to_the_weights_that_the_next_line_names(words):
    """The averaged weights are evaluated before the first epoch: their 0.1 is not the model's."""
    averaged = {'network': 'ema network on the', 'model': 'model EMA on'}[words]
    at_first = [' * Acc@1 0.103 Acc@5 0.511', f'Accuracy of the {averaged} 50000 test images: 0.1%']
    model = [
        ' * Acc@1 46.441 Acc@5 71.012',
        f'Accuracy of the {words} on the 50000 test images: 46.4%',
        'Max accuracy: 46.44%',
    ]
    after = [
        ' * Acc@1 2.125 Acc@5 4.000',
        f'Accuracy of the {averaged} 50000 test images: 2.1%',
        'Max EMA accuracy: 2.13%',
    ]
    check(of_lines(*at_first), {'best_acc1': None, 'last_acc1': None, 'ema_acc1': 0.103})
    whole = of_lines(*at_first, *STEPS, *model, *after)
    check(whole, {'best_acc1': 46.441, 'last_acc1': 46.441, 'ema_acc1': 2.125, 'problems': []})
    cut = of_lines(*at_first, *STEPS, *model, after[0])
    check(cut, {'best_acc1': 46.441, 'last_acc1': 46.441, 'ema_acc1': 0.103})
    assert 'averaged weights' in cut['problems'][0]
    unlabelled = of_lines(*STEPS, model[0])  # the log ends before it says whose it was
    assert unlabelled['best_acc1'] is None and 'averaged weights' in unlabelled['problems'][0]


def test_the_best_metric_is_that_of_the_weights_that_were_evaluated_last():
    lines = (LOGS / 'timm.log').read_text().splitlines()
    averaged = [
        line.replace('Test: ', 'Test (EMA): ').replace('58.125', '70.000')
        for line in lines
        if line.startswith('Test: ')
    ]
    found = of_lines(*lines[:-1], *averaged, '*** Best metric: 70.0 (epoch 2)')
    check(found, {'best_acc1': 60.5, 'best_epoch': 1, 'last_acc1': 58.125, 'ema_acc1': 70.0})


def test_mlperf_is_not_read():
    said = {
        'namespace': '',
        'time_ms': 1,
        'event_type': 'POINT_IN_TIME',
        'key': 'eval_accuracy',
        'value': 0.75,
        'metadata': {},
    }
    check(
        of_lines(':::MLLOG ' + json.dumps(said)), {'format': None, 'best_acc1': None, 'seconds': None, 'status': None}
    )


@pytest.mark.parametrize(
    'fps, time, wanted',
    [
        ('1000', '0.512', 512),
        ('1000', '512', 512),
        ('8000', '.064', 64),
        ('1000/s', '.064', 64),
        ('1000', '5', None),
        ('', '.25', None),
    ],
)
def test_the_unit_of_a_summary(fps, time, wanted):
    """FPS x time = images of a step: of 8 ranks with 64 each, or of 64 together."""
    lines = [
        'Network = N',
        'RankSize = 8',
        'BatchSize = 64',
        f'ActualFPS = {fps}',
        f'TrainingTime = {time}',
        'ActualLoss = 1.0',
    ]
    found = of_lines(*lines)
    assert found['step_ms'] == (wanted and pytest.approx(wanted))
    assert any('TrainingTime' in problem for problem in found['problems']) == (wanted is None)


def of_a_process(epochs, seconds, begin=0):
    """[(time, line)] as Swin's logger prints them, of a process whose steps take so long."""
    made, head = [], '[2024-05-06 {:02d}:{:02d}:{:02d} tiny] (main.py 1): INFO '
    for k in range(100 * epochs[0], 100 * epochs[1], 10):
        at = begin + int((k - 100 * epochs[0]) * seconds)
        times = f'time {seconds:.4f} ({seconds:.4f})\tloss 1.0000 (1.0000)\tgrad_norm 1.0 (1.0)\tmem 456MB'
        place = f'Train: [{k // 100}/300][{k % 100}/100]\teta 0:00:30 lr 0.000100\t wd 0.0500\t'
        made.append((at, head.format(at // 3600, at // 60 % 60, at % 60) + place + times))
        if k % 100 == 90:
            made.append((at, f' * Acc@1 {k / 100:.3f} Acc@5 9.000'))
            made.append((at, f'Accuracy of the network on the 50000 test images: {k / 100:.1f}%'))
    return made


@pytest.mark.parametrize(
    'a, b',
    [
        (((0, 6), 1.0), ((40, 44), 1.7)),
        (((0, 6), 1.0), ((0, 5), 1.3)),
        (((20, 26), 1.0), ((0, 5), 1.3, 550)),
        (((0, 6), 1.0), ((0, 5), 2.3, 7)),
    ],
)
def test_two_processes_in_one_log(a, b):
    """Neither resumes nor seconds nor accuracies are made of them, whether they are in different epochs or drift apart."""
    found = of_lines(*(line for _, line in sorted(of_a_process(*a) + of_a_process(*b), key=lambda row: row[0])))
    for key in ('resumed', 'seconds', 'steps', 'epochs', 'best_acc1', 'last_acc1', 'fps', 'final_loss', 'status'):
        assert found[key] is None, key
    assert any('two processes' in problem for problem in found['problems']) and 'two processes' in found['reason']


def test_a_training_that_was_resumed_three_times():
    one, two, three, four = of_a_process((0, 5), 1.0), *(of_a_process((3, 6), 1.0, 1000 * i) for i in (1, 2, 3))
    found = of_lines(*(line for _, line in one[:44] + two[:15] + three[:17] + four))
    check(found, {'runs': 1, 'resumed': 3, 'epochs': 6, 'steps': 546, 'problems': []})


def images(**meter):
    return [METERS.format(epoch=0, step=step, loss='1.0', **meter) for step in range(0, 100, 10)]


def test_a_rate_of_one_process():
    lines = images(before='img/s: 160.0  ')
    check(
        of_lines("Namespace(batch_size=32, world_size=8, model='resnet50')", *lines),
        {'fps': 1024.0, 'fps_claimed': None},
    )
    check(of_lines('Namespace(batch_size=32, world_size=1)', *lines), {'fps': 128.0, 'fps_claimed': 160.0})
    found = of_lines(*lines)
    check(found, {'fps': None, 'fps_claimed': None, 'global_batch': None})
    assert "one process's" in found['problems'][0]


def of_the_example(time='0.250', batch=4096, world=8):
    columns = f'Time  {time} ( {time})\tData  0.000 ( 0.000)\tLoss 1.0e+00 (1.0e+00)\tAcc@1   1.00 (  1.00)\tAcc@5   1.00 (  1.00)'
    given = f"Namespace(arch='resnet50', batch_size={batch}, multiprocessing_distributed=True, world_size={world})"
    return [given, *(f'Epoch: [0][{step:>3d}/100]\t{columns}' for step in range(1, 101, 10))]


def test_the_batch_of_a_node():
    """The example's world_size counts nodes or processes, and its batch_size is the node's."""
    found = of_lines(*of_the_example())
    check(found, {'global_batch': None, 'ranks': None, 'fps': None})
    assert 'node' in found['problems'][0]
    check(of_lines(*of_the_example(world=1)), {'global_batch': 4096, 'fps': 16384.0, 'problems': []})
    told = of_lines(*of_the_example(), '[npu id: 0 ] * FPS@all 16384.000, TIME@all 0.250')
    check(told, {'global_batch': 4096, 'fps': 16384.0, 'fps_claimed': 16384.0, 'problems': []})
    wrong = of_lines(*of_the_example(world=1), '[npu id: 0 ] * FPS@all 1000.000, TIME@all 0.250')
    check(wrong, {'global_batch': None, 'fps': 1000.0, 'fps_source': 'claimed'})
    assert '4096 images' in wrong['problems'][0]
    wrong = of_lines(*of_the_example()[1:], '[npu id: 0 ] batch_size: 300 Time: 0.250 * FPS@all 4096.000')
    assert wrong['global_batch'] != 300 and 'batch_size 300' in wrong['problems'][0]


def of_timm(rate, time, steps):
    percents = [f'Train: 0 [{i:>4d}/100 ({i:>3d}%)]  Loss: 6.91 (6.92)  Time: ' for i in steps]
    return [
        f'{head}{0.2 + i / 1000:.3f}s, {rate}/s  ({time}s, {rate}/s)  LR: 1.0e-06  Data: 0.0 (0.0)'
        for i, head in zip(steps, percents)
    ]


def test_images_of_a_step_from_rounded_times():
    check(
        of_lines(*of_timm('23813.95', '0.005', range(0, 100, 5))),
        {'global_batch': None, 'fps': 23813.95, 'step_ms': None},
    )
    check(
        of_lines(*of_timm('512.00', '0.250', range(0, 100, 5))), {'global_batch': 128, 'fps': 512.0, 'step_ms': 250.0}
    )
    coarse = of_lines(*of_the_example('0.005', world=1))
    check(coarse, {'fps': None, 'step_ms': None})
    assert 'coarsely' in coarse['fps_reason']
    assert '--batch' in of_lines(*of_timm('512.00', '0.250', range(0, 100, 5)), batch=512)['problems'][0]


def test_percentiles_only_where_every_step_is_known():
    check(of_lines(*of_timm('512.00', '0.250', range(100))), {'step_ms_p50': 259.0, 'step_ms_p95': 295.0})
    check(of_lines(*of_timm('512.00', '0.250', range(0, 100, 50))), {'step_ms_p50': None, 'step_ms_p95': None})
    check(
        of_lines('Namespace(batch_size=2, world_size=1)', *STEPS),
        {'step_ms': 250.0, 'step_ms_p50': None, 'step_ms_p95': None},
    )


# ---- how it ended

BEFORE = (
    '',
    '0: ',
    ' 12: ',
    '[default0]:',
    '[1,0]<stdout>:',
    '[rank3]: ',
    '2024-01-02T03:04:05.678901Z stderr F ',
    '[10:11:12.345678] ',
)
FAILURES = (
    'RuntimeError: NPU out of memory',
    'torch.cuda.OutOfMemoryError: CUDA out of memory.',
    'torch.distributed.elastic.multiprocessing.errors.ChildFailedError:',
    'Loss is nan, stopping training',
    'slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2024-01-01T00:00:00 DUE TO TIME LIMIT ***',
    'slurmstepd: error: *** STEP 12.0 ON n1 CANCELLED AT 2024-01-01T00:00:00 ***',
    'srun: error: n1: task 3: Killed',
    'EZ9999: Inner Error!',
    'E19999: Inner Error!',
    'Segmentation fault (core dumped)',
    'Killed',
)


@pytest.mark.parametrize('before', BEFORE)
def test_what_stands_before_a_line(before):
    for failure in FAILURES:
        found = of_lines(*(before + line for line in [*STEPS, failure]))
        check(found, {'status': 'FAILED', 'reason': failure, 'steps': 51, 'problems': []})
    check(
        of_lines(*(before + line for line in [*STEPS, 'Test:  Acc@1 60.000 Acc@5 90.000', ENDED])),
        {'status': 'OK', 'last_acc1': 60.0},
    )


def test_failures():
    check(of_lines(*STEPS, 'run.sh: line 12: 4711 Killed                  python train.py'), {'status': 'FAILED'})
    check(of_lines(*STEPS, '[Error] no card'), {'reason': 'no card'})
    # the cause, and not that some process failed
    check(
        of_lines(*STEPS, 'a.errors.ChildFailedError:', 'ValueError: the cause', 'OSError: after it'),
        {'reason': 'ValueError: the cause'},
    )
    check(
        of_lines(*STEPS, 'ValueError: went on', *STEPS[1:], METERS.format(epoch=1, step=0, loss='1.0', before='')),
        {'status': None},
    )
    check(
        of_lines(*STEPS, METERS.format(epoch=0, step=90, loss='nan', before='')),
        {'status': 'FAILED', 'final_loss': None},
    )


@pytest.mark.parametrize('end', [[ENDED], []])
def test_no_failures(end):
    ignored = [
        'Exception ignored in: <_io.TextIOWrapper>',
        'Traceback (most recent call last):',
        'BrokenPipeError: [Errno 32] Broken pipe',
    ]
    check(of_lines(*STEPS, *end, *ignored), {'status': 'OK' if end else None, 'reason': None})
    if end:
        check(of_lines(*STEPS, *end, 'ConnectionResetError: at exit'), {'status': 'OK', 'seconds': 600})
        check(of_lines(*STEPS, 'Training time 1 day, 1:02:03'), {'status': 'OK', 'seconds': 86400 + 3723})


def test_a_run_that_was_cut_short():
    given = 'Namespace(batch_size=2, epochs={}, world_size=1)'
    found = of_lines(given.format(300), *STEPS)
    check(found, {'status': 'UNFINISHED', 'finished': False})
    assert 'epoch 0' in found['reason'] and '300' in found['reason']
    evaluated = [' * Acc@1 6.000 Acc@5 9.000', 'Accuracy of the network on the 50000 test images: 6.0%']
    check(of_lines(given.format(1), *STEPS, *evaluated), {'status': None, 'finished': True})
    check(of_lines(*STEPS), {'status': None, 'finished': None})
    for name in ('mlla.log', 'swin.log'):  # they number epochs from 1 and from 0
        lines = lines_of(name)
        check(parsed(lines[:-1]), {'status': None, 'finished': True})
        cut = next(i for i, line in enumerate(lines) if b'EPOCH 2 training' in line)
        check(parsed(lines[:cut]), {'status': 'UNFINISHED', 'finished': False})


# ---- formats that are not known, and files of other kinds


@pytest.mark.parametrize(
    'text',
    [
        'Model: resnet50\nDevice: cuda\nStatus: OK\nepoch 1 step 3 loss 2.3\n',
        '{"epoch": 1, "loss": 2}\n{"epoch": 2, "loss": 1}\n',
        '{"a": 1}\n',
        'epoch,loss\n1,2\n',
        'x',
    ],
)
def test_a_format_that_is_not_known(tmp_path, text):
    (tmp_path / 'some.log').write_text(text)
    found = log_parser.parse(str(tmp_path)).summary()
    check(found, {'format': None, 'status': None, 'fps': None, 'best_acc1': None, 'steps': None})
    assert 'not known' in found['reason'] and 'timm' in found['reason'] and 'JSONDecode' not in json.dumps(found)


def test_a_piece_without_an_end_of_line():
    for name in ('timm.log', 'mlla.log', 'deit.log', 'imagenet.log', 'ours.log', 'metrics.jsonl'):
        lines = lines_of(name)
        train = [line for line in lines if b'Train: ' in line or b'Epoch: [' in line or b'"train"' in line]
        found = parsed(train[3].rstrip())
        assert found['format'] and found['final_loss'] and found['logged_steps'] == 1 and not found['problems'], name
    check(of_lines(*STEPS) | parsed('\n'.join([*STEPS, ENDED]).encode()), {'status': 'OK', 'seconds': 600})


def test_a_log_that_begins_with_a_brace(tmp_path):
    for first in ('{not JSON', '{"model": "m"}', '{'):
        (tmp_path / 'some.log').write_text('\n'.join([first, *STEPS, ENDED, '']))
        check(log_parser.parse(str(tmp_path)).summary(), {'format': 'deit', 'steps': 51, 'status': 'OK'})


@pytest.mark.parametrize('name', ['mlla.log', 'ours.log', 'log.txt', 'summary.csv', 'metrics.jsonl'])
def test_packed_files(name, tmp_path):
    raw = (LOGS / name).read_bytes()
    for changed in (gzip.compress(raw), raw.decode().encode('utf-16'), gzip.compress(raw.decode().encode('utf-16'))):
        (tmp_path / name).write_bytes(changed)
        assert not differences(log_parser.parse(str(tmp_path / name)).summary(), parsed(lines_of(name)))


@pytest.mark.parametrize('name', ['mlla.log', 'ours.log', 'timm.log', 'convnext.log', 'log.txt'])
def test_lines_of_containers(name):
    lines, intact = (LOGS / name).read_text().splitlines(), parsed(lines_of(name))
    at = '2024-05-06T01:02:03.4Z'
    kubernetes = [f'{at} stdout F {line}' for line in lines]
    docker, other = (
        [json.dumps({'log': line + '\n', 'time': at}) for line in lines],
        [json.dumps({'message': line}) for line in lines],
    )
    for wrapped in (kubernetes, docker, other):
        differ = differences(of_lines(*wrapped), intact)
        assert set(differ) <= {'seconds', 'seconds_to_best'}, differ


def test_a_damaged_gzip_file(tmp_path):
    (tmp_path / 'a.log').write_bytes(gzip.compress((LOGS / 'deit.log').read_bytes() * 50)[:-30])
    found = log_parser.parse(str(tmp_path)).summary()
    assert found['steps'] and 'cannot be read further' in found['problems'][0]
    (tmp_path / 'a.log').write_bytes(b'\x1f\x8b' + b'no')
    assert log_parser.parse(str(tmp_path)).summary()['format'] is None


def test_whose_accuracies_a_summary_csv_holds(tmp_path):
    (tmp_path / 'summary.csv').write_bytes((LOGS / 'summary.csv').read_bytes())
    (tmp_path / 'args.yaml').write_text('model: m\nmodel_ema: true\n')
    check(log_parser.parse(str(tmp_path)).summary(), {'best_acc1': None, 'ema_acc1': 58.125, 'problems': []})
    (tmp_path / 'args.yaml').write_text('model: m\nmodel_ema: false\n')
    check(log_parser.parse(str(tmp_path)).summary(), {'best_acc1': 60.5, 'ema_acc1': None, 'problems': []})


REPEATED = (
    b'Epoch: [0]  [   0/100]  eta: 0:00:30  ' + b'a: 1.0 (1.0)  ' * 8000,
    b'RuntimeError:' + b' ' * 100000 + b'x',
    *(words * (100000 // len(words)) for words in (
        b'* Acc@1 1.000 Acc@5 1.000 Loss: 1.0000  (1 images, 1.0 s', b'Train: 0 [   0/1 (  0%)]  Loss: ', b'[npu id: ', b'Network =',
        b'{"event": ', b'Accuracy of the ', b'9', b'Epoch: [0][0/1]\tTime ', b'loaded checkpoint ', b'torch.distributed.exitcode', b'E',
        b': , M param', b'Namespace(', b'{"log": ', b'\x1b]', b'Training in distributed mode', b'Epoch: [0]  [0/1]  eta: 1', b': line 1: 1 Killed',
    )),
)  # fmt: skip


@pytest.mark.parametrize('line', REPEATED, ids=lambda line: line[:12])
def test_no_line_takes_long(line):
    """Twice the line, about twice the time; a second is far more than 100 KB ever need."""
    began = time.process_time()
    parsed((line + b'\n') * 3)
    assert time.process_time() - began < 1


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
        if field == 'before':
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


def test_the_order_of_an_events_fields_does_not_matter(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    events = [json.loads(line) for line in (LOGS / path.name).read_text().splitlines()]
    for event in events:
        first = {name: event.pop(name) for name in ('event', 'time')}
        path.open('a').write(json.dumps({**first, **dict(sorted(event.items()))}) + '\n')
    found, wanted = (log_parser.parse(str(place / path.name)).summary() for place in (tmp_path, LOGS))
    assert found['steps'] and {**found, 'path': None} == {**wanted, 'path': None}


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
    """However long, and no spike is lost: of each stretch there are the least value and the greatest."""
    long, spikes = curve.Curve(), {4567: 9.0, 60000: -9.0, 60001: 8.0}
    for i in range(100):
        numbers = [spikes.get(i * 777 + k, math.sin(i * 777 + k)) for k in range(777)]
        long.extend([*numbers, math.nan], lambda k, i=i: i * 777 + k)
    points = long.all()
    assert 500 <= len(points) <= curve.MOST + 1 and points[-1] == (77699, numbers[-1])
    assert set(spikes.items()) <= set(points) and points == sorted(points)
    assert max(b[0] - a[0] for a, b in pairwise(points)) < 2 * 77700 / (curve.MOST / 4)


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
