"""The part that all five folders share. Written once in the repository's common/; each folder carries a generated copy."""

import os

# accelerator.py imports torch_npu itself, when it is asked for; torch's own autoload turns a host whose CANN is not set
# up into one where even `import torch` fails.
os.environ.setdefault('TORCH_DEVICE_BACKEND_AUTOLOAD', '0')
