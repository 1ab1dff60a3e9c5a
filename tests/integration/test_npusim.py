"""The simulated NPU of tests/npusim/: its names are torch_npu's, and it does what the CPU does.

Each file of npusim/checks/ runs in one process and reports on all of its checks: torch_npu changes torch for good.
"""

import os
import re
import subprocess
import sys

import pytest

from helpers import TOP, environment, in_folder, in_ranks

SIMULATOR = TOP / 'tests' / 'npusim'
FILES = ['names', 'device', 'apex_amp']
CHECKS = [
    (name, check)
    for name in FILES
    for check in re.findall(r'^def (check_\w+)', (SIMULATOR / 'checks' / f'{name}.py').read_text(), re.M)
]


def checks(name):
    """In a child. -> {check: traceback or ''}"""
    from report import outcome

    return outcome(name)


@pytest.fixture(scope='module')
def outcomes(npusim):
    """Of every check; four of the eight devices are visible."""
    paths = os.pathsep.join([npusim['PYTHONPATH'], str(TOP / 'tests' / 'unit')])
    more = dict(npusim, PYTHONPATH=paths, ASCEND_RT_VISIBLE_DEVICES='0,1,2,5')
    return {name: in_folder(SIMULATOR / 'checks', checks, name, **more) for name in FILES}


@pytest.mark.parametrize('name, check', CHECKS)
def test_check(outcomes, name, check):
    assert not outcomes[name][check], outcomes[name][check]


@pytest.mark.parametrize('ranks', [2, pytest.param(8, marks=pytest.mark.long)])
def test_ranks(npusim, ranks):
    visible = ','.join(map(str, range(ranks)))
    for found in in_ranks(ranks, SIMULATOR / 'checks', checks, 'ranks', ASCEND_RT_VISIBLE_DEVICES=visible, **npusim):
        assert len(found) == 2 and not any(found.values()), found


def test_importing_torch_is_enough(npusim):
    """Autoload finds the simulated device by its entry point, and TORCH_DEVICE_BACKEND_AUTOLOAD=0 keeps it out."""
    code = 'import os, torch; print(hasattr(torch, "npu"), os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD"))'
    for setting, said in (({}, 'True None'), ({'TORCH_DEVICE_BACKEND_AUTOLOAD': '0'}, 'False 0')):
        env = environment(**npusim)
        env.pop('TORCH_DEVICE_BACKEND_AUTOLOAD', None)  # importing common/ sets it
        env.update(setting)
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
        assert done.stdout.strip() == said, done.stderr


def build(tmp_path, compiler):
    env = environment(NPUSIM_CACHE=str(tmp_path / 'cache'), CXX=str(compiler))
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    return subprocess.Popen([sys.executable, SIMULATOR / 'build.py'], text=True, env=env, **pipes)


def test_no_compiler_is_a_sentence(tmp_path):
    process = build(tmp_path, '/no/such/compiler')
    said = process.communicate()[1].strip()
    assert process.returncode == 1 and '\n' not in said and 'install g++' in said


def test_ranks_that_start_together_build_once(tmp_path):
    compiler = tmp_path / 'compiler'
    call = f'echo called >> {tmp_path}/calls'
    compiler.write_text(f'#!/bin/sh\n{call}\nsleep 0.5\nwhile [ "$1" != -o ]; do shift; done\n: > "$2"\n')
    compiler.chmod(0o755)
    processes = [build(tmp_path, compiler) for _ in range(6)]
    assert [process.communicate()[0].strip() for process in processes] == [str(SIMULATOR)] * 6
    assert (tmp_path / 'calls').read_text() == 'called\n'
