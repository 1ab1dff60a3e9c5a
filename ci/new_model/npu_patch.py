"""What $name changes on an Ascend NPU; `--npu-patch all|none|NAME,...` chooses.

common/npu_patches.py has more of them: contiguous_inputs where a layer gets a view, fused attention.
"""

from common.npu_patches import FAST_GELU, INT32_TARGETS

PATCHES = [INT32_TARGETS, FAST_GELU]
