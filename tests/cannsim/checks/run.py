"""Runs the check_* functions of a module of this folder in this process, which then has torch_npu on the simulated CANN.

The environment is the one of build.py; see tests/integration/test_cannsim.py.
"""

import contextlib
import importlib
import json
import sys
import traceback


def load():
    """-> torch, with torch_npu. (Its libraries are loaded already, see arrive() of tests/helpers.py.)"""
    import torch
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
