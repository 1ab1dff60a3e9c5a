"""apex.optimizers of Ascend: the fused optimizers, whose constructors are those of torch_npu.optim."""

from torch_npu.optim import (
    NpuFusedRMSprop,  # noqa: F401
)
