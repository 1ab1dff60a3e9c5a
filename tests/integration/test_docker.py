"""The image for CPU hosts, where a Docker daemon answers: built from a folder copied alone, it trains."""

import shutil
import subprocess

import pytest

from helpers import SMALL, Result

BASE, IMAGE = 'python:3.11-slim', 'modelzoo-cpu-test'


def docker(*words, timeout=900):
    """-> (exit status, what it printed)"""
    command = ['docker', *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    return done.returncode, done.stdout


@pytest.fixture
def image(folder):
    """The folder's image; it is removed again."""
    if not shutil.which('docker') or docker('info')[0]:
        pytest.skip('no Docker daemon answers here')
    if docker('image', 'inspect', BASE)[0] and docker('pull', BASE)[0]:
        pytest.skip(f'{BASE} is not here and cannot be fetched')
    code, text = docker('build', '-t', IMAGE, folder)
    assert not code, text[-2000:]
    yield IMAGE
    docker('image', 'rm', '--force', IMAGE)


def test_the_image_for_cpu_hosts_trains(image, few_digits, tmp_path):
    mounted = ['-v', f'{few_digits}:/data:ro', '-v', f'{tmp_path}:/out']
    script = ['bash', './test/train_performance_1p.sh', '--data_path=/data', '--output_dir=/out']
    code, text = docker(
        'run', '--rm', '--shm-size=1g', *mounted, IMAGE, *script, *SMALL, '--batch-size=8', '--max-steps=24'
    )
    summary = Result(code, text, 0, tmp_path).summary
    assert code == 0 and summary['Status'] == 'OK', text[-2000:]
    assert float(summary['ActualFPS']) > 0
