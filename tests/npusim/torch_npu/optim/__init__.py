"""The fused optimizers of torch_npu, with their constructors and their limits.

As on Ascend, the parameters and gradients of each dtype are joined into one tensor at the first step, and every later step
works on the joined ones: a parameter without a gradient at that moment is left out for good, and a gradient that is replaced
later (set to None, say) is no longer seen.
"""

import torch
from torch.optim.optimizer import Optimizer, required

__all__ = [
    'NpuFusedOptimizerBase',
    'NpuFusedSGD',
    'NpuFusedAdadelta',
    'NpuFusedLamb',
    'NpuFusedAdam',
    'NpuFusedAdamW',
    'NpuFusedRMSprop',
]


def _join(tensors):
    """One flat tensor that the given ones become views of; None for none."""
    if not tensors:
        return None
    flat = torch.cat([t.detach().reshape(-1) for t in tensors])
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors])):
        tensor.data = part.view_as(tensor)
    return flat


class _Part:
    """The joined parameters of one group and dtype."""

    def __init__(self, group, params):
        self.group, self.params = group, params
        self.value, self.grad = _join(params), _join([p.grad for p in params])
        self.state = None

    def join_state(self, state, names):
        """The per-parameter state becomes views of a joined one, from zero or from what was loaded."""
        for p in self.params:
            for name in names:
                state[p].setdefault(name, torch.zeros_like(p))
            state[p].setdefault('step', 0)
        self.state = {name: _join([state[p][name] for p in self.params]) for name in names}


class NpuFusedOptimizerBase(Optimizer):
    _state_names = ()

    def __init__(self, params, default):
        super().__init__(params, default)
        self.is_fused_optimizer = True
        self.is_params_grads_combined = self.is_states_combined = False
        self.grads_all_group_combined = [None, None]
        self._parts = []

    @torch.no_grad()
    def _maybe_init_combined_params_and_grads(self):
        if self.is_params_grads_combined:
            return
        for group in self.param_groups:
            params = [p for p in group['params'] if p.grad is not None]
            for p in params:
                if p.dtype not in (torch.float32, torch.float16):
                    raise TypeError(
                        "Fused optimizer's parameters must be either float32 or float16, but received %s" % p.dtype
                    )
            parts = ([p for p in params if p.dtype == dtype] for dtype in (torch.float32, torch.float16))
            self._parts += [_Part(group, part) for part in parts if part]
        self.is_params_grads_combined = bool(self._parts)
        self.grads_all_group_combined = [part.grad for part in self._parts]

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        self._maybe_init_combined_params_and_grads()
        for part in self._parts:
            if part.state is None:
                part.join_state(self.state, self._state_names)
                self.is_states_combined = True
            for p in part.params:
                self.state[p]['step'] += 1
            self._update(part, part.value, part.grad, self.state[part.params[0]]['step'], **part.state)
        return loss

    def _update(self, part, value, grad, step, **state):
        raise NotImplementedError

    @torch.no_grad()
    def zero_grad(self, set_to_none=False):
        if set_to_none:
            raise ValueError('set_to_none is not supported in fused optimizers')
        self._maybe_init_combined_params_and_grads()
        if not self.is_params_grads_combined:
            super().zero_grad(set_to_none)
        for part in self._parts:
            part.grad.zero_()

    @torch.no_grad()
    def clip_grad_norm_fused_(self, max_norm, norm_type=2):
        self._maybe_init_combined_params_and_grads()
        if not self._parts:
            return torch.tensor(0.0)
        norms = [torch.linalg.vector_norm(part.grad.float(), float(norm_type)) for part in self._parts]
        total = torch.linalg.vector_norm(torch.stack(norms), float(norm_type))
        factor = float(max_norm) / (total + 1e-6)
        if factor < 1:
            for part in self._parts:
                part.grad.mul_(factor)
        return total


class NpuFusedSGD(NpuFusedOptimizerBase):
    _state_names = ('momentum_buffer',)

    def __init__(self, params, lr=required, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError('Nesterov momentum requires a momentum and zero dampening')
        super().__init__(
            params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov)
        )

    def _update(self, part, value, grad, step, momentum_buffer):
        group = part.group
        grad = grad.add(value, alpha=group['weight_decay'])
        if group['momentum']:
            momentum_buffer.mul_(group['momentum']).add_(grad, alpha=1 if step == 1 else 1 - group['dampening'])
            grad = grad.add(momentum_buffer, alpha=group['momentum']) if group['nesterov'] else momentum_buffer
        value.add_(grad, alpha=-group['lr'])


class NpuFusedAdam(NpuFusedOptimizerBase):
    _state_names = ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq')

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad))

    def _update(self, part, value, grad, step, exp_avg, exp_avg_sq, max_exp_avg_sq):
        self._adam(
            part.group,
            value,
            grad.add(value, alpha=part.group['weight_decay']),
            step,
            exp_avg,
            exp_avg_sq,
            max_exp_avg_sq,
        )

    @staticmethod
    def _adam(group, value, grad, step, exp_avg, exp_avg_sq, max_exp_avg_sq):
        beta1, beta2 = group['betas']
        exp_avg.lerp_(grad, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        square = exp_avg_sq
        if group['amsgrad']:
            square = torch.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
        root = square.sqrt().div_((1 - beta2**step) ** 0.5).add_(group['eps'])
        value.addcdiv_(exp_avg, root, value=-group['lr'] / (1 - beta1**step))


class NpuFusedAdamW(NpuFusedAdam):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)

    def _update(self, part, value, grad, step, **state):
        value.mul_(1 - part.group['lr'] * part.group['weight_decay'])
        self._adam(part.group, value, grad, step, **state)


class NpuFusedLamb(NpuFusedOptimizerBase):
    _state_names = ('exp_avg', 'exp_avg_sq')

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0, adam=False, use_global_grad_norm=False
    ):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
        self.adam, self.use_global_grad_norm = adam, use_global_grad_norm

    def _update(self, part, value, grad, step, exp_avg, exp_avg_sq):
        group, (beta1, beta2) = part.group, part.group['betas']
        if self.use_global_grad_norm:
            grad = grad / torch.linalg.vector_norm(grad).clamp(min=1)
        exp_avg.lerp_(grad, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        update = (exp_avg / (exp_avg_sq.sqrt() + group['eps'])).add_(value, alpha=group['weight_decay'])
        sizes = [p.numel() for p in part.params]
        for weight, change in zip(value.split(sizes), update.split(sizes)):  # the trust ratio is each parameter's own
            norms = weight.norm().clamp(0, 10), change.norm()
            ratio = 1.0 if self.adam or 0 in norms else float(norms[0] / norms[1])
            weight.add_(change, alpha=-group['lr'] * ratio)


class NpuFusedRMSprop(NpuFusedOptimizerBase):
    _state_names = ('square_avg', 'momentum_buffer', 'grad_avg')

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False):
        super().__init__(
            params, dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered)
        )

    def _update(self, part, value, grad, step, square_avg, momentum_buffer, grad_avg):
        group = part.group
        grad = grad.add(value, alpha=group['weight_decay'])
        square_avg.mul_(group['alpha']).addcmul_(grad, grad, value=1 - group['alpha'])
        square = square_avg
        if group['centered']:
            grad_avg.lerp_(grad, 1 - group['alpha'])
            square = square_avg - grad_avg**2
        root = square.sqrt().add_(group['eps'])
        momentum_buffer.mul_(group['momentum']).addcdiv_(grad, root)  # without momentum: this step alone
        value.add_(momentum_buffer, alpha=-group['lr'])


class NpuFusedAdadelta(NpuFusedOptimizerBase):
    _state_names = ('square_avg', 'acc_delta')

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0):
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay))

    def _update(self, part, value, grad, step, square_avg, acc_delta):
        rho, eps = part.group['rho'], part.group['eps']
        grad = grad.add(value, alpha=part.group['weight_decay'])
        square_avg.mul_(rho).addcmul_(grad, grad, value=1 - rho)
        delta = (acc_delta + eps).sqrt() / (square_avg + eps).sqrt() * grad
        acc_delta.mul_(rho).addcmul_(delta, delta, value=1 - rho)
        value.add_(delta, alpha=-part.group['lr'])
