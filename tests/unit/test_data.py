"""Order, randomness and counting of the input pipeline, on the host and on the device."""

import argparse
import pickle
import random

import numpy as np
import pytest
import torch
from timm.data import Mixup, create_transform

from common import accelerator, data, device_data, legacy, options
from common import images as reading
from common.errors import UserError

CPU = accelerator.Accelerator()


def rank(number=0, world=1):
    return argparse.Namespace(rank=number, world=world, local=number, local_world=world)


def arguments(root, *more):
    args = options.parse('', {'batch_size': 8, 'img_size': 32}, ['--data-path', str(root), *more])
    return options.resolve(args, None, list('0123456789'), CPU, rank())


def images(root, args, split='train'):
    read = reading.Reader(data.transform_of(args, training=split == 'train'), args.decoder)
    return data.Images(*data.listed(str(root / split)), read, seed=args.seed)


@pytest.mark.parametrize('size, world, steps', [(93, 8, 0), (93, 1, 0), (5, 8, 0), (1000, 3, 2), (100, 2, 1)])
def test_evaluation_counts_every_image_once(size, world, steps):
    """At any number of ranks; a sample (max_steps) is spread over the whole set and has no image twice."""
    samplers = [data.EvalBatchSampler(size, 8, rank(number, world), steps) for number in range(world)]
    seen = [index for sampler in samplers for batch in sampler for _, index, _ in batch]
    expected = min(size, steps * 8 * world) if steps else size
    assert len(seen) == len(set(seen)) == expected
    assert max(seen) >= size - size // expected - 1


def test_training_order():
    """One permutation an epoch; global batches that do not depend on the ranks; another epoch, another order."""

    def steps(world, epoch, first=0):
        samplers = [data.TrainBatchSampler(103, 24 // world, rank(number, world), seed=1) for number in range(world)]
        for sampler in samplers:
            sampler.begin(epoch, first)
        return [[key for batch in batches for key in batch] for batches in zip(*samplers)]

    one, three = steps(1, 0), steps(3, 0)
    assert len(one) == 4 and [sorted(s) for s in one] == [sorted(s) for s in three]
    assert len({index for step in one for _, index, _ in step}) == 96
    assert steps(1, 1) != one and steps(1, 0, first=2) == one[2:]
    with pytest.raises(UserError, match='--batch-size to 12 or less'):
        data.TrainBatchSampler(100, 16, rank(0, 8), 0)


def test_repeated_augmentation():
    """Each image three times, on neighbouring ranks, with different random numbers."""
    keys = [key for batch in data.TrainBatchSampler(24, 8, rank(), 0, repeats=3) for key in batch]
    assert len({index for _, index, _ in keys}) == 8 and len(set(keys)) == 24


def test_augmentation_depends_on_seed_epoch_and_index_alone(few_digits):
    """Not on the workers, nor on what was drawn before; nor on pickling, by which macOS starts workers."""

    def epoch(workers, number, first=0):
        args = arguments(few_digits, f'--workers={workers}')
        random.seed(), np.random.seed(), torch.manual_seed(random.randrange(2**31))
        sampler = data.TrainBatchSampler(200, 8, rank(), 7)
        sampler.begin(number, first)
        return [batch.images for batch in data.make_loader(images(few_digits, args), sampler, args, CPU)]

    plain, busy = epoch(0, 0), epoch(2, 0)
    assert plain[0].dtype == torch.uint8 and plain[0].shape == (8, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(plain, busy)) and len(plain) == len(busy) == 25
    assert all(torch.equal(a, b) for a, b in zip(plain[20:], epoch(2, 0, first=20)))
    dataset = images(few_digits, arguments(few_digits))
    assert torch.equal(dataset[0, 5, 0][0], pickle.loads(pickle.dumps(dataset))[0, 5, 0][0])
    assert not torch.equal(dataset[0, 5, 0][0], dataset[1, 5, 0][0])
    assert not torch.equal(dataset[0, 5, 0][0], dataset[0, 5, 1][0])


def test_evaluation_equals_timms_own_pipeline(few_digits):
    """uint8 and normalisation on the device give what timm's float transform gives (its bicubic works on uint8 too)."""
    args = arguments(few_digits, '--crop-pct=.9', '--mean', '.5', '.4', '.3', '--std', '.2', '.3', '.4')
    dataset = images(few_digits, args, 'val')
    ours, targets = device_data.EvalTransform(args, CPU)(data.collate([dataset[0, i, 0] for i in range(8)]))
    theirs = create_transform(32, crop_pct=0.9, interpolation='bicubic', mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    expected = torch.stack([theirs(reading.read_image(path.decode())) for path in dataset.paths[:8]])
    assert torch.allclose(ours, expected, atol=1e-5) and targets.tolist() == dataset.targets[:8].tolist()


@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
def test_mixup_equals_timms(mode):
    """Same inputs, same random numbers: the same images and targets as timm's class."""
    results = []
    for cls in (Mixup, legacy.DeviceMixup):
        np.random.seed(3)
        mixup = cls(mixup_alpha=0.8, cutmix_alpha=1.0, mode=mode, label_smoothing=0.1, num_classes=10)
        results.append(mixup(torch.arange(8.0 * 3 * 16 * 16).view(8, 3, 16, 16), torch.arange(8)))
    for theirs, ours in zip(*results):
        assert torch.allclose(theirs, ours, atol=1e-6)


def test_what_happens_to_a_batch_depends_on_its_place_alone(few_digits):
    """Erasing and mixup are a function of (seed, epoch, step, rank); --mixup-off-epoch ends the mixing."""
    batch = data.Batch(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8), [])
    args = arguments(few_digits, '--reprob=1', '--mixup-off-epoch=3', '--smoothing=.1')
    transforms = [device_data.TrainTransform(args, CPU, rank(number, 2)) for number in (0, 1)]

    def at(epoch, step, number=0):
        transforms[number].begin(epoch, step)
        return transforms[number](batch)

    first, again = at(2, 5), at(2, 5)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]) and first[1].shape == (8, 10)
    assert not any(torch.equal(first[0], other[0]) for other in (at(2, 6), at(1, 5), at(2, 5, 1)))
    smooth = torch.full((8, 10), 0.01).scatter_(1, torch.arange(8).view(-1, 1), 0.91)
    assert not torch.allclose(first[1], smooth) and torch.allclose(at(3, 5)[1], smooth)


def test_options_that_change_the_picture(few_digits):
    """Augmentation options reach timm: each of these changes what one image becomes."""

    def picture(*more):
        return images(few_digits, arguments(few_digits, *more))[0, 0, 0][0]

    plain = '--aa=none --hflip=0 --color-jitter=0 --scale 1 1 --ratio 1 1 --train-interpolation=bicubic'.split()
    base = picture(*plain)
    assert torch.equal(
        picture(*plain, '--no-aug', '--crop-pct=.5'), base
    )  # a square image at its own size: nothing to do
    for change in ('--hflip=1', '--vflip=1', '--color-jitter=.9', '--scale .1 .2', '--ratio 3 3', '--aa=rand-m9-n4'):
        assert not torch.equal(picture(*plain, *change.split()), base), change
