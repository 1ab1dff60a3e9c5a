"""The shell side on its own: core binding and the Ascend environment, with stand-ins for what this machine lacks."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOP

SHOW = [sys.executable, '-c', 'import os; print(sorted(os.sched_getaffinity(0)))']


def bind(rank, ranks, **env):
    done = subprocess.run(['bash', TOP / 'common' / 'bind.sh', *SHOW], capture_output=True, text=True,
                          env=dict(os.environ, LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(ranks), **env))
    assert done.returncode == 0, done.stderr
    *said, cores = done.stdout.splitlines()
    return set(eval(cores)), said


def executable(path, text):
    path.write_text('#!/usr/bin/env bash\n' + text)
    path.chmod(0o755)
    return path


def test_ranks_share_the_cores_without_overlap():
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip('one core cannot be shared out')
    (first, said), (second, nothing) = bind(0, 2), bind(1, 2)
    assert first and second and not first & second and first | second <= allowed
    assert len(said) == 1 and 'is bound to %d cores' % len(first) in said[0] and nothing == []


def test_more_ranks_than_cores_run_unbound_and_say_so_once():
    allowed = os.sched_getaffinity(0)
    cores, said = bind(0, len(allowed) + 1)
    assert cores == allowed and said == ['No core binding: %d cores for %d processes.' % (len(allowed), len(allowed) + 1)]
    assert bind(1, len(allowed) + 1)[1] == []


def test_numactl_binds_memory_too(tmp_path):
    """With a numactl that writes down what it was told."""
    executable(tmp_path / 'numactl', 'echo "$@" >> %s/told; while [[ $1 == --* ]]; do shift; done; exec "$@"' % tmp_path)
    _, said = bind(0, 1, PATH='%s:%s' % (tmp_path, os.environ['PATH']))
    assert 'by numactl' in said[0]
    assert (tmp_path / 'told').read_text().splitlines()[-1].startswith('--physcpubind=0')
    assert '--membind=0 ' in (tmp_path / 'told').read_text()


def ascend(device, home, **env):
    """Sources env_npu.sh as launch.sh does and prints what it sets."""
    code = 'set -Eeuo pipefail; source "%s/common/env_npu.sh" %s || { echo "$cann_missing"; exit 1; }; echo "${FOUND:-none} ${TASK_QUEUE_ENABLE:-unset}"'
    clean = {k: v for k, v in os.environ.items() if not k.startswith('ASCEND')}
    return subprocess.run(['bash', '-c', code % (TOP, device)], capture_output=True, text=True, env=dict(clean, HOME=str(home), **env))


def test_cann_is_found_and_sourced(tmp_path):
    place = tmp_path / 'Ascend' / 'nnae'
    place.mkdir(parents=True)
    (place / 'set_env.sh').write_text('export FOUND=nnae; : $UNSET_VARIABLE\n')      # CANN's own script is not strict either
    for device in ('npu', 'npu:2', 'auto'):
        assert ascend(device, tmp_path).stdout == 'nnae 1\n'
    assert ascend('npu', tmp_path, TASK_QUEUE_ENABLE='2').stdout == 'nnae 2\n'
    assert ascend('cpu', tmp_path).stdout == 'none unset\n'


def test_without_cann_npu_is_refused_in_one_sentence(tmp_path):
    if Path('/usr/local/Ascend').exists() or Path('/etc/Ascend').exists():
        pytest.skip('this machine has CANN')
    done = ascend('npu', tmp_path)
    assert done.returncode == 1 and done.stdout.startswith('--device npu: no CANN') and done.stdout.count('\n') == 1
    assert ascend('auto', tmp_path).stdout == 'none unset\n'
