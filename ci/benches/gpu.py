"""A training step on a CUDA GPU: our default settings, beside timm's step with --amp; see `python ci/bench.py step --help`.

python ci/bench.py gpu [--batch 128] [--peak TFLOPS] [--settings]
"""

from benches import step

SETTINGS = {
    'float16': '--amp-dtype=float16',
    'NCHW': '--no-channels-last',
    'float16, NCHW': '--amp-dtype=float16 --no-channels-last',
    'compiled': '--compile',
    'not fused': '--no-fused-optimizer',
    'float32': '--no-amp',
}


def main():
    return step.main('cuda', __doc__, SETTINGS, batch=128, steps=10)
