#!/usr/bin/env python3
"""Writes a golden record (golden.py says what that is) of any model, such as upstream's own.

    write_golden.py RECORD.json --factory module:function --path FOLDER [--kwargs JSON] --family NAME [--img-size 224] [--note TEXT]

FOLDER is a checkout of upstream's code; check_golden.py then compares our implementation with the record. The record's name is the
file's. --fills A,B,C chooses the fills, --no-grad leaves out loss and gradients (they take most of the time).
"""

import argparse
import json
import sys
from pathlib import Path

import torch

import golden


def chosen_gradients(model, count=5):
    """-> the names of some parameters of two or more dimensions, evenly spaced from the first to the last."""
    names = [name for name, p in model.named_parameters() if p.dim() > 1]
    return [names[round(i * (len(names) - 1) / (count - 1))] for i in range(count)]


def make_record(model, size, fills, gradients):
    """-> all of a record that is measured. C is for logits only."""
    names = chosen_gradients(model) if gradients else None
    record = dict(golden.structure(model), img_size=size, init_stats=golden.init_stats(model), fills={})
    for fill in fills:
        record['fills'][fill] = golden.measure(model, size, fill, names if fill != 'C' else None)
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('record', type=Path, help='file to write')
    parser.add_argument('--factory', required=True, help='module:function')
    parser.add_argument('--path', required=True, help='folder put first on sys.path')
    parser.add_argument('--kwargs', default='{}', help='JSON for the factory')
    parser.add_argument('--family', required=True, help="golden_family in the folder's folder.json")
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--note', default='', help='where the code comes from: repository and commit')
    parser.add_argument('--fills', default='A,B,C')
    parser.add_argument('--no-grad', action='store_true', help='no loss and no gradients')
    args = parser.parse_args()
    torch.set_num_threads(1)
    kwargs = json.loads(args.kwargs)
    model = golden.build(args.factory, args.path, kwargs)
    record = {'format': 1, 'family': args.family, 'model': args.record.stem, 'note': args.note, 'check_kwargs': kwargs}
    record['source'] = {'factory': args.factory, 'kwargs': kwargs}
    record['info'] = {'torch': torch.__version__}
    record.update(make_record(model, args.img_size, args.fills.split(','), not args.no_grad))
    args.record.write_text(json.dumps(record, separators=(',', ':')) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
