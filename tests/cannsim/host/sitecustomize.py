"""Lets this host's torch count as its CPU build, which torch_npu wants and PyPI does not have; see cuda_torch.cpp."""

import sys
from importlib.machinery import PathFinder


class CpuBuild:
    """Finds torch.version, and takes the version of CUDA out of it."""

    @staticmethod
    def find_spec(name, path, target=None):
        if name != 'torch.version':
            return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def load_and_change(module):
            load(module)
            module.cuda = None

        spec.loader.exec_module = load_and_change
        return spec


sys.meta_path.insert(0, CpuBuild)
