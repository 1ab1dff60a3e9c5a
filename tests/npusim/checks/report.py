"""Runs the check_* functions of a file and prints {name: traceback or ''}, for tests/test_npusim.py."""
import json
import sys
import traceback


def report(names):
    outcome = {}
    for name, check in names.items():
        if name.startswith('check_'):
            try:
                check()
                outcome[name] = ''
            except Exception:
                outcome[name] = traceback.format_exc()
    sys.stdout.flush()
    print('\n' + json.dumps(outcome))
