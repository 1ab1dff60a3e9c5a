"""Weights from a file, of this collection or from elsewhere: read without running code from it, found in what holds them, fitted.

What is read is a dict of tensors, numbers, strings and containers; see checkpoint.py for this collection's files.
"""

import collections
import inspect
import json
import os
import re
import tarfile
import zipfile
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import nn

from common import run_folder
from common.errors import UserError
from common.plain_pickle import PlainPickle, Refused

Tensors = Dict[str, torch.Tensor]

# ---- the file


def asked_for(args: Any, hooks: Any) -> Optional[Dict[str, Any]]:
    """-> what the checkpoint of --auto-resume, --resume or --finetune holds, None where there is none. Of a directory: of the file in it.

    Sets these options to what is done: a fine-tuning goes on with a checkpoint of its own kind, and begins with another one.
    """
    if args.auto_resume and args.case in ('full', 'finetune') and not args.resume:
        found = newest(args)
        if found is not None:
            return found
    option = 'resume' if args.resume else 'finetune'
    given = getattr(args, option)
    if not given:
        return None
    path = locate(given, best=args.case == 'eval' or option == 'finetune')
    if path != given:
        args.take({option: path}, args.origin[option])
    loaded = hooks.read_weights(path) or load(path)
    if (
        args.case == 'finetune' and option == 'resume'
    ):  # the scripts' name for either, and what a stopped fine-tuning proposes
        if goes_on(loaded, args):
            args.take({'finetune': None, 'use_ema': False}, 'command line')
        elif args.finetune and args.finetune != given:
            raise UserError(
                f'checkpoint {path} is of no fine-tuning that could go on; give it, or --finetune {args.finetune}, alone'
            )
        else:
            args.take({'finetune': path, 'resume': None}, 'command line')
    return loaded


def newest(args: Any) -> Optional[Dict[str, Any]]:
    """-> the newest whole checkpoint of such a training in the output folder, which --resume then names; None where there is none.

    Raises UserError where there are checkpoints and none of them is whole: a training that began anew would hide that.
    """
    damaged, names = [], run_folder.checkpoints(args.output_dir)
    for name in names:
        path = os.path.join(args.output_dir, name)
        try:
            loaded = load(path)
        except UserError as e:
            damaged.append(str(e))
            continue
        if not goes_on(loaded, args):
            args.notes.append(f'--auto-resume: {path} is of no training of this kind, and is left alone.')
            return None
        args.notes.extend(f'Passed over: {reason}' for reason in damaged)
        args.take({'resume': path, 'finetune': None}, 'checkpoint')
        return loaded
    if damaged:
        raise UserError(
            f'--auto-resume: none of the {len(damaged)} checkpoints in {args.output_dir} is whole ({damaged[0]}); move them away to '
            'begin at epoch 0, or name another one by --resume'
        )
    return None


def goes_on(loaded: Mapping[str, Any], args: Any) -> bool:
    """Whether it is a checkpoint of a training of this case, to go on with."""
    if loaded.get('format') != 1 or 'epoch' not in loaded:
        return False
    return (loaded['args'].get('case', args.case) == 'finetune') == (args.case == 'finetune')


def locate(path: str, best: bool) -> str:
    """-> the checkpoint that a path means: of a directory the one in it, the best or the last. Raises UserError."""
    if not os.path.isdir(path):
        return path
    ending = re.compile(r'\.(pth\.tar|pth|pt|bin|safetensors|npz|ckpt)$')
    names = sorted(name for name in os.listdir(path) if ending.search(name))
    stems = {ending.sub('', name): name for name in names}
    last = ('checkpoint', 'last')  # as DeiT's main.py calls it, and timm's train.py
    favoured = ('model_best', *last) if best else (*last, 'model_best')
    known = [stems[stem] for stem in favoured if stem in stems] or names[: len(names) == 1]
    if not known:
        found = f'the checkpoints {", ".join(names[:5])}' if names else 'no checkpoint (.pth, .pt, .safetensors, ...)'
        raise UserError(f'checkpoint {path} is a directory that holds {found}; give the path of the file')
    return os.path.join(path, known[0])


def load(path: str) -> Dict[str, Any]:
    """-> the dict in a checkpoint file, on the CPU, once the file is seen to be whole.

    Raises UserError for a file that is missing, cut short or damaged, that is no checkpoint, or that holds more than data.
    """
    if not os.path.isfile(path):
        what = 'is not a file' if os.path.exists(path) else 'does not exist'
        raise UserError(f'checkpoint {path} {what}; give the path of a .pth file')
    try:
        loaded = load_safetensors(path) if path.endswith('.safetensors') else load_plain(path)
    except UserError:
        raise
    except Refused as e:
        raise UserError(
            f'checkpoint {path} names a Python object, {e}, which is not loaded because it could run code; save its '
            'state_dict alone, by the program that wrote it'
        ) from e
    except Exception as e:  # whatever a pickle, a zip file or a damaged header can raise
        raise damaged(path, str(e) or type(e).__name__) from e
    if not isinstance(loaded, dict):
        raise UserError(f'checkpoint {path} holds a {type(loaded).__name__}, not a dict of weights')
    check_format(loaded, path)
    return loaded


def damaged(path: str, reason: str) -> UserError:
    first = re.split(r'\. |\n', reason.strip())[0][:200]
    return UserError(
        f'checkpoint {path} cannot be read: it is cut short, damaged or not a checkpoint ({first}); copy it again or take an '
        'earlier one'
    )


def load_safetensors(path: str) -> Dict[str, Any]:
    try:
        from safetensors import safe_open
    except ImportError as e:
        raise UserError(
            f'checkpoint {path} needs the package safetensors, which cannot be imported ({e}): pip install safetensors'
        ) from e
    with safe_open(path, framework='pt') as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dict
        about = (file.metadata() or {}).get('modelzoo')  # as export.py writes it
    return {**json.loads(about), 'state_dict': state} if about else state


def load_plain(path: str) -> Any:
    """torch.load onto the CPU, with an unpickler that makes data only, whatever this torch would do by itself."""
    check_archive(path)
    options = {'weights_only': False} if 'weights_only' in inspect.signature(torch.load).parameters else {}
    # The variable asks torch for what PlainPickle does, and lets it take no unpickler but its own
    forced = os.environ.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)
    try:
        return torch.load(os.fspath(path), map_location='cpu', pickle_module=PlainPickle, **options)
    finally:
        if forced is not None:
            os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = forced


def check_archive(path: str) -> None:
    """Compares the parts of torch's zip format with their checksums, which torch itself does not. (Before 1.6: no zip.)

    Raises ValueError where one differs, and UserError for an archive that torch would unpack or run.
    """
    with open(path, 'rb') as file:
        is_zip = file.read(4) == b'PK\x03\x04'
    if not is_zip:
        if tarfile.is_tarfile(path):
            raise UserError(f'checkpoint {path} is a tar archive; unpack it, and give the checkpoint in it')
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.filename.endswith('constants.pkl') for part in parts):
            raise UserError(
                f'checkpoint {path} is a TorchScript archive, which is a program; save the state_dict of its model'
            )
        # torch can be told to write no checksums: all are 0 then
        differing = archive.testzip() if any(part.CRC for part in parts) else None
    if differing:
        raise ValueError(f'its part {differing} does not have the checksum it was written with')


def check_format(loaded: Mapping[str, Any], path: str) -> None:
    """Raises UserError for a file that says it is of this collection and lacks what options.py and trainer.py read."""
    if loaded.get('format') != 1:
        return
    wanted = {'args': dict, 'classes': (list, tuple)}
    if 'optimizer' in loaded or 'epoch' in loaded:
        wanted.update(epoch=int, step=int, global_batch=int)
    wrong = [name for name, kind in wanted.items() if not isinstance(loaded.get(name), kind)]
    wrong = wrong or [f'args.{name}' for name in ('num_classes', 'opt') if name not in loaded['args']]
    if wrong:
        raise UserError(f'checkpoint {path} is of format 1 and has no usable {wrong[0]}; take a file as it was written')


# ---- the weights in what was read


class Found(NamedTuple):
    """state: by the model's names. names: {the model's: the file's}. said: where they lay, for the log."""

    state: Tensors
    names: Dict[str, str]
    said: List[str]


class Place(NamedTuple):
    """Where weights may lie: in a dict of the file, under a prefix of its names, in a naming ({theirs: ours})."""

    container: Tuple[str, ...]
    tensors: Tensors
    prefix: str
    naming: Dict[str, str]
    count: int  # of the model's weights that are there by name

    @property
    def averaged(self) -> bool:
        return any(AVERAGED.search(step) for step in (*self.container, *self.prefix.split('.')))


# What wraps a model or a part of it, and names itself in the keys: DataParallel, torch.compile, FSDP
WRAPPERS = {'module', '_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'}
AVERAGED = re.compile(r'(^|_)ema(_|$)|^teacher$')
FAVOURED = (
    'state_dict',
    'model',
    'model_state_dict',
    'net',
    'weights',
    'student',
)  # of containers that fit equally well


def find(loaded: Dict[str, Any], model: nn.Module, path: str, other: Mapping[str, str], ema: bool = False) -> Found:
    """-> the tensors of the dict in a file, and under the prefix, that has most of the model's weights by name.

    other: {a name in another code's files: the model's}. ema: the averaged weights are wanted. Raises UserError.
    """
    own = {name: name for name in model.state_dict()}
    places = [place for naming in (own, dict(other)) for place in places_of(loaded, naming)]
    if not places:
        raise UserError(f'checkpoint {path} {nothing_found(loaded, own)}')
    wanted = [place for place in places if place.averaged] if ema else places
    if not wanted:
        raise UserError(f'checkpoint {path} has no averaged weights (such as state_dict_ema); leave --use-ema out')
    best = min(wanted, key=preference)
    state, names = {}, {}
    for key, value in best.tensors.items():
        inner = unwrapped(key, best.naming)
        if not best.prefix or inner.startswith(best.prefix + '.'):
            name = inner[len(best.prefix) + 1 :] if best.prefix else inner
            name = best.naming.get(name, name)
            state[name], names[name] = value, key
    return Found(state, names, describe(best, own, ema))


def places_of(loaded: Dict[str, Any], naming: Dict[str, str]) -> Iterator[Place]:
    """Every place in which at least one weight of the naming lies."""
    for container, tensors in holders(loaded):
        counts: Dict[str, int] = collections.Counter()
        for key in tensors:
            steps = unwrapped(key, naming).split('.')
            ends = (i for i in range(len(steps)) if '.'.join(steps[i:]) in naming)
            counts.update('.'.join(steps[:i]) for i in ends)
        for prefix, count in counts.items():
            yield Place(container, tensors, prefix, naming, count)


def holders(value: Dict[str, Any], container: Tuple[str, ...] = ()) -> Iterator[Tuple[Tuple[str, ...], Tensors]]:
    """Every dict in a file that has tensors by name, with the keys that lead to it."""
    tensors = {key: item for key, item in value.items() if isinstance(key, str) and torch.is_tensor(item)}
    if tensors:
        yield container, tensors
    for key, item in value.items():
        if isinstance(key, str) and isinstance(item, dict) and len(container) < 8:  # a pickle may hold itself
            yield from holders(item, (*container, key))


def unwrapped(key: str, naming: Mapping[str, str]) -> str:
    """-> the name without what wrappers have put into it."""
    if key in naming:
        return key
    return '.'.join(step for step in key.split('.') if step not in WRAPPERS)


def preference(place: Place) -> Tuple[Any, ...]:
    """Sorts the best place first: the most weights, not averaged, by the name of its dict, the shortest way."""
    steps = [*place.container, *filter(None, place.prefix.split('.'))]
    ranks = [FAVOURED.index(step) if step in FAVOURED else len(FAVOURED) for step in steps]
    return -place.count, place.averaged, min(ranks, default=0), len(steps)


def describe(place: Place, own: Dict[str, str], ema: bool) -> List[str]:
    """-> what is special about a place, for the log."""
    said = [f'from its {".".join(place.container)}'] if place.container not in ((), ('state_dict',)) else []
    wrappers = {step for key in place.tensors if key not in place.naming for step in key.split('.')} & WRAPPERS
    dropped = [*sorted(wrappers), *([place.prefix] if place.prefix else [])]
    said += [f'without {" and ".join(dropped)} in their names'] if dropped else []
    said += ['renamed from the names of another code'] if place.naming != own else []
    return said + (['averaged weights' if ema else 'averaged weights: no others fit better'] if place.averaged else [])


def nothing_found(loaded: Dict[str, Any], own: Mapping[str, str]) -> str:
    held = [key for _, tensors in holders(loaded) for key in tensors]
    if not held:
        return f'holds no weights; its keys are: {", ".join(map(str, list(loaded)[:8]))}'
    return (
        f'holds no weight of this model: it has {", ".join(held[:3])} and the model {", ".join(list(own)[:3])}; give the name '
        'of its model by --model'
    )


# ---- into the model


def fit(
    model: nn.Module, found: Found, path: str, arch: str, written_for: Any = None, new_head: bool = False
) -> List[str]:
    """Loads the weights strictly, but for counters of batch norm, which may be missing. -> what stays as it is, for the log

    written_for: the name of the model that the file states. new_head: weights of the classifier that do not fit stay as they
    are in the model. Raises UserError when the rest does not fit: a checkpoint of another model or number of classes.
    """
    own, state = model.state_dict(), found.state
    counters = [name for name in own if name.endswith('num_batches_tracked') and name not in state]
    state = {**state, **{name: own[name] for name in counters}}
    classifier = {id(p) for p in model.get_classifier().parameters()}
    heads = {name for name, p in model.named_parameters() if id(p) in classifier}
    odd = (set(own) ^ set(state)) | {name for name in set(own) & set(state) if state[name].shape != own[name].shape}
    if odd - heads:
        raise UserError(f'checkpoint {path} {misfit(own, state, odd - heads, found.names, arch, written_for)}')
    if odd and not new_head:
        raise UserError(
            f'checkpoint {path} {other_head(own, state, odd)}; --finetune takes its weights and makes a new head'
        )
    model.load_state_dict({name: value for name, value in state.items() if name not in odd}, strict=not odd)
    fresh = [name for name in own if name in odd]
    said = [f'made anew: {", ".join(fresh)}'] if fresh else []
    return said + ([f'{len(counters)} counters of batch norm that it lacks begin at 0'] if counters else [])


def misfit(own: Tensors, state: Tensors, odd: Any, names: Mapping[str, str], arch: str, written_for: Any) -> str:
    """-> the end of the sentence for weights that are not the model's."""
    missing, unknown = sorted(odd - set(state)), sorted(names.get(name, name) for name in odd - set(own))
    reshaped = sorted(odd & set(own) & set(state))
    parts = [f'{len(missing)} of its {len(own)} weights missing in the file, such as {missing[0]}'] if missing else []
    parts += [f'{len(unknown)} in the file unknown to it, such as {unknown[0]}'] if unknown else []
    if reshaped:
        first = reshaped[0]
        parts.append(
            f'{len(reshaped)} of another shape, such as {names.get(first, first)}, {shape(state[first])} in the file and '
            f'{shape(own[first])} here'
        )
    if isinstance(written_for, str) and written_for != arch:
        way_out = f'give --model {written_for}, which the file names'
    elif written_for == arch:
        way_out = f'the file names {arch} too, so give the options that shaped it when it was trained'
    else:
        way_out = 'give the name of its model by --model, and the options that shaped it when it was trained'
    return f'does not fit {arch}: {", ".join(parts)}; {way_out}'


def other_head(own: Tensors, state: Tensors, odd: Any) -> str:
    """-> what is wrong with a classifier that does not fit."""
    name = min(odd & set(own), key=lambda name: (name not in state, -own[name].dim()), default=min(odd))
    if name not in state:
        return f'has no classifier ({name} is missing in it)'
    if name not in own:
        return f'has more of a classifier than the model ({name} is unknown to it)'
    classes = len(state[name]) if state[name].dim() else 0
    return f'has another number of classes, {classes}, than the {len(own[name])} here ({name} differs)'


def shape(tensor: torch.Tensor) -> str:
    return 'x'.join(map(str, tensor.shape)) or 'one number'
