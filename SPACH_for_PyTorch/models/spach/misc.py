"""Token and image layouts, and what both SPACH networks share (upstream: models/spach/misc.py)."""

import torch.nn as nn


def reshape2n(x):
    """Image (B, C, H, W) -> tokens (B, H * W, C), row by row."""
    return x.flatten(2).transpose(1, 2)


def reshape2hw(x, hw):
    """Tokens (B, H * W, C) -> image (B, C, H, W), for hw = (H, W)."""
    batch, _, channels = x.shape
    return x.transpose(1, 2).reshape(batch, channels, hw[0], hw[1])


class Reshape2N(nn.Module):
    """reshape2n as a module."""

    def forward(self, x):
        return reshape2n(x)


class Reshape2HW(nn.Module):
    """reshape2hw as a module; hw is known when the network is built, so that images need not be square."""

    def __init__(self, hw):
        super().__init__()
        self.hw = hw

    def forward(self, x):
        return reshape2hw(x, self.hw)

    def extra_repr(self):
        return f'hw={self.hw}'


class DownsampleConv(nn.Module):
    """Tokens (B, H * W, C_in) -> (B, (H // 2) * (W // 2), C_out): 2x2 convolution of stride 2, one-group norm."""

    def __init__(self, in_channels, out_channels, hw):
        super().__init__()
        self.net = nn.Sequential(
            Reshape2HW(hw),
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=2, stride=2, bias=False),
                nn.GroupNorm(num_groups=1, num_channels=out_channels),
            ),
            Reshape2N(),
        )

    def forward(self, x):
        return self.net(x)


def layer_norm(dim):
    """Layer norm over the channels with SPACH's eps of 1e-6 (torch's default is 1e-5)."""
    return nn.LayerNorm(dim, eps=1e-6)


def init_weights(model):
    """Fresh weights in place. The head is zero: the first logits are 0 and the first loss is log(num_classes).

    Norms keep torch's ones and zeros, and gamma_1 the value that MixingBlock gave it.
    """
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        if name == 'head':
            nn.init.zeros_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        else:
            nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        if module.bias is not None:
            nn.init.zeros_(module.bias)
