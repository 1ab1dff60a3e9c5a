"""Every script of every folder, run as a user runs it at small sizes, and judged by what it prints and writes.

    bash ci/test.sh tests/integration/test_every_script.py                            all of them, on the CPU
    bash ci/test.sh tests/integration/test_every_script.py --device npu --simulate    on the real torch_npu, CANN simulated
    ... --folders VAN Twins --scripts eval            those whose names contain a word
    ... --python FILE                                 scripts run by another interpreter, such as that of an old PyTorch
    ... --baseline ci/baseline.json [--rebase] -n 0   compares FPS and accuracy with stored ones, or stores them

Each folder is copied alone to an empty directory and called in the three ways a user has: from the folder, from its test/,
and by absolute path. Beside the scripts there are rows for two processes, for a stop and resume, and for the golden records; on an
accelerator also for O2 and for checkpoints that go to a CPU and back. Collected only where this file is named.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import pytest

import helpers
from cannsim.build import BuildError
from helpers import FOLDERS, TOP, describe

TIMEOUT = 600.0  # seconds that a script may take
FPS_SHARE = (
    0.7  # of the baseline's ratio: less is red. Ratios of equal code differed by up to a fifth on a busy machine
)
ACC_POINTS = 5.0  # below the baseline's accuracy, in percent
CASES = ('full', 'performance', 'eval', 'finetune')
# row: its script, and options in which ROW/... is what an earlier row has left
VARIATIONS = {'full_2p': ('full_8p', ['--nproc_per_node=2'])}
ON_ACCELERATORS = {
    'full_1p_O2': ('full_1p', ['--amp', '--opt-level=O2']),
    'full_8p_O2': ('full_8p', ['--amp', '--opt-level=O2']),
    'eval_1p_to_cpu': ('eval_1p', ['--device=cpu']),
    'full_1p_to_cpu': ('full_1p', ['--device=cpu', '--epochs=3', '--resume=full_1p/checkpoint.pth']),
    'full_1p_from_cpu': ('full_1p', ['--epochs=4', '--resume=full_1p_to_cpu/checkpoint.pth']),
}


# ---- which rows there are


def rows_of(name, device):
    """-> the rows of a folder, in their order: those after full_8p may begin with its checkpoint."""
    scripts = [path.stem.partition('train_')[2] for path in sorted((TOP / name / 'test').glob('train_*_*p.sh'))]
    scripts.sort(key=lambda script: CASES.index(script.partition('_')[0]))
    more = list(ON_ACCELERATORS) if device != 'cpu' else ['golden'] if describe(name)['golden'] else []
    return [*scripts, *VARIATIONS, 'resume', *more]


def needed(row):
    """-> the row whose checkpoint a row begins with, or None."""
    before = {'full_1p_to_cpu': 'full_1p', 'full_1p_from_cpu': 'full_1p_to_cpu'}
    return 'full_8p' if row.startswith(('eval', 'finetune')) else before.get(row)


def chosen(words, names):
    """-> the names that contain one of the words; all where there are none."""
    found = [name for name in names if not words or any(word in name for word in words)]
    if not found:
        raise pytest.UsageError(f'nothing is called {" or ".join(words)}; there are: {", ".join(names)}')
    return found


def pytest_generate_tests(metafunc):
    option = metafunc.config.getoption
    if option('rebase') and not option('baseline'):
        raise pytest.UsageError('--rebase needs the file to write: --baseline FILE')
    if option('simulate') and option('python'):
        raise pytest.UsageError('--simulate builds for the Python of the tests: run the tests by it, without --python')
    rows = {name: rows_of(name, option('device')) for name in chosen(option('folders'), FOLDERS)}
    wanted = chosen(option('scripts'), list(dict.fromkeys(itertools.chain.from_iterable(rows.values()))))
    cases = [(name, row) for name in rows for row in rows[name] if row in wanted]
    metafunc.parametrize('name, row', cases, ids=[f'{name}-{row}' for name, row in cases])


# ---- running them


class Outcome(NamedTuple):
    result: helpers.Result  # of the last process, None where there is none
    problems: list  # empty where all is well


class Folder:
    """A folder that is copied away alone, and what its rows have left."""

    def __init__(self, name, root, data, config):
        self.name, self.root, self.data, self.about = name, root, data, describe(name)
        self.out, self.path = root / 'results' / name, helpers.copy_alone(name, root / 'folders')
        self.out.mkdir(parents=True)
        self.device, self.baseline = config.getoption('device'), config.getoption('baseline')
        self.rows, self.outcomes = rows_of(name, self.device), {}
        self.ranks = config.getoption('ranks')
        self.simulate, self.python = config.getoption('simulate'), config.getoption('python') or sys.executable
        self.environment = helpers.simulated(CANNSIM_SOC=config.getoption('chip')) if self.simulate else {}

    def outcome(self, row):
        """Runs a row, after the one that it needs, unless it has run. -> Outcome"""
        if row not in self.outcomes:
            if needed(row):
                self.outcome(needed(row))
            make = {'resume': self.resume, 'golden': self.golden}.get(row, lambda: self.script(row))
            self.outcomes[row] = make()
        return self.outcomes[row]

    def script(self, row):
        """Calls the row's script in one of the three ways."""
        script, options = {**VARIATIONS, **ON_ACCELERATORS}.get(row, (row, []))
        path = self.path / 'test' / f'train_{script}.sh'
        ways = (self.path, f'test/{path.name}'), (self.path / 'test', path.name), (self.root, path)
        cwd, called = ways[self.rows.index(row) % 3]
        options = [option.replace('--resume=', f'--resume={self.out}/') for option in options]
        if self.simulate and row.endswith('O2'):  # the level is apex's, and here apex has a stand-in
            options.append('--amp-impl=apex')
        result = self.run(called, row, *self.arguments(script), *options, cwd=cwd)
        wanted, batch = row, None
        if row not in VARIATIONS:
            wanted = script.replace('8p', f'{self.ranks}p')
            batch = self.about['batch_8p' if script.endswith('8p') else 'batch_1p']
        problems = helpers.judge(result, self.name, wanted, batch)
        if any(option.startswith('--resume') for option in options):  # the best model may be an epoch of the run before
            problems = [problem for problem in problems if problem != 'there is no model_best.pth']
        trained = self.outcome('full_8p').result.summary if row in ('eval_1p', 'eval_8p') else result.summary
        if trained.get('TrainAccuracy') != result.summary.get('TrainAccuracy'):
            said = f'{result.summary.get("TrainAccuracy")}, and by the training itself {trained.get("TrainAccuracy")}'
            problems.append(f'the accuracy is {said}')
        return Outcome(result, problems)

    def run(self, script, row, *arguments, cwd=None):
        options = dict(out=self.out / row, cwd=cwd, timeout=TIMEOUT, python=self.python)
        result = helpers.run(script, *arguments, **options, **self.environment)
        (self.out / f'{row}.txt').write_text(result.text)
        return result

    def arguments(self, script):
        """-> the command line of a script: sizes for seconds, and the checkpoint of full_8p where it needs one."""
        case, ranks = script.split('_')
        checkpoint = self.out / 'full_8p' / 'checkpoint.pth'
        words = [f'--data_path={self.data}']
        if case == 'eval':
            words = [self.data, checkpoint] if ranks == '8p' else [*words, f'--resume={checkpoint}']
        if case == 'finetune':
            words.append(f'--finetune_pth={checkpoint}')
        batch = self.about['batch_8p' if ranks == '8p' else 'batch_1p']
        words += [f'--device={self.device}', '--workers=0', f'--batch-size={batch}']
        if ranks == '8p' and self.ranks != 8:
            words.append(f'--nproc_per_node={self.ranks}')
        if case != 'eval':
            steps = 30 if case == 'performance' and self.baseline else 3
            words += ['--model', self.about['model'], '--img-size', '32', '--print-freq=1', f'--max-steps={steps}']
        return words + (['--epochs=2'] if case in ('full', 'finetune') else [])

    def resume(self):
        """Stopped by SIGTERM in its first epoch and resumed: loss and accuracy are those of the run that was not stopped.

        Two ranks with a DataLoader worker each, and the signal goes to all processes, as a scheduler sends it.
        """
        script, out = self.path / 'test' / 'train_full_8p.sh', self.out / 'cut'
        options = [*self.arguments('full_1p'), '--nproc_per_node=2', '--workers=1', '--max-steps=8']
        whole = self.run(script, 'whole', *options)
        command = (script, *options, f'--output_dir={out}')
        process = helpers.start(*command, python=self.python, **self.environment)
        events, deadline = out / 'metrics.jsonl', time.monotonic() + TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            if events.is_file() and '"event": "train"' in events.read_text():
                break
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGTERM)
        try:
            text = process.communicate(timeout=TIMEOUT)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text = process.communicate()[0]
        (self.out / 'stopped.txt').write_text(text)
        if process.returncode != 143:
            problem = f'exit {process.returncode} where a stopped run ends with 143: {text.splitlines()[-1:]}'
            return Outcome(whole, [problem])
        rest = self.run(script, 'cut', *options, f'--resume={out / "checkpoint.pth"}')
        problems = helpers.judge(whole, self.name, 'full_2p') + helpers.judge(rest, self.name, 'full_2p')
        problems += [] if 'Resumed from' in rest.text else ['the log has no "Resumed from"']
        ends = [[result.summary.get(key) for key in ('ActualLoss', 'TrainAccuracy')] for result in (whole, rest)]
        return Outcome(rest, problems + ([] if ends[0] == ends[1] else [f'{ends[1]}, and without the stop {ends[0]}']))

    def golden(self):
        """Keys, shapes and logits of the default model, and a small model's gradients too, are those of upstream's code."""
        problems = []
        for name, options in zip(self.about['golden'], (['--no-grad'], [])):
            record = TOP / 'tests' / 'data' / 'golden' / f'{name}.json'
            kwargs = json.dumps(dict(json.loads(record.read_text())['check_kwargs'], name=name.split('__')[0]))
            command = [self.python, record.parent / 'check_golden.py', record, '--factory', 'train:create_model']
            command += ['--path', self.path, '--kwargs', kwargs, *options]
            env = helpers.environment(self.python)
            done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            problems += [] if done.returncode == 0 else [(done.stdout.strip().splitlines() or ['no output'])[-1]]
        return Outcome(None, problems)

    def drop_checkpoints(self, later):
        """Removes the checkpoints, 7 GB in all, that no later row needs; logs and figures stay."""
        kept = {needed(row) for row in later}
        for checkpoint in self.out.rglob('*.pth*'):
            if checkpoint.relative_to(self.out).parts[0] not in kept:
                checkpoint.unlink()


# ---- figures, and the baseline


def figures(row, summary, folder):
    """-> {'acc', and with --baseline 'fps_ratio'} of a row, without what it did not measure."""
    found = {'acc': float(summary['TrainAccuracy'])} if helpers.NUMBER.match(summary.get('TrainAccuracy', '')) else {}
    if folder.baseline and row.startswith('performance') and helpers.NUMBER.match(summary.get('ActualFPS', '')):
        command = [folder.python, TOP / 'tests' / 'data' / 'reference_network.py', folder.device]
        env = helpers.environment(folder.python, **folder.environment)
        done = subprocess.run(command, cwd=folder.path, env=env, stdout=subprocess.PIPE, text=True, check=True)
        found['fps_ratio'] = round(float(summary['ActualFPS']) / float(done.stdout.split()[-1]), 4)
    return found


def compare(key, new, path, device):
    """-> what is worse than the baseline in the file, or missing there."""
    old = json.loads(path.read_text()).get(device, {}).get(key)
    if old is None:
        return [f'{path} has no figures of this row for {device}; --rebase writes them']
    least = {'fps_ratio': old.get('fps_ratio', 0) * FPS_SHARE, 'acc': old.get('acc', 0) - ACC_POINTS}
    return [f'{k} is {new.get(k, "missing")}, and the baseline {old[k]}' for k in old if new.get(k, -1e9) < least[k]]


@pytest.fixture(scope='session')
def places(request, tmp_path_factory, few_digits):
    """-> the Folder of a name"""
    root, made = tmp_path_factory.mktemp('every script'), {}

    def place(name):
        if name not in made:
            try:
                made[name] = Folder(name, root, few_digits, request.config)
            except BuildError as e:  # of the simulated CANN
                pytest.skip(str(e))
        return made[name]

    return place


def test_script(name, row, places, request):
    folder, begun = places(name), time.monotonic()
    result, problems = folder.outcome(row)
    summary = result.summary if result else {}
    items = [item for item in request.session.items if item.function is test_script]
    later = [item.callspec.params for item in items[items.index(request.node) + 1 :]]
    folder.drop_checkpoints([params['row'] for params in later if params['name'] == name])
    found = figures(row, summary, folder)
    if folder.baseline and result and not request.config.getoption('rebase'):
        problems = problems + compare(f'{name} {row}', found, folder.baseline, folder.device)
    said = dict(folder=name, script=row, seconds=round(time.monotonic() - begun, 1), figures=json.dumps(found))
    said.update(fps=summary.get('ActualFPS'), acc=summary.get('TrainAccuracy'), problems='; '.join(problems))
    request.node.user_properties += said.items()  # for the table, and for JUnit's file
    assert not problems, f'{"; ".join(problems)}; see {folder.out}'
