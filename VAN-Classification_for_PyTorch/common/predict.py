"""What a checkpoint takes images for: train.py --predict IMAGE_OR_FOLDER... --resume FILE."""

import csv
import json
import os
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import torch

from common import accelerator, build, data, engine, images, options, precision, weights
from common.device_data import EvalTransform, PrefetchLoader
from common.distributed import Ranks
from common.errors import UserError, report

SHOWN = 20  # images whose classes are printed, too

Row = Dict[str, Any]  # image, classes: the most probable first, probabilities: theirs


class Unreadable(list):
    """Sentences for the images that cannot be read, each printed as it comes."""

    def note(self, reason: str) -> None:
        self.append(reason)
        report(reason)


def run(args: options.Args, hooks: Any) -> int:
    """Writes the classes of the images to a file. -> exit status: 1 where an image could not be read, the others are written"""
    paths = images_of(args.predict)
    model, device, classes = ready(args, hooks)
    unreadable = Unreadable()
    reader = images.Reader(data.transform_of(args, training=False), 'pillow')
    dataset = data.Images(np.array([os.fsencode(path) for path in paths]), np.arange(len(paths)), reader)
    sampler = data.EvalBatchSampler(len(paths), args.validation_batch_size, Ranks(environ={}))
    loader = data.make_loader(dataset, sampler, args, device)
    batches = PrefetchLoader(loader, EvalTransform(args, device), device, unreadable, at=lambda where: None)
    rows = list(most_probable(model, batches, precision.choose(args, device), paths, classes, args.top_k))
    batches.close()
    for row in rows[:SHOWN]:
        print(
            f'{row["image"]}: '
            + ', '.join(f'{c} {100 * p:.1f} %' for c, p in zip(row['classes'], row['probabilities']))
        )
    where = args.predictions or os.path.join(args.output_dir, 'predictions.csv')
    write(rows, where)
    print(f'{len(rows)} images: {where}')
    return 1 if unreadable else 0


def images_of(given: Sequence[str]) -> List[str]:
    """-> the paths of images; of a folder, of those in it and below. Raises UserError."""
    found: List[str] = []
    for path in given:
        if not os.path.exists(path):
            raise UserError(f'--predict {path} does not exist; give an image or a folder of images')
        inside = data.images_below(path, set()) if os.path.isdir(path) else [path]
        if not inside:
            raise UserError(f'--predict {path} holds no image ({" ".join(data.EXTENSIONS)}); give another folder')
        found += inside
    return found


def ready(args: options.Args, hooks: Any) -> Tuple[torch.nn.Module, Any, List[str]]:
    """-> (the model with the weights of the checkpoint, in evaluation mode; its device; names of the classes)"""
    loaded = weights.asked_for(args, hooks)
    device = accelerator.choose(args.device, args.device_id or 0)
    classes = options.classes_of(loaded, args)
    options.resolve(args, loaded, classes, device, Ranks(environ={}))
    for line in device.notes:
        print(line)
    model = build.model(args, hooks, device, Ranks(environ={}), classes, loaded, print)
    return model.eval(), device, classes


def most_probable(
    model: torch.nn.Module, batches: Any, numbers: Any, paths: Sequence[str], classes: Sequence[str], count: int
) -> Iterator[Row]:
    for places, logits in engine.logits_of(model, batches, numbers):
        probabilities, chosen = logits.softmax(1).topk(min(count, logits.shape[1]), dim=1)
        for place, shares, found in zip(places.tolist(), probabilities.tolist(), chosen.tolist()):
            yield {'image': paths[place], 'classes': [classes[k] for k in found], 'probabilities': shares}


def write(rows: Sequence[Row], path: str) -> None:
    """As .json, a list of objects, or as .csv, a line for each image."""
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(path, 'w', encoding='utf-8', newline='') as file:
        if path.endswith('.json'):
            json.dump(list(rows), file, indent=1, ensure_ascii=False)
            return
        count = len(rows[0]['classes']) if rows else 0
        writer = csv.writer(file)
        writer.writerow(['image', *(f'{name}_{k}' for k in range(1, count + 1) for name in ('class', 'probability'))])
        for row in rows:
            pairs = zip(row['classes'], row['probabilities'])
            writer.writerow([row['image'], *(value for name, p in pairs for value in (name, f'{p:.6f}'))])
