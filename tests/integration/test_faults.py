"""What a user can do wrong: a sentence names the thing, the value and the way out, and no success is left behind."""

import contextlib
import io
import re
import shutil
import socket

import pytest

from common import log_parser
from helpers import SMALL, VAN, explains, fails, run, train

TRAIN = [*SMALL, '--batch-size', '8', '--epochs', '2', '--max-steps', '2']


@pytest.fixture(scope='module')
def trained(few_digits, tmp_path_factory):
    """A checkpoint of van_b0, two epochs of two steps."""
    result = train(VAN, few_digits, *TRAIN, out=tmp_path_factory.mktemp('out'))
    assert result.code == 0, result.text
    return result.out / 'checkpoint.pth'


def nothing(data):
    return data


def give_train(data):
    return data / 'train'


def lose_root(data):
    return data / 'nowhere'


def lose_val(data):
    shutil.rmtree(data / 'val')
    return data


def lose_class_in_val(data):
    shutil.rmtree(data / 'val' / '7')
    return data


def empty_class(data):
    for image in (data / 'train' / '4').iterdir():
        image.unlink()
    return data


def cut(data, split, name, number=0):
    """Cuts an image short. -> its path"""
    image = sorted((data / split / name).iterdir())[number]
    image.write_bytes(image.read_bytes()[:200])
    return image


def cut_first_image(data):
    cut(data, 'train', '0')
    return data


@pytest.mark.parametrize('damage, arguments, words', [
    (lose_root, '', ['nowhere', 'does not exist', 'train/ and val/']),
    (give_train, '', ['train is one split', 'give its root', 'my data']),
    (lose_val, '', ['has no val/']),
    (lose_class_in_val, '', ['val lacks the class 7']),
    (empty_class, '', ['train/4', 'no image']),
    (cut_first_image, '', ['train/0/', 'cannot be read', '--skip-bad-images']),
    (nothing, '--model van_b9', ["'van_b9'", 'van_b0', 'van_large']),
    (nothing, '--batch-size 300', ['300', 'training set of 200', '--batch-size']),
    (nothing, '--batch-size 7', ['7 is odd', '--mixup 0']),
    (nothing, '--device cuda', ['--device cuda', 'sees no CUDA device']),
    (nothing, '--device npu', ['--device npu', 'pip install -r npu_requirements.txt']),
    (nothing, '--device tpu', ['--device tpu', 'npu, cuda, cpu']),
    (nothing, '--num-classes 3', ['--num-classes 3', '10 classes']),
    (nothing, '--epochs many', ['--epochs', 'many', '--help']),
    (nothing, '--no-such-option=1', ['--no-such-option=1']),
    (nothing, '--opt adamx', ['--opt adamx']),
    (nothing, '--sched zigzag', ['--sched zigzag', 'timm']),
    (nothing, '--aa much', ['--aa much']),
    (nothing, '--amp --amp-impl=apex', ['apex', 'PyPI']),
    (nothing, '--resume=/nowhere.pth', ['/nowhere.pth', 'does not exist', '.pth']),
    (nothing, '--case=eval', ['needs a checkpoint', '--resume']),
    (nothing, '--lr 1e30 --warmup-lr 1e30 --max-steps=0', ['the loss of rank 0 is not finite', '--lr']),
], ids=lambda value: getattr(value, '__name__', None) or (value if isinstance(value, str) else ''))  # fmt: skip
def test_mistakes(data, tmp_path, damage, arguments, words):
    explains(train(VAN, damage(data), *TRAIN, *arguments.split(), out=tmp_path / 'out'), *words)


def test_a_script_makes_a_failed_run_of_it(folder, data, tmp_path):
    """Summary, exit status, last line, and the check of a CI afterwards; eight ranks say it once."""
    lose_class_in_val(data)
    for script in ('train_full_1p.sh', 'train_full_8p.sh'):
        result = run(folder / 'test' / script, '--data_path', data, *TRAIN, out=tmp_path / script)
        fails(result, 'val lacks the class 7')
        assert sum('[Error]' in line for line in result.lines) == 1, result.text
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        assert log_parser.main(['check', str(result.out), '--require', 'fps,acc']) == 1
    assert result.summary['Reason'] in said.getvalue()


def test_no_data_path(folder):
    result = run(folder / 'test' / 'train_performance_1p.sh')
    assert (result.code, result.lines) == (1, ['[Error] para "data_path" must be confing'])
    assert not result.out.exists()


@pytest.mark.parametrize('case', ['eval', 'finetune', 'full'])
def test_wrong_checkpoints(few_digits, trained, tmp_path, case):
    """Cut in half; text; of another model. The file itself is never touched."""
    half, text = tmp_path / 'cut.pth', tmp_path / 'text.pth'
    half.write_bytes(trained.read_bytes()[: trained.stat().st_size // 2])
    text.write_text('not a checkpoint')
    for path, model, words in (
        (half, 'van_b0', ['cut.pth', 'cut short', 'copy it again']),
        (text, 'van_b0', ['text.pth']),
        (trained, 'van_b1', ['van_b1', '--model van_b0']),
    ):
        before, flag = path.read_bytes(), '--finetune_pth' if case == 'finetune' else '--resume'
        arguments = [f'--case={case}', flag, path, *SMALL, '--model', model]
        explains(train(VAN, few_digits, *arguments, out=tmp_path / 'out'), *words)
        assert path.read_bytes() == before


def test_an_evaluation_needs_a_checkpoint_of_these_classes(data, trained, tmp_path):
    for split in ('train', 'val'):
        (data / split / '9').rename(data / split / 'nine')
    explains(train(VAN, data, '--eval', '--resume', trained, '--device=cpu', out=tmp_path), '10 classes')


def test_another_optimizer_cannot_go_on(few_digits, trained, tmp_path):
    result = train(VAN, few_digits, '--resume', trained, *TRAIN, '--epochs=3', '--opt=sgd', out=tmp_path)
    explains(result, '--opt adamw')


def test_a_rank_that_fails_alone_is_heard(folder, data, tmp_path):
    """The other one waits for it in a collective, and both have DataLoader workers."""
    image = cut(data, 'train', '0', 7)
    arguments = ['--nproc_per_node=2', '--workers=1', '--batch-size=8', '--epochs=1']
    result = run(folder / 'test' / 'train_full_8p.sh', '--data_path', data, *SMALL, *arguments, out=tmp_path / 'out')
    fails(result, 'cannot be read', image.name)
    assert sum('cannot be read' in line for line in result.lines) == 2, result.text


def test_a_port_in_use_is_left_alone(folder, few_digits, trained, tmp_path):
    with socket.socket() as taken:
        taken.bind(('', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        script, arguments = (
            folder / 'test' / 'train_eval_8p.sh',
            [few_digits, trained, '--nproc_per_node=2', '--device=cpu'],
        )
        result = run(script, *arguments, out=tmp_path / 'out', MASTER_PORT=port)
    assert result.code == 0 and re.search(f'[Pp]ort {port} ', result.text), result.text


def test_bad_images_are_skipped_up_to_a_limit(data, tmp_path):
    """In validation: left out and counted. In training: replaced, so that every step keeps its size."""
    images = [cut(data, split, name) for split, name in (('val', '0'), ('val', '5'), ('train', '0'), ('train', '6'))]
    arguments = [data, *SMALL, '--batch-size', '20', '--epochs', '1', '--reprob', '0']
    explains(train(VAN, *arguments, out=tmp_path / 'a'), 'cannot be read')
    explains(
        train(VAN, *arguments, '--skip-bad-images', '1', out=tmp_path / 'b'), 'cannot be read', '--skip-bad-images 1'
    )
    skipping = train(VAN, *arguments, '--skip-bad-images', out=tmp_path / 'c')
    assert skipping.code == 0 and skipping.events('eval')[-1]['images'] == 91, skipping.text
    for image in images:
        assert sum(str(image) in line and 'cannot be read' in line for line in skipping.lines) == 1, skipping.text
