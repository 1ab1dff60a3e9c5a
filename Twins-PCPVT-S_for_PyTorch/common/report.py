"""--eval-report: what an evaluation found, image by image and class by class, by scikit-learn."""

import csv
import importlib.util
import os
from typing import Any, List, Sequence

import numpy as np
import torch

from common.errors import UserError

# of an output folder; the picture where matplotlib is installed
PREDICTIONS, CLASSES, CONFUSION, PICTURE = (
    f'eval_{name}' for name in ('predictions.csv', 'classes.csv', 'confusion.csv', 'confusion.png')
)
MOST_NAMES = 40  # classes, up to which the picture has their names
# fonts with the characters of Chinese names; where none is installed, the picture has the classes' numbers
CHINESE = (
    'Noto Sans CJK SC',
    'Source Han Sans SC',
    'WenQuanYi Zen Hei',
    'WenQuanYi Micro Hei',
    'SimHei',
    'Microsoft YaHei',
)


def check() -> None:
    """Raises UserError where scikit-learn is missing."""
    if importlib.util.find_spec('sklearn') is None:
        raise UserError('--eval-report needs scikit-learn, which is not installed: pip install scikit-learn')


class Answers:
    """The class that each image was taken for, on the ranks together. targets: of all images (N,), on the host."""

    def __init__(self, targets: np.ndarray, device: torch.device):
        self.targets, self.device = targets, device
        self.on_device = torch.from_numpy(targets).to(device)
        self.parts: List[Any] = []

    def take(self, numbers: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """numbers: of the images of a batch (B,); logits: (B, classes). -> their targets"""
        shares, found = logits.softmax(1).max(1)
        self.parts.append((numbers, found, shares))
        return self.on_device[numbers.long()]

    def gather(self, ranks: Any) -> np.ndarray:
        """-> (2, N): the class of each image, -1 where it was not evaluated, and its probability. All ranks come here."""
        found = np.zeros((2, len(self.targets)))
        for numbers, classes, shares in self.parts:
            found[:, numbers.cpu().numpy()] = torch.stack([classes.cpu() + 1, shares.cpu().double()]).numpy()
        total = np.array(ranks.sum(found.ravel().tolist(), self.device)).reshape(found.shape)
        return total - [[1], [0]]


def write(
    folder: str, paths: Sequence[bytes], targets: np.ndarray, found: np.ndarray, classes: Sequence[str]
) -> List[str]:
    """Writes the tables, and the picture. found: as Answers.gather gives it. -> the names of the files"""
    seen = found[0] >= 0
    predicted, shares, names = found[0].astype(int), found[1], [PREDICTIONS, CLASSES, CONFUSION]
    rows = (
        [os.fsdecode(paths[i]), classes[targets[i]], classes[predicted[i]], f'{shares[i]:.6f}']
        for i in np.flatnonzero(seen)
    )
    table(os.path.join(folder, PREDICTIONS), ['image', 'class', 'predicted', 'probability'], rows)
    matrix = by_class(folder, targets[seen], predicted[seen], classes)
    return names + ([PICTURE] if picture(os.path.join(folder, PICTURE), matrix, classes) else [])


def by_class(folder: str, targets: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Writes precision, recall (a class's accuracy) and F1, and the confusion matrix. -> that, (classes, classes)"""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    numbers = list(range(len(classes)))
    scores = precision_recall_fscore_support(targets, predicted, labels=numbers, zero_division=0)
    means = precision_recall_fscore_support(targets, predicted, labels=numbers, average='macro', zero_division=0)
    rows = [[name, *(f'{value:.4f}' for value in each[:3]), int(each[3])] for name, each in zip(classes, zip(*scores))]
    rows.append(['mean of the classes', *(f'{value:.4f}' for value in means[:3]), len(targets)])
    table(os.path.join(folder, CLASSES), ['class', 'precision', 'recall', 'f1', 'images'], rows)
    matrix = confusion_matrix(targets, predicted, labels=numbers)
    head = ['class \\ predicted', *classes]
    table(os.path.join(folder, CONFUSION), head, ([name, *row] for name, row in zip(classes, matrix.tolist())))
    return matrix


def table(path: str, head: Sequence[str], rows: Any) -> None:
    with open(path, 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def picture(path: str, matrix: np.ndarray, classes: Sequence[str]) -> bool:
    """Draws the confusion matrix, the share of each class's images. -> False where matplotlib is missing"""
    if importlib.util.find_spec('matplotlib') is None:
        return False
    from matplotlib import font_manager, rc_context
    from matplotlib.figure import Figure

    installed = {font.name for font in font_manager.fontManager.ttflist}
    chinese = [name for name in CHINESE if name in installed]
    has = font_manager.get_font(font_manager.findfont('DejaVu Sans')).get_charmap()
    readable = chinese or all(ord(letter) in has for name in classes for letter in name)
    side = min(20.0, 4 + 0.25 * len(classes))
    with rc_context({'font.family': ['DejaVu Sans', *chinese]}):
        figure = Figure(figsize=(side, side), tight_layout=True)
        axes = figure.add_subplot(111)
        shown = axes.imshow(matrix / np.maximum(1, matrix.sum(1, keepdims=True)), cmap='Blues', vmin=0, vmax=1)
        axes.set(xlabel='predicted class', ylabel='class', title='Share of the images of a class')
        if len(classes) <= MOST_NAMES:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks(range(len(classes)))
                axis.set_ticklabels(classes if readable else range(len(classes)))
            axes.tick_params(axis='x', labelrotation=90)
        figure.colorbar(shown, ax=axes, shrink=0.7)
        figure.savefig(path, dpi=150)
    return True
