#!/usr/bin/env python3
"""Runs every script of every folder on other versions of PyTorch; ci/versions.sh calls it. Standard library only.

Each version has an environment of its own, made with a Python of its time from a folder's requirements file and nothing else.
In it run the scripts (by ci/smoke.py), and of each folder: a run of two processes, a run that is stopped and resumed, and
the golden record of the default model. Ends with a table, version x folder x script; writes versions.json to --out.
"""
import argparse
import concurrent.futures
import fcntl
import glob
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

import smoke

TOP = smoke.TOP
PYTHONS = ('3.11', '3.12', '3.13', '3.10')
# version: the requirements file, and the Pythons there are wheels for, best first
VERSIONS = {
    '1.5': ('1.5_requirements.txt', ('3.8', '3.7')),
    '1.8': ('1.8_requirements.txt', ('3.8', '3.7', '3.9')),
    '2.12': ('requirements.txt', PYTHONS),
    'latest': ('requirements.txt', PYTHONS),       # without its pins
}
# golden records: the folder's default model for its logits, a small one for its gradients too (a backward pass of
# convmixer_1536_20 takes over a minute on a CPU)
RECORDS = {
    'ConvMixer_for_PyTorch': ('convmixer_1536_20', 'convmixer_256_8_ks5_p2__n10_s32'),
    'SPACH_for_PyTorch': ('spach_ms_s_patch4_224_conv', 'spach_ms_xxs_patch4_224_conv'),
    'Vit_base_patch32_224_for_PyTorch': ('vit_base_patch32_224', 'vit_tiny_patch16_224'),
    'Twins-PCPVT-S_for_PyTorch': ('pcpvt_small_v0', 'pcpvt_small_v0'),
    'VAN-Classification_for_PyTorch': ('van_b2', 'van_b0'),
}
MORE = ('full_2p', 'resume', 'golden')             # what is run here, after smoke.SCRIPTS
QUICK = ('full_1p', 'golden')
RED, MISSING = 1, 3                                # exit statuses


class Missing(Exception):
    """This machine cannot run a version; the text says what it lacks, and the way out."""


class Broken(Exception):
    """What a requirements file names does not go together, or cannot be run at all; the text says how that shows."""


# ---- environments

def find_python(names):
    """-> the path of an interpreter of one of these versions ('3.8'), the first that runs; None where there is none."""
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv')) / 'versions'
    for name in names:
        candidates = sorted(glob.glob(str(pyenv / (name + '.*') / 'bin' / 'python')), reverse=True)
        candidates += [shutil.which('python' + name), uv_python(name)]
        for python in filter(None, candidates):
            said = subprocess.run([python, '-c', 'import ensurepip, ssl, sys; print("%d.%d" % sys.version_info[:2])'],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
            if said.strip() == name:
                return python


def uv_python(name):
    """-> the interpreter that uv knows, or None."""
    if not shutil.which('uv'):
        return None
    found = subprocess.run(['uv', 'python', 'find', name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return found.stdout.strip() if found.returncode == 0 else None


def requirements(version):
    """-> the text of the version's requirements file, which is one and the same in all folders.

    For latest: that of today's without its exact pins; ranges, such as Pillow's, stay.
    """
    texts = {(TOP / name / VERSIONS[version][0]).read_text() for name in smoke.FOLDERS}
    if len(texts) > 1:
        sys.exit('the folders\' %s differ; they must be one file, five times' % VERSIONS[version][0])
    text = texts.pop()
    return re.sub(r'==\S+', '', text) if version == 'latest' else text


def environment(version):
    """Makes the version's environment, unless it is there and up to date. -> its python. Raises Missing, Broken."""
    names = VERSIONS[version][1]
    base = find_python(names)
    if base is None:
        raise Missing('no Python %s was found (pyenv\'s versions, uv\'s, the PATH); get one by: pyenv install %s'
                      % (' or '.join(names), names[0]))
    venv = Path(os.environ.get('VENVS', TOP / '.venvs')).resolve() / version
    python, stamp = venv / 'bin' / 'python', venv / 'stamp'
    wanted = '%s\n%s' % (base, requirements(version)) + (time.strftime('# %Y-%m-%d') if version == 'latest' else '')
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(venv.parent / (version + '.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)      # tests that run at the same time want the same environment
        if not (python.is_file() and stamp.is_file() and stamp.read_text() == wanted):
            install(base, venv, requirements(version))
            stamp.write_text(wanted)
    return python


def install(base, venv, text):
    """A new environment with what a requirements file names, by uv where it is there, else by pip. Raises Missing, Broken."""
    shutil.rmtree(venv, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'requirements.txt'
        path.write_text(text)
        python = venv / 'bin' / 'python'
        commands = [[base, '-m', 'venv', venv],
                    [python, '-m', 'pip', 'install', '--disable-pip-version-check', '--progress-bar=off', '-r', path]]
        if shutil.which('uv'):
            commands = [['uv', 'venv', '--python', base, venv], ['uv', 'pip', 'install', '--python', python, '-r', path]]
        for command in map(lambda words: list(map(str, words)), commands):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                shutil.rmtree(venv, ignore_errors=True)
                fail_install(base, done.stdout.strip().splitlines() or ['no reason given'])


def fail_install(base, lines):
    """Raises Broken where the packages exclude each other, Missing where they cannot be had."""
    for line in lines:
        if re.search('conflict|ResolutionImpossible', line):
            raise Broken('its packages do not go together: %s' % line)
    errors = [line for line in lines if 'error' in line.lower()] or lines
    raise Missing('its packages could not be installed with %s: %s' % (base, errors[-1]))


def packages(python):
    """-> {package: version} of what is installed, by importing it. Raises Broken."""
    code = ('import json, platform, torch, torchvision, timm, PIL, numpy; print(json.dumps(dict([("Python", platform.python_version())]'
            '+ [(m.__name__, m.__version__) for m in (torch, torchvision, timm, PIL, numpy)])))')
    done = subprocess.run([str(python), '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Broken('its packages do not import: %s' % done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


# ---- rows beside ci/smoke.py's; each -> (what is wrong, Result of the last run or None)

def full_2p(job):
    result = job.run('train_full_8p.sh', 'full_2p', '--nproc_per_node=2', '--max-steps=3')
    return smoke.judge(result, job.name, 'full_2p'), result


def resume(job):
    """Stopped by SIGTERM in its first epoch and resumed: the last loss and accuracy are those of the run that was not stopped.

    Two ranks with a loading process each, and the signal goes to all processes, as a scheduler sends it.
    """
    options, cut = ['--nproc_per_node=2', '--workers=1', '--max-steps=8'], job.out / 'cut'
    whole = job.run('train_full_8p.sh', 'whole', *options)
    process = smoke.start(job.script('train_full_8p.sh'), *job.arguments, *options, '--output_dir=%s' % cut, python=job.python)
    events, deadline = cut / 'metrics.jsonl', time.monotonic() + job.timeout
    while process.poll() is None and time.monotonic() < deadline:
        if events.is_file() and '"event": "train"' in events.read_text():
            break
        time.sleep(.02)
    os.killpg(process.pid, signal.SIGTERM)
    try:
        text = process.communicate(timeout=job.timeout)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text = process.communicate()[0]
    (job.out / 'cut.txt').write_text(text)
    if process.returncode != 143:
        return ['exit %s where a stopped run ends with 143: %s' % (process.returncode, text.splitlines()[-1:])], None
    rest = job.run('train_full_8p.sh', 'cut', *options, '--resume=%s' % (cut / 'checkpoint.pth'))
    keys = ('ActualLoss', 'TrainAccuracy')
    ends = [[run.summary.get(key) for key in keys] for run in (whole, rest)]
    problems = smoke.judge(whole, job.name, 'full_2p') + smoke.judge(rest, job.name, 'full_2p')
    problems += [] if 'Resumed from' in rest.text else ['the log has no "Resumed from"']
    return problems + ([] if ends[0] == ends[1] else ['%s are %s, and %s without the stop' % (keys, ends[1], ends[0])]), rest


def golden(job):
    """Keys, shapes and logits of the default model, and a small model's gradients too, are those of upstream's code."""
    problems = []
    for name, options in zip(RECORDS[job.name], (['--no-grad'], [])):
        record = TOP / 'tests' / 'data' / 'golden' / (name + '.json')
        kwargs = dict(json.loads(record.read_text())['check_kwargs'], name=name.split('__')[0])
        done = subprocess.run([str(job.python), str(record.parent / 'check_golden.py'), str(record), '--factory',
                               'train:create_model', '--path', str(job.folder), '--kwargs', json.dumps(kwargs)] + options,
                              env=smoke.environment(job.python), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with open(job.out / 'golden.txt', 'a') as log:
            log.write(done.stdout)
        problems += [] if done.returncode == 0 else [(done.stdout.strip().splitlines() or ['no output'])[-1]]
    return problems, None


class Job:
    """One folder on one version: where it is, and how its scripts are called."""

    def __init__(self, name, python, timeout, out):
        self.name, self.python, self.timeout = name, python, timeout
        self.folder, self.out = out / 'folders' / name, out / 'results' / name
        model, _, batch = smoke.FOLDERS[name]
        self.arguments = ['--data_path=%s' % (out / 'hand written digits'), '--model', model, '--img-size=32', '--device=cpu',
                          '--workers=0', '--batch-size=%d' % batch, '--epochs=2', '--print-freq=1']

    def script(self, name):
        return self.folder / 'test' / name

    def run(self, script, out, *more):
        result = smoke.run(self.script(script), *self.arguments, *more, out=self.out / out, timeout=self.timeout, python=self.python)
        (self.out / (out + '.txt')).write_text(result.text)
        return result

    def rows(self, scripts):
        for script in scripts:
            begun = time.monotonic()
            problems, result = {'full_2p': full_2p, 'resume': resume, 'golden': golden}[script](self)
            summary = result.summary if result else {}
            row = dict(folder=self.name, script=script, seconds=round(time.monotonic() - begun, 1), fps=summary.get('ActualFPS'),
                       acc=summary.get('TrainAccuracy'), problems=problems)
            smoke.drop_checkpoints(self.out)
            print(smoke.line(row), flush=True)
            yield row


# ---- one version, and the table

def run_version(version, folders, scripts, args):
    """-> what versions.json has of it: packages, seconds, rows; or the reason in `missing`."""
    begun = time.monotonic()
    record = dict(version=version, date=time.strftime('%Y-%m-%d'), packages={}, rows=[], missing=None, install_seconds=None)
    print('==== PyTorch %s' % version, flush=True)
    try:
        python = environment(version)
        record['packages'] = packages(python)
        record['install_seconds'] = round(time.monotonic() - begun)
        print('%s; %d s' % (described(record), record['install_seconds']), flush=True)
        record['rows'] = run_scripts(python, folders, scripts, args, args.out / version)
    except Missing as e:
        record['missing'] = str(e)
    except Broken as e:
        record['rows'] = [dict(folder='(environment)', script='install', seconds=0., fps=None, acc=None, problems=[str(e)])]
    record['seconds'] = round(time.monotonic() - begun)
    if args.drop:
        shutil.rmtree(Path(os.environ.get('VENVS', TOP / '.venvs')) / version, ignore_errors=True)
    return record


def run_scripts(python, folders, scripts, args, out):
    """smoke.py's rows, then those of this file. Raises Broken."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    own = [script for script in scripts if script in MORE]
    theirs = [script for script in scripts if script not in MORE]
    subprocess.run([sys.executable, TOP / 'ci' / 'smoke.py', '--python', python, '--jobs', str(args.jobs), '--timeout',
                    str(args.timeout), '--out', out, '--folders'] + folders + ['--scripts'] + (theirs or ['full_1p']))
    if not (out / 'smoke.json').is_file():
        raise Broken('ci/smoke.py ended without a table; its own lines above say why')
    rows = json.loads((out / 'smoke.json').read_text())
    jobs = [Job(name, python, args.timeout, out) for name in folders]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        return sum(pool.map(lambda job: list(job.rows(own)), jobs), rows)


def described(record):
    return ', '.join('%s %s' % item for item in record['packages'].items())


def table(records, scripts):
    """version x folder x script: seconds where it is green, RED, '-' where there is no such script."""
    lines = ['%-8s%-34s' % ('version', 'folder') + ''.join('%16s' % script for script in scripts)]
    for record in records:
        if record['missing']:
            lines.append('%-8sMISSING: %s' % (record['version'], record['missing']))
        cells = {(row['folder'], row['script']): 'RED' if row['problems'] else '%.1f s' % row['seconds'] for row in record['rows']}
        for folder in dict.fromkeys(folder for folder, _ in cells):
            lines.append('%-8s%-34s' % (record['version'], folder) + ''.join(
                '%16s' % cells.get((folder, script), '-') for script in scripts))
    return '\n'.join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(prog='ci/versions.sh', description=__doc__.split('\n')[0])
    parser.add_argument('versions', nargs='+', metavar='VERSION', choices=[*VERSIONS, 'all'],
                        help='%s, or all' % ', '.join(VERSIONS))
    parser.add_argument('--quick', action='store_true', help='of each folder only %s' % ' and '.join(QUICK))
    parser.add_argument('--folders', nargs='+', metavar='WORD', help='only folders whose name contains one of these')
    parser.add_argument('--scripts', nargs='+', metavar='WORD', help='only scripts whose name contains one of these')
    parser.add_argument('--jobs', type=int, default=2, help='folders at a time (default: 2)')
    parser.add_argument('--timeout', type=float, default=600, help='seconds a script may take (default: 600)')
    parser.add_argument('--drop', action='store_true', help='remove each environment after its version; else it is kept for later')
    parser.add_argument('--out', type=Path, default=TOP / 'build' / 'versions',
                        help='where logs and versions.json are kept (default: build/versions)')
    args = parser.parse_args(argv)
    args.out = args.out.resolve()
    folders = smoke.chosen(args.folders, list(smoke.FOLDERS))
    scripts = smoke.chosen(args.scripts, [script for script in smoke.SCRIPTS + MORE if script in QUICK or not args.quick])
    versions = list(VERSIONS) if 'all' in args.versions else args.versions
    records = [run_version(version, folders, scripts, args) for version in versions]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'versions.json').write_text(json.dumps(records, indent=1))
    return conclude(records, scripts, args.out)


def conclude(records, scripts, out):
    """Prints the table and what is wrong. -> exit status"""
    rows = [(record['version'], row) for record in records for row in record['rows']]
    red = [(version, row) for version, row in rows if row['problems']]
    print('\n' + table(records, scripts))
    for version, row in red:
        print('RED: %s %s %s: %s' % (version, row['folder'], row['script'], '; '.join(row['problems'])))
    for record in records:
        if record['packages']:
            print('%s: %s; %d s with %d s for the environment'
                  % (record['version'], described(record), record['seconds'], record['install_seconds']))
    missing = [record['version'] for record in records if record['missing']]
    print('%d of %d rows are green%s; see %s'
          % (len(rows) - len(red), len(rows), '; not run: ' + ', '.join(missing) if missing else '', out))
    return RED if red else MISSING if missing else 0


if __name__ == '__main__':
    sys.exit(main())
