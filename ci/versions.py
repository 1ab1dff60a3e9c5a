#!/usr/bin/env python3
"""Runs every script of every folder on other versions of PyTorch, some on other wheels of torch_npu; ci/versions.sh calls it.

Each version has an environment of its own, made with a Python of its time from a folder's requirements file and nothing else.
In it runs tests/integration/test_every_script.py. Ends with a table, version x folder x script; logs are kept in --out.

npu-2.14 and its like: the vendor's wheel over tests/cannsim/, which the Python that runs the tests builds; so their environments
have what the tests need, too. Import and names, a training of each folder (three steps), two ranks of each.
"""

import argparse
import fcntl
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PYTHONS = ('3.11', '3.12', '3.13', '3.10')
# version: the requirements file, and the Pythons there are wheels for, best first
VERSIONS = {
    '1.5': ('1.5_requirements.txt', ('3.8', '3.7')),
    '1.8': ('1.8_requirements.txt', ('3.8', '3.7', '3.9')),
    '2.12': ('requirements.txt', PYTHONS),
    'latest': ('requirements.txt', PYTHONS),  # without its pins
    'npu-2.1': ('requirements.txt', ('3.11', '3.10')),  # with the pins below
    'npu-2.7': ('requirements.txt', PYTHONS),
    'npu-2.14': ('requirements.txt', PYTHONS),
}
# other wheels of torch_npu: what they go with
WHEELS = {
    'npu-2.1': {'torch': '==2.1.0', 'torchvision': '==0.16.0', 'numpy': '<2'},
    'npu-2.7': {'torch': '==2.7.1', 'torchvision': '==0.22.1'},
    'npu-2.14': {'torch': '==2.14.0', 'torchvision': '==0.29.0'},
}
QUICK = ('full_1p', 'golden')
QUICK_NPU = ('performance_1p', 'full_8p')
NAMES = 'tests/unit/test_ascend_api.py::test_the_installed_torch_npu_has_every_name'
RED, MISSING = 1, 3  # exit statuses


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
            said = subprocess.run(
                [python, '-c', 'import ensurepip, ssl, sys; print("%d.%d" % sys.version_info[:2])'],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ).stdout
            if said.strip() == name:
                return python


def uv_python(name):
    """-> the interpreter that uv knows, or None."""
    if not shutil.which('uv'):
        return None
    found = subprocess.run(['uv', 'python', 'find', name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return found.stdout.strip() if found.returncode == 0 else None


def requirements(version):
    """-> the text of the version's requirements file, which is the same in all folders (ci/sync_common.py).

    For latest: that of today's without its exact pins; ranges, such as Pillow's, stay. For a wheel of torch_npu with its pins.
    """
    text = next(TOP.glob(f'*_for_PyTorch/{VERSIONS[version][0]}')).read_text()
    for name, pin in WHEELS.get(version, {}).items():
        text = re.sub(rf'^{name}\b.*', name + pin, text, flags=re.M)
    return re.sub(r'==\S+', '', text) if version == 'latest' else text


def installed(version):
    """-> what is installed for a version: those, and for the tests in it of a wheel of torch_npu what they need, too."""
    more = (TOP / 'ci' / 'requirements.txt').read_text() + 'pyyaml\n' if version in WHEELS else ''
    return requirements(version) + more


def environment(version):
    """Makes the version's environment, unless it is there and up to date. -> its python. Raises Missing, Broken."""
    names = VERSIONS[version][1]
    base = find_python(names)
    if base is None:
        wanted = ' or '.join(names)
        raise Missing(
            f"no Python {wanted} was found (pyenv's versions, uv's, the PATH); get one by: pyenv install {names[0]}"
        )
    venv = Path(os.environ.get('VENVS', TOP / '.venvs')).resolve() / version
    python, stamp = venv / 'bin' / 'python', venv / 'stamp'
    wanted = f'{base}\n{installed(version)}' + (time.strftime('# %Y-%m-%d') if version == 'latest' else '')
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(venv.parent / (version + '.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run at the same time want the same environment
        if not (python.is_file() and stamp.is_file() and stamp.read_text() == wanted):
            install(base, venv, installed(version))
            stamp.write_text(wanted)
    return python


def install(base, venv, text):
    """A new environment with what a requirements file names, by uv where it is there, else by pip. Raises Missing, Broken."""
    shutil.rmtree(venv, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'requirements.txt'
        path.write_text(text)
        python = venv / 'bin' / 'python'
        pip = [python, '-m', 'pip', 'install', '--disable-pip-version-check', '--progress-bar=off']
        commands = [[base, '-m', 'venv', venv], [*pip, '-r', path]]
        if shutil.which('uv'):
            commands = [
                ['uv', 'venv', '--python', base, venv],
                ['uv', 'pip', 'install', '--python', python, '-r', path],
            ]
        for command in commands:
            done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                shutil.rmtree(venv, ignore_errors=True)
                fail_install(base, done.stdout.strip().splitlines() or ['no reason given'])


def fail_install(base, lines):
    """Raises Broken where the packages exclude each other, Missing where they cannot be had."""
    for line in lines:
        if re.search('conflict|ResolutionImpossible', line):
            raise Broken(f'its packages do not go together: {line}')
    errors = [line for line in lines if 'error' in line.lower()] or lines
    raise Missing(f'its packages could not be installed with {base}: {errors[-1]}')


def packages(python):
    """-> {package: version} of what is installed, by importing it. Raises Broken."""
    code = 'import json, platform, torch, torchvision, timm, PIL, numpy as np; versions = {"Python": platform.python_version()}; '
    code += 'versions.update((m.__name__, m.__version__) for m in (torch, torchvision, timm, PIL, np)); print(json.dumps(versions))'
    done = subprocess.run([str(python), '-c', code], capture_output=True, text=True)
    if done.returncode:
        raise Broken(f'its packages do not import: {done.stderr.strip().splitlines()[-1]}')
    return json.loads(done.stdout.splitlines()[-1])


def wheel(python):
    """-> the version of torch_npu's wheel, which is there after this, as is the simulated CANN. Raises Missing, Broken."""
    done = subprocess.run([str(python), TOP / 'tests' / 'cannsim' / 'build.py'], capture_output=True, text=True)
    if done.returncode:
        raise (Broken if 'does not compile' in done.stderr else Missing)(done.stderr.strip())
    return re.search(r'^PYTHONPATH=.*/torch_npu-([^-]+)-', done.stdout, re.M)[1]


# ---- one version, and the table


def run_version(version, args):
    """-> what the table has of it: packages, seconds, rows; or the reason in `missing`."""
    begun = time.monotonic()
    record = dict(version=version, packages={}, rows=[], missing=None, install_seconds=None)
    print(f'==== PyTorch {version}', flush=True)
    try:
        python = environment(version)
        record['packages'] = packages(python)
        if version in WHEELS:
            record['packages']['torch_npu'] = wheel(python)
        record['install_seconds'] = round(time.monotonic() - begun)
        print(f'{described(record)}; {record["install_seconds"]} s', flush=True)
        record['rows'] = run_scripts(python, args, args.out / version)
    except Missing as e:
        record['missing'] = str(e)
    except Broken as e:
        record['rows'] = [dict(folder='(environment)', script='install', seconds=0.0, problems=[str(e)])]
    record['seconds'] = round(time.monotonic() - begun)
    if args.drop:
        shutil.rmtree(Path(os.environ.get('VENVS', TOP / '.venvs')) / version, ignore_errors=True)
    return record


def folders_for(version, words):
    """-> the folders whose folder.json has the version and whose name contains one of the words. Raises Missing."""
    about = {path.parent.name: json.loads(path.read_text()) for path in sorted(TOP.glob('*_for_PyTorch/folder.json'))}
    names = [name for name in about if version in WHEELS or version in about[name]['torch']]
    names = [name for name in names if not words or any(word in name for word in words)]
    if not names:
        raise Missing(f'no folder {"called " + " or ".join(words) if words else "at all"} has it in its folder.json')
    return names


def run_scripts(python, args, out):
    """-> the rows of tests/integration/test_every_script.py, run by this interpreter. Raises Broken."""
    folders = folders_for(out.name, args.folders)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    npu = out.name in WHEELS
    scripts = args.scripts or (QUICK_NPU if npu else QUICK if args.quick else ())
    command = [python if npu else sys.executable, '-m', 'pytest', TOP / 'tests/integration/test_every_script.py']
    command += [TOP / NAMES, '--device=npu', '--simulate', '--ranks=2'] if npu else ['--python', python]
    command += ['-n', args.jobs, f'--rootdir={TOP}', '--tb=line']
    command += [f'--junitxml={out / "rows.xml"}', f'--basetemp={out / "files"}']
    command += ['--folders', *folders]
    command += ['--scripts', *scripts] if scripts else []
    code = subprocess.run(list(map(str, command)), cwd=TOP).returncode
    rows = read_rows(out / 'rows.xml')
    if not rows or code not in (0, 1):
        raise Broken(f'pytest ended with {code} and {len(rows)} rows; its own lines above say why')
    return rows


def read_rows(path):
    """-> [{folder, script, seconds, problems}] from JUnit's file."""
    rows = []
    for case in ElementTree.parse(path).iter('testcase') if path.is_file() else ():
        said = {prop.get('name'): prop.get('value') for prop in case.iter('property')}
        red = [child.get('message') for child in case if child.tag in ('failure', 'error', 'skipped')]
        problems = [said.get('problems') or red[0]] if red else []
        name = re.search(r'\[(.*)-(\w+)\]', case.get('name')) or ('', '(pytest)', case.get('name'))
        name = ('', 'torch_npu', 'names') if NAMES.endswith(f'::{name[2]}') else name
        rows.append(
            dict(
                folder=name[1], script=name[2], seconds=float(said.get('seconds', case.get('time'))), problems=problems
            )
        )
    return rows


def described(record):
    return ', '.join(f'{name} {version}' for name, version in record['packages'].items())


def table(records):
    """version x folder x script: seconds where it is green, RED, '-' where there is no such row."""
    scripts = list(dict.fromkeys(row['script'] for record in records for row in record['rows']))
    lines = [f'{"version":<9}{"folder":<34}' + ''.join(f'{script:>16}' for script in scripts)]
    for record in records:
        if record['missing']:
            lines.append(f'{record["version"]:<9}MISSING: {record["missing"]}')
        cells = {}
        for row in record['rows']:
            cells.setdefault(row['folder'], {})[row['script']] = 'RED' if row['problems'] else f'{row["seconds"]:.1f} s'
        for folder, said in cells.items():
            lines.append(
                f'{record["version"]:<9}{folder:<34}' + ''.join(f'{said.get(script, "-"):>16}' for script in scripts)
            )
    return '\n'.join(lines)


def conclude(records, out):
    """Prints the table and what is wrong. -> exit status"""
    rows = [(record['version'], row) for record in records for row in record['rows']]
    red = [(version, row) for version, row in rows if row['problems']]
    print(f'\n{table(records)}')
    for version, row in red:
        print(f'RED: {version} {row["folder"]} {row["script"]}: {"; ".join(row["problems"])}')
    for record in records:
        if record['packages']:
            seconds = f'{record["seconds"]} s with {record["install_seconds"]} s for the environment'
            print(f'{record["version"]}: {described(record)}; {seconds}')
    missing = [record['version'] for record in records if record['missing']]
    not_run = f'; not run: {", ".join(missing)}' if missing else ''
    print(f'{len(rows) - len(red)} of {len(rows)} rows are green{not_run}; see {out}')
    return RED if red else MISSING if missing else 0


def main(argv=None):
    parser = argparse.ArgumentParser(prog='ci/versions.sh', description=__doc__.split('\n')[0])
    add = parser.add_argument
    add(
        'versions',
        nargs='+',
        metavar='VERSION',
        choices=[*VERSIONS, 'all'],
        help=f'{", ".join(VERSIONS)}, or all: those on the CPU',
    )
    add(
        '--quick',
        action='store_true',
        help=f'of each folder only {" and ".join(QUICK)} (npu: {" and ".join(QUICK_NPU)} unless told)',
    )
    add('--folders', nargs='+', metavar='WORD', help='only folders whose name contains one of these')
    add('--scripts', nargs='+', metavar='WORD', help='only rows whose name contains one of these')
    add('--jobs', type=int, default=2, help='folders at a time (default: 2)')
    add('--drop', action='store_true', help='remove each environment after its version; else it is kept for later')
    add('--out', type=Path, default=TOP / 'build' / 'versions', help='where logs are kept (default: build/versions)')
    args = parser.parse_args(argv)
    args.out = args.out.resolve()
    versions = [version for version in VERSIONS if version not in WHEELS] if 'all' in args.versions else args.versions
    return conclude([run_version(version, args) for version in versions], args.out)


if __name__ == '__main__':
    sys.exit(main())
