#!/usr/bin/env python3
"""Runs every script of every folder for real, at small sizes, and judges what it prints and writes by the contract.

    python ci/smoke.py                                         all scripts of all folders on the CPU
    python ci/smoke.py --folders VAN Twins --scripts eval      those whose names contain a word
    python ci/smoke.py --device cuda --jobs 2 --out DIR        another device, two folders at a time, logs kept in DIR
    python ci/smoke.py --device npu --simulate                 on the simulated NPU of tests/npusim

Each folder is copied alone to an empty directory and called in the three ways a user has: from the folder, from its test/,
and by absolute path. Prints a table; writes smoke.json, smoke.xml (JUnit) and every run's output to --out. Exit 1 when a row
is red; one failing script never stops the others. --baseline compares with stored figures, see smoke_report.py.
"""
import argparse
import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import smoke_report

TOP = Path(__file__).resolve().parent.parent

# the smallest model of each family; --batch-size of a run with eight ranks and of one
FOLDERS = {
    'ConvMixer_for_PyTorch': ('convmixer_64_2_ks5_p4', 4, 16),
    'SPACH_for_PyTorch': ('spach_ms_xxs_patch4_224_conv', 4, 16),
    'Vit_base_patch32_224_for_PyTorch': ('vit_tiny_patch16_224', 32, 16),      # counts the images of all ranks
    'Twins-PCPVT-S_for_PyTorch': ('pcpvt_small_v0', 4, 16),
    'VAN-Classification_for_PyTorch': ('van_b0', 4, 16),
}
# in this order: later ones use the checkpoint of full_8p
SCRIPTS = ('full_8p', 'full_1p', 'performance_1p', 'performance_8p', 'eval_1p', 'eval_8p', 'finetune_1p')
# on an accelerator also: the stronger mixed precision, and checkpoints that go to a CPU and back. name: (script, options),
# where FOLDER/... is what an earlier row left
ON_ACCELERATORS = {
    'full_1p_O2': ('full_1p', ['--amp', '--opt-level=O2']),
    'full_8p_O2': ('full_8p', ['--amp', '--opt-level=O2']),
    'eval_1p_to_cpu': ('eval_1p', ['--device=cpu']),
    'full_1p_to_cpu': ('full_1p', ['--device=cpu', '--epochs=3', '--resume=full_1p/checkpoint.pth']),
    'full_1p_from_cpu': ('full_1p', ['--epochs=4', '--resume=full_1p_to_cpu/checkpoint.pth']),
}
CASES = {'full': 'acc', 'performance': 'perf', 'eval': 'eval', 'finetune': 'finetune'}
SUMMARY_KEYS = ['Network', 'RankSize', 'BatchSize', 'DeviceType', 'CaseName', 'ActualFPS', 'TrainingTime', 'TrainAccuracy',
                'ActualLoss', 'E2ETrainingTime']
NUMBER = re.compile(r'\d+(\.\d+)?$')


# ---- running

class Result:
    """One run of a script. code: exit status, None after a time-out; text: stdout and stderr; out: its output folder."""

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


def simulated():
    """-> the environment in which --device npu is the simulated one of tests/npusim, which is built where that is still to do."""
    done = subprocess.run([sys.executable, TOP / 'tests' / 'npusim' / 'build.py'], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit('the simulated NPU cannot be built; see above')
    return {'PYTHONPATH': done.stdout.split('\n')[-2], 'ASCEND_HOME_PATH': str(TOP / 'tests' / 'npusim' / 'cann')}


def environment(python, **more):
    """A user's environment: nothing of this repository on the path."""
    ours = ('PYTHONPATH', 'ASCEND_DEVICE_ID', 'RANK_SIZE', 'NPROC_PER_NODE', 'MASTER_PORT')
    env = {k: v for k, v in os.environ.items() if k not in ours}
    return dict(env, PYTHON=str(python), OMP_WAIT_POLICY='PASSIVE', **more)


def start(script, *arguments, python=sys.executable, cwd=None, **env):
    """Starts a script of a folder in a process group of its own. -> subprocess.Popen"""
    return subprocess.Popen(['bash', str(script), *map(str, arguments)], cwd=cwd, env=environment(python, **env), text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def run(script, *arguments, out=None, cwd=None, timeout=300, **env):
    """Runs a script of a folder to its end, or kills all of it after timeout seconds. -> Result

    out: its output folder, the script's default where None.
    """
    if out is not None:
        arguments += ('--output_dir=%s' % out,)
    begun = time.monotonic()
    process = start(script, *arguments, cwd=cwd, **env)
    try:
        code = (process.communicate(timeout=timeout), process.returncode)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        code = (process.communicate(), None)
    (text, _), code = code
    out = out or Path(cwd or '.', script).resolve().parent / 'output' / env.get('ASCEND_DEVICE_ID', '0')
    return Result(code, text, time.monotonic() - begun, out)


def copy_alone(name, target, top=TOP):
    """A folder, as an engineer copies it to a server. -> its path"""
    return Path(shutil.copytree(top / name, Path(target) / name, ignore=shutil.ignore_patterns('__pycache__', 'output')))


def make_digits(root, per_class=20):
    """A small part of the digits; its 93 validation images are no multiple of 8. -> root"""
    whole = root.parent / (root.name + ' whole')
    subprocess.run([sys.executable, TOP / 'ci' / 'make_dataset.py', 'digits', whole, '--size', '32'], check=True,
                   stdout=subprocess.DEVNULL)
    for split in ('train', 'val'):
        for folder in sorted((whole / split).iterdir()):
            count = per_class if split == 'train' else 10 if folder.name < '3' else 9
            (root / split / folder.name).mkdir(parents=True)
            for image in sorted(folder.iterdir())[:count]:
                shutil.copy(image, root / split / folder.name)
    shutil.rmtree(whole)
    return root


# ---- judging

def judge(result, network, script, batch=None):
    """What the contract wants of a run that ended well. -> list of what is wrong, empty when nothing is.

    script: such as full_8p; batch: the BatchSize that its summary must show, None for any.
    """
    if result.code != 0:
        last = result.lines[-1] if result.lines else 'no output'
        return ['time-out' if result.code is None else 'exit %d: %s' % (result.code, last)]
    case, ranks = script.split('_')
    summary = result.summary
    checks = [
        (list(summary)[:10] == SUMMARY_KEYS, 'the summary has the keys %s' % list(summary)),
        (summary.get('Network') == network, 'Network is %s' % summary.get('Network')),
        (summary.get('RankSize') == ranks[:-1], 'RankSize is %s' % summary.get('RankSize')),
        (batch is None or summary.get('BatchSize') == str(batch), 'BatchSize is %s' % summary.get('BatchSize')),
        (summary.get('CaseName') == '%s_bs%s_%s_%s' % (network, summary.get('BatchSize'), ranks, CASES[case]),
         'CaseName is %s' % summary.get('CaseName')),
        (summary.get('Status') == 'OK', 'Status is %s' % summary.get('Status')),
        (summary.get('ActualFPS') != 'N/A' or 'FPSReason' in summary, 'no FPS and no reason'),
    ]
    wanted = ['TrainAccuracy', 'ActualLoss', 'E2ETrainingTime'] + (['ActualAccuracy', 'E2EEvalTime'] if case == 'eval' else [])
    checks += [(NUMBER.match(summary.get(key, '')), '%s is %s' % (key, summary.get(key))) for key in wanted]
    checks += [(result.lines[-4:] == final_lines(summary), 'the last lines are %s' % result.lines[-4:])]
    checks += [((result.out / name).is_file(), 'there is no %s' % name) for name in files(case, summary)]
    checks += [(re.search(r'^ \* Acc@1 [\d.]+ Acc@5 [\d.]+', result.text, re.M), 'no line with * Acc@1'),
               (case == 'eval' or re.search(r'Loss: [\d.]+ .*FPS: [\d.]+', result.text), 'no line with Loss: and FPS:')]
    return [wrong for holds, wrong in checks if not holds]


def final_lines(summary):
    return ['------------------ Final result ------------------',
            'Final Performance images/sec : %s' % summary.get('ActualFPS'),
            'Final Train Accuracy : %s' % summary.get('TrainAccuracy'),
            'E2E Training Duration sec : %s' % summary.get('E2ETrainingTime')]


def files(case, summary):
    """What a run of a case leaves beside its summary."""
    if case == 'eval':
        return ['eval_0.log', 'metrics.jsonl', 'result.json']
    return ['train_0.log', 'train_%s_loss.txt' % summary.get('CaseName'), 'metrics.jsonl', 'result.json', 'checkpoint.pth',
            'model_best.pth']


# ---- the table

def arguments_of(name, script, args, data, results):
    """The command line of one script: sizes small enough for seconds, and the checkpoint of full_8p where it needs one."""
    model, batch8, batch1 = FOLDERS[name]
    case, ranks = script.split('_')
    checkpoint = results / 'full_8p' / 'checkpoint.pth'
    words = ['--data_path=%s' % data]
    if case == 'eval':
        words = [data, checkpoint] if ranks == '8p' else words + ['--resume=%s' % checkpoint]
    if case == 'finetune':
        words.append('--finetune_pth=%s' % checkpoint)
    words += ['--device=%s' % args.device, '--workers', '0', '--batch-size=%d' % (batch8 if ranks == '8p' else batch1)]
    if case != 'eval':
        words += ['--model', model, '--img-size', '32', '--print-freq=1']
        words += ['--max-steps=%d' % (30 if case == 'performance' and args.baseline else 3)]
    return words + (['--epochs=2'] if case in ('full', 'finetune') else [])


def run_row(name, label, number, args, data):
    """One row: calls a script in one of the three ways and judges what it did. -> dict"""
    folder, results = args.out / 'folders' / name, args.out / 'results' / name
    script, options = ON_ACCELERATORS.get(label, (label, []))
    path = folder / 'test' / ('train_%s.sh' % script)
    cwd, called = ((folder, Path('test', path.name)), (folder / 'test', path.name), (args.out, path))[number % 3]
    options = [option.replace('--resume=', '--resume=%s/' % results) for option in options]
    if args.simulate and label.endswith('O2'):       # the level is apex's, and here apex has a stand-in
        options.append('--amp-impl=apex')
    result = run(called, *arguments_of(name, script, args, data, results), *options, out=results / label, cwd=cwd,
                 timeout=args.timeout, python=args.python, **args.environment)
    (results / (label + '.txt')).write_text(result.text)
    reference = None
    if args.baseline and script.startswith('performance'):      # in the same minute
        reference = smoke_report.reference_fps(args.python, args.device, environment(args.python, **args.environment))
    batch = FOLDERS[name][1 if script.endswith('8p') else 2]
    problems = judge(result, name, script, batch)
    if any(option.startswith('--resume') for option in options):     # the best model may be an epoch of the run before
        problems = [problem for problem in problems if problem != 'there is no model_best.pth']
    return dict(folder=name, script=label, seconds=round(result.seconds, 1), fps=result.summary.get('ActualFPS'),
                acc=result.summary.get('TrainAccuracy'), reference_fps=reference, problems=problems)


def run_folder(name, labels, args, data):
    """All rows of one folder, one after the other."""
    copy_alone(name, args.out / 'folders', args.top)
    rows = []
    for number, label in enumerate(labels):
        rows.append(run_row(name, label, number, args, data))
        print(line(rows[-1]), flush=True)
        kept = {other for label in labels[number + 1:] for other in needed(label)}
        drop_checkpoints(args.out / 'results' / name, kept)
    return rows + same_accuracy(name, rows)


def drop_checkpoints(results, kept=()):
    """Removes the checkpoints of a folder's rows, 7 GB in all, but those of rows in `kept`; logs and figures stay."""
    for checkpoint in results.rglob('*.pth*'):
        if checkpoint.relative_to(results).parts[0] not in kept:
            checkpoint.unlink()


def same_accuracy(name, rows):
    """A row for what the evaluations must agree on, where all three were run."""
    acc = {row['script']: row['acc'] for row in rows if row['script'] in ('full_8p', 'eval_1p', 'eval_8p')}
    if len(acc) < 3 or len(set(acc.values())) == 1:
        return []
    row = dict(folder=name, script='(accuracies)', seconds=0., fps=None, acc=None, problems=['they differ: %s' % acc])
    print(line(row), flush=True)
    return [row]


def line(row):
    return '%-34s %-15s %7s s %10s img/s %8s %%  %s' % (row['folder'], row['script'], row['seconds'], row['fps'], row['acc'],
                                                       '; '.join(row['problems']) or 'ok')


def needed(label):
    """-> the rows whose checkpoint a row begins with."""
    if label.startswith(('eval', 'finetune')):
        return ['full_8p']
    return {'full_1p_to_cpu': ['full_1p'], 'full_1p_from_cpu': ['full_1p', 'full_1p_to_cpu']}.get(label, [])


def has_script(top, name, label):
    return (top / name / 'test' / ('train_%s.sh' % ON_ACCELERATORS.get(label, (label,))[0])).is_file()


def chosen(words, names):
    """The names that contain one of the words; all where there are none."""
    found = [name for name in names if not words or any(word in name for word in words)]
    if not found:
        sys.exit('nothing is called %s; there are: %s' % (' or '.join(words), ', '.join(names)))
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cpu', help='as of the scripts (default: cpu)')
    parser.add_argument('--simulate', action='store_true', help='with --device npu: the simulated one, which proves wiring only')
    parser.add_argument('--folders', nargs='+', metavar='WORD', help='only folders whose name contains one of these')
    parser.add_argument('--scripts', nargs='+', metavar='WORD', help='only scripts whose name contains one of these')
    parser.add_argument('--jobs', type=int, default=1, help='folders at a time')
    parser.add_argument('--timeout', type=float, default=300, help='seconds a script may take')
    parser.add_argument('--python', default=sys.executable, help='the interpreter that runs the scripts')
    parser.add_argument('--top', type=Path, default=TOP, help='where the folders are (default: this repository)')
    parser.add_argument('--baseline', type=Path, metavar='FILE', help='a row is red too when its FPS (over a reference network\'s) '
                        'or its accuracy is worse than in FILE, such as ci/baseline.json')
    parser.add_argument('--rebase', action='store_true', help='rewrite --baseline with this run\'s figures')
    parser.add_argument('--out', type=Path, help='where everything is kept (default: a temporary folder, removed when all is well)')
    args = parser.parse_args(argv)
    if args.rebase and not args.baseline:
        parser.error('--rebase needs --baseline FILE, the file to rewrite')
    if args.baseline and not args.rebase and not args.baseline.is_file():
        parser.error('--baseline %s does not exist; --rebase writes it' % args.baseline)
    keep = args.out is not None
    args.out = Path(args.out or tempfile.mkdtemp(prefix='smoke ')).resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    data = make_digits(args.out / 'hand written digits')
    known = list(SCRIPTS) + (list(ON_ACCELERATORS) if args.device != 'cpu' else [])
    wanted = {label for script in chosen(args.scripts, known) for label in needed(script) + [script]}
    scripts = {name: [label for label in known if label in wanted and has_script(args.top, name, label)]
               for name in chosen(args.folders, list(FOLDERS))}
    args.environment = simulated() if args.simulate else {}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        rows = sum(pool.map(lambda name: run_folder(name, scripts[name], args, data), scripts), [])
    if args.baseline:
        (smoke_report.rebase if args.rebase else smoke_report.compare)(rows, args.baseline, args.device)
    red = [row for row in rows if row['problems']]
    (args.out / 'smoke.json').write_text(json.dumps(rows, indent=1))
    smoke_report.write_junit(rows, args.out / 'smoke.xml')
    for row in red if args.baseline else []:
        print(line(row))
    print('%d of %d rows are green, %.0f s of scripts%s' % (len(rows) - len(red), len(rows), sum(row['seconds'] for row in rows),
                                                            '; see %s' % args.out if red or keep else ''))
    if not keep and not red:
        shutil.rmtree(args.out)
    return 1 if red else 0


if __name__ == '__main__':
    sys.exit(main())
