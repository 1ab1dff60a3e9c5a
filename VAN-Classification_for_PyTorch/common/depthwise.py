"""Depth-wise convolutions on a CPU, two of whose parts torch computes many times more slowly than it could.

The gradient of the weights: it is a depth-wise convolution too, of an image by the gradient of the output as its kernel, and oneDNN's
convolution is 5 to 25 times as fast as its gradient. A dilated one: every d-th row and column is an image of its own, of which it is a
plain convolution, about 5 times as fast. So measured on AVX-512 and AVX2; for plain kernels of 3 x 3 torch's own code is as fast, except
for the images of 2 x 2 that networks come to at 32 pixels (in bfloat16 four times as slow). In bfloat16 and NHWC its gradient of some
dilated ones is also wrong (torch 2.12: 64 channels, 56 x 56 pixels, dilation 3).
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable


def exchange(model: nn.Module) -> None:
    """Makes the model's convolutions that gain by it DepthwiseConv2d, in place; weights and state dict stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and gains(module):
            module.__class__ = DepthwiseConv2d


def gains(conv: nn.Conv2d) -> bool:
    same = tuple(d * (k - 1) // 2 for k, d in zip(conv.kernel_size, conv.dilation))
    of_its_kind = conv.groups == conv.in_channels == conv.out_channels and all(k % 2 for k in conv.kernel_size)
    keeps_size = conv.stride == (1, 1) and conv.padding_mode == 'zeros' and conv.padding in ('same', same)
    return of_its_kind and keeps_size and max(conv.kernel_size) > 1


class DepthwiseConv2d(nn.Conv2d):
    """Of odd kernels, without stride; the output is as large as the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if max(self.dilation) == 1:
            return convolved(x, self.weight, self.bias)
        height, width = x.shape[2:]
        phases = convolved(apart(x, *self.dilation), self.weight, self.bias)
        return together(phases, *self.dilation)[..., :height, :width]


def convolved(x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor]) -> torch.Tensor:
    """The plain convolution."""
    if max(weight.shape[2:]) > 3 or max(x.shape[2:]) <= 2:
        return Depthwise.apply(x, weight, bias)
    return F.conv2d(x, weight, bias, 1, [k // 2 for k in weight.shape[2:]], 1, x.shape[1])


def part_of(weight: torch.Tensor, x: torch.Tensor) -> Tuple[slice, ...]:
    """-> the part of the kernel that can meet the image at all"""
    sizes = [min(k, 2 * side - 1) for k, side in zip(weight.shape[2:], x.shape[2:])]
    first = [(k - size) // 2 for k, size in zip(weight.shape[2:], sizes)]
    return (slice(None), slice(None), *(slice(begin, begin + size) for begin, size in zip(first, sizes)))


def apart(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """(N, C, H, W) -> (N * down * right, C, H / down, W / right) in NHWC, of each phase an image; sides are rounded up."""
    images = F.pad(images, (0, -images.shape[3] % right, 0, -images.shape[2] % down))
    count, channels, height, width = images.shape
    parts = images.permute(0, 2, 3, 1).reshape(count, height // down, down, width // right, right, channels)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(-1, height // down, width // right, channels).permute(0, 3, 1, 2)


def together(phases: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The way back."""
    _, channels, height, width = phases.shape
    parts = phases.permute(0, 2, 3, 1).reshape(-1, down, right, height, width, channels).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(-1, height * down, width * right, channels).permute(0, 3, 1, 2)


class Depthwise(torch.autograd.Function):
    """x (N, C, H, W), weight (C, 1, kh, kw), bias (C,) or None -> (N, C, H, W)"""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        ctx.part, ctx.bias = part_of(weight, x), bias
        used = weight[ctx.part]
        ctx.padding = tuple(k // 2 for k in used.shape[2:])
        return F.conv2d(x, used, bias, 1, ctx.padding, 1, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            turned = weight[ctx.part].to(gradient.dtype).flip(2, 3)
            if max(ctx.padding) == 0:
                of_x = (gradient * turned.transpose(0, 1)).to(x.dtype)
            else:
                of_x = F.conv2d(gradient, turned, None, 1, ctx.padding, 1, x.shape[1]).to(x.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = torch.zeros_like(weight)  # in its layout, in which DistributedDataParallel has made room for it
            of_weight[ctx.part] = weight_gradient(x.to(gradient.dtype), gradient, ctx.padding).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3), dtype=ctx.bias.dtype)
        return of_x, of_weight, of_bias


def weight_gradient(x: torch.Tensor, gradient: torch.Tensor, padding: Tuple[int, int]) -> torch.Tensor:
    """-> (C, 1, kh, kw) in float32: the sum over the images. They are convolved at once, as further channels.

    A call for each image would transpose its kernels alone: it took up to four times as long for 32 x 32 pixels in NHWC.
    """
    count, channels = x.shape[:2]
    if max(padding) == 0:  # images of one pixel; in a single thread torch would convolve them channel by channel
        return (x * gradient).sum(0, dtype=torch.float32).unsqueeze(1)
    images, kernels = (tensor.reshape(1, count * channels, *tensor.shape[2:]) for tensor in (x, gradient))
    found = F.conv2d(images, kernels.transpose(0, 1), None, 1, padding, 1, count * channels)
    return found.reshape(count, channels, *found.shape[2:]).sum(0, dtype=torch.float32).unsqueeze(1)
