"""Checkpoints: written whole or not at all, and read from this collection's files and from upstream's.

A file holds tensors, numbers, strings, lists and dicts only: {'format': 1, 'arch', 'state_dict', 'state_dict_ema',
'optimizer', 'scaler', 'epoch' (the one to go on with), 'step' (in it), 'global_batch', 'best_acc1', 'best_epoch',
'classes', 'args'}.
"""
import os
import pickle
import re
import time

import torch

from common.compat import load_plain
from common.errors import UserError

CONTAINERS = ('state_dict', 'model')             # where upstream's files keep the weights: timm's and DeiT's habit
EMA_CONTAINERS = ('state_dict_ema', 'model_ema')


def save(state, path):
    """Writes state to path; what stood there stays until the new file is complete on the disk."""
    partial = '%s.%d.tmp' % (path, os.getpid())
    try:
        with open(partial, 'wb') as f:
            torch.save(on_cpu(state), f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as e:      # torch's zip writer covers the disk's error with one of its own
        disk = e if isinstance(e, OSError) else e.__context__
        raise UserError('the checkpoint %s cannot be written (%s); free space there or choose another --output-dir; '
                        'an earlier checkpoint of that name is untouched' % (path, getattr(disk, 'strerror', None) or e))
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def on_cpu(value):
    """The same dicts and lists with their tensors on the CPU: torch.load looks for the device that a file's tensors were on."""
    if torch.is_tensor(value):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    return type(value)(map(on_cpu, value)) if isinstance(value, (list, tuple)) else value


def set_aside(path):
    """Renames a checkpoint of an earlier run to <name>.<its time>.pth. -> the new path, or None if there was none."""
    if not os.path.exists(path):
        return None
    stem, suffix = os.path.splitext(path)
    stamp = time.strftime('%Y%m%d-%H%M%S', time.localtime(os.path.getmtime(path)))
    target, n = '%s.%s%s' % (stem, stamp, suffix), 1
    while os.path.exists(target):
        target, n = '%s.%s-%d%s' % (stem, stamp, n, suffix), n + 1
    os.rename(path, target)
    return target


def load(path):
    """-> the dict in a checkpoint file, on the CPU. Raises UserError for a file that is missing, cut or no checkpoint."""
    if not os.path.isfile(path):
        raise UserError('checkpoint %s %s; give the path of a .pth file'
                        % (path, 'is not a file' if os.path.exists(path) else 'does not exist'))
    try:
        loaded = load_safetensors(path) if path.endswith('.safetensors') else load_plain(path)
    except pickle.UnpicklingError as e:
        named = re.search(r'GLOBAL ([\w.]+)', str(e))
        if named is None:
            raise damaged(path, e)
        raise UserError('checkpoint %s names a Python object, %s, which is not loaded because it could run code (a file that is '
                        'cut short can look so too); save its state_dict alone on the machine that wrote it, or copy it again'
                        % (path, named.group(1)))
    except UserError:
        raise
    except Exception as e:     # whatever a pickle, a zip file or a damaged header can raise
        raise damaged(path, e)
    if not isinstance(loaded, dict):
        raise UserError('checkpoint %s holds a %s, not a dict of weights' % (path, type(loaded).__name__))
    return loaded


def load_safetensors(path):
    try:
        from safetensors.torch import load_file
    except ImportError as e:
        raise UserError('checkpoint %s needs the package safetensors, which cannot be imported (%s): pip install safetensors'
                        % (path, e))
    return load_file(path)


def damaged(path, error):
    return UserError('checkpoint %s cannot be read: it is cut short, damaged or not a checkpoint (%s); copy it again or '
                     'take an earlier one' % (path, re.split(r'\. |\n', str(error).strip())[0][:200]))


def weights(loaded, path, ema=False):
    """The state dict inside a loaded file: of either container or bare, without the 'module.' of DataParallel."""
    names = EMA_CONTAINERS if ema else CONTAINERS
    found = next((loaded[name] for name in names if isinstance(loaded.get(name), dict)), None)
    if found is None and ema:
        raise UserError('checkpoint %s has no averaged weights (%s); leave --use-ema out' % (path, ' or '.join(names)))
    found = loaded if found is None else found
    state = {key[7:] if key.startswith('module.') else key: value for key, value in found.items() if torch.is_tensor(value)}
    if not state:
        raise UserError('checkpoint %s holds no weights; its keys are: %s' % (path, ', '.join(map(str, list(loaded)[:8]))))
    return state


def load_weights(model, state, path, arch, written_for=None, new_head=False):
    """Loads a state dict strictly. -> the names that were left fresh.

    written_for: the name of the model that the file states, where it states one.
    new_head: weights of the classifier whose shape differs are left as they are in the model.
    Raises UserError when the rest does not fit: another model's checkpoint, or another number of classes.
    """
    own = model.state_dict()
    classifier = {id(p) for p in model.get_classifier().parameters()}
    heads = {name for name, p in model.named_parameters() if id(p) in classifier}
    odd = {name for name in set(own) | set(state)
           if name not in own or name not in state or state[name].shape != own[name].shape}
    if odd - heads:
        known = isinstance(written_for, str) and written_for != arch
        raise UserError('checkpoint %s is of another model than %s: of %d weights %d are missing in the file, %d have another shape, '
                        'and %d are unknown (such as %s); give %s' % (
                            path, arch, len(own), len(set(own) - set(state)), len(odd & set(own) & set(state)),
                            len(set(state) - set(own)), min(odd - heads),
                            '--model %s, which the file names' % written_for if known else "its model's name by --model"))
    if odd and not new_head:
        raise UserError('checkpoint %s has another number of classes than the %d here (%s differs); --finetune takes its weights '
                        'and makes a new head' % (path, model.get_classifier().out_features, min(odd)))
    model.load_state_dict({name: value for name, value in state.items() if name not in odd}, strict=not odd)
    return [name for name in own if name in odd]
