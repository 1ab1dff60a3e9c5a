"""The loop, the ranks and the checkpoints on their own: no options, no folder, no files but a checkpoint."""

import contextlib
import signal

import pytest
import torch

from common import checkpoint, engine, errors, precision
from common.distributed import Ranks
from common.stop import Requests


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
    changed = []

    @contextlib.contextmanager
    def lock():
        before = net.weight.clone()
        yield
        assert not torch.equal(net.weight, before) and changed[-1] == len(losses) + first_step + 1

    outcome = engine.train_one_epoch(
        net.eval(), batches, torch.nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), 0.1), witness,
        precision=precision.Precision(), clock=witness, epoch=2, steps=5, first_step=first_step, seed_step=seeds.append,
        after_update=changed.append, changing=lock,
        after_step=lambda step, loss: losses.append((step, loss.item())) or (signal.SIGTERM if len(losses) == stop_at else 0),
    )  # fmt: skip
    assert net.training and witness.ended
    return outcome, witness, losses, seeds


def test_an_epoch():
    outcome, witness, losses, seeds = train()
    assert outcome == 0 and [step for step, _ in losses] == [1, 2, 3, 4, 5] and seeds == [0, 1, 2, 3, 4]
    assert losses[-1][1] < losses[0][1]
    assert witness.updates == [11, 12, 13, 14, 15] and witness.steps == [(3, 0.5)] * 5


def test_an_epoch_that_begins_later_and_is_stopped():
    outcome, witness, _losses, seeds = train(first_step=2, stop_at=2)
    assert outcome == signal.SIGTERM and seeds == [2, 3] and witness.updates == [13, 14]


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
    assert (
        engine.evaluate(model, Batches([(logits, targets)] * 9), stopped=lambda: signal.SIGINT, **words)['images'] == 4
    )


def test_a_process_knows_its_place():
    place = Ranks(environ={'RANK': '5', 'LOCAL_RANK': '1', 'WORLD_SIZE': '8', 'LOCAL_WORLD_SIZE': '4'})
    assert (place.rank, place.local, place.world, place.local_world, place.primary) == (5, 1, 8, 4, False)
    alone = Ranks(3, environ={})
    assert (alone.rank, alone.local, alone.world, alone.primary) == (0, 3, 1, True)
    assert alone.sum([1, 2.5], None) == [1.0, 2.5]
    with pytest.raises(errors.UserError, match='unset RANK'):
        Ranks(environ={'RANK': 'first'})


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_noted_until_the_step_is_done(signum):
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    before, fd = [signal.getsignal(number) for number in numbers], signal.set_wakeup_fd(-1)
    try:
        requests = Requests(Ranks(environ={}))
        assert requests.agreed() == (0, False) and requests.agreed(save=True) == (0, True)
        signal.raise_signal(signum)
        if signum == signal.SIGUSR1:
            assert requests.agreed() == (0, True) and requests.agreed() == (0, False)
        else:
            assert requests.agreed() == (signum, False)
            with pytest.raises(errors.Interrupted, match=signum.name) as told:
                requests.leave_when_told()
            assert told.value.code == 128 + signum
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


@pytest.mark.parametrize('message, words', [
    ('CUDA out of memory. Tried', '--batch-size'), ('DataLoader worker (pid 3) is killed', '--workers'),
    ('Connection closed by peer', 'another rank')])  # fmt: skip
def test_errors_of_torch_that_are_known(message, words):
    said = errors.explain(RuntimeError(message + '\nmore'))
    assert words in said and message in said and '\n' not in said
    assert errors.explain(RuntimeError('something else')) is None


def test_which_checkpoints_are_kept(tmp_path):
    """Three of a training and its best, which has no optimizer; those of an earlier training are renamed, once."""
    said = []
    for training in (1, 2, 3):
        folder = checkpoint.CheckpointFolder(str(tmp_path), said.append, keep=3)
        if training == 3:
            folder.continues(str(tmp_path / 'checkpoint.pth'))  # it goes on with the second one
        for epoch in range(5):
            folder.save({'training': training, 'epoch': epoch, 'optimizer': 0}, best=epoch == 1)
    found = {path.name: torch.load(str(path)) for path in tmp_path.iterdir()}
    ours = {name: (content['training'], content['epoch']) for name, content in found.items() if name.count('.') == 1}
    assert ours == {
        'checkpoint.pth': (3, 4), 'checkpoint-1.pth': (3, 3), 'checkpoint-2.pth': (3, 2), 'model_best.pth': (3, 1)
    }  # fmt: skip
    others = sorted((content['training'], content['epoch']) for name, content in found.items() if name not in ours)
    assert others == [(1, 1), (1, 2), (1, 3), (1, 4)] and len(said) == 4
    assert ['optimizer' in found[name] for name in ('checkpoint.pth', 'model_best.pth')] == [True, False]


def test_a_checkpoint_that_was_passed_over_is_kept(tmp_path):
    """The newest is damaged, the training goes on with the one before; what a killed save has left goes."""
    for name in ('checkpoint.pth', 'checkpoint-1.pth'):
        torch.save({'from': name}, str(tmp_path / name))
    for name in ('checkpoint.pth.123.tmp', 'model_best.pth.9.tmp', 'mine.tmp'):
        (tmp_path / name).write_text('part')
    folder = checkpoint.CheckpointFolder(str(tmp_path), lambda text: None, keep=2)
    folder.continues(str(tmp_path / 'checkpoint-1.pth'))
    folder.remove_partial()
    for epoch in range(3):
        folder.save({'from': epoch})
    found = {path.name: torch.load(str(path))['from'] for path in tmp_path.glob('*.pth')}
    (passed_over,) = set(found) - {'checkpoint.pth', 'checkpoint-1.pth'}
    assert found == {'checkpoint.pth': 2, 'checkpoint-1.pth': 1, passed_over: 'checkpoint.pth'}
    assert [path.name for path in tmp_path.glob('*.tmp')] == ['mine.tmp']


@pytest.mark.parametrize('value, fine', [(1e30, True), (float('nan'), False), (float('-inf'), False)])
def test_numbers_that_are_not_finite_are_found(value, fine):
    tensor = torch.ones(1000, 3)
    tensor[7, 1] = value
    assert checkpoint.finite({'a': {'b': [torch.ones(2), {'c': tensor}]}, 'count': torch.tensor(3)}) == fine
    assert checkpoint.finite({'half': torch.full((70000,), 1000.0).half()})
