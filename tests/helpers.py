"""What the tests share: folders, small real data, scripts run as by a user, and children that have torch already.

A script is a process, and starts the processes that it starts for a user: `run`, `start`. Where no process is tested,
`train` runs a folder's train.py, and `in_folder` a function of the test, in a child that is forked from one server with
torch, torchvision and timm imported (multiprocessing's forkserver), which saves five seconds of CPU each time.
"""

import concurrent.futures
import ctypes
import functools
import json
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

from cannsim import build

TOP = Path(__file__).resolve().parent.parent
CANNSIM = TOP / 'tests' / 'cannsim'
FOLDERS = sorted(path.parent.name for path in TOP.glob('*_for_PyTorch/folder.json'))
VAN = 'VAN-Classification_for_PyTorch'  # the folder of tests that need one, whichever
# a run of a few seconds
SMALL = ['--model', 'van_b0', '--img-size=32', '--device', 'cpu', '--workers', '0', '--print-freq', '2']

CASES = {'full': 'acc', 'performance': 'perf', 'eval': 'eval', 'finetune': 'finetune'}
SUMMARY_KEYS = 'Network RankSize BatchSize DeviceType CaseName'.split()
SUMMARY_KEYS += 'ActualFPS TrainingTime TrainAccuracy ActualLoss E2ETrainingTime'.split()
NUMBER = re.compile(r'\d+(\.\d+)?$')


@functools.cache
def describe(name):
    """-> what folder.json says of a folder, such as its small model; see CONTRIBUTING.md."""
    return json.loads((TOP / name / 'folder.json').read_text())


class Result:
    """A script or train.py that has ended.

    code: exit status, None after a time-out; text: stdout and stderr; out: its output folder.
    """

    def __init__(self, code, text, seconds, out):
        self.code, self.text, self.seconds, self.out = code, text, seconds, Path(out)

    @property
    def lines(self):
        return self.text.splitlines()

    @property
    def summary(self):
        """{Key: text} of the newest <CaseName>.log."""
        paths = sorted(self.out.glob('*_bs*_*p_*.log'), key=os.path.getmtime)
        return dict(line.split(' = ', 1) for line in paths[-1].read_text().splitlines()) if paths else {}

    def events(self, kind):
        """The events of one kind, such as 'train', in metrics.jsonl."""
        paths = [self.out / 'metrics.jsonl', self.out / 'eval_metrics.jsonl']
        found = map(json.loads, next(filter(Path.exists, paths)).read_text().splitlines())
        return [event for event in found if event['event'] == kind]

    def checkpoint(self, name='checkpoint.pth'):
        import torch

        return torch.load(str(self.out / name), map_location='cpu')


# ---- a folder's scripts


def simulated(**settings):
    """-> the environment of a host with Ascend cards: the vendor's torch_npu over tests/cannsim, built if need be.

    settings: of cannsim, such as CANNSIM_SOC. Raises cannsim.build.BuildError with the reason where it cannot be built.
    """
    env = build.environment()
    env['PYTHONPATH'] = os.pathsep.join([str(CANNSIM / 'host'), env['PYTHONPATH'], str(TOP / 'tests' / 'apexsim')])
    return {**env, 'CANNSIM_SOC': 'Ascend910B3', 'OMP_NUM_THREADS': '1', **settings}


def arrive(env):
    """Makes this forked child a process of that host, as LD_LIBRARY_PATH and sitecustomize.py make a new process one."""
    import torch

    torch.version.cuda = None
    for name in build.LIBRARIES:  # they need one another in this order; torch_npu finds them loaded
        ctypes.CDLL(os.path.join(env['LD_LIBRARY_PATH'].split(os.pathsep)[0], f'{name}.so'), ctypes.RTLD_GLOBAL)


def environment(python=sys.executable, **more):
    """A user's environment: nothing of this repository on the path."""
    ours = ('PYTHONPATH', 'ASCEND_DEVICE_ID', 'RANK_SIZE', 'NPROC_PER_NODE', 'MASTER_PORT')
    env = {k: v for k, v in os.environ.items() if k not in ours}
    return dict(env, PYTHON=str(python), OMP_WAIT_POLICY='PASSIVE', **more)


def start(script, *arguments, python=sys.executable, cwd=None, **env):
    """Starts a script of a folder in a process group of its own. -> subprocess.Popen"""
    return subprocess.Popen(
        ['bash', str(script), *map(str, arguments)],
        cwd=cwd,
        env=environment(python, **env),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(script, *arguments, out=None, cwd=None, timeout=300, **env):
    """Runs a script of a folder to its end, or kills all of it after timeout seconds. -> Result

    out: its output folder, the script's default where None.
    """
    if out is not None:
        arguments += (f'--output_dir={out}',)
    begun = time.monotonic()
    process = start(script, *arguments, cwd=cwd, **env)
    try:
        text, code = process.communicate(timeout=timeout)[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, code = process.communicate()[0], None
    out = out or Path(cwd or '.', script).resolve().parent / 'output' / env.get('ASCEND_DEVICE_ID', '0')
    return Result(code, text, time.monotonic() - begun, out)


def copy_alone(name, target, top=TOP):
    """A folder, as an engineer copies it to a server. -> its path"""
    return Path(
        shutil.copytree(top / name, Path(target) / name, ignore=shutil.ignore_patterns('__pycache__', 'output'))
    )


def make_digits(root, per_class=20):
    """A small part of the digits; its 93 validation images are no multiple of 8. -> root"""
    whole = root.parent / (root.name + ' whole')
    command = [sys.executable, TOP / 'ci' / 'make_dataset.py', 'digits', whole, '--size', '32']
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for split in ('train', 'val'):
        for folder in sorted((whole / split).iterdir()):
            count = per_class if split == 'train' else 10 if folder.name < '3' else 9
            (root / split / folder.name).mkdir(parents=True)
            for image in sorted(folder.iterdir())[:count]:
                shutil.copy(image, root / split / folder.name)
    shutil.rmtree(whole)
    return root


# ---- children of a process that has imported torch


@functools.cache
def server():
    """-> the context whose processes are forked from one that has done the imports, and has one thread only."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['torch', 'torch._dynamo', 'torchvision', 'timm', 'pytest'])
    with mock.patch.dict(os.environ, OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE'):
        forkserver.ensure_running()
    return context


def enter(folder, env):
    """Gives this child an environment and a working folder, first on its path; the repository is not on it."""
    os.environ.clear()
    os.environ.update(env)
    multiprocessing.set_start_method('fork', force=True)  # as in a new process: this one has inherited another
    first = [str(folder), *filter(None, env.get('PYTHONPATH', '').split(os.pathsep))]
    sys.path[:] = first + [path for path in sys.path if path and Path(path).resolve() not in (TOP, TOP / 'ci')]
    os.chdir(folder)
    if 'CANNSIM_SOC' in env:
        arrive(env)


def begin_like_a_process(said):
    """Gives this child a process group of its own, and sends what it prints to a file."""
    os.setsid()
    log = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
        stream.reconfigure(line_buffering=True)


def train_here(folder, argv, env, said):
    """What the child of `train` does."""
    begin_like_a_process(said)
    enter(folder, env)
    sys.argv = ['train.py', *argv]
    runpy.run_path(str(folder / 'train.py'), run_name='__main__')


def train(folder, *argv, out, ranks=1, timeout=120, **env):
    """`python train.py ARGV --output-dir OUT` in a folder (name or path), without the imports. -> Result

    ranks: so many of them, each as torchrun would have started it; the exit status is the first one that is not 0.
    After timeout seconds they are killed, with what they have started.
    """
    folder, begun, processes = (TOP / folder).resolve(), time.monotonic(), []
    out.mkdir(parents=True, exist_ok=True)
    argv = [str(word) for word in argv] + [f'--output-dir={out}']
    with tempfile.NamedTemporaryFile() as said:
        for place in places(ranks):
            arguments = (folder, argv, environment(**place, **env), said.name)
            processes.append(server().Process(target=train_here, args=arguments))
            processes[-1].start()
        codes = [wait(process, begun + timeout) for process in processes]
        code = None if None in codes else next(filter(None, codes), 0)
        return Result(code, Path(said.name).read_text(errors='replace'), time.monotonic() - begun, out)


def places(ranks):
    """-> for each rank the environment in which torchrun starts it."""
    if ranks == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    shared = {'WORLD_SIZE': str(ranks), 'LOCAL_WORLD_SIZE': str(ranks), 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
    return [{'RANK': str(rank), 'LOCAL_RANK': str(rank), **shared} for rank in range(ranks)]


def wait(process, until):
    """-> the exit status of a child, or None after it had to be killed with all that it has started."""
    process.join(max(0.0, until - time.monotonic()))
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return None
    return process.exitcode


def in_folder(folder, function, *arguments, **env):
    """Calls a function of a test in a child in which `common`, `train`, ... are those of a folder (name or path).

    -> what it returns; raises what it raises, with the child's traceback as the cause. Both are pickled.
    """
    folder = (TOP / folder).resolve()
    with concurrent.futures.ProcessPoolExecutor(1, server(), enter, (folder, environment(**env))) as pool:
        return pool.submit(function, *arguments).result()


def in_ranks(ranks, folder, function, *arguments, **env):
    """The same in so many processes at once, which are the ranks of one training. -> what each returns"""
    with concurrent.futures.ThreadPoolExecutor(ranks) as pool:
        calls = [pool.submit(in_folder, folder, function, *arguments, **place, **env) for place in places(ranks)]
        return [call.result() for call in calls]


def train_main(folder_train, *argv):
    """In a child of `in_folder`: what `python train.py ARGV` does with that train module. -> exit status"""
    from common import cli

    return cli.main('', folder_train.RECIPE, folder_train.HOOKS, [str(word) for word in argv])


# ---- judging


def content(path):
    """-> what a checkpoint holds, but for the options, with its tensors as bytes: two of them are equal or not."""
    import torch

    def plain(value):
        if torch.is_tensor(value):
            return value.numpy().tobytes()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key != 'args'}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(torch.load(str(path)))


def explains(result, *words):
    """Checks that a failure says why in one sentence with these words, as its last line, and without a traceback."""
    assert result.code, f'{result.code}\n{result.text}'
    last = result.lines[-1]
    assert last.startswith('[Error] ') and all(word in last for word in words), result.text
    assert 'Traceback' not in result.text, result.text


def fails(result, *words):
    """The same of a script; it also leaves nothing that looks like a result."""
    explains(result, *words)
    assert result.seconds < 120  # it did not wait for a time-out
    assert result.summary['Status'] == 'FAILED' and result.summary['Reason'] in result.lines[-1]
    assert not any(result.summary[key] != 'N/A' for key in ('ActualFPS', 'TrainAccuracy') if key in result.summary)
    assert not list(result.out.glob('train_*_loss.txt'))


def judge(result, network, script, batch=None):
    """What a script that ended well has to have printed and left. -> list of what is wrong, empty when nothing is.

    script: such as full_8p; batch: the BatchSize that its summary must show, None for any.
    """
    if result.code != 0:
        last = result.lines[-1] if result.lines else 'no output'
        return ['time-out' if result.code is None else f'exit {result.code}: {last}']
    case, ranks = script.split('_')
    summary = result.summary
    batch = batch or summary.get('BatchSize')
    wanted = {
        'Network': network,
        'RankSize': ranks[:-1],
        'BatchSize': str(batch),
        'CaseName': f'{network}_bs{batch}_{ranks}_{CASES[case]}',
        'Status': 'OK',
    }
    numbers = ['TrainAccuracy', 'ActualLoss', 'E2ETrainingTime'] + (
        ['ActualAccuracy', 'E2EEvalTime'] if case == 'eval' else []
    )
    checks = [(list(summary)[:10] == SUMMARY_KEYS, f'the summary has the keys {list(summary)}')]
    checks += [(summary.get(key) == value, f'{key} is {summary.get(key)}') for key, value in wanted.items()]
    checks += [(summary.get('ActualFPS') != 'N/A' or 'FPSReason' in summary, 'no FPS and no reason')]
    checks += [(NUMBER.match(summary.get(key, '')), f'{key} is {summary.get(key)}') for key in numbers]
    waited = NUMBER.match(summary.get('DataWait', '')) and float(summary['DataWait']) > 0.1
    checks += [(bool(waited) == ('Advice' in summary), 'what to do against waiting for data is said wrongly')]
    checks += [(result.lines[-4:] == final_lines(summary), f'the last lines are {result.lines[-4:]}')]
    checks += [((result.out / name).is_file(), f'there is no {name}') for name in files(case, summary)]
    checks += [(re.search(r'^ \* Acc@1 [\d.]+ Acc@5 [\d.]+', result.text, re.M), 'no line with * Acc@1')]
    checks += [(case == 'eval' or re.search(r'Loss: [\d.]+ .*FPS: [\d.]+', result.text), 'no line with Loss: and FPS:')]
    return [wrong for holds, wrong in checks if not holds]


def final_lines(summary):
    return [
        '------------------ Final result ------------------',
        f'Final Performance images/sec : {summary.get("ActualFPS")}',
        f'Final Train Accuracy : {summary.get("TrainAccuracy")}',
        f'E2E Training Duration sec : {summary.get("E2ETrainingTime")}',
    ]


def files(case, summary):
    """What a run of a case leaves beside its summary."""
    if case == 'eval':
        return ['eval_0.log', 'metrics.jsonl', 'result.json']
    history = f'train_{summary.get("CaseName")}_loss.txt'
    checkpoints = [] if case == 'performance' else ['checkpoint.pth', 'model_best.pth']
    return ['train_0.log', history, 'metrics.jsonl', 'result.json', *checkpoints]
