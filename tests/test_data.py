"""Order, randomness and counting of the input pipeline."""
import argparse
import pickle
import random

import numpy as np
import pytest
import torch

from common import accelerator, data, options


class Rank:
    def __init__(self, rank=0, world=1):
        self.rank, self.world = rank, world


def arguments(root, *more):
    args = options.parse('', {}, ['--data-path', str(root), '--img-size=32', '--batch-size=8', *more])
    args.num_classes = args.num_classes or 10
    return args


def images(root, args, split='train'):
    return data.Images(str(root / split), data.transform_of(args, training=split == 'train'), seed=args.seed)


@pytest.mark.parametrize('size, world, steps', [(93, 8, 0), (93, 1, 0), (5, 8, 0), (1000, 3, 2), (100, 2, 1)])
def test_evaluation_counts_every_image_once(size, world, steps):
    """At any number of ranks; a sample (max_steps) is spread over the whole set and has no image twice."""
    seen = [index for rank in range(world)
            for batch in data.EvalOrder(size, 8, Rank(rank, world), steps) for _, index, _ in batch]
    expected = min(size, steps * 8 * world) if steps else size
    assert len(seen) == len(set(seen)) == expected
    assert max(seen) >= size - size // expected - 1


def test_training_order():
    """One permutation an epoch; global batches that do not depend on the ranks; another epoch, another order."""
    def steps(world, epoch, first=0):
        orders = [data.TrainOrder(103, 24 // world, Rank(r, world), seed=1) for r in range(world)]
        for order in orders:
            order.begin(epoch, first)
        return [[key for batch in batches for key in batch] for batches in zip(*orders)]
    one, three = steps(1, 0), steps(3, 0)
    assert len(one) == 4 and [sorted(s) for s in one] == [sorted(s) for s in three]
    everything = [index for step in one for _, index, _ in step]
    assert len(set(everything)) == 96
    assert steps(1, 1) != one and steps(1, 0, first=2) == one[2:]


def test_repeated_augmentation():
    """Each image three times, on neighbouring ranks, with different random numbers."""
    keys = [key for batch in data.TrainOrder(24, 8, Rank(), 0, repeats=3) for key in batch]
    assert len({index for _, index, _ in keys}) == 8 and len(set(keys)) == 24


def test_augmentation_depends_on_seed_epoch_and_index_alone(few_digits):
    """Not on the workers, nor on what was drawn before."""
    args = arguments(few_digits)

    def epoch(workers, number, seed=0, first=0):
        args.workers, args.seed = workers, seed
        random.seed(), np.random.seed(), torch.manual_seed(random.randrange(2 ** 31))
        order = data.TrainOrder(200, 8, Rank(), 7)
        order.begin(number, first)
        return [b.images for b in data.make_loader(images(few_digits, args), order, args, accelerator.Accelerator())]

    plain, busy = epoch(0, 0), epoch(2, 0)
    assert plain[0].dtype == torch.uint8 and plain[0].shape == (8, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(plain, busy)) and len(plain) == len(busy) == 25
    assert all(torch.equal(a, b) for a, b in zip(plain[20:], epoch(2, 0, first=20)))
    dataset = images(few_digits, args)
    assert torch.equal(dataset[0, 5, 0][0], dataset[0, 5, 0][0])
    assert not torch.equal(dataset[0, 5, 0][0], dataset[1, 5, 0][0])
    assert not torch.equal(dataset[0, 5, 0][0], dataset[0, 5, 1][0])


def test_stage_equals_timms_own_pipeline(few_digits):
    """uint8 and normalisation on the device give what timm's float transform gives (its bicubic works on uint8 too)."""
    from timm.data import create_transform
    args = arguments(few_digits, '--crop-pct=.9', '--mean', '.5', '.4', '.3', '--std', '.2', '.3', '.4')
    dataset = images(few_digits, args, 'val')
    batch = data.collate([dataset[0, i, 0] for i in range(8)])
    ours, targets = data.Stage(args, accelerator.Accelerator())(batch)
    theirs = create_transform(32, crop_pct=.9, interpolation='bicubic', mean=(.5, .4, .3), std=(.2, .3, .4))
    expected = torch.stack([theirs(data.read_image(path.decode())) for path in dataset.paths[:8]])
    assert torch.allclose(ours, expected, atol=1e-5) and targets.tolist() == dataset.targets[:8].tolist()


@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
def test_mixup_equals_timms(mode):
    """Same inputs, same random numbers: the same images and targets as timm's class."""
    from timm.data import Mixup
    options_ = dict(mixup_alpha=.8, cutmix_alpha=1., mode=mode, label_smoothing=.1, num_classes=10)
    results = []
    for cls in (Mixup, data.DeviceMixup):
        np.random.seed(3)
        results.append(cls(**options_)(torch.arange(8. * 3 * 16 * 16).view(8, 3, 16, 16), torch.arange(8)))
    for theirs, ours in zip(*results):
        assert torch.allclose(theirs, ours, atol=1e-6)


def test_train_stage_repeats_at_the_same_place(few_digits):
    """Erasing and mixup are a function of (seed, epoch, step, rank)."""
    args = arguments(few_digits, '--reprob=1')
    batch = data.Batch(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8), [])
    stage = data.TrainStage(args, accelerator.Accelerator(), Rank())

    def at(epoch, step):
        stage.begin(epoch, step)
        return stage(batch)

    first, again, other = at(2, 5), at(2, 5), at(2, 6)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]) and first[1].shape == (8, 10)
    assert not torch.equal(first[0], other[0])


def test_dataset_can_be_pickled(few_digits):
    """Python 3.14 and macOS start workers by pickling."""
    args = arguments(few_digits)
    dataset = images(few_digits, args)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[0, 3, 0][0], dataset[0, 3, 0][0])


def test_options_that_change_the_picture(few_digits):
    """Augmentation options reach timm: each of these changes what one image becomes."""
    def picture(*more):
        return images(few_digits, arguments(few_digits, *more))[0, 0, 0][0]
    plain = ['--aa=none', '--hflip=0', '--color-jitter=0', '--scale', '1', '1', '--ratio', '1', '1', '--train-interpolation=bicubic']
    base = picture(*plain)
    for change in (['--hflip=1'], ['--vflip=1'], ['--color-jitter=.9'], ['--scale', '.1', '.2'], ['--ratio', '3', '3'],
                   ['--aa=rand-m9-n4'], ['--no-aug', '--crop-pct=.5']):
        changed = picture(*plain, *change)
        if change[0] == '--no-aug':
            assert torch.equal(changed, base)      # a square image at its own size: nothing left to do
        else:
            assert not torch.equal(changed, base), change


def test_batch_limit_names_a_batch_that_fits():
    with pytest.raises(Exception, match='lower --batch-size to 12 or less'):
        data.TrainOrder(100, 16, argparse.Namespace(rank=0, world=8), 0)
