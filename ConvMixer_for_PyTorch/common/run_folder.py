"""The output folder of a run: who works in it, and what an earlier run has left there. Standard library only.

A training and an evaluation have files of their own names, and a lock each; so an evaluation may go on beside a training.
"""

import fcntl
import itertools
import json
import os
import re
import time
from typing import Any, Dict, List, Optional

from common.errors import UserError

CASE = r'.+_bs(\d+|NA)_(\d+|NA)p_'
# what a run writes, by its name; checkpoints are the trainer's, which renames those of an earlier training
TRAINED = re.compile(rf'train_\d+\.log|metrics\.jsonl|result\.json|{CASE}(perf|acc|finetune)\.log|train_.+_loss\.txt')
EVALUATED = re.compile(rf'eval_\d+\.log|eval_metrics\.jsonl|eval_result\.json|{CASE}eval\.log')
RUN_MARK = 'Run '  # how a raw log begins
BEST = 'model_best.pth'


def metrics_name(case: str) -> str:
    return 'eval_metrics.jsonl' if case == 'eval' else 'metrics.jsonl'


def result_name(case: str) -> str:
    return 'eval_result.json' if case == 'eval' else 'result.json'


def checkpoint_name(number: int) -> str:
    """-> the name of the last checkpoint (0) or of the one so many before it"""
    return f'checkpoint-{number}.pth' if number else 'checkpoint.pth'


def checkpoints(folder: str) -> List[str]:
    """-> the names of the checkpoints of a training in its output folder, the newest first and the best, which has no optimizer, last"""
    found = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        match = re.fullmatch(r'checkpoint(-([1-9]\d*))?\.pth', name)
        if match:
            found[int(match.group(2) or 0)] = name
    best = [BEST] if os.path.exists(os.path.join(folder, BEST)) else []
    return [found[number] for number in sorted(found)] + best


# ---- one run at a time


def claim(folder: str, case: str, descriptor: Optional[int] = None, pid: Optional[int] = None) -> Any:
    """Takes the folder for a run of this process (or of `pid`) until all its processes have ended, however they end.

    descriptor: an open file that the run's processes inherit; else a file that has to be kept open is returned. Raises UserError
    where another run of that kind is at work there.
    """
    if descriptor is None:
        file = open(os.path.join(folder, lock_name(case)), 'a+', encoding='utf-8')  # noqa: SIM115 open as long as the run
    else:
        file = os.fdopen(descriptor, 'a+', encoding='utf-8', closefd=False)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        kind, process = 'an evaluation' if case == 'eval' else 'a training', file.readline().strip() or 'unknown'
        raise UserError(
            f'{kind} is at work in the output folder {folder} (process {process}, or what it has started); '
            'wait for it, or choose another folder by --output_dir'
        ) from None
    except OSError:  # a file system without locks
        pass
    note(file, str(pid or os.getpid()))
    return file


def note(file: Any, *lines: str) -> None:
    """Replaces what the lock says: the process, and in the second line where an earlier run's files were moved to."""
    file.seek(0)
    file.truncate()
    file.write('\n'.join(lines))
    file.flush()


def lock_name(case: str) -> str:
    return '.lock_eval' if case == 'eval' else '.lock'


# ---- files of an earlier run


def of_runs(folder: str, case: str) -> List[str]:
    """-> the names of the files that runs of this kind have written there, as their names and their content say."""
    pattern = EVALUATED if case == 'eval' else TRAINED
    names = sorted(name for name in os.listdir(folder) if pattern.fullmatch(name))
    return [name for name in names if is_ours(os.path.join(folder, name))]


def is_ours(path: str) -> bool:
    name = os.path.basename(path)
    if not os.path.isfile(path):
        return False
    with open(path, encoding='utf-8', errors='replace') as f:
        begin = f.read(100000)
    if name.endswith('.jsonl'):
        return begin == '' or begin.startswith('{"event"')
    if name.endswith('.json'):
        return '"case_name"' in begin
    if name.endswith('.txt'):
        return re.match(r'(-?[\d.]+(e-?\d+)?|nan|inf|None)?$', begin.split('\n')[0]) is not None
    if re.fullmatch(r'(train|eval)_\d+(_node\d+)?\.log', name):
        ours = re.search(r'^\w+: \S+, [\d.]+ M parameters|^\[Error\] ', begin, re.M)  # before logs had the mark
        return begin == '' or begin.startswith(RUN_MARK) or ours is not None
    return begin.startswith('Network = ')


def move_aside(folder: str, names: List[str]) -> Optional[str]:
    """Moves files of an earlier run to previous/<time>/. -> that folder, or None for no files."""
    if not names:
        return None
    aside = fresh(os.path.join(folder, 'previous'))
    for name in names:
        os.rename(os.path.join(folder, name), os.path.join(aside, name))
    return aside


def move_back(folder: str, case: str, aside: str) -> str:
    """After a run that failed before it did anything: puts the earlier run's files back. -> the folder that now has this run's."""
    failed = fresh(os.path.join(folder, 'failed'))
    for name in of_runs(folder, case):
        os.rename(os.path.join(folder, name), os.path.join(failed, name))
    for name in os.listdir(aside):
        os.rename(os.path.join(aside, name), os.path.join(folder, name))
    os.rmdir(aside)
    return failed


def fresh(parent: str) -> str:
    """-> a new folder in parent, named by the time"""
    first = os.path.join(parent, time.strftime('%Y%m%d-%H%M%S'))
    places = itertools.chain([first], (f'{first}-{n}' for n in itertools.count(1)))
    place = next(place for place in places if not os.path.exists(place))
    os.makedirs(place)
    return place


def write(path: str, text: str) -> None:
    """Writes a small file whole or not at all; a path in it that is not UTF-8 stays as it is."""
    with open(path + '.tmp', 'w', encoding='utf-8', errors='surrogateescape') as f:
        f.write(text)
    os.replace(path + '.tmp', path)


def belongs_to_a_training(path: str) -> bool:
    """Whether a metrics.jsonl or result.json is there and tells of a training."""
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            text = f.read(1000000)
        first: Dict[str, Any] = json.loads(text if path.endswith('.json') else text.split('\n')[0])
        return first.get('case') != 'eval'
    except (OSError, ValueError, AttributeError):
        return False
