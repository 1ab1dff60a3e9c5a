"""Checkpoints: which a training keeps, and that each is written whole or not at all. weights.py reads them.

A file holds tensors, numbers, strings, lists and dicts only: {'format': 1, 'arch', 'state_dict', 'state_dict_ema',
'optimizer', 'scaler', 'epoch' and 'step' (to go on with), 'joined' (the ranks' batch norm statistics are one: the epoch's evaluation
is due), 'global_batch', 'best_acc1', 'best_epoch', 'accuracies' (of the epochs so far), 'classes', 'args'}. model_best.pth, which is
evaluated, fine-tuned and deployed, has no optimizer.
"""

import contextlib
import os
import re
import time
from typing import Any, Callable, Dict, Iterator, Set

import torch

from common.errors import DiskError
from common.run_folder import BEST, checkpoint_name, checkpoints

PARTIAL = re.compile(r'(checkpoint(-\d+)?|model_best)\.pth\.\d+\.tmp')


class CheckpointFolder:
    """The checkpoints that a training writes to its output folder. `say(text)` tells of renamed files.

    checkpoint.pth is the last, checkpoint-1.pth the one before, ...: `keep` of them. A file of the same name from an earlier training is
    renamed; those of the training that this one continues are replaced.
    """

    def __init__(self, folder: str, say: Callable[[str], None], keep: int = 2):
        self.folder, self.say, self.keep = folder, say, keep
        self.ours: Set[str] = set()

    def path(self, name: str) -> str:
        return os.path.abspath(os.path.join(self.folder, name))

    def remove_partial(self) -> None:
        """Removes what a killed save has left; nobody else writes here, as the folder is this run's."""
        for name in filter(PARTIAL.fullmatch, os.listdir(self.folder)):
            os.remove(self.path(name))

    def continues(self, path: str) -> None:
        """This training goes on with that file: it and those before it may be replaced. Newer ones, which were passed over, may not."""
        paths = [self.path(name) for name in checkpoints(self.folder)]
        path = os.path.abspath(path)
        self.ours.update(paths[paths.index(path) :] if path in paths else [])

    def save(self, state: Dict[str, Any], last: bool = True, best: bool = False) -> None:
        """Writes the state as checkpoint.pth (last) and, without its optimizer, as model_best.pth (best). Raises DiskError."""
        state = on_cpu(state)
        for name in checkpoints(self.folder):
            self._set_aside(self.path(name))
        if best:  # first: a kill between the two leaves a training that makes its best once more
            self._write({name: value for name, value in state.items() if name != 'optimizer'}, BEST)
        if last:
            self._write(state, checkpoint_name(0), before=self._make_room)

    def _write(self, state: Dict[str, Any], name: str, before: Callable[[], None] = lambda: None) -> None:
        path = self.path(name)

        def replace(partial):
            self.ours.add(path)
            before()
            os.replace(partial, path)
            flush_folder(self.folder)

        write_whole(path, lambda file: torch.save(state, file), replace)

    def _make_room(self) -> None:
        """Renames each checkpoint to the name of the one before. The newest stays too, where the file system has hard links."""
        for number in range(self.keep - 1, 0, -1):
            newer, older = (self.path(checkpoint_name(n)) for n in (number - 1, number))
            if os.path.exists(newer):
                self.ours.add(older)
                if number == 1:
                    with contextlib.suppress(OSError):
                        link(newer, older)
                        continue
                os.replace(newer, older)

    def _set_aside(self, path: str) -> None:
        if path not in self.ours:
            self.say(f'{path} of an earlier run is now {set_aside(path)}')


def write_whole(path: str, write: Callable[[Any], None], replace: Callable[[str], None]) -> None:
    """Writes a partial file, on the disk to its last byte, and calls replace(its path). Raises DiskError; path is then untouched."""
    partial = f'{path}.{os.getpid()}.tmp'
    try:
        with open(partial, 'wb') as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        replace(partial)
    except (OSError, RuntimeError) as e:  # torch's zip writer puts an error of its own over the disk's
        disk = e if isinstance(e, OSError) else e.__context__
        reason = getattr(disk, 'strerror', None) or e
        raise DiskError(
            f'the checkpoint {path} cannot be written ({reason}); free space there or choose another --output-dir; an '
            'earlier checkpoint of that name is untouched'
        ) from e
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def flush_folder(folder: str) -> None:
    """The name of a new file is on the disk when its folder is."""
    with contextlib.suppress(OSError):  # some file systems do not know this
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def link(path: str, other: str) -> None:
    """Makes `other`, which may exist, the same file as path. Raises OSError on a file system without hard links."""
    partial = f'{other}.{os.getpid()}.tmp'
    os.link(path, partial)
    os.replace(partial, other)


def finite(state: Dict[str, Any]) -> bool:
    """Whether all numbers of all tensors are finite: one pass over them on their device, which is waited for once."""
    sums: Dict[Any, torch.Tensor] = {}
    for tensor in tensors(state):
        if tensor.is_floating_point():
            total = tensor.detach().sum(dtype=torch.float32) * 0  # not a number where one of them is not finite
            sums[tensor.device] = sums[tensor.device] + total if tensor.device in sums else total
    return all(total.item() == 0 for total in sums.values())


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if torch.is_tensor(value):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item)


def on_cpu(value: Any) -> Any:
    """-> the same dicts and lists with their tensors on the CPU: torch.load wants the device that a tensor was on."""
    if torch.is_tensor(value):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    return type(value)(map(on_cpu, value)) if isinstance(value, (list, tuple)) else value


def set_aside(path: str) -> str:
    """Renames a checkpoint of an earlier training to <name>.<its time>.pth. -> the new path"""
    stem, suffix = os.path.splitext(path)
    stamp = time.strftime('%Y%m%d-%H%M%S', time.localtime(os.path.getmtime(path)))
    target, n = f'{stem}.{stamp}{suffix}', 1
    while os.path.exists(target):
        target, n = f'{stem}.{stamp}-{n}{suffix}', n + 1
    os.rename(path, target)
    return target
