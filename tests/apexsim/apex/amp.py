"""apex.amp with the signatures of Ascend's apex (tests/data/apex_api.json), and its arithmetic:

O0  float32                                       O2  float16 model, float32 batch norm and master weights
O1  float32 model, operators cast by a list       O3  float16 throughout

O1 is apex's patching of torch's functions; here torch.autocast does it, around the model's forward.
"""

import contextlib
import types

import torch

__all__ = ['initialize', 'load_state_dict', 'master_params', 'scale_loss', 'state_dict']

LEVELS = {  # opt_level: model dtype, batch norm stays float32, float32 master weights, loss scale
    'O0': (torch.float32, None, False, 1.0),
    'O1': (None, None, None, 'dynamic'),
    'O2': (torch.float16, True, True, 'dynamic'),
    'O3': (torch.float16, False, False, 1.0),
}
_scalers = []  # one per loss, as apex keeps them: of the process, not of a model
_enabled = False


def initialize(
    models,
    optimizers=None,
    enabled=True,
    opt_level='O1',
    cast_model_type=None,
    patch_torch_functions=None,
    keep_batchnorm_fp32=None,
    master_weights=None,
    loss_scale=None,
    cast_model_outputs=None,
    num_losses=1,
    verbosity=1,
    dynamic_init_scale=2.0**16,
    scale_growth_factor=2.0,
    scale_backoff_factor=0.5,
    scale_window=2000,
    min_loss_scale=None,
    max_loss_scale=2.0**24,
    combine_grad=None,
    combine_ddp=None,
    ddp_replica_count=4,
    user_cast_preferred=None,
    check_combined_tensors=None,
):
    """-> (models, optimizers), changed in place, in the form they were given: one or a list of each."""
    global _enabled
    _enabled = enabled
    if not enabled:
        return (models, optimizers) if optimizers is not None else models
    if opt_level not in LEVELS:
        raise RuntimeError('Unexpected optimization level %s: O0, O1, O2 or O3, with the letter O' % opt_level)
    if combine_grad and opt_level not in ('O1', 'O2'):
        raise RuntimeError('combine_grad is for opt_level O1 and O2')
    if combine_ddp and not combine_grad:
        raise RuntimeError('combine_ddp needs combine_grad')
    dtype, batch_norm, masters, scale = LEVELS[opt_level]
    dtype = cast_model_type or dtype
    batch_norm = batch_norm if keep_batchnorm_fp32 is None else keep_batchnorm_fp32 in (True, 'True')
    masters = masters if master_weights is None else master_weights
    for model in _listed(models):
        _check_is_bare(model)
        _cast_model(model, dtype, batch_norm, cast_model_outputs or torch.float32)
    for optimizer in _listed(optimizers):
        _prepare_optimizer(optimizer, masters, combine_grad)
    _scalers[:] = [
        LossScaler(
            scale if loss_scale is None else loss_scale,
            dynamic_init_scale,
            scale_growth_factor,
            scale_backoff_factor,
            scale_window,
            min_loss_scale,
            max_loss_scale,
        )
        for _ in range(num_losses)
    ]
    return (models, optimizers) if optimizers is not None else models


def _listed(one_or_many):
    if one_or_many is None:
        return []
    return one_or_many if isinstance(one_or_many, (list, tuple)) else [one_or_many]


# ---------------------------------------------------------------------- model


def _check_is_bare(model):
    parallel = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    if isinstance(model, parallel):
        raise RuntimeError(
            'Incoming model is an instance of %s. Parallel wrappers should only be applied to the model(s) '
            'AFTER the model(s) have been returned from amp.initialize.' % type(model).__name__
        )
    for name, p in model.named_parameters():
        if p.dtype == torch.float16:
            raise RuntimeError(
                'Found param %s with type float16, expected float32: do not call .half() on the model before '
                'passing it to amp.initialize' % name
            )


def _cast_model(model, dtype, keep_batch_norm, output_dtype):
    """Casts the model, and wraps its forward: inputs to the model's dtype (or autocast), outputs to float32."""
    inner = model.forward
    if dtype is None:

        def run(arguments, keywords):
            with torch.autocast(next(model.parameters()).device.type, torch.float16):
                return inner(*arguments, **keywords)
    else:

        def run(arguments, keywords):
            return inner(*_cast(arguments, dtype), **_cast(keywords, dtype))

        for module in model.modules():
            if not (keep_batch_norm and isinstance(module, torch.nn.modules.batchnorm._BatchNorm)):
                _cast_own(module, dtype)
    model.forward = lambda *arguments, **keywords: _cast(run(arguments, keywords), output_dtype)


def _cast_own(module, dtype):
    """The floating point tensors of this module itself, not of those in it."""
    for p in module.parameters(recurse=False):
        p.data = p.data.to(dtype)
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point():
            setattr(module, name, buffer.to(dtype))


def _cast(value, dtype):
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {k: _cast(v, dtype) for k, v in value.items()}
    return type(value)(_cast(v, dtype) for v in value) if isinstance(value, (list, tuple)) else value


# ------------------------------------------------------------------ optimizer


def _prepare_optimizer(optimizer, masters, combine_grad):
    """Lets it make float32 masters of its float16 parameters when it is first used, and adds the clipping of combine_grad.

    The joining of all gradients into one tensor, for which combine_grad exists, changes no number and is left out.
    """
    if hasattr(optimizer, '_amp_pairs'):
        raise RuntimeError('A given optimizer should only be passed through amp.initialize once.')
    optimizer._amp_pairs = None if masters else []  # (model parameter, its float32 master); None: not made yet
    step, zero_grad = optimizer.step, optimizer.zero_grad

    def step_and_copy(self, closure=None):
        if closure is not None:
            raise RuntimeError('Currently, Amp does not support closure use with optimizers.')
        step()
        with torch.no_grad():
            for p, master in self._amp_pairs:
                p.copy_(master)

    def zero_both(self, *arguments, **keywords):
        _make_masters(self)
        zero_grad(*arguments, **keywords)
        for p, _ in self._amp_pairs:
            p.grad = None

    optimizer.step = types.MethodType(step_and_copy, optimizer)
    optimizer.zero_grad = types.MethodType(zero_both, optimizer)
    if combine_grad:
        optimizer.clip_optimizer_grad_norm_fused = types.MethodType(_clip, optimizer)


def _make_masters(optimizer):
    """As late as apex does: at the first zero_grad or backward. Moments that were loaded before have been rounded to float16."""
    if optimizer._amp_pairs is not None:
        return
    optimizer._amp_pairs = []
    for group in optimizer.param_groups:
        for i, p in enumerate(group['params']):
            if p.dtype == torch.float16:
                master = torch.nn.Parameter(p.detach().float())
                optimizer._amp_pairs.append((p, master))
                group['params'][i] = master
                if p in optimizer.state:
                    optimizer.state[master] = optimizer.state.pop(p)
    optimizer.load_state_dict(optimizer.state_dict())  # gives the moments the masters' dtype


def _clip(optimizer, max_norm, norm_type=2):
    return torch.nn.utils.clip_grad_norm_(list(master_params(optimizer)), max_norm, norm_type)


def master_params(optimizer):
    """The parameters that the optimizer steps: float32 masters where there are some."""
    for group in optimizer.param_groups:
        yield from group['params']


# ---------------------------------------------------------------------- scale


class LossScaler:
    def __init__(self, loss_scale, init_scale, growth, backoff, window, smallest, largest):
        self.dynamic = loss_scale == 'dynamic'
        self.scale = min(largest, init_scale) if self.dynamic else float(loss_scale)
        self.growth, self.backoff, self.window = growth, backoff, window
        self.smallest, self.largest, self.unskipped = smallest, largest, 0

    def update(self, overflow):
        """-> whether the step is to be skipped; a fixed scale skips none."""
        if overflow and self.dynamic:
            self.scale = max(self.scale * self.backoff, self.smallest or 0.0)
            self.unskipped = 0
            return True
        self.unskipped += 1
        if self.dynamic and self.unskipped == self.window:
            self.scale, self.unskipped = min(self.scale * self.growth, self.largest), 0
        return False


@contextlib.contextmanager
def scale_loss(loss, optimizers, loss_id=0, model=None, delay_unscale=False, delay_overflow_check=False):
    """Gives the loss to call backward on; afterwards the gradients are unscaled, or the next step is skipped."""
    if not _enabled:
        yield loss
        return
    if not _scalers:
        raise RuntimeError(
            'Invoked `with amp.scale_loss`, but internal Amp state has not been initialized: '
            'call model, optimizer = amp.initialize(model, optimizer, ...) first.'
        )
    if delay_unscale or delay_overflow_check:
        raise RuntimeError('this stand-in has neither delay_unscale nor delay_overflow_check')
    scaler = _scalers[loss_id]
    earlier = [_set_gradients_aside(optimizer) for optimizer in _listed(optimizers)]
    yield loss.float() * scaler.scale
    overflow = False
    for optimizer, gradients in zip(_listed(optimizers), earlier):
        overflow |= _unscale(optimizer, scaler.scale, gradients)
    if scaler.update(overflow):
        print('Gradient overflow.  Skipping step, loss scaler %d reducing loss scale to %s' % (loss_id, scaler.scale))
        for optimizer in _listed(optimizers):
            _skip_next_step(optimizer)


def _set_gradients_aside(optimizer):
    """-> {parameter: gradient} of earlier backward passes, which are unscaled already."""
    _make_masters(optimizer)
    earlier = {p: p.grad for p in master_params(optimizer) if p.grad is not None}
    for p in earlier:
        p.grad = None
    return earlier


@torch.no_grad()
def _unscale(optimizer, scale, earlier):
    """Moves the gradients to the masters, divided by the scale, and adds the earlier ones. -> whether one is not finite."""
    for p, master in optimizer._amp_pairs:
        master.grad, p.grad = p.grad.float() if p.grad is not None else None, None
    overflow = False
    for p in master_params(optimizer):
        if p.grad is not None:
            p.grad.div_(scale)
            overflow |= not bool(torch.isfinite(p.grad).all())
            if p in earlier:
                p.grad.add_(earlier[p])
        else:
            p.grad = earlier.get(p)
    return overflow


def _skip_next_step(optimizer):
    step = optimizer.step

    def skip(self, closure=None):
        for p in master_params(self):
            p.grad = None
        self.step = step

    optimizer.step = types.MethodType(skip, optimizer)


# ----------------------------------------------------------------- checkpoint


def state_dict(destination=None):
    state = {} if destination is None else destination
    for i, scaler in enumerate(_scalers):
        state['loss_scaler%d' % i] = {'loss_scale': scaler.scale, 'unskipped': scaler.unskipped}
    return state


def load_state_dict(state_dict):
    if len(state_dict) != len(_scalers):
        print('Warning: state_dict has %d loss scalers, amp has %d' % (len(state_dict), len(_scalers)))
    for scaler, state in zip(_scalers, state_dict.values()):
        scaler.scale, scaler.unskipped = state['loss_scale'], state['unskipped']
