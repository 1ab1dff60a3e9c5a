#!/usr/bin/env python3
"""Copies common/ into every folder, so that each folder works when it is copied away alone.

    python ci/sync_common.py            write the copies
    python ci/sync_common.py --check    compare only: exit 1 and one line per difference
"""
import argparse
import shutil
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


def files(folder):
    """{path below folder: bytes}, without what Python leaves behind."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob('*'))
            if path.is_file() and '__pycache__' not in path.parts}


def differences(master, copy):
    """The relative paths in which a copy differs from the master, as (path, word)."""
    wanted, there = files(master), files(copy)
    for path in sorted(set(wanted) | set(there)):
        if path not in there:
            yield path, 'missing'
        elif path not in wanted:
            yield path, 'not in common/'
        elif wanted[path] != there[path]:
            yield path, 'differs'


def write(master, copy):
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(master, copy, ignore=shutil.ignore_patterns('__pycache__'))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true', help='compare only')
    parser.add_argument('--top', type=Path, default=TOP, help='the repository (default: this one)')
    args = parser.parse_args(argv)
    master, wrong = args.top / 'common', 0
    folders = sorted(path for path in args.top.glob('*_for_PyTorch') if path.is_dir())
    if not folders or not master.is_dir():
        print('%s holds no common/ with *_for_PyTorch folders beside it; give the repository by --top' % args.top, file=sys.stderr)
        return 1
    for folder in folders:
        if not args.check:
            write(master, folder / 'common')
        for path, word in differences(master, folder / 'common'):
            print('%s/common/%s: %s; edit common/ and run python ci/sync_common.py' % (folder.name, path, word))
            wrong += 1
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
