"""The simulated NPU of tests/npusim/: its names are torch_npu's, and it does what the CPU does.

Each file of npusim/checks/ runs in a process of its own and reports on all of its checks, because `import torch` takes seconds
and torch_npu changes torch for good.
"""
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import TOP, run

SIMULATOR = TOP / 'tests' / 'npusim'
CHECKS = [(name, check) for name in ('names', 'device', 'apex_amp')
          for check in re.findall(r'^def (check_\w+)', (SIMULATOR / 'checks' / (name + '.py')).read_text(), re.M)]
FEW = 'ASCEND_RT_VISIBLE_DEVICES'


@pytest.fixture(scope='session')
def environment(npusim):
    """Of the checks: four of the eight devices, and the tests' helpers on the path."""
    path = os.pathsep.join([npusim['PYTHONPATH'], str(TOP / 'tests')])
    return {**os.environ, **npusim, 'PYTHONPATH': path, FEW: '0,1,2,5'}


def outcome_of(command, environment):
    """-> {check: traceback or ''} that a file of checks printed last."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith('{')))


@pytest.fixture(scope='session')
def outcomes(environment):
    """outcomes(name) -> what npusim/checks/<name>.py said; run once."""
    known = {}

    def get(name):
        if name not in known:
            known[name] = outcome_of([SIMULATOR / 'checks' / (name + '.py')], environment)
        return known[name]
    return get


@pytest.mark.parametrize('name, check', CHECKS)
def test_check(outcomes, name, check):
    assert not outcomes(name)[check], outcomes(name)[check]


def ranks(environment, number):
    found = outcome_of(['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=%d' % number,
                        SIMULATOR / 'checks' / 'ranks.py'], {**environment, FEW: ','.join(map(str, range(number)))})
    assert len(found) == 2 and not any(found.values()), found


def test_two_ranks(environment):
    ranks(environment, 2)


@pytest.mark.long
def test_eight_ranks(environment):
    ranks(environment, 8)


def test_importing_torch_is_enough(npusim):
    """Autoload finds the simulated device by its entry point, and TORCH_DEVICE_BACKEND_AUTOLOAD=0 keeps it out."""
    code = 'import os, torch; print(hasattr(torch, "npu"), os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD"))'
    for setting, said in ((None, 'True None'), ('0', 'False 0')):
        environment = {**os.environ, **npusim}
        environment.pop('TORCH_DEVICE_BACKEND_AUTOLOAD', None)
        if setting is not None:
            environment['TORCH_DEVICE_BACKEND_AUTOLOAD'] = setting
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=environment)
        assert done.stdout.strip() == said, done.stderr


def build(tmp_path, compiler):
    return subprocess.Popen([sys.executable, SIMULATOR / 'build.py'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, 'NPUSIM_CACHE': str(tmp_path / 'cache'), 'CXX': str(compiler)})


def test_no_compiler_is_a_sentence(tmp_path):
    process = build(tmp_path, '/no/such/compiler')
    said = process.communicate()[1].strip()
    assert process.returncode == 1 and '\n' not in said and 'install g++' in said


def test_ranks_that_start_together_build_once(tmp_path):
    compiler = tmp_path / 'compiler'
    compiler.write_text('#!/bin/sh\necho called >> %s/calls\nsleep 0.5\nwhile [ "$1" != -o ]; do shift; done\n: > "$2"\n' % tmp_path)
    compiler.chmod(0o755)
    processes = [build(tmp_path, compiler) for _ in range(6)]
    assert [process.communicate()[0].strip() for process in processes] == [str(SIMULATOR)] * 6
    assert (tmp_path / 'calls').read_text() == 'called\n'


@pytest.mark.long
@pytest.mark.parametrize('script', ['train_full_1p.sh', 'train_full_8p.sh'])
def test_a_folder_trains_on_it(folder, few_digits, npusim, tmp_path, script):
    result = run(folder / 'test' / script, '--data_path=%s' % few_digits, '--output_dir=%s' % tmp_path, '--device', 'npu',
                 '--model', 'van_b0', '--img-size=32', '--max-steps=3', '--epochs=1', '--workers', '0', '--batch-size=4',
                 **npusim)
    assert result.code == 0 and 'npu (Ascend (simulated))' in result.text, result.text[-3000:]
