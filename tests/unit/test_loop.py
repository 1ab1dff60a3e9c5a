"""The loop, the ranks and the checkpoints on their own: no options, no folder, no files but a checkpoint."""

import signal

import pytest
import torch

from common import checkpoint, engine, errors, precision
from common.distributed import Ranks, StopRequest


class Batches(list):
    def take_waited(self):
        return 0.5


class Witness:
    """A clock and a schedule that note what they are told."""

    def __init__(self):
        self.steps, self.updates, self.ended = [], [], False

    def begin(self, *words):
        self.begun = words

    def step(self, images, waited):
        self.steps.append((images, waited))

    def end(self):
        self.ended = True

    def step_update(self, updates):
        self.updates.append(updates)


def train(first_step=0, stop_at=None):
    torch.manual_seed(0)
    net, witness, losses, seeds = torch.nn.Linear(4, 2), Witness(), [], []
    batches = Batches([(torch.ones(3, 4), torch.tensor([0, 1, 1]))] * (5 - first_step))
    outcome = engine.train_one_epoch(
        net.eval(), batches, torch.nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), 0.1), witness,
        precision=precision.Precision(), clock=witness, epoch=2, steps=5, first_step=first_step, seed_step=seeds.append,
        after_update=lambda: None, report=lambda step, loss: losses.append((step, loss.item())),
        stop=lambda: signal.SIGTERM if len(losses) == stop_at else 0,
    )  # fmt: skip
    assert net.training and witness.ended
    return outcome, witness, losses, seeds


def test_an_epoch():
    outcome, witness, losses, seeds = train()
    assert outcome == (0, 5) and [step for step, _ in losses] == [1, 2, 3, 4, 5] and seeds == [0, 1, 2, 3, 4]
    assert losses[-1][1] < losses[0][1]
    assert witness.updates == [11, 12, 13, 14, 15] and witness.steps == [(3, 0.5)] * 5


def test_an_epoch_that_begins_later_and_is_stopped():
    outcome, witness, _losses, seeds = train(first_step=2, stop_at=2)
    assert outcome == (signal.SIGTERM, 4) and seeds == [2, 3] and witness.updates == [13, 14]


@pytest.mark.parametrize('classes, acc5', [(10, 75.0), (3, 100.0)])
def test_an_evaluation(classes, acc5):
    """Four images of which one is right, and with ten classes one is not among the best five."""
    logits = torch.zeros(4, classes)
    logits[:, 0] = 2.0
    targets = torch.tensor([0, 1, 2, classes - 1])
    logits[1:3, 1:3] = 1.0
    if classes == 10:
        logits[3, 9] = -1.0
    model = torch.nn.Identity()
    words = {'precision': precision.Precision(), 'device': torch.device('cpu'), 'ranks': Ranks(environ={})}
    found = engine.evaluate(model.train(), Batches([(logits[:3], targets[:3]), (logits[3:], targets[3:])]), **words)
    assert (found['acc1'], found['acc5'], found['images'], model.training) == (25.0, acc5, 4, False)
    assert found['loss'] == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item())
    assert engine.evaluate(model, Batches([(logits, targets)]), stopped=lambda: signal.SIGINT, **words) is None


def test_a_process_knows_its_place():
    place = Ranks(environ={'RANK': '5', 'LOCAL_RANK': '1', 'WORLD_SIZE': '8', 'LOCAL_WORLD_SIZE': '4'})
    assert (place.rank, place.local, place.world, place.local_world, place.primary) == (5, 1, 8, 4, False)
    alone = Ranks(3, environ={})
    assert (alone.rank, alone.local, alone.world, alone.primary) == (0, 3, 1, True)
    assert alone.sum([1, 2.5], None) == [1.0, 2.5]
    with pytest.raises(errors.UserError, match='unset RANK'):
        Ranks(environ={'RANK': 'first'})


def test_a_signal_is_noted_until_the_step_is_done():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        stop = StopRequest(Ranks(environ={}))
        assert stop.agreed() == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop.agreed() == signal.SIGTERM
        with pytest.raises(errors.Interrupted, match='SIGTERM') as told:
            stop.leave_when_told()
        assert told.value.code == 143
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before):
            signal.signal(number, handler)


@pytest.mark.parametrize('message, words', [
    ('CUDA out of memory. Tried', '--batch-size'), ('DataLoader worker (pid 3) is killed', '--workers'),
    ('Connection closed by peer', 'another rank')])  # fmt: skip
def test_errors_of_torch_that_are_known(message, words):
    said = errors.explain(RuntimeError(message + '\nmore'))
    assert words in said and message in said and '\n' not in said
    assert errors.explain(RuntimeError('something else')) is None


def test_a_checkpoint_of_an_earlier_training_is_renamed(tmp_path):
    said = []
    for training in (1, 2, 3):
        folder = checkpoint.CheckpointFolder(str(tmp_path), said.append)
        if training == 3:
            folder.keep(str(tmp_path / 'checkpoint.pth'))  # it goes on with the second one
        for epoch in (1, 2):
            folder.save({'training': training, 'epoch': epoch}, 'checkpoint.pth')
            folder.link('checkpoint.pth', 'model_best.pth')
    found = sorted((path.name.split('.')[0], *torch.load(str(path)).values()) for path in tmp_path.iterdir())
    assert found == [('checkpoint', 1, 2), ('checkpoint', 3, 2), ('model_best', 1, 2), ('model_best', 3, 2)]
    assert len(said) == 2
