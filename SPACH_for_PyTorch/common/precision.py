"""One optimizer step in the numbers that were asked for: fp32, native autocast with loss scaling, or apex."""
import contextlib
import inspect

import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from common import accelerator as accelerators
from common.errors import UserError


class Precision:
    """float32 throughout; the base of the others. `words` says what is really used."""

    words = 'float32'

    def prepare(self, model, optimizer):
        """-> (model, optimizer), before DistributedDataParallel."""
        return model, optimizer

    def autocast(self):
        """A fresh context for one forward pass."""
        return contextlib.nullcontext()

    def step(self, loss, optimizer, clip):
        """Backward, clip and update from a scalar loss. clip(parameters) or None."""
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            clip(parameters_of(optimizer))
        optimizer.step()

    def weights(self, model, optimizer):
        """-> the model's state dict, for a checkpoint, in the precision that training keeps."""
        return model.state_dict()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        """Takes what state_dict gave; an empty state (a run without scaling) changes nothing."""


class Native(Precision):
    """torch.autocast, and a GradScaler where the dtype is float16. loss_scale: 'dynamic' or a number."""

    def __init__(self, accelerator, dtype, loss_scale):
        self.context = accelerator.autocast(dtype)
        if self.context is None:
            raise UserError('--amp: torch %s has no autocast for %s in %s; use a newer torch, --amp-impl apex on an NPU '
                            'or CUDA host, or --no-amp' % (torch.__version__, accelerator.kind, short(dtype)))
        self.fixed = None if loss_scale == 'dynamic' else float(loss_scale)
        self.scaler = None
        if dtype == torch.float16:
            self.scaler = accelerator.grad_scaler(**({} if self.fixed is None else {'init_scale': self.fixed}))
        scale = 'no loss scale' if self.scaler is None else 'loss scale %s' % loss_scale
        self.words = 'autocast to %s, %s' % (short(dtype), scale)

    def autocast(self):
        return self.context()

    def step(self, loss, optimizer, clip):
        if self.scaler is None:
            return super().step(loss, optimizer, clip)
        optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if clip is not None:
            self.scaler.unscale_(optimizer)
            clip(parameters_of(optimizer))
        self.scaler.step(optimizer)          # skips the update when a gradient overflowed
        self.scaler.update(self.fixed)       # a number pins the scale

    def state_dict(self):
        return self.scaler.state_dict() if self.scaler is not None else {}

    def load_state_dict(self, state):
        """State of another device's scaler may lack a field of this one's (torch_npu's has 'dynamic'); apex's has none of them."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(dict(self.scaler.state_dict(), **state))


class Apex(Precision):
    """apex.amp, for the stacks before native AMP. With O2 the model is float16 and the optimizer holds float32 master weights."""

    def __init__(self, opt_level, loss_scale):
        self.amp = accelerators.import_apex()
        self.opt_level, self.loss_scale = opt_level, loss_scale
        self.words = 'apex %s, loss scale %s' % (opt_level, loss_scale)

    def prepare(self, model, optimizer):
        options = {'opt_level': self.opt_level, 'verbosity': 0,
                   'loss_scale': self.loss_scale if self.loss_scale == 'dynamic' else float(self.loss_scale)}
        if 'combine_grad' in inspect.signature(self.amp.initialize).parameters:   # Ascend's apex only
            options['combine_grad'] = True
        names = {id(p): name for name, p in model.named_parameters()}
        self.order = [names[id(p)] for p in parameters_of(optimizer)]
        exact = [p.detach().clone() for p in parameters_of(optimizer)]
        model, optimizer = self.amp.initialize(model, optimizer, **options)
        # apex makes its float32 weights late, out of the float16 ones: of a resumed run they, and moments loaded before, were rounded
        optimizer.zero_grad()
        for weight, of_model in zip(self.amp.master_params(optimizer), exact):
            weight.data.copy_(of_model)
        return model, optimizer

    def weights(self, model, optimizer):
        masters = zip(self.order, self.amp.master_params(optimizer))
        return dict(model.state_dict(), **{name: weight.detach() for name, weight in masters})

    def step(self, loss, optimizer, clip):
        optimizer.zero_grad()
        with self.amp.scale_loss(loss, optimizer) as scaled:
            scaled.backward()
        if clip is not None:
            clip(self.amp.master_params(optimizer))
        optimizer.step()

    def state_dict(self):
        return self.amp.state_dict()

    def load_state_dict(self, state):
        """State of another kind of scaler means nothing to apex, which then finds its scale anew."""
        if 'loss_scaler0' in (state or {}):
            self.amp.load_state_dict(state)


def short(dtype):
    return str(dtype).replace('torch.', '')


def parameters_of(optimizer):
    return [p for group in optimizer.param_groups for p in group['params']]


def clipper(value, mode):
    """-> a function that clips the gradients of parameters (mode 'norm' or 'value'), or None for value None or 0."""
    if not value:
        return None
    clip = {'norm': clip_grad_norm_, 'value': clip_grad_value_}[mode]
    return lambda parameters: clip(list(parameters), value)


def choose(args, accelerator):
    """-> the Precision that --amp, --amp-impl, --amp-dtype, --opt-level and --loss-scale ask for on this device.

    --amp not given means: on an accelerator yes, on a CPU (where it is rarely faster) no.
    """
    wanted = accelerator.kind != 'cpu' if args.amp is None else args.amp
    if not wanted or args.opt_level == 'O0':
        return Precision()
    if args.amp_impl == 'apex':
        return Apex(args.opt_level, args.loss_scale)
    dtype = {'auto': accelerator.autocast_dtype, 'float16': torch.float16, 'bfloat16': torch.bfloat16}[args.amp_dtype]
    if args.amp_impl == 'auto' and accelerator.kind != 'cpu' and accelerator.autocast(dtype) is None:
        return Apex(args.opt_level, args.loss_scale)
    return Native(accelerator, dtype, args.loss_scale)
