"""Where a folder may differ beyond its recipe. A train.py passes a Hooks, of which it overrides what it needs."""
from timm.scheduler import create_scheduler

from common.errors import UserError


class Hooks:
    """create_model(name, num_classes, img_size, drop_path, **options) -> nn.Module.

    patches: [patches.Patch], what the model changes on an NPU.
    """

    adopted = ()     # options that an evaluation or a continued run takes over from the checkpoint, beside trainer.ADOPTED

    def __init__(self, create_model, patches):
        self.create_model, self.patches = create_model, patches

    def add_options(self, parser):
        """Further options of this folder."""

    def settle(self, args):
        """Called once the command line is read and before anything else: checks and changes args, adds to args.notes."""

    def model_options(self, args):
        """-> further keywords for create_model, or others than the command line's; args.model may be a checkpoint's."""
        return {}

    def schedule(self, args, optimizer, steps):
        """-> (schedule, number of epochs) for an epoch of `steps` steps.

        A schedule has step(epoch, metric), called before every epoch but 0, and step_update(updates), called before the first
        step of an epoch and after each step; both set the learning rates of optimizer.param_groups. By default timm's.
        """
        schedule, epochs = create_scheduler(args, optimizer)
        if schedule is None:
            raise UserError('--sched %s is not known to timm; cosine, step, tanh, poly and plateau are' % args.sched)
        return schedule, epochs

    def read_weights(self, path):
        """-> {'state_dict': ...} from a file format of this folder's own, or None to have it read as a checkpoint."""

    def fit_weights(self, state, model):
        """A state dict -> (the state dict that fits the model, [a sentence per change])."""
        return state, []
