"""What ConvMixer changes on an Ascend NPU; `--npu-patch all|none|NAME,...` chooses.

The network needs little: its convolutions have explicit padding (torch 1.5 has no padding='same'), it has no attention, no
dropout, and every tensor is a plain (B, C, H, W).
"""

from common.npu_patches import FAST_GELU, INT32_TARGETS

PATCHES = [INT32_TARGETS, FAST_GELU]
