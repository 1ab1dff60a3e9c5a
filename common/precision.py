"""One optimizer step in the numbers that were asked for: float32, native autocast with loss scaling, or apex."""

import contextlib
import inspect
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from common import accelerator as accelerators
from common import half_weights
from common.errors import UserError

Clip = Optional[Callable[[List[torch.Tensor]], Any]]


class Precision:
    """float32 throughout; the base of the others. words: what is really used."""

    words = 'float32'
    skips = False  # whether a step that overflows is left out

    def prepare(self, model: nn.Module, optimizer: Any) -> Tuple[nn.Module, Any]:
        """-> (model, optimizer), before DistributedDataParallel."""
        return model, optimizer

    def network(self, model: nn.Module) -> nn.Module:
        """-> what computes the forward pass of a training step, with the model's weights; the model, unless told."""
        return model

    def autocast(self) -> Any:
        """-> the context of one forward pass."""
        return contextlib.nullcontext()

    def backward(self, losses: Iterable[torch.Tensor], optimizer: Any, clip: Clip = None) -> torch.Tensor:
        """Gradients of the sum of scalar losses, clipped. -> that sum

        The gradients of a loss are computed, and what they needed is let go of, before the next loss is asked for.
        """
        total = None
        for loss in losses:
            self.gradients(loss, optimizer)
            total = loss.detach() if total is None else total + loss.detach()
        if clip is not None:
            self.clip(optimizer, clip)
        return total

    def gradients(self, loss: torch.Tensor, optimizer: Any) -> None:
        """Adds those of a scalar loss."""
        loss.backward()

    def clip(self, optimizer: Any, clip: Callable) -> None:
        clip(parameters_of(optimizer))

    def update(self, optimizer: Any) -> None:
        """Changes the weights by the gradients, and lets go of these: the next forward pass has their memory."""
        optimizer.step()
        optimizer.zero_grad()

    def weights(self, model: nn.Module, optimizer: Any) -> Dict[str, torch.Tensor]:
        """-> the model's state dict for a checkpoint, in the precision that training keeps."""
        return model.state_dict()

    def state_dict(self) -> Dict[str, Any]:
        return {}

    def load_state_dict(self, state: Optional[Dict[str, Any]]) -> None:
        """Takes what state_dict gave; an empty state (of a training without scaling) changes nothing."""


class Native(Precision):
    """torch.autocast, and a GradScaler where the dtype is float16. loss_scale: 'dynamic' or a number."""

    def __init__(self, accelerator: Any, dtype: torch.dtype, loss_scale: Any):
        self.dtype, self.context, name = dtype, accelerator.autocast(dtype), str(dtype).replace('torch.', '')
        if self.context is None:
            raise UserError(
                f'--amp: torch {torch.__version__} has no autocast for {accelerator.kind} in {name}; use a newer torch, '
                '--amp-impl apex on an NPU or CUDA host, or --no-amp'
            )
        self.fixed = None if loss_scale == 'dynamic' else float(loss_scale)
        self.scaler = None
        if dtype == torch.float16:
            self.scaler = accelerator.grad_scaler(**({} if self.fixed is None else {'init_scale': self.fixed}))
        self.skips = self.scaler is not None
        self.words = f'autocast to {name}, {"no loss scale" if self.scaler is None else f"loss scale {loss_scale}"}'

    def network(self, model: nn.Module) -> nn.Module:
        return half_weights.HalfWeights(model, self.dtype) if half_weights.possible() else model

    def autocast(self) -> Any:
        return self.context()

    def gradients(self, loss: torch.Tensor, optimizer: Any) -> None:
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def clip(self, optimizer: Any, clip: Callable) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        super().clip(optimizer, clip)

    def update(self, optimizer: Any) -> None:
        if self.scaler is None:
            return super().update(optimizer)
        self.scaler.step(optimizer)  # leaves the update out when a gradient overflowed
        self.scaler.update(self.fixed)  # a number keeps the scale
        optimizer.zero_grad()

    def state_dict(self) -> Dict[str, Any]:
        return self.scaler.state_dict() if self.scaler is not None else {}

    def load_state_dict(self, state: Optional[Dict[str, Any]]) -> None:
        """The state of another device's scaler may lack a field of this one's (torch_npu's has 'dynamic')."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict({**self.scaler.state_dict(), **state})


class Apex(Precision):
    """apex.amp, for the stacks before native AMP. With O2 the model is float16; the optimizer has float32 master weights."""

    skips = True

    def __init__(self, opt_level: str, loss_scale: Any):
        self.amp = accelerators.import_apex()
        self.opt_level, self.loss_scale = opt_level, loss_scale
        self.words = f'apex {opt_level}, loss scale {loss_scale}'

    def prepare(self, model: nn.Module, optimizer: Any) -> Tuple[nn.Module, Any]:
        scale = self.loss_scale if self.loss_scale == 'dynamic' else float(self.loss_scale)
        options = {'opt_level': self.opt_level, 'verbosity': 0, 'loss_scale': scale}
        if 'combine_grad' in inspect.signature(self.amp.initialize).parameters:  # Ascend's apex only
            options['combine_grad'] = True
        names = {id(p): name for name, p in model.named_parameters()}
        self.order = [names[id(p)] for p in parameters_of(optimizer)]
        exact = [p.detach().clone() for p in parameters_of(optimizer)]
        model, optimizer = self.amp.initialize(model, optimizer, **options)
        # apex makes its float32 weights late, from float16 ones, which would round those of a checkpoint
        optimizer.zero_grad()
        for weight, of_model in zip(self.amp.master_params(optimizer), exact):
            weight.data.copy_(of_model)
        return model, optimizer

    def weights(self, model: nn.Module, optimizer: Any) -> Dict[str, torch.Tensor]:
        masters = zip(self.order, self.amp.master_params(optimizer))
        return {**model.state_dict(), **{name: weight.detach() for name, weight in masters}}

    def gradients(self, loss: torch.Tensor, optimizer: Any) -> None:
        with self.amp.scale_loss(loss, optimizer) as scaled:
            scaled.backward()

    def clip(self, optimizer: Any, clip: Callable) -> None:
        clip(self.amp.master_params(optimizer))

    def state_dict(self) -> Dict[str, Any]:
        return self.amp.state_dict()

    def load_state_dict(self, state: Optional[Dict[str, Any]]) -> None:
        """The state of another kind of scaler says nothing to apex, which then finds its scale again."""
        if 'loss_scaler0' in (state or {}):
            self.amp.load_state_dict(state)


def parameters_of(optimizer: Any) -> List[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group['params']]


def clipper(value: Optional[float], mode: str) -> Clip:
    """-> a function that clips the gradients of parameters (mode 'norm' or 'value'); None for value None or 0."""
    if not value:
        return None
    clip = {'norm': clip_grad_norm_, 'value': clip_grad_value_}[mode]
    return lambda parameters: clip(list(parameters), value)


def choose(args: Any, accelerator: Any) -> Precision:
    """-> the Precision that --amp, --amp-impl, --amp-dtype, --opt-level and --loss-scale ask for on this device.

    Without --amp and --no-amp: mixed precision where the device is faster with it.
    """
    wanted = accelerator.mixes if args.amp is None else args.amp
    if not wanted or args.opt_level == 'O0':
        return Precision()
    dtypes = {'auto': accelerator.autocast_dtype, 'float16': torch.float16, 'bfloat16': torch.bfloat16}
    if accelerator.kind != 'cpu' and args.origin['loss_scale'] in ('command line', 'checkpoint'):
        dtypes['auto'] = torch.float16  # the only one that is scaled
    dtype = dtypes[args.amp_dtype]
    native = accelerator.kind == 'cpu' or accelerator.autocast(dtype) is not None
    half = dtype == torch.float16  # apex has no other
    if args.amp_impl == 'apex' or (args.amp_impl == 'auto' and not native and half):
        return Apex(args.opt_level, args.loss_scale)
    return Native(accelerator, dtype, args.loss_scale)
