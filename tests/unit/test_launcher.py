"""common/launcher.py: places of the ranks, exit status, what the others are told when one fails, binding of cores."""

import argparse
import os
import signal
import sys
import time

import pytest

from helpers import TOP, VAN, begin_like_a_process, enter, environment, in_folder, server


def launch(folder, env, argv, said):
    """In a child: what `python common/launcher.py ARGV` does."""
    begin_like_a_process(said)
    enter(folder, env)
    from common import launcher

    sys.exit(launcher.main(argv))


@pytest.mark.parametrize('how, code', [('end', 0), ('fail', 7), ('die', 137), ('stop', 143)])
def test_ranks_of_the_second_machine(tmp_path, how, code):
    """Ranks 2 and 3 of 4. Told to stop, because one fails or by a signal, they have time to save."""
    argv = ['--nproc_per_node=2', '--nnodes=2', '--node_rank=1', '--master_addr=10.0.0.1', '--master_port=123']
    argv += [str(TOP / 'tests' / 'data' / 'rank.py'), str(tmp_path / 'rank'), how]
    process = server().Process(target=launch, args=(TOP / VAN, environment(), argv, str(tmp_path / 'said')))
    process.start()
    while how == 'stop' and not (tmp_path / 'rank2').exists() & (tmp_path / 'rank3').exists():
        time.sleep(0.05)
    if how == 'stop':
        os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    said = (tmp_path / 'said').read_text()
    assert process.exitcode == code, said
    assert ('rank 3 was killed by SIGKILL' in said) == (how == 'die')
    ended = '' if how in ('fail', 'die') else ' ended'
    assert (tmp_path / 'rank2').read_text() == '0 4 2 10.0.0.1 123 ended'
    assert (tmp_path / 'rank3').read_text() == '1 4 2 10.0.0.1 123' + ended


def bound(local, ranks):
    """In a child. -> the cores of this rank, what it started in its place, and what it said"""
    import contextlib
    import io

    from common import launcher

    started = []
    launcher.os.execvp = lambda name, words: started.append(words)
    args = argparse.Namespace(nproc_per_node=ranks, script='train.py', arguments=['--lr', '1'])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        launcher.bind(args, local)
    return os.sched_getaffinity(0), started, said.getvalue().splitlines()


def test_ranks_share_the_cores_without_overlap(tmp_path):
    allowed, path = os.sched_getaffinity(0), {'PATH': str(tmp_path)}  # without numactl
    if len(allowed) < 2:
        pytest.skip('one core cannot be shared out')
    (first, _, said), (second, _, nothing) = (in_folder(VAN, bound, local, 2, **path) for local in (0, 1))
    assert first and second and not first & second and first | second <= allowed
    assert len(said) == 1 and f'{len(first)} cores' in said[0] and nothing == []


def test_more_ranks_than_cores_run_unbound_and_say_so_once():
    allowed = os.sched_getaffinity(0)
    ranks = len(allowed) + 1
    (cores, _, said), (_, _, nothing) = (in_folder(VAN, bound, local, ranks) for local in (0, 1))
    assert cores == allowed and len(said) == 1 and f'{len(allowed)} cores' in said[0] and nothing == []


def test_numactl_binds_memory_too(tmp_path):
    """It takes the place of the rank, and starts the script with the rank's arguments."""
    numactl = tmp_path / 'numactl'
    numactl.write_text('#!/bin/sh\nexit 0\n')
    numactl.chmod(0o755)
    _, started, said = in_folder(VAN, bound, 0, 1, PATH=f'{tmp_path}:{os.environ["PATH"]}')
    assert started[0][1].startswith('--physcpubind=0') and started[0][2].startswith('--membind=')
    assert started[0][-3:] == ['train.py', '--lr', '1'] and 'numactl' in said[0]
