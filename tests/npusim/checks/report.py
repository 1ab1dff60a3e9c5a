"""Runs the check_* functions of a module of this folder, for tests/integration/test_npusim.py."""

import importlib
import traceback


def outcome(name):
    """-> {check: traceback or ''}"""
    found = {}
    for check, function in list(vars(importlib.import_module(name)).items()):
        if check.startswith('check_'):
            try:
                function()
                found[check] = ''
            except Exception:
                found[check] = traceback.format_exc()
    return found
