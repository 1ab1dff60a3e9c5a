"""The gradient scaler of torch_npu: torch.amp's, with a fixed scale as an option and a line for each skipped step."""

import torch

__all__ = ['GradScaler']


class GradScaler(torch.amp.GradScaler):
    """No device argument; `dynamic` (False: the scale stays, and no step is skipped) comes before `enabled`."""

    def __init__(
        self,
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        dynamic=True,
        enabled=True,
    ):
        super().__init__(
            'npu',
            init_scale=init_scale,
            growth_factor=growth_factor,
            backoff_factor=backoff_factor,
            growth_interval=growth_interval,
            enabled=enabled,
        )
        self._dynamic = dynamic

    def scale(self, outputs):
        if self._enabled and isinstance(outputs, torch.Tensor) and outputs.device.type != 'npu':
            raise ValueError('Device type of outputs should be npu.')
        return super().scale(outputs)

    def unscale_(self, optimizer):
        if self._enabled and getattr(optimizer, 'is_fused_optimizer', False):
            optimizer._maybe_init_combined_params_and_grads()
        super().unscale_(optimizer)

    def _maybe_opt_step(self, optimizer, optimizer_state, *args, **kwargs):
        overflow = any(found.item() for found in optimizer_state['found_inf_per_device'].values())
        if self._dynamic and overflow:
            print('Gradient overflow. Skipping step')
            return None
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale=None):
        if not self._enabled:
            return
        before = self.get_scale()
        super().update(before if new_scale is None and not self._dynamic else new_scale)
        if self.get_scale() < before and new_scale is None:
            print('Loss scaler reducing loss scale to %s' % self.get_scale())

    def state_dict(self):
        state = super().state_dict()
        if self._enabled:
            state['dynamic'] = self._dynamic
        return state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        if self._enabled:
            self._dynamic = state_dict['dynamic']
