"""Depth-wise convolutions on a CPU, whose weights' gradient torch computes 5 to 25 times more slowly than the convolution itself.

That gradient is a depth-wise convolution too: of an image, by the gradient of the output as its kernel, with a stride of the dilation.
For it oneDNN has fast code. Measured on AVX-512 and AVX2, with kernels of 5 to 9 or dilated ones; torch's own is as fast for 3 x 3. Besides,
torch's own is wrong in bfloat16 and NHWC for some dilated ones (torch 2.12: 64 channels, 56 x 56 pixels, dilation 3).
"""

from typing import Any, Tuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

LARGE = 2**16  # numbers in an image from which it is worth a call of its own


def exchange(model: nn.Module) -> None:
    """Makes the model's convolutions that gain by it DepthwiseConv2d, in place; weights and state dict stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and gains(module):
            module.__class__ = DepthwiseConv2d


def gains(conv: nn.Conv2d) -> bool:
    kernel, dilation = conv.kernel_size, conv.dilation
    plain = (
        conv.groups == conv.in_channels == conv.out_channels and conv.stride == (1, 1) and conv.padding_mode == 'zeros'
    )
    return (
        plain
        and kernel[0] % 2 == kernel[1] % 2 == 1
        and conv.padding in ('same', same(conv))
        and (max(kernel) > 3 or max(dilation) > 1)
    )


def same(conv: nn.Conv2d) -> Tuple[int, ...]:
    """-> the padding with which the output is as large as the image"""
    return tuple(d * (k - 1) // 2 for k, d in zip(conv.kernel_size, conv.dilation))


class DepthwiseConv2d(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        return Depthwise.apply(x, self.weight, self.bias, same(self), self.dilation)


class Depthwise(torch.autograd.Function):
    """x (N, C, H, W), weight (C, 1, kh, kw), bias (C,) or None -> (N, C, H, W)"""

    @staticmethod
    def forward(ctx, x, weight, bias, padding, dilation):
        ctx.save_for_backward(x, weight)
        ctx.place, ctx.bias = (padding, dilation), bias
        return F.conv2d(x, weight, bias, 1, padding, dilation, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        padding, dilation = ctx.place
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            turned = weight.to(gradient.dtype).flip(2, 3)
            of_x = F.conv2d(gradient, turned, None, 1, padding, dilation, x.shape[1]).to(x.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(x.to(gradient.dtype), gradient, padding, dilation).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3), dtype=ctx.bias.dtype)
        return of_x, of_weight, of_bias, None, None


def weight_gradient(x: torch.Tensor, gradient: torch.Tensor, padding: Any, dilation: Any) -> torch.Tensor:
    """-> (C, 1, kh, kw) in float32: the sum over the images. Small images are convolved at once, as further channels."""
    dilated = max(dilation) > 1
    nhwc = dilated or not x.is_contiguous()  # strided, as a dilated one is, NHWC is ten times faster
    layout = torch.channels_last if nhwc else torch.contiguous_format
    x, gradient = x.contiguous(memory_format=layout), gradient.contiguous(memory_format=layout)
    count, channels = x.shape[:2]
    if x[0].numel() >= LARGE:
        parts = [
            F.conv2d(x[i : i + 1], gradient[i].unsqueeze(1), None, dilation, padding, 1, channels) for i in range(count)
        ]
        return torch.cat(parts).sum(0, dtype=torch.float32).unsqueeze(1)
    flat = in_a_row if dilated else lambda images: images.reshape(1, -1, *images.shape[2:])
    found = F.conv2d(flat(x), flat(gradient).transpose(0, 1), None, dilation, padding, 1, count * channels)
    return found.reshape(count, channels, *found.shape[2:]).sum(0, dtype=torch.float32).unsqueeze(1)


def in_a_row(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) in NHWC -> (1, N * C, H, W) in NHWC"""
    count, channels, height, width = images.shape
    return images.permute(2, 3, 0, 1).reshape(1, height, width, count * channels).permute(0, 3, 1, 2)
