"""What the READMEs show, made anew: the picture of the five models on digits, and the table of fine-tunings.

    python ci/showcase.py OUT [--folders VAN ...]

Each folder's small model learns the digits by the command in its README, into OUT/<folder>; docs/digits.png has their curves. From these
weights it is fine-tuned by train_finetune_1p.sh and _8p.sh as they are, with a batch and a number of epochs alone, on targets that the
machine can write; the table goes to standard output. What OUT has already is not run again. On two CPU cores all takes about an hour.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))
TARGETS = {  # what make_dataset.py is given, and what a reader is told
    'digits04': ('digits --size 64 --only 0-4', 'digits 0 to 4, new head'),
    'textures': ('textures', '3 textures, new head'),
    'faces': ('faces', 'faces or not, new head'),
    'digits': ('digits --size 64', 'all digits, same head'),
}
ROWS = (  # target, images of a step, processes, epochs
    ('digits04', 16, 1, 2), ('digits04', 64, 1, 2), ('digits04', 64, 8, 2), ('digits04', 256, 1, 10), ('digits04', 256, 8, 10),
    ('textures', 16, 1, 10), ('textures', 64, 1, 10), ('textures', 64, 8, 10), ('textures', 256, 1, 20),
    ('faces', 16, 1, 5), ('faces', 64, 8, 10),
    ('digits', 16, 1, 2), ('digits', 256, 8, 2), ('digits', 1024, 1, 5), ('digits', 1024, 8, 5),
)  # fmt: skip


def folders(words):
    found = sorted(path.parent for path in TOP.glob('*_for_PyTorch/folder.json'))
    return [folder for folder in found if any(word in folder.name for word in words)]


def data_set(out, name):
    place = out / 'data' / name
    if not place.is_dir():
        kind, *options = TARGETS[name][0].split()
        subprocess.run(
            [sys.executable, TOP / 'ci' / 'make_dataset.py', kind, place, *options],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return place


def script(command, out):
    """Runs a script of a folder, unless its result is there. -> the result"""
    result = out / 'result.json'
    if not result.is_file() or json.loads(result.read_text())['status'] != 'OK':
        env = {**os.environ, 'PYTHON': sys.executable}
        done = subprocess.run(['bash', *command, f'--output_dir={out}'], env=env, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f'{done.stdout}\n{shlex.join(map(str, command))} ended with {done.returncode}')
    return json.loads(result.read_text())


def digits(folder, out):
    """The command of its README. -> the folder of the training"""
    text = (folder / 'README.md').read_text().replace('\\\n', ' ')
    words = re.search(r'^bash (\./test/train_full_1p\.sh --data_path=DIR .*)$', text, re.M).group(1).split()
    words = [word.replace('DIR', str(data_set(out, 'digits'))) for word in words]
    place = out / folder.name
    script([folder / words[0], *words[1:]], place)
    return place


def fine_tuned(folder, out, target, images, ranks, epochs):
    """-> the accuracy of the last epoch, in percent"""
    node = "'batch_per_node': True" in (folder / 'train.py').read_text()
    batch = images if node else images // ranks
    words = [f'--data_path={data_set(out, target)}', f'--finetune_pth={out / folder.name}/model_best.pth']
    words += [f'--batch-size={batch}', f'--epochs={epochs}', '--no-checkpoint', '--print-freq=1000']
    place = out / f'{target}_{images}_{ranks}p_{epochs}' / folder.name
    return script([folder / 'test' / f'train_finetune_{ranks}p.sh', *words], place)['last_acc1']


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path)
    parser.add_argument('--folders', nargs='+', default=[''], metavar='WORD', help='those whose name has one of these')
    args = parser.parse_args()
    chosen, out = folders(args.folders), args.out.resolve()
    places = [digits(folder, out) for folder in chosen]
    command = [sys.executable, '-m', 'common.log_parser', 'plot', *places, '--panels', 'acc']
    subprocess.run([*command, '-o', TOP / 'docs' / 'digits.png'], cwd=TOP, check=True, stdout=subprocess.DEVNULL)
    names = [json.loads((place / 'result.json').read_text())['model'] for place in places]
    print('| target | images a step | processes | epochs |', ' | '.join(names), '|')
    print('|' + '---|' * (4 + len(names)))
    for target, images, ranks, epochs in ROWS:
        accuracies = [fine_tuned(folder, out, target, images, ranks, epochs) for folder in chosen]
        cells = [TARGETS[target][1], images, ranks, epochs, *(f'{accuracy:.1f}' for accuracy in accuracies)]
        print('|', ' | '.join(map(str, cells)), '|', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
