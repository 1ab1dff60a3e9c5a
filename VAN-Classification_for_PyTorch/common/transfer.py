"""What a fine-tuning changes less than the rest: a frozen backbone, or layers that learn the more slowly the earlier they are."""

import re
from typing import Any, Callable, Dict, List

from torch import nn

from common.errors import UserError


def freeze(model: nn.Module) -> List[nn.Module]:
    """Leaves nothing to train but the classifier. -> the modules that stay in evaluation mode: batch norm keeps its statistics

    model: with get_classifier(), as timm's.
    """
    head = {id(p) for p in model.get_classifier().parameters()}
    for p in model.parameters():
        p.requires_grad_(id(p) in head)
    return [module for module in model.modules() if not any(id(p) in head for p in module.parameters())]


def layers_of(model: nn.Module, pattern: str) -> Dict[str, int]:
    """-> {name of a parameter: its layer}, counted from 0 by the numbers that the groups of `pattern` find in the names, as timm's.

    What it does not match is of the first layer where it stands before all that it matches, as a stem does; else it belongs to the
    last of them, as a norm does. The classifier is a layer after all others.
    """
    names = [name for name, _ in model.named_parameters()]
    found = {name: re.match(pattern, name) for name in names}
    places = {name: tuple(int(n or 0) for n in at.groups()) for name, at in found.items() if at}
    if not places:
        raise UserError(f'--layer-decay: the layers of {type(model).__name__} are not known; leave it out')
    begun, last = names.index(next(iter(places))), max(places.values())
    head = {id(p) for p in model.get_classifier().parameters()}
    for at, (name, p) in enumerate(model.named_parameters()):
        places.setdefault(name, () if at < begun else last)
        places[name] = (10**9,) if id(p) in head else places[name]
    numbers = {place: number for number, place in enumerate(sorted(set(places.values())))}
    return {name: numbers[place] for name, place in places.items()}


def split_by_layer(optimizer: Any, model: nn.Module, pattern: str, factor: float) -> None:
    """Splits the optimizer's groups by layers. Each has `layer_scale`, factor times that of the next layer; the last one's is 1.

    After Clark et al. 2020 (ELECTRA) and Bao et al. 2021 (BEiT).
    """
    layers = layers_of(model, pattern)
    last, of = max(layers.values()), {id(p): layers[name] for name, p in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        for layer in sorted({of[id(p)] for p in group['params']}, reverse=True):
            params = [p for p in group['params'] if of[id(p)] == layer]
            groups.append({**group, 'params': params, 'layer_scale': factor ** (last - layer)})
    optimizer.param_groups[:] = groups


class LayerRates:
    """A schedule (see hooks.py) over one that gives all groups the same rate: each group has its share of it."""

    def __init__(self, schedule: Any, optimizer: Any):
        self.schedule, self.optimizer = schedule, optimizer
        self.rates = [group['lr'] for group in optimizer.param_groups]  # as the schedule has set them
        self._share(lambda: None)

    def step(self, epoch: int, metric: Any = None) -> None:
        self._share(self.schedule.step, epoch, metric)

    def step_update(self, updates: int) -> None:
        self._share(self.schedule.step_update, updates)

    def _share(self, change: Callable, *arguments: Any) -> None:
        """The schedule may leave the rates as they are, so it finds its own."""
        groups = self.optimizer.param_groups
        for group, rate in zip(groups, self.rates):
            group['lr'] = rate
        change(*arguments)
        self.rates = [group['lr'] for group in groups]
        for group in groups:
            group['lr'] = group['lr'] * group['layer_scale']
