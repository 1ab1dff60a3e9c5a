"""What ConvMixer needs on an Ascend NPU beyond the device itself: nothing so far.

Its operators (convolution, batch norm, GELU) have NPU kernels, so the model runs as it is written. The switches of the whole device are in common/accelerator.py.
"""


def patch(model, accelerator):
    """Changes the model in place for the NPU. -> one line per change, for the log."""
    return []
