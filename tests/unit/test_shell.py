"""The shell side on its own: the Ascend environment, with stand-ins for what this machine lacks."""

import os
import subprocess

from helpers import TOP


def ascend(device, root, processes=1, **env):
    """Sources env_npu.sh as launch.sh does, with the places of `root`, and -> what it prints and sets."""
    code = f'set -Eeuo pipefail; source "{TOP}/common/env_npu.sh" {device} {processes} '
    code += '|| { echo "$npu_problem"; exit 1; }; '
    code += (
        'echo "${FOUND:-none} ${TASK_QUEUE_ENABLE:-unset} ${ASCEND_RT_VISIBLE_DEVICES:-all} ${CPU_AFFINITY_CONF:-off}"'
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith('ASCEND')}
    env = dict(clean, HOME='/home/me', CANN_SEARCH_ROOT=str(root), **env)
    done = subprocess.run(['bash', '-c', code], capture_output=True, text=True, env=env)
    assert done.returncode in (0, 1) and not done.stderr
    return done.returncode, done.stdout


def install(root, place, found):
    """CANN's own script is not strict either."""
    path = root / place / 'set_env.sh'
    path.parent.mkdir(parents=True)
    path.write_text(f'export FOUND={found}; : $UNSET_VARIABLE; false\n')


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
    info = tmp_path / 'etc' / 'Ascend' / 'ascend_cann_install.info'
    info.write_text(f'version=1\nToolkit_InstallPath={tmp_path}/opt\n')
    assert ascend('npu', tmp_path, 8) == (0, 'info 1 all 1\n')
    install(tmp_path, 'mine', 'mine')
    (tmp_path / 'mine' / 'latest').mkdir()
    assert ascend('npu', tmp_path, ASCEND_HOME_PATH=tmp_path / 'mine' / 'latest') == (0, 'mine 1 all off\n')
    assert ascend('npu', tmp_path, ASCEND_HOME_PATH='/x', ASCEND_OPP_PATH='/x/opp') == (
        0,
        'none 1 all off\n',
    )  # sourced before


def test_without_cann_npu_is_refused_in_one_sentence(tmp_path):
    code, said = ascend('npu', tmp_path)
    assert code == 1 and said.startswith('--device npu: no CANN') and said.count('\n') == 1
    assert ascend('auto', tmp_path) == (0, 'none unset all off\n')


def test_visible_cards_are_written_as_cann_reads_them(tmp_path):
    install(tmp_path, 'usr/local/Ascend/cann', 'cann')
    assert ascend('npu', tmp_path, ASCEND_RT_VISIBLE_DEVICES='1, 2') == (0, 'cann 1 1,2 off\n')
    for wrong in ('2,1', 'a', '1,,2'):
        code, said = ascend('npu', tmp_path, ASCEND_RT_VISIBLE_DEVICES=wrong)
        assert code == 1 and f"'{wrong}'" in said and said.count('\n') == 1
