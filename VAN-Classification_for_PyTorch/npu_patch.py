"""What VAN needs on an Ascend NPU beyond the device itself: nothing so far.

Its operators (convolution, batch norm, GELU, layer norm) have NPU kernels, so the model runs as it is written. The switches
of the whole device (precompiled kernels, memory formats) are in common/accelerator.py, because they concern all folders.
"""


def patch(model, accelerator):
    """Changes the model in place for the NPU. -> one line per change, for the log."""
    return []
