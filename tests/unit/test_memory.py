"""Memory: less of it with the same numbers (--grad-checkpointing, --grad-accum-steps), and what is freed is used again."""

import itertools
import os
import platform
import subprocess
import sys

import pytest

from common import host_memory
from helpers import FOLDERS, TOP, VAN, describe, in_folder, train

VIT = 'Vit_base_patch32_224_for_PyTorch'  # without batch norm


def one_step(name, on):
    """In a child. -> bytes that the gradients keep, [loss, gradients, buffers] of a step with dropped blocks"""
    import torch

    from common.drop_path import draw_together
    from common.recompute import recompute
    from train import HOOKS

    kept, torch_options = {}, {} if 'onvmixer' in name else {'drop_path': 0.3}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    torch.manual_seed(1)
    net = HOOKS.create_model(name, num_classes=10, img_size=64, **torch_options).train()
    draw_together(net)
    if on:
        assert recompute(net, HOOKS.blocks)
    images = torch.randn(4, 3, 64, 64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = net(images).square().mean()
    loss.backward()
    numbers = [loss, *(p.grad for p in net.parameters()), *net.buffers()]
    return sum(kept.values()), [number.detach().numpy().tobytes() for number in numbers]


@pytest.mark.parametrize('folder, key', list(itertools.product(FOLDERS, ['model', 'other_model'])))
def test_blocks_that_are_computed_twice(folder, key):
    """Less than half is kept, and every bit of loss, gradients and batch norm's statistics is the same."""
    name = describe(folder)[key]
    (kept, numbers), (kept_then, numbers_then) = (in_folder(folder, one_step, name, on) for on in (False, True))
    assert kept_then < kept / 2 and numbers_then == numbers


@pytest.mark.parametrize(
    'ranks, more', [(1, ['--grad-accum-steps=3']), (2, ['--grad-accum-steps=3', '--grad-checkpointing'])]
)
def test_a_batch_in_parts(ranks, more, few_digits, tmp_path):
    """Eight images of a rank in parts of three, three and two, mixed before they are parted: the losses of the whole batch."""
    words = [
        '--data-path',
        few_digits,
        '--model',
        'vit_tiny_patch16_224',
        '--img-size=32',
        '--device=cpu',
        '--no-amp',
        '--workers=0',
    ]
    words += [
        f'--batch-size={8 * ranks}',
        '--epochs=1',
        '--max-steps=4',
        '--print-freq=1',
        '--mixup=0.8',
        '--aa=none',
        '--clip-grad=1',
    ]
    losses = []
    for name, options in (('whole', []), ('parts', more)):
        result = train(VIT, *words, *options, out=tmp_path / name, ranks=ranks)
        assert result.code == 0, result.text
        losses.append([event['loss'] for event in result.events('train')])
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=2e-5)


def test_more_parts_than_images(few_digits, tmp_path):
    result = train(VAN, '--data-path', few_digits, '--batch-size=2', '--grad-accum-steps=3', out=tmp_path)
    assert result.code == 1 and '--grad-accum-steps 3 is more than the 2 images of a batch' in result.lines[-1]


USE = """
import resource
from common import host_memory
kept = host_memory.keep()
for k in range(20):
    bytearray(64 << 20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def used(**environment):
    """-> whether it says that memory is kept, and the pages that the system gave"""
    env = {name: value for name, value in os.environ.items() if name not in host_memory.TOLD}
    done = subprocess.run(
        [sys.executable, '-c', USE], cwd=TOP, env={**env, **environment}, capture_output=True, text=True
    )
    kept, pages = done.stdout.split()
    return kept == 'True', int(pages)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='not the GNU C library')
def test_what_is_freed_is_used_again_unless_the_user_has_told_malloc_otherwise():
    (kept, few), (told, many) = used(), used(MALLOC_MMAP_MAX_='65536')
    assert kept and not told
    assert few < many / 5


TINY = """
import torch
from common import accelerator
accelerator.choose('cpu').set_up()
torch.set_num_threads(2)
ones = torch.full((1 << 20,), 1e-30)  # of as many numbers each thread has a share
print((ones * 1e-9).count_nonzero().item(), (ones * 1e-7).count_nonzero().item())
"""


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='torch before 2.3 has the switch for x86 only')
def test_numbers_of_fewer_digits_are_zero_in_every_thread():
    done = subprocess.run([sys.executable, '-c', TINY], cwd=TOP, capture_output=True, text=True)
    assert done.stdout.split() == ['0', str(1 << 20)], done.stderr
