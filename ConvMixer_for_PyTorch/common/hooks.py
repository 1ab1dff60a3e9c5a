"""Where a folder may differ beyond its recipe: its train.py makes a Hooks, or a subclass that overrides what it needs.

The command line is read with it before torch is imported, so neither this file nor train.py imports it at the top.
"""

import argparse
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from common.errors import UserError


class Hooks:
    """create_model(name, num_classes, img_size, drop_path, **options) -> nn.Module; patches() -> its Patches on an NPU.

    blocks: regular expression of the names of a model's blocks, which --grad-checkpointing computes twice. layers: of the names of
    weights, with groups for the numbers by which they follow each other, for --layer-decay.
    """

    needs = ()  # what the folder's own options need to have an effect, in rows as in effects.py
    always = ''  # those that always have one
    adopted = ()  # options that are taken from a checkpoint of this collection, beside options.ADOPTED

    def __init__(
        self,
        create_model: Callable[..., Any],
        patches: Callable[[], Sequence[Any]] = tuple,
        blocks: str = '',
        layers: str = '',
    ):
        self.create_model, self.patches, self.blocks, self.layers = create_model, patches, blocks, layers

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Adds the folder's own options."""

    def settle(self, args: argparse.Namespace) -> Dict[str, Any]:
        """-> {option: value} that the folder changes, once the command line is read; 'notes': lines for the log."""
        return {}

    def model_options(self, args: argparse.Namespace) -> Dict[str, Any]:
        """-> further keywords for create_model."""
        return {}

    def schedule(self, args: argparse.Namespace, optimizer: Any, steps: int) -> Tuple[Any, int]:
        """-> (learning rate schedule, number of epochs) for epochs of `steps` steps; timm's unless overridden.

        A schedule has step(epoch, metric), called before every epoch but 0, and step_update(updates), called before the
        first step of an epoch and after each step. Both set the rates in optimizer.param_groups.
        """
        from timm.scheduler import create_scheduler

        schedule, epochs = create_scheduler(args, optimizer)
        if schedule is None:
            raise UserError(f'--sched {args.sched} is not known to timm; choose cosine, step, tanh, poly or plateau')
        return schedule, epochs

    def read_weights(self, path: str) -> Optional[Dict[str, Any]]:
        """-> {'state_dict': ...} from a file format of the folder's own; None: the file is read as a checkpoint."""

    def other_names(self, model: Any) -> Dict[str, str]:
        """-> {name of a weight in the files of another code, such as timm: its name in the model}."""
        return {}

    def fit_weights(self, state: Dict[str, Any], model: Any) -> Tuple[Dict[str, Any], List[str]]:
        """-> (the state dict as the model needs it, a sentence for each change)."""
        return state, []
