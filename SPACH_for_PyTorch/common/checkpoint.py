"""Checkpoints: written whole or not at all, and read from this collection's files and from upstream's.

A file holds tensors, numbers, strings, lists and dicts only: {'format': 1, 'arch', 'state_dict', 'state_dict_ema',
'optimizer', 'scaler', 'epoch' (the one to go on with), 'step' (in it), 'global_batch', 'best_acc1', 'best_epoch',
'accuracies' (of the epochs so far), 'classes', 'args'}.
"""

import os
import pickle
import re
import shutil
import time
from typing import Any, Callable, Dict, List, Optional, Set

import torch
from torch import nn

from common.compat import load_plain
from common.errors import UserError

CONTAINERS = ('state_dict', 'model')  # where upstream's files keep the weights: as timm's and as DeiT's
EMA_CONTAINERS = ('state_dict_ema', 'model_ema')


# ---- writing


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


# ---- reading


def load(path: str) -> Dict[str, Any]:
    """-> the dict in a checkpoint file, on the CPU. Raises UserError for a file that is missing, cut or no checkpoint."""
    if not os.path.isfile(path):
        what = 'is not a file' if os.path.exists(path) else 'does not exist'
        raise UserError(f'checkpoint {path} {what}; give the path of a .pth file')
    try:
        loaded = load_safetensors(path) if path.endswith('.safetensors') else load_plain(path)
    except pickle.UnpicklingError as e:
        named = re.search(r'GLOBAL ([\w.]+)', str(e))
        if named is None:
            raise damaged(path, e) from e
        raise UserError(
            f'checkpoint {path} names a Python object, {named.group(1)}, which is not loaded because it could run code (a '
            'file that is cut short can look so too); save its state_dict alone on the machine that wrote it, or copy it again'
        ) from e
    except UserError:
        raise
    except Exception as e:  # whatever a pickle, a zip file or a damaged header can raise
        raise damaged(path, e) from e
    if not isinstance(loaded, dict):
        raise UserError(f'checkpoint {path} holds a {type(loaded).__name__}, not a dict of weights')
    return loaded


def load_safetensors(path: str) -> Dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as e:
        raise UserError(
            f'checkpoint {path} needs the package safetensors, which cannot be imported ({e}): pip install safetensors'
        ) from e
    return load_file(path)


def damaged(path: str, error: Exception) -> UserError:
    reason = re.split(r'\. |\n', str(error).strip())[0][:200]
    return UserError(
        f'checkpoint {path} cannot be read: it is cut short, damaged or not a checkpoint ({reason}); copy it again or take an '
        'earlier one'
    )


def weights(loaded: Dict[str, Any], path: str, ema: bool = False) -> Dict[str, torch.Tensor]:
    """-> the state dict in a loaded file: in a container or bare, without the 'module.' of DataParallel."""
    names = EMA_CONTAINERS if ema else CONTAINERS
    found = next((loaded[name] for name in names if isinstance(loaded.get(name), dict)), None)
    if found is None and ema:
        raise UserError(f'checkpoint {path} has no averaged weights ({" or ".join(names)}); leave --use-ema out')
    found = loaded if found is None else found
    state = {re.sub(r'^module\.', '', key): value for key, value in found.items() if torch.is_tensor(value)}
    if not state:
        raise UserError(f'checkpoint {path} holds no weights; its keys are: {", ".join(map(str, list(loaded)[:8]))}')
    return state


def load_weights(
    model: nn.Module,
    state: Dict[str, torch.Tensor],
    path: str,
    arch: str,
    written_for: Optional[str] = None,
    new_head: bool = False,
) -> List[str]:
    """Loads a state dict strictly. -> the names of the weights that stay as they are in the model

    written_for: the name of the model that the file states, where it states one.
    new_head: weights of the classifier whose shape differs stay as they are. Raises UserError when the rest does not fit: a
    checkpoint of another model, or another number of classes.
    """
    own = model.state_dict()
    classifier = {id(p) for p in model.get_classifier().parameters()}
    heads = {name for name, p in model.named_parameters() if id(p) in classifier}
    shared = set(own) & set(state)
    odd = (set(own) ^ set(state)) | {name for name in shared if state[name].shape != own[name].shape}
    if odd - heads:
        known = isinstance(written_for, str) and written_for != arch
        way_out = f'--model {written_for}, which the file names' if known else "its model's name by --model"
        raise UserError(
            f'checkpoint {path} is of another model than {arch}: of {len(own)} weights {len(set(own) - shared)} are missing in '
            f'the file, {len(odd & shared)} have another shape, and {len(set(state) - shared)} are unknown (such as '
            f'{min(odd - heads)}); give {way_out}'
        )
    if odd and not new_head:
        here = model.get_classifier().out_features
        raise UserError(
            f'checkpoint {path} has another number of classes than the {here} here ({min(odd)} differs); --finetune takes its '
            'weights and makes a new head'
        )
    model.load_state_dict({name: value for name, value in state.items() if name not in odd}, strict=not odd)
    return [name for name in own if name in odd]
