"""A training step on a CUDA GPU: our default settings, beside timm's step with --amp; see `python ci/bench.py step --help`.

python ci/bench.py gpu [--batch 128] [--peak TFLOPS] [--settings]
"""

from benches import step


def main():
    return step.main('cuda', __doc__)
