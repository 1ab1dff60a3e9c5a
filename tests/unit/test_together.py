"""What is done for all weights or blocks at once gives the numbers of doing it one by one: half weights, drop paths,
the average, the counters of batch norms, erasing."""

import copy
import random

import pytest
import torch
from timm.data.random_erasing import RandomErasing
from timm.utils import ModelEmaV2
from torch import nn

from common import batch_counters, drop_path, half_weights
from common.averaging import Average
from common.compat import DropPath
from common.erasing import BatchErasing
from helpers import FOLDERS, VAN, describe, in_folder


def gradients(name):
    """In a child: a step under autocast, with the weights made half one by one and together. -> loss and gradients of both"""
    from train import HOOKS

    torch.manual_seed(0)
    model = HOOKS.create_model(name, num_classes=7, img_size=32, drop_path=0.0)
    nn.init.normal_(model.get_classifier().weight)  # SPACH begins with zeros
    found = []
    for net in (model, half_weights.HalfWeights(model, torch.bfloat16)):
        torch.manual_seed(1)
        model.zero_grad()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss = net.train()(torch.randn(4, 3, 32, 32)).square().mean()
        loss.backward()
        assert all(p.grad.dtype == p.dtype == torch.float32 for p in model.parameters())
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    return found


@pytest.mark.parametrize('name', FOLDERS)
def test_half_weights_are_those_of_autocast(name):
    """The loss and every gradient to the last bit."""
    one_by_one, together = in_folder(name, gradients, describe(name)['model'])
    assert all(torch.equal(a, b) for a, b in zip(one_by_one, together)) and one_by_one[1].abs().sum() > 0


class Blocks(nn.Module):
    """Two branches of a block share a drop path, a third has its own, a fourth drops nothing."""

    def __init__(self):
        super().__init__()
        self.shared, self.own, self.none = DropPath(0.25), DropPath(0.5), DropPath(0.0)
        self.seen = []

    def forward(self, x):
        self.seen = [self.shared(x), self.shared(x), self.own(x), self.none(x), self.own(x.bfloat16()), self.own(x)]
        return sum(self.seen)


def test_drop_paths_are_drawn_together():
    """Each use has a mask of its own with its path's probability; one draw, which the seed decides; none in evaluation."""
    net, x = Blocks(), torch.ones(4000, 3, 2)
    names = list(net.state_dict())
    drop_path.draw_together(net)
    assert list(net.state_dict()) == names
    averaged = copy.deepcopy(net)
    torch.manual_seed(0)
    net.train()(x)
    first = net.seen
    for branch, keep in zip(first, (0.75, 0.75, 0.5, 1.0, 0.5, 0.5)):
        kept = branch[:, 0, 0] != 0
        assert kept.float().mean() == pytest.approx(keep, abs=0.05)
        assert torch.equal(branch, (kept.float() / keep).to(branch.dtype).view(-1, 1, 1).expand_as(branch))
    assert not any(torch.equal(first[a], first[b].float()) for a in range(6) for b in range(a))
    torch.manual_seed(0)
    averaged.train()(x)  # a copy draws for itself
    assert all(torch.equal(a, b) for a, b in zip(first, averaged.seen))
    net.eval()(x)
    assert all(torch.equal(branch.float(), x) for branch in net.seen)


def test_an_average_of_all_tensors_at_once():
    """It is timm's, but for rounding and for counters, which have no average."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    ours, timms = Average(model, decay=0.9), ModelEmaV2(model, decay=0.9)
    for _ in range(3):
        model(torch.randn(2, 3, 5, 5))
        for p in model.parameters():
            p.data += torch.randn_like(p)
        ours.update(model)
        timms.update(model)
    for (name, mine), theirs in zip(ours.module.state_dict().items(), timms.module.state_dict().values()):
        torch.testing.assert_close(mine, torch.tensor(3) if 'batches' in name else theirs)
    ours.update(model.half())  # as apex makes it
    assert all(t.dtype in (torch.float32, torch.int64) for t in ours.module.state_dict().values())


def test_counters_of_batch_norms():
    """The state is that of torch's own, in training and in evaluation, in a copy, and when it is loaded."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    counted = copy.deepcopy(plain)
    counted[1].num_batches_tracked += 5
    batch_counters.count_together(counted)
    counted.load_state_dict(plain.state_dict())
    other = copy.deepcopy(counted)
    for training in (True, True, False):
        images = torch.randn(2, 3, 5, 5)
        expected = plain.train(training)(images)
        for net in (counted, other):
            assert torch.equal(net.train(training)(images), expected)
            for (name, mine), theirs in zip(net.state_dict().items(), plain.state_dict().values()):
                assert torch.equal(mine, theirs), name
    assert counted[2].num_batches_tracked == 2


@pytest.mark.parametrize('mode', ['const', 'rand', 'pixel'])
def test_erasing_of_a_batch(mode):
    """The boxes are timm's, and what is outside them is untouched."""
    images, options = torch.full((64, 3, 40, 30), 9.0), {'probability': 0.5, 'mode': mode, 'max_count': 2}
    random.seed(3)
    theirs = RandomErasing(device='cpu', **options)(images.clone())
    random.seed(3)
    ours = BatchErasing(lambda tensor: tensor, **options)(images)
    assert torch.equal(ours == 9, theirs == 9) and images.eq(9).all()
    erased = (ours != 9).flatten(1)
    assert 16 < erased.any(1).sum() < 48
    values = {'const': 1, 'rand': 6, 'pixel': 99}[mode]  # in three channels of two boxes, at most
    counts = [image[image != 9].unique().numel() for image in ours]
    assert max(counts) <= values if mode != 'pixel' else max(counts) > values


def compiled():
    """In a child: losses of two steps with drop path, eager and compiled. -> [losses, losses]"""
    from train import HOOKS

    found = []
    for wrap in (lambda net: net, lambda net: torch.compile(net, backend='eager', fullgraph=True)):
        torch.manual_seed(0)
        model = HOOKS.create_model('van_b0', num_classes=7, img_size=32, drop_path=0.5)
        drop_path.draw_together(model)
        batch_counters.count_together(model)
        net = wrap(model.train())
        found.append([])
        for seed in range(2):
            torch.manual_seed(seed)
            found[-1].append(net(torch.randn(4, 3, 32, 32)).square().mean().item())
    return found


def test_a_network_that_is_compiled_draws_the_same():
    eager, whole = in_folder(VAN, compiled)
    assert whole == pytest.approx(eager, rel=1e-4) and eager[0] != eager[1]
