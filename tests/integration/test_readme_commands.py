"""Every command of a folder's README works as it stands, in both languages: at small sizes, which are added at its end.

Where a README names a place or a file of the reader's, it gets one that is there. What needs a card, a cluster, another host or an
installation is not run, and is named in NOT_RUN.
"""

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from helpers import FOLDERS, TOP, VAN, copy_alone, describe, environment

pytestmark = pytest.mark.long
# what a command begins with that is not run here
NOT_RUN = 'pip apt-get yum docker atc source npu-smi NNODES srun #SBATCH #!/bin/bash'.split()
PLACES = {'/data/xxx/': 'data', '/data/xxx': 'data', '/data/yyy/': 'data', '/data/imagenet': 'data', 'DIR': 'data'}
SMALL = '--img-size 32 --epochs 1 --max-steps 2 --warmup-steps 1 --workers 0 --device cpu --print-freq 1'.split()


def commands(path):
    """-> the commands of the code blocks of a document, each in one line, and those in its prose that run a script"""
    text = path.read_text()
    blocks = re.findall(r'^ *```\n(.*?)^ *```', text, re.M | re.S)
    lines = [line.strip() for block in blocks for line in block.replace('\\\n', ' ').splitlines()]
    prose = re.sub(r'^ *```.*?^ *```', '', text, flags=re.M | re.S)
    lines += [line for line in re.findall(r'`([^`]+)`', prose) if line.startswith('bash ./test/') and '...' not in line]
    return [shlex.split(line, comments=True) for line in lines if re.match(r'(cd|nohup|bash|python|[A-Z]+=)\b', line)]


def fitted(words, name, data, checkpoint):
    """-> the command with places and files that are there, and small"""
    known = describe(name)
    words = [word for word in words if word != 'nohup']
    for place in PLACES:
        words = [re.sub(rf'(^|=){re.escape(place)}$', rf'\g<1>{data}', word) for word in words]
    files = r'(^|=)([\w.-]*(\.pth|\.tar)|ckpt_path|real_checkpoint_path|FILE|WEIGHTS)$'
    words = [re.sub(files, rf'\g<1>{checkpoint}', word) for word in words]
    words = [known['model'] if word == 'NAME' else word for word in words]
    if 'common.cifar10' in words:
        return None  # its archive is not here; test_cifar10.py has one of its form
    if 'predict' in words[1] or '--export' in words:
        return [str(data / 'val' / '1') if word in ('photo.jpg', 'folder/') else word for word in words]
    more = [*SMALL, '--model', known['model']] if '--multiprocessing-distributed' not in words else None
    if more is None:
        return None  # a card for each process
    batch = known['batch_8p' if '_8p' in words[1] else 'batch_1p']
    return [*words, *more, '--batch-size', str(batch), *(['--nproc_per_node=2'] if '_8p' in words[1] else [])]


def test_both_languages_have_the_same_commands():
    for name in FOLDERS:
        assert commands(TOP / name / 'README.md') == commands(TOP / name / 'README.zh.md')
    assert commands(TOP / 'docs' / 'usage.md') == commands(TOP / 'docs' / 'usage.zh.md')


def run(words, folder, where):
    """-> the folder that the next command is run in"""
    if words == ['cd', '..']:
        return where.parent
    if words[0] == 'cd':
        return folder if words[1] == folder.name else folder / words[1].split('/', 1)[1]
    done = subprocess.run(
        words, cwd=where, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f'{shlex.join(words)}\n{done.stdout[-3000:]}'
    return where


@pytest.mark.parametrize('name', FOLDERS)
def test_every_command_works(name, few_digits, tmp_path):
    folder = copy_alone(name, tmp_path)
    documents = [folder / 'README.md'] + ([folder / 'USAGE.md'] if name == VAN else [])
    run(fitted(['bash', './test/train_full_1p.sh', '--data_path=/data/xxx/'], name, few_digits, None), folder, folder)
    checkpoint, where, count = tmp_path / 'trained.pth', folder, 0
    shutil.copy(folder / 'test' / 'output' / '0' / 'model_best.pth', checkpoint)
    for document in documents:
        for words in commands(document):
            if any(words[0].startswith(word) for word in NOT_RUN):
                continue
            words = words if words[0] == 'cd' else fitted(words, name, few_digits, checkpoint)
            if words is not None:
                words = [sys.executable if word == 'python' else word for word in words]
                where = run(words, folder, where)
                count += words[0] != 'cd'
    assert count >= 8, f'{count} commands were found in {documents}'


@pytest.mark.parametrize('name', FOLDERS)
def test_what_a_readme_installs_is_there(name):
    for document in ('README.md', 'USAGE.md'):
        for file in re.findall(r'pip (?:install|download) .*?-r (\S+\.txt)', (TOP / name / document).read_text()):
            assert (TOP / name / file).is_file(), file
