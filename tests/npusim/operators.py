"""Prints the operators that two training steps of a folder's model reach on the simulated NPU, sorted, one a line.

    python tests/npusim/operators.py FOLDER          with the environment that tests/npusim/build.py prints
    python tests/npusim/operators.py --write         rewrites tests/data/operators/ for all folders
"""
import contextlib
import io
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(TOP / 'ci'))
import smoke  # noqa: E402


def operators(folder):
    """Trains the folder's smallest model in this process as its recipe says, in mixed precision; the loss scale is one that
    does not overflow, so that the optimizer has its turn. -> set of names"""
    sys.path.remove(str(TOP / 'ci'))
    sys.path.insert(0, str(TOP / folder))
    import torch_npu
    torch_npu._sim.record_ops()
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()) as said:
        data = smoke.make_digits(Path(place) / 'digits', per_class=4)
        sys.argv = ['train.py', str(data), '--device=npu', '--model', smoke.FOLDERS[folder][0], '--img-size=32', '--batch-size=4',
                    '--epochs=1', '--max-steps=2', '--eval-steps=1', '--loss-scale=128', '--workers=0', '--output-dir=%s/out' % place]
        try:
            runpy.run_path(str(TOP / folder / 'train.py'), run_name='__main__')
        except SystemExit as e:
            if e.code:
                sys.exit(said.getvalue())
    return torch_npu._sim.recorded_ops()


def write():
    environment = dict(os.environ, **smoke.simulated())
    for folder in smoke.FOLDERS:
        done = subprocess.run([sys.executable, __file__, folder], env=environment, stdout=subprocess.PIPE, text=True, check=True)
        (TOP / 'tests' / 'data' / 'operators' / (folder + '.txt')).write_text(done.stdout)


if __name__ == '__main__':
    if sys.argv[1:] == ['--write']:
        write()
    else:
        print('\n'.join(sorted(operators(*sys.argv[1:]))))
