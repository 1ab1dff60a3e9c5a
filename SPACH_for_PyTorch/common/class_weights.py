"""How much each class counts in the loss, where some classes have many more images than others."""

import json
from typing import List, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError


def chosen(given: str, classes: Sequence[str], counts: Sequence[int]) -> List[float]:
    """-> the weight of each class, by --class-weights. counts: images of each.

    balanced: images / (classes * images of the class), as scikit-learn has it. Otherwise a JSON file {class: weight}. Raises UserError.
    """
    if given == 'balanced':
        return [sum(counts) / (len(classes) * count) for count in counts]
    option = f'--class-weights {given}'
    try:
        with open(given, encoding='utf-8') as file:
            said = json.load(file)
    except (OSError, ValueError) as e:
        raise UserError(f'{option}: it cannot be read ({e}); give balanced, or a JSON file {{class: weight}}') from e
    if not isinstance(said, dict) or set(said) != set(classes):
        odd = sorted(set(classes) ^ set(said))[0] if isinstance(said, dict) else 'no classes'
        raise UserError(f'{option}: it must have a weight for each class of the data and no others; see {odd}')
    wrong = [name for name in classes if isinstance(said[name], bool) or not isinstance(said[name], (int, float))]
    wrong = wrong or [name for name in classes if not 0 <= said[name] < 1e6]
    if wrong or not any(said.values()):
        name = (wrong or list(classes))[0]
        raise UserError(
            f'{option}: the weight of {name} is {said[name]}; weights are numbers from 0, and not all of them 0'
        )
    return [float(said[name]) for name in classes]


class WeightedCrossEntropy(nn.Module):
    """Cross entropy of logits (N, classes) with class numbers (N,) or shares (N, classes), in which each class has a weight.

    The mean over the images, each of which counts as much as its classes' weights; with class numbers that is torch's. smoothing: share
    of a target that all classes have alike.
    """

    def __init__(self, weights: Sequence[float], smoothing: float = 0.0):
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer('weights', torch.tensor(weights))

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if targets.dim() == 1:
            classes = logits.shape[1]
            targets = F.one_hot(targets.long(), classes).float() * (1 - self.smoothing) + self.smoothing / classes
        counted = targets * self.weights
        return -(counted * F.log_softmax(logits.float(), dim=1)).sum() / counted.sum()
