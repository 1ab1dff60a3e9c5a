"""Builds the simulated NPU if it is not built yet, and prints the folder to put on PYTHONPATH:

    PYTHONPATH=$(python tests/npusim/build.py) python -c 'import torch; print(torch.ones(2, device="npu:1"))'

Ends with 1 and one sentence where that is not possible (no C++ compiler, another torch).
"""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def builder():
    """torch_npu/_build.py without the package around it, which would import torch."""
    spec = importlib.util.spec_from_file_location('npusim_build', HERE / 'torch_npu' / '_build.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    build = builder()
    try:
        build.build()
    except build.BuildError as e:
        sys.exit(str(e))
    print(HERE)


if __name__ == '__main__':
    main()
