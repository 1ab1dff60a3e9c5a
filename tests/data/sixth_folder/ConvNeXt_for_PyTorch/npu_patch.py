"""What ConvNeXt changes on an Ascend NPU; `--npu-patch all|none|NAME,...` chooses.

Its blocks norm and multiply a view with the channels last.
"""

from torch import nn

from common.npu_patches import FAST_GELU, INT32_TARGETS, contiguous_inputs

PATCHES = [contiguous_inputs(nn.LayerNorm, nn.Linear), INT32_TARGETS, FAST_GELU]
