"""Depth-wise convolutions that train faster on a CPU: they are torch's, and right where torch's are not."""

import copy

import pytest
import torch
from torch import nn

from common import accelerator, depthwise


def passes(conv, images, gradient, layout, amp=False):
    """-> output, and the gradients of images, weight and bias"""
    images = images.clone().contiguous(memory_format=layout).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=amp):
        output = conv(images)
    output.backward(gradient.to(output.dtype))
    return [output, images.grad, conv.weight.grad, conv.bias.grad]


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('amp, near', [(False, 2e-6), (True, 1e-2)])
@pytest.mark.parametrize(
    'count, channels, size, kernel, dilation',
    [
        (2, 64, (56, 56), 7, 3),  # of VAN; torch 2.12 is wrong here in bfloat16 and NHWC
        (3, 8, (14, 13), 7, 3),
        (3, 8, (2, 2), 7, 3),  # an image of which the kernel's rim meets nothing
        (2, 96, (28, 27), 9, 1),  # of ConvMixer, large enough for a call of its own
        (5, 16, (9, 4), 5, 1),
        (5, 6, (8, 1), (3, 5), (2, 1)),
        (5, 6, (2, 2), 3, 1),
        (5, 6, (1, 1), 3, 1),
        (3, 8, (9, 9), 3, 1),
    ],
)
def test_it_is_the_plain_convolution(count, channels, size, kernel, dilation, layout, amp, near):
    torch.manual_seed(0)
    pairs = [value if isinstance(value, tuple) else (value, value) for value in (kernel, dilation)]
    padding = [d * (k - 1) // 2 for k, d in zip(*pairs)]
    plain = nn.Conv2d(channels, channels, kernel, padding=padding, dilation=dilation, groups=channels)
    ours = copy.deepcopy(plain)
    accelerator.Accelerator().adapt(ours)
    ours = ours.to(memory_format=layout)
    images, gradient = torch.randn(2, count, channels, *size)
    exact = passes(plain.double(), images.double(), gradient.double(), torch.contiguous_format)
    assert type(ours) is depthwise.DepthwiseConv2d and list(ours.state_dict()) == list(plain.state_dict())
    found = passes(ours, images, gradient, layout, amp)
    assert ours.weight.grad.stride() == ours.weight.stride()  # or DistributedDataParallel copies it, and warns
    for one, other in zip(found, exact):
        assert one.shape == other.shape and (one - other).abs().max() <= near * other.abs().max()


@pytest.mark.parametrize(
    'options',
    [{'groups': 1}, {'stride': 2}, {'padding': 1}, {'padding_mode': 'circular'}, {'kernel_size': 1, 'padding': 0}],
)
def test_others_stay_torchs(options):
    conv = nn.Conv2d(**{'in_channels': 4, 'out_channels': 4, 'kernel_size': 5, 'padding': 2, 'groups': 4, **options})
    depthwise.exchange(conv)
    assert type(conv) is nn.Conv2d
