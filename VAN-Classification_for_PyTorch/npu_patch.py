"""What VAN changes on an Ascend NPU; `--npu-patch all|none|NAME,...` chooses.

Its stochastic depth draws on the device already, and its large kernel attention is convolutions. The layer norm at the end of
a stage reads a transposed view.
"""

from torch import nn

from common.npu_patches import FAST_GELU, INT32_TARGETS, contiguous_inputs

PATCHES = [contiguous_inputs(nn.LayerNorm), INT32_TARGETS, FAST_GELU]
