#!/usr/bin/env python3
"""Writes into every folder what is the same in all of them, so that each works when it is copied away alone.

    python ci/sync_common.py            write what differs
    python ci/sync_common.py --check    compare only: exit 1 and one line for each difference

That is common/, the LICENSE, docs/usage.md, the requirements files and Dockerfiles of ci/folder_files/, and the scripts in test/, made from
the template there and the folder's folder.json. Every other file of a folder is its own and is not touched.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


class SyncError(Exception):
    """The tree is not what it has to be; one sentence."""


def below(folder):
    """-> {path below folder: content}, without what Python and other tools leave behind."""
    paths = [path.relative_to(folder) for path in folder.rglob('*') if path.is_file()]
    kept = [path for path in paths if not any(part == '__pycache__' or part[0] == '.' for part in path.parts)]
    return {path.as_posix(): (folder / path).read_bytes() for path in kept}


def scripts(top, folder):
    """-> {path of a launch script below its folder: content}"""
    try:
        options = json.loads((folder / 'folder.json').read_text())['launch_options']
    except (OSError, KeyError, ValueError) as e:
        raise SyncError(
            f'{folder.name}/folder.json lacks launch_options ({e!r}); CONTRIBUTING.md says what it holds'
        ) from e
    template = (top / 'ci' / 'folder_files' / 'launch_script.sh').read_text()
    made = {}
    for name, (sentence, arguments) in json.loads((top / 'ci' / 'folder_files' / 'scripts.json').read_text()).items():
        case, _, ranks = name.removesuffix('p').partition('_')
        text = template.replace('SENTENCE', sentence).replace('ARGUMENTS', arguments).replace('NAME', name)
        text = text.replace('CASE', case).replace('RANKS', ranks)
        words = ''.join(f' {shlex.quote(option)}' for option in options) if ranks != '1' else ''
        made[f'test/train_{name}.sh'] = text.replace(' OPTIONS', words).encode()
    return made


def wanted(top, folder):
    """-> {path below folder: (content, where to edit it)} of all generated files."""
    files = {f'common/{path}': (content, f'common/{path}') for path, content in below(top / 'common').items()}
    files['LICENSE'] = ((top / 'LICENSE').read_bytes(), 'LICENSE')
    files['USAGE.md'] = ((top / 'docs' / 'usage.md').read_bytes(), 'docs/usage.md')
    files['USAGE.zh.md'] = ((top / 'docs' / 'usage.zh.md').read_bytes(), 'docs/usage.zh.md')
    as_they_are = top / 'ci' / 'folder_files'
    for path in sorted([*as_they_are.glob('*requirements.txt'), *as_they_are.glob('*Dockerfile')]):
        files[path.name] = (path.read_bytes(), f'ci/folder_files/{path.name}')
    files['test/predict.sh'] = ((as_they_are / 'predict.sh').read_bytes(), 'ci/folder_files/predict.sh')
    made = scripts(top, folder)
    return {**files, **{path: (content, 'ci/folder_files/') for path, content in made.items()}}


def differences(top, folder):
    """Yields (path below folder, what is wrong, where to edit it, content or None) for each generated file that is not right."""
    files = wanted(top, folder)
    for path, (content, source) in sorted(files.items()):
        there = folder / path
        if not there.is_file():
            yield path, 'missing', source, content
        elif there.read_bytes() != content:
            yield path, 'differs', source, content
        elif path.startswith('test/') and not os.access(there, os.X_OK):
            yield path, 'not executable', source, content
    for path in sorted(below(folder / 'common')):
        if f'common/{path}' not in files:
            yield f'common/{path}', 'not in common/', 'common/', None


def write(path, content):
    """Writes a file, or removes it where content is None, and the directory that this leaves empty."""
    if content is None:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if path.parent.name == 'test':
        path.chmod(0o755)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true', help='compare only')
    parser.add_argument('--top', type=Path, default=TOP, help='the repository (default: this one)')
    args = parser.parse_args(argv)
    folders, found = sorted(path for path in args.top.glob('*_for_PyTorch') if path.is_dir()), 0
    try:
        if not folders or not (args.top / 'common').is_dir():
            raise SyncError(
                f'{args.top} holds no common/ with *_for_PyTorch folders beside it; give the repository by --top'
            )
        for folder in folders:
            for path, word, source, content in list(differences(args.top, folder)):
                found += 1
                if args.check:
                    print(f'{folder.name}/{path}: {word}; edit {source} and run python ci/sync_common.py')
                else:
                    write(folder / path, content)
    except SyncError as e:
        print(f'[Error] {e}', file=sys.stderr)
        return 1
    return 1 if found and args.check else 0


if __name__ == '__main__':
    sys.exit(main())
