#!/usr/bin/env python3
"""Lays the skeleton of a folder for a model that timm has.

    python ci/new_model.py ConvNeXt --timm convnext_atto --other convnext_femto

--timm: a small model of the family, which the tests train; --other: another one, whose checkpoints do not fit it. CONTRIBUTING.md says
what to write into the folder then.
"""

import argparse
import string
import sys
from pathlib import Path

import sync_common

TOP = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / 'new_model'


def lay(top, name, model, other):
    """-> the folder. FileExistsError where there is one of that name."""
    folder = top / f'{name}_for_PyTorch'
    folder.mkdir()
    module = ''.join(letter for letter in name.lower() if letter.isalnum() or letter == '_')
    words = {'name': name, 'folder': folder.name, 'module': module, 'model': model, 'other': other}
    for template in sorted(TEMPLATES.iterdir()):
        target = f'{module}.py' if template.name == 'network.py' else template.name
        (folder / target).write_text(string.Template(template.read_text()).substitute(words))
    return folder


def main(argv=None):
    about, *more = __doc__.split('\n\n')
    parser = argparse.ArgumentParser(description=about, epilog='\n\n'.join(more))
    parser.add_argument('name', metavar='NAME', help='of the family; the folder is NAME_for_PyTorch')
    parser.add_argument('--timm', required=True, metavar='MODEL', help='a small model of it')
    parser.add_argument('--other', required=True, metavar='MODEL', help='another one')
    parser.add_argument('--top', type=Path, default=TOP, help='the repository (default: this one)')
    args = parser.parse_args(argv)
    import timm  # here, because --help should be quick

    unknown = [model for model in (args.timm, args.other) if not timm.is_model(model)]
    if unknown:
        parser.error(f'timm has no model {unknown[0]}; timm.list_models() lists those that it has')
    if not args.name.replace('_', '').replace('-', '').isalnum():
        parser.error(f'{args.name!r} is no name of a folder: give letters, digits, - and _')
    try:
        folder = lay(args.top, args.name, args.timm, args.other)
    except FileExistsError:
        parser.error(f'{args.name}_for_PyTorch exists; give another name, or remove it')
    code = sync_common.main(['--top', str(args.top)])
    print(f'{folder}: write what the README leaves open, and see step 1 of "A new model" in CONTRIBUTING.md')
    return code


if __name__ == '__main__':
    sys.exit(main())
