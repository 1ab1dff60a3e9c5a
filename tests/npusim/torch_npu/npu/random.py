"""The generators of the devices."""

from typing import Union

import torch

__all__ = [
    'get_rng_state',
    'get_rng_state_all',
    'set_rng_state',
    'set_rng_state_all',
    'manual_seed',
    'manual_seed_all',
    'seed',
    'seed_all',
    'initial_seed',
]


def _generator(device=None):
    from .utils import _index

    return torch.npu.default_generators[_index(device)]


def get_rng_state(device: Union[int, str, torch.device] = 'npu'):
    return _generator(device).get_state()


def get_rng_state_all():
    return [generator.get_state() for generator in torch.npu.default_generators]


def set_rng_state(new_state: torch.Tensor, device: Union[int, str, torch.device] = 'npu'):
    _generator(device).set_state(new_state)


def set_rng_state_all(new_states):
    for generator, state in zip(torch.npu.default_generators, new_states):
        generator.set_state(state)


def manual_seed(seed):
    _generator().manual_seed(int(seed))


def manual_seed_all(seed):
    for generator in torch.npu.default_generators:
        generator.manual_seed(int(seed))


def seed():
    _generator().seed()


def seed_all():
    seed()
    manual_seed_all(initial_seed())


def initial_seed():
    return _generator().initial_seed()
