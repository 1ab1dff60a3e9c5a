"""Checkpoints: written whole or not at all. weights.py reads them.

A file holds tensors, numbers, strings, lists and dicts only: {'format': 1, 'arch', 'state_dict', 'state_dict_ema',
'optimizer', 'scaler', 'epoch' (the one to go on with), 'step' (in it), 'global_batch', 'best_acc1', 'best_epoch',
'accuracies' (of the epochs so far), 'classes', 'args'}.
"""

import os
import shutil
import time
from typing import Any, Callable, Dict, Optional, Set

import torch

from common.errors import UserError


class CheckpointFolder:
    """The checkpoints that a training writes to its output folder. `say(text)` tells of renamed files.

    A file of the same name from an earlier training is renamed; the one that this training continues is replaced.
    """

    def __init__(self, folder: str, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        self.ours: Set[str] = set()

    def path(self, name: str) -> str:
        return os.path.abspath(os.path.join(self.folder, name))

    def keep(self, path: str) -> None:
        """Tells that this training continues the one of the file, whose files in this folder may be replaced."""
        path = os.path.abspath(path)
        self.ours.add(path)
        if path == self.path('checkpoint.pth'):
            self.ours.add(self.path('model_best.pth'))

    def save(self, state: Dict[str, Any], name: str) -> None:
        self._set_aside(self.path(name))
        save(state, self.path(name))

    def link(self, name: str, other: str) -> None:
        """Makes `other` the same file as `name`, which is never changed, only replaced."""
        self._set_aside(self.path(other))
        write_whole(self.path(other), lambda partial: link_or_copy(self.path(name), partial))

    def _set_aside(self, path: str) -> None:
        if path not in self.ours:
            self.ours.add(path)
            aside = set_aside(path)
            if aside:
                self.say(f'{path} of an earlier run is now {aside}')


def save(state: Dict[str, Any], path: str) -> None:
    """Writes state to path. Raises UserError."""

    def write(partial):
        with open(partial, 'wb') as f:
            torch.save(on_cpu(state), f)
            f.flush()
            os.fsync(f.fileno())

    write_whole(path, write)


def write_whole(path: str, write: Callable[[str], None]) -> None:
    """Replaces path by what write(partial path) writes, once that is complete. Raises UserError; path is then untouched."""
    partial = f'{path}.{os.getpid()}.tmp'
    try:
        write(partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as e:  # torch's zip writer puts an error of its own over the disk's
        disk = e if isinstance(e, OSError) else e.__context__
        reason = getattr(disk, 'strerror', None) or e
        raise UserError(
            f'the checkpoint {path} cannot be written ({reason}); free space there or choose another --output-dir; an '
            'earlier checkpoint of that name is untouched'
        ) from e
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def on_cpu(value: Any) -> Any:
    """-> the same dicts and lists with their tensors on the CPU: torch.load wants the device that a tensor was on."""
    if torch.is_tensor(value):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    return type(value)(map(on_cpu, value)) if isinstance(value, (list, tuple)) else value


def set_aside(path: str) -> Optional[str]:
    """Renames a checkpoint of an earlier training to <name>.<its time>.pth. -> the new path, or None if there was none."""
    if not os.path.exists(path):
        return None
    stem, suffix = os.path.splitext(path)
    stamp = time.strftime('%Y%m%d-%H%M%S', time.localtime(os.path.getmtime(path)))
    target, n = f'{stem}.{stamp}{suffix}', 1
    while os.path.exists(target):
        target, n = f'{stem}.{stamp}-{n}{suffix}', n + 1
    os.rename(path, target)
    return target
