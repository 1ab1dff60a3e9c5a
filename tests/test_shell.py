"""The shell side on its own: core binding and the Ascend environment, with stand-ins for what this machine lacks."""
import os
import subprocess
import sys

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


def ascend(device, root, processes=1, **env):
    """Sources env_npu.sh as launch.sh does, with the places of `root`, and -> what it prints and sets."""
    code = ('set -Eeuo pipefail; source "%s/common/env_npu.sh" %s %d || { echo "$npu_problem"; exit 1; }; '
            'echo "${FOUND:-none} ${TASK_QUEUE_ENABLE:-unset} ${ASCEND_RT_VISIBLE_DEVICES:-all} ${CPU_AFFINITY_CONF:-off}"')
    clean = {k: v for k, v in os.environ.items() if not k.startswith('ASCEND')}
    env = dict(clean, HOME='/home/me', CANN_SEARCH_ROOT=str(root), **env)
    done = subprocess.run(['bash', '-c', code % (TOP, device, processes)], capture_output=True, text=True, env=env)
    assert done.returncode in (0, 1) and not done.stderr
    return done.returncode, done.stdout


def install(root, place, found):
    """CANN's own script is not strict either."""
    path = root / place / 'set_env.sh'
    path.parent.mkdir(parents=True)
    path.write_text('export FOUND=%s; : $UNSET_VARIABLE; false\n' % found)


def test_cann_is_found_and_sourced(tmp_path):
    """Each later place of these goes before the earlier ones."""
    install(tmp_path, 'home/me/Ascend/nnae', 'home')
    for device in ('npu', 'npu:2', 'auto'):
        assert ascend(device, tmp_path) == (0, 'home 1 all off\n')
    assert ascend('cpu', tmp_path) == (0, 'none unset all off\n')
    install(tmp_path, 'usr/local/Ascend/cann', 'cann')
    assert ascend('npu', tmp_path, TASK_QUEUE_ENABLE='2') == (0, 'cann 2 all off\n')
    install(tmp_path, 'opt/nnae', 'info')
    (tmp_path / 'etc' / 'Ascend').mkdir(parents=True)
    (tmp_path / 'etc' / 'Ascend' / 'ascend_cann_install.info').write_text('version=1\nToolkit_InstallPath=%s/opt\n' % tmp_path)
    assert ascend('npu', tmp_path, 8) == (0, 'info 1 all 1\n')
    install(tmp_path, 'mine', 'mine')
    (tmp_path / 'mine' / 'latest').mkdir()
    assert ascend('npu', tmp_path, ASCEND_HOME_PATH=tmp_path / 'mine' / 'latest') == (0, 'mine 1 all off\n')
    assert ascend('npu', tmp_path, ASCEND_HOME_PATH='/x', ASCEND_OPP_PATH='/x/opp') == (0, 'none 1 all off\n')   # sourced before


def test_without_cann_npu_is_refused_in_one_sentence(tmp_path):
    code, said = ascend('npu', tmp_path)
    assert code == 1 and said.startswith('--device npu: no CANN') and said.count('\n') == 1
    assert ascend('auto', tmp_path) == (0, 'none unset all off\n')


def test_visible_cards_are_written_as_cann_reads_them(tmp_path):
    install(tmp_path, 'usr/local/Ascend/cann', 'cann')
    assert ascend('npu', tmp_path, ASCEND_RT_VISIBLE_DEVICES='1, 2') == (0, 'cann 1 1,2 off\n')
    for wrong in ('2,1', 'a', '1,,2'):
        code, said = ascend('npu', tmp_path, ASCEND_RT_VISIBLE_DEVICES=wrong)
        assert code == 1 and "'%s'" % wrong in said and said.count('\n') == 1
