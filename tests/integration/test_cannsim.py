"""The vendor's own torch_npu on the simulated CANN of tests/cannsim/: the simulation itself.

Each file of cannsim/checks/ runs in one process and reports on all of its checks: torch_npu changes torch for good.
"""

import json
import os
import re
import subprocess
import sys
import zipfile

import pytest

from helpers import CANNSIM, TOP, VAN, environment, in_folder, in_ranks, run

CHECKS = CANNSIM / 'checks'
# what the checks of a file want; delays make a forgotten wait certain
SETTINGS = {
    'runtime': {'CANNSIM_DELAY_US': '3000', 'CANNSIM_MEMORY_MB': '1024', 'ASCEND_RT_VISIBLE_DEVICES': '0,1,2,5'},
    'operators': {},
    'first_generation': {'CANNSIM_SOC': 'Ascend910A'},
}


def checks_in(name):
    path = CHECKS / f'{name}.py'
    return re.findall(r'^def (check_\w+)', path.read_text(), re.M) if path.exists() else []


ALL = [(name, check) for name in SETTINGS for check in checks_in(name)]


def outcome(name):
    """In a child. -> {check: traceback or ''}"""
    import run as runner

    return runner.outcome(name)


def one(name, function, *arguments):
    """In a child. -> what a function of a file of checks returns"""
    import run as runner

    return runner.one(name, function, *arguments)


@pytest.fixture(scope='module')
def outcomes(npu):
    return {
        name: in_folder(CHECKS, outcome, name, **{**npu, **more}) for name, more in SETTINGS.items() if checks_in(name)
    }


@pytest.mark.parametrize('name, check', ALL)
def test_check(outcomes, name, check):
    assert not outcomes[name][check], outcomes[name][check]


def python(code, npu, **env):
    """Runs a program in a process of its own, as a user would. -> subprocess.CompletedProcess"""
    env = environment(**{**npu, **env})
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env, cwd=CHECKS)


# ---- devices


@pytest.mark.parametrize(
    'visible, count',
    [
        ('0,1,2,3,4,5,6,7', 8),
        ('5', 1),
        ('1,3', 2),
        ('3,1', 1),
        ('1, 2', 1),
        ('', 0),
        ('1,1', 1),
        ('6,7,8', 2),
        ('a,1', 0),
        ('-1', 0),
    ],
)
def test_visible_devices(npu, visible, count):
    assert in_folder(CHECKS, one, 'faults', 'device_count', ASCEND_RT_VISIBLE_DEVICES=visible, **npu) == count


def test_as_many_devices_as_asked(npu):
    assert in_folder(CHECKS, one, 'faults', 'device_count', CANNSIM_DEVICES='3', **npu) == 3


# ---- faults


@pytest.mark.parametrize(
    'fault, function, words',
    [
        ('op:aclnnMuls:3', 'failing_operator', 'aclnnMuls failed while it ran'),
        ('busy:1', 'busy_card', 'card 1 is busy'),
        ('busy', 'first_use', 'card 0 is busy'),
        ('oom:2', 'no_memory_left', 'NPU out of memory'),
        ('nonsense', 'first_use', 'there is no fault "nonsense"'),
    ],
)
def test_fault(npu, fault, function, words):
    assert words in in_folder(CHECKS, one, 'faults', function, CANNSIM_FAULT=fault, **npu)


def test_lost_device(npu):
    """With TASK_QUEUE_ENABLE=0 torch_npu says what CANN said; its queue says less."""
    more = {'CANNSIM_FAULT': 'lost:20', 'TASK_QUEUE_ENABLE': '0', **npu}
    step, said = in_folder(CHECKS, one, 'faults', 'lost_device', **more)
    assert 10 <= step <= 20 and '507010' in said and 'device 0 was lost' in said


def test_a_fault_of_one_card_alone(npu):
    more = {'ASCEND_RT_VISIBLE_DEVICES': '2,3', **npu}
    assert in_folder(CHECKS, one, 'faults', 'steps', CANNSIM_FAULT='lost:20@3', **more) == 50
    assert in_folder(CHECKS, one, 'faults', 'steps', CANNSIM_FAULT='lost:20@2', **more) < 30


def test_a_failure_is_reported_at_once_when_synchronous(npu):
    more = {'CANNSIM_FAULT': 'op:aclnnMuls:1', 'CANNSIM_SYNC': '1', 'TASK_QUEUE_ENABLE': '0'}
    said = in_folder(CHECKS, one, 'faults', 'failing_call', **{**npu, **more})
    assert 'aclnnMuls' in said and '507015' in said


# ---- order


def test_synchronous_mode_hides_a_forgotten_wait(npu):
    found = {mode: in_folder(CHECKS, one, 'faults', 'forgotten_waits', CANNSIM_SYNC=mode, **npu) for mode in '01'}
    assert found['0'] > 0 and found['1'] == 0


# ---- counts and profiles


def test_counts_at_the_end(npu, tmp_path):
    code = 'import torch, torch_npu; x = torch.ones(1000).to("npu"); y = (x * 2 + 1).cpu()'
    done = python(code, npu, CANNSIM_COUNTS=str(tmp_path / 'counts'))
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob('counts.*.json')
    found = json.loads(path.read_text())
    assert found['launches'] == {'aclnnMuls': 1, 'aclnnAdds': 1}
    assert found['copies']['h2d']['bytes'] >= 4000 and found['copies']['d2h'] == {'count': 1, 'bytes': 4000}


PROFILED = """
import torch, torch_npu
p = torch_npu.profiler
config = p._ExperimentalConfig(profiler_level=p.ProfilerLevel.Level1, aic_metrics=p.AiCMetrics.PipeUtilization)
when = p.schedule(wait=1, warmup=1, active=2, repeat=1)
with p.profile(schedule=when, on_trace_ready=p.tensorboard_trace_handler('OUT'), experimental_config=config) as prof:
    for _ in range(5):
        x = torch.ones(10).to('npu')
        y = x + x
        prof.step()
"""


def test_profile(npu, tmp_path):
    done = python(PROFILED.replace('OUT', str(tmp_path)), npu)
    assert done.returncode == 0 and '[ERROR]' not in done.stdout + done.stderr, done.stderr
    (out,) = tmp_path.glob('*_ascend_pt/ASCEND_PROFILER_OUTPUT')
    events = json.loads((out / 'trace_view.json').read_text())
    assert {'aten::add', 'aclnnAdd'} <= {event['name'] for event in events}
    assert 'aclnnAdd' in (out / 'kernel_details.csv').read_text()


# ---- ranks


@pytest.mark.parametrize('ranks', [2, pytest.param(8, marks=pytest.mark.long)])
def test_ranks(npu, ranks):
    more = {'CANNSIM_DELAY_US': '1000', 'CANNSIM_CHECKS': '1', **npu}
    for found in in_ranks(ranks, CHECKS, outcome, 'ranks', **more):
        assert len(found) == len(checks_in('ranks')) and not any(found.values()), found


def test_a_dead_rank_is_a_time_out(npu):
    alive, dead = in_ranks(2, CHECKS, one, 'ranks', 'dead_rank', HCCL_EXEC_TIMEOUT='3', **npu)
    assert dead is None and '507048' in alive[0] and 'EI0002' in alive[0] and 2 < alive[1] < 20


@pytest.mark.parametrize(
    'function, words', [('one_card', 'both on card 0'), ('different_calls', 'EI0005'), ('refused_types', 'Double')]
)
def test_what_hccl_refuses(npu, function, words):
    for said, seconds in in_ranks(2, CHECKS, one, 'ranks', function, HCCL_EXEC_TIMEOUT='10', **npu):
        assert words in said and seconds < 9


# ---- a folder's training


def test_a_folder_trains(npu, few_digits, tmp_path):
    """Two steps in float32 on the CPU and on the simulated CANN: the same losses."""
    losses = {}
    for device in ('cpu', 'npu'):
        argv = f'--model van_b0 --img-size 32 --batch-size 4 --epochs 1 --max-steps 2 --eval-steps 1 --no-amp --workers 0 --seed 7 --drop-path 0 --reprob 0 --print-freq 1 --device {device}'
        command = [sys.executable, 'train.py', few_digits, *argv.split(), f'--output-dir={tmp_path / device}']
        done = subprocess.run(command, capture_output=True, text=True, env=environment(**npu), cwd=TOP / VAN)
        assert done.returncode == 0, done.stdout + done.stderr
        events = map(json.loads, (tmp_path / device / 'metrics.jsonl').read_text().splitlines())
        losses[device] = [event['loss'] for event in events if event['event'] == 'train']
    assert losses['cpu'] and losses['npu'] == pytest.approx(losses['cpu'], rel=1e-5)


def test_eight_ranks_of_a_folder(npu, few_digits, tmp_path):
    """Its own script: eight cards, DistributedDataParallel over HCCL; each rank counts for itself."""
    argv = '--device npu --model van_b0 --img-size 32 --batch-size 4 --epochs 1 --max-steps 2 --eval-steps 1'.split()
    script = TOP / VAN / 'test' / 'train_full_8p.sh'
    counts = str(tmp_path / 'counts')
    done = run(script, f'--data_path={few_digits}', *argv, out=tmp_path / 'out', CANNSIM_COUNTS=counts, **npu)
    assert done.code == 0 and done.summary['Status'] == 'OK', done.text
    found = [json.loads(path.read_text()) for path in tmp_path.glob('counts.*.json')]
    assert len(found) == 8 and all(each['launches']['HcclAllReduce'] > 2 for each in found)


# ---- the build


def build(tmp_path, *arguments, **env):
    env = environment(CANNSIM_CACHE=str(tmp_path / 'cache'), **env)
    return subprocess.run([sys.executable, CANNSIM / 'build.py', *arguments], capture_output=True, text=True, env=env)


def explains(done, words):
    said = done.stderr.strip()
    assert done.returncode == 1 and '\n' not in said and words in said, said


def test_another_torch_is_a_sentence(tmp_path):
    explains(build(tmp_path, '--torch-npu', '2.1.0.post17'), 'goes with another torch')


def test_no_wheel_is_a_sentence(tmp_path):
    env = {'CANNSIM_WHEELS': '', 'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': str(tmp_path)}
    explains(build(tmp_path, **env), 'there is no wheel of torch_npu')


@pytest.fixture
def empty_wheel(tmp_path, npu):
    """-> a folder with a wheel of the right name and without what is in it"""
    folder = tmp_path / 'wheels'
    folder.mkdir()
    with zipfile.ZipFile(folder / f'{os.path.basename(npu["PYTHONPATH"])}.whl', 'w') as file:
        file.writestr('torch_npu/__init__.py', '')
    return str(folder)


def test_no_compiler_is_a_sentence(tmp_path, empty_wheel):
    explains(build(tmp_path, CXX='/no/such/compiler', CANNSIM_WHEELS=empty_wheel), 'install g++')


BUILD_ONCE = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location('build', sys.argv[1])
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

def pretend(workshop):
    open(sys.argv[2], 'a').write('built ')
    time.sleep(0.5)

build.Workshop.build = pretend
print(build.environment()['ASCEND_HOME_PATH'])
"""


def test_processes_that_start_together_build_once(tmp_path, empty_wheel):
    calls = tmp_path / 'calls'
    env = environment(CANNSIM_CACHE=str(tmp_path / 'cache'), CANNSIM_WHEELS=empty_wheel)
    command = [sys.executable, '-c', BUILD_ONCE, CANNSIM / 'build.py', calls]
    processes = [subprocess.Popen(command, text=True, stdout=subprocess.PIPE, env=env) for _ in range(5)]
    folders = {process.communicate()[0] for process in processes}
    assert len(folders) == 1 and calls.read_text() == 'built '
