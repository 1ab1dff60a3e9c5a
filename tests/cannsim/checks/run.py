"""Runs the check_* functions of a module of this folder in this process, which then has torch_npu on the simulated CANN.

The environment is the one of build.py; see tests/integration/test_cannsim.py.
"""

import contextlib
import ctypes
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

# in this order: each finds those that it needs
LIBRARIES = (
    'libascendcl libacl_op_compiler libnnopbase libgraph libacl_tdt_channel libge_runner libhccl libhcomm libopapi'
)
LIBRARIES = LIBRARIES.split()


def load():
    """Loads the libraries for a process that was started without LD_LIBRARY_PATH, such as a forked one, and torch_npu."""
    import torch

    folder = Path(os.environ['LD_LIBRARY_PATH'].split(os.pathsep)[0])
    for name in LIBRARIES:
        ctypes.CDLL(str(folder / f'{name}.so'))
    import torch_npu  # noqa: F401

    return torch


def outcome(name):
    """-> {check: traceback or ''}"""
    load()
    found = {}
    for check, function in list(vars(importlib.import_module(name)).items()):
        if check.startswith('check_'):
            try:
                function()
                found[check] = ''
            except Exception:
                found[check] = traceback.format_exc()
    return found


def one(name, function, *arguments):
    """-> what a function of a module returns, which need not be a check"""
    load()
    return getattr(importlib.import_module(name), function)(*arguments)


if __name__ == '__main__':
    with contextlib.redirect_stdout(sys.stderr):  # torch_npu's GradScaler prints
        result = outcome(sys.argv[1])
    print(json.dumps(result, indent=1))
