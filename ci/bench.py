#!/usr/bin/env python3
"""How fast the collection is, beside what people would use instead. A bench is a file of ci/benches.

    python ci/bench.py NAME [--help]

A figure is a ratio, measured in turn with the rival in one run: on the same images, model, batch and precision. Beside the median
of its pairs stand the least and the greatest.
"""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHES = sorted(path.stem for path in (HERE / 'benches').glob('[!_]*.py'))


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
        sys.exit(f'[Error] bench.py: name a bench: {", ".join(BENCHES)}')
    name = sys.argv.pop(1)
    sys.argv[0] += f' {name}'  # for the help text
    sys.path.append(str(HERE.parent))  # where common is
    return importlib.import_module(f'benches.{name}').main()


if __name__ == '__main__':
    sys.exit(main())
