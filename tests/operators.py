"""The operators that two training steps of each folder's model reach on the simulated NPU: tests/data/operators/.

python tests/operators.py        rewrites them, after a wanted change; test_npu.py compares
"""

import runpy
import sys
import tempfile
from pathlib import Path

from helpers import FOLDERS, TOP, describe, in_folder, make_digits, simulated

KNOWN = TOP / 'tests' / 'data' / 'operators'


def recorded(data, model, out):
    """In a child: trains as the recipe says, in mixed precision; no step overflows, so that the optimizer runs."""
    import torch_npu

    torch_npu._sim.record_ops()
    sys.argv = [
        'train.py',
        str(data),
        '--device=npu',
        '--model',
        model,
        '--img-size=32',
        '--batch-size=4',
        '--epochs=1',
    ]
    sys.argv += ['--max-steps=2', '--eval-steps=1', '--loss-scale=128', '--workers=0', f'--output-dir={out}']
    try:
        runpy.run_path('train.py', run_name='__main__')
    except SystemExit as e:
        assert not e.code
    return sorted(torch_npu._sim.recorded_ops())


def operators(folder, data, out, npusim):
    """-> their names, sorted, a line each"""
    return '\n'.join(in_folder(folder, recorded, data, describe(folder)['model'], out, **npusim)) + '\n'


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as place:
        data = make_digits(Path(place) / 'digits', per_class=4)
        for name in FOLDERS:
            (KNOWN / f'{name}.txt').write_text(operators(name, data, Path(place) / name, simulated()))
