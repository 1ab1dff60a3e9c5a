"""Whether all ranks are about to train the same: otherwise they would hang in a collective, or train a mixture in silence."""

import hashlib
import json
import os
from typing import Any, Dict, List, Optional

import torch

from common import data, meeting

# what a machine may have of its own: places, and what changes no result
OF_A_MACHINE = (
    'data_path output_dir resume finetune auto_resume device device_id local_rank dist_backend dist_url workers pin_mem tensorboard profile '
    'timeout decoder'
).split()
NAMED = 3  # differences in a sentence


def check(args: Any, ranks: Any, backend: str, loaded: Optional[Dict[str, Any]]) -> None:
    """Raises UserError on all ranks where one has other options, data, code or another checkpoint than rank 0.

    Another version of torch is a note for the log. backend: of the process group. loaded: the checkpoint that is read, or None.
    """
    if ranks.world == 1:
        return
    mine = description(args, ranks, backend, loaded)
    ranks.store.set(f'description {ranks.rank}', json.dumps(mine))
    meeting.gather(ranks.store, ranks, 'described', args.timeout)
    if ranks.primary:
        others = [json.loads(ranks.store.get(f'description {rank}').decode()) for rank in range(1, ranks.world)]
        args.notes.extend(other_torch(mine, others))
        ranks.store.set('verdict', verdict(mine, others))
    found = ranks.store.get('verdict').decode()
    if found:
        meeting.leave(ranks, found)


def description(args: Any, ranks: Any, backend: str, loaded: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """What has to be equal, {group: {name: value}}, and the version of torch."""
    options = {
        f'--{name.replace("_", "-")}': str(value) for name, value in args.values().items() if name not in OF_A_MACHINE
    }
    found = {'options': {**options, 'the backend': backend, 'the checkpoint': place_in(loaded)}, 'code': code()}
    if ranks.local_world < ranks.world and ranks.local == 0:  # one machine has one data set
        found['data'] = images(args)
    return {**found, 'torch': torch.__version__}


def place_in(loaded: Optional[Dict[str, Any]]) -> str:
    """-> which checkpoint this is, wherever it lies"""
    if loaded is None:
        return 'none'
    return (
        f'epoch {loaded["epoch"]}, step {loaded["step"]}'
        if 'epoch' in loaded and 'step' in loaded
        else 'of another origin'
    )


def code() -> Dict[str, str]:
    """-> a digest of each Python file of the folder"""
    top, found = os.path.dirname(os.path.dirname(os.path.abspath(__file__))), {}
    for folder, below, names in os.walk(top):
        programs = [os.path.join(folder, name) for name in names if name.endswith('.py')]
        hidden = [name for name in below if name.startswith('.') or name == 'output']
        below[:] = [name for name in below if name not in hidden] if programs else []  # a data set may lie there too
        for path in programs:
            with open(path, 'rb') as f:
                found[os.path.relpath(path, top)] = digest(f.read())
    return found


def images(args: Any) -> Dict[str, str]:
    """-> of each split the number of its images and a digest of their paths"""
    found = {}
    for split in ('val',) if args.case == 'eval' else ('train', 'val'):
        folder = os.path.join(args.data_path, split)
        paths = [os.path.relpath(os.fsdecode(path), folder) for path in data.listed(folder)[0]]
        names = '\n'.join(paths).encode('utf-8', 'surrogateescape')
        found[f'{split}/'] = f'{len(paths)} images, names {digest(names)}'
    return found


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def verdict(first: Dict[str, Any], others: List[Dict[str, Any]]) -> str:
    """-> the sentence for the first rank that differs from rank 0, or ''"""
    for rank, other in enumerate(others, 1):
        found = []
        for group in ('options', 'code', 'data'):
            one, two = first.get(group, {}), other.get(group, {})
            names = sorted({*one, *two}) if group != 'data' or (one and two) else []
            found += [
                f'rank {rank} has {name} {two.get(name, "missing")} and rank 0 has {one.get(name, "missing")}'
                for name in names
                if one.get(name) != two.get(name)
            ]
        if found:
            more = f' (and {len(found) - NAMED} more differences)' if len(found) > NAMED else ''
            return f'{"; ".join(found[:NAMED])}{more}; start all machines with the same command, folder and data'
    return ''


def other_torch(first: Dict[str, Any], others: List[Dict[str, Any]]) -> List[str]:
    """-> a line for the log where a rank has another torch than rank 0"""
    versions = {other['torch']: rank for rank, other in enumerate(others, 1) if other['torch'] != first['torch']}
    return [
        f'Rank {rank} has torch {version} and rank 0 has {first["torch"]}: the results may differ from those of one version.'
        for version, rank in versions.items()
    ]
