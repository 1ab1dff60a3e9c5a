"""The command line of every train.py, which calls `main` with its recipe and its hooks.

`python -m common.cli ...` in a folder checks a command line of its train.py, and does nothing else: launch.sh asks before it starts
a process or touches a file. What differs between the models is data (the recipe) or a hook; no model's name stands in common/.
"""

import importlib
import sys
from typing import Any, Mapping, Optional, Sequence

from common import options
from common.errors import UserError, report


def main(description: str, recipe: Mapping[str, Any], hooks: Any, argv: Optional[Sequence[str]] = None) -> int:
    """Does what the command line asks for. -> exit status: see job.run; recipe: see options.parse; hooks: see hooks.py."""
    try:
        args = options.parse(description, recipe, argv, hooks)
    except UserError as e:
        report(e)
        return 1
    if sys.stderr.isatty():
        print('Loading torch ...', file=sys.stderr, flush=True)
    from common import job  # brings torch; what is wrong with the command line has been said by now

    return job.run(args, hooks)


def check(argv: Sequence[str]) -> int:
    """-> exit status: 0 where the folder's train.py would take this command line. (The parser itself exits with 2.)"""
    folder = importlib.import_module('train')
    try:
        options.read('', folder.RECIPE, argv, folder.HOOKS)
    except UserError as e:
        report(e)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(check(sys.argv[1:]))
