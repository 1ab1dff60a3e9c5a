"""All that PyTorch 1.x, timm 0.4 and the Ascend stacks of their time need. When they go, this file goes, with its imports."""

import os
from typing import List

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import nn


def missing_features(model: nn.Module, device_type: str, channels_last: bool, precision: str) -> List[str]:
    """-> a sentence for each thing that this torch lacks and the training would have used; [] on a torch of today.

    precision: what is computed in, in words. channels_last gains nothing on a CPU with torch 1.5 and 1.8 (measured); with
    2.12 it gains a fifth.
    """
    lacks, said = f'torch {torch.__version__} has no ', []
    if not hasattr(F, 'scaled_dot_product_attention') and any(hasattr(m, 'attn_drop') for m in model.modules()):
        said.append(f'{lacks}scaled_dot_product_attention: attention is an explicit softmax, which takes more memory.')
    if not hasattr(torch, 'autocast'):
        said.append(f'{lacks}bfloat16 autocast for {device_type}: this run computes in {precision}.')
    if channels_last and device_type == 'cpu' and not hasattr(torch, 'inference_mode'):
        said.append(f'{lacks}fast channels-last kernels for cpu: --channels-last gains nothing.')
    return said


class DeviceMixup(Mixup):
    """timm's Mixup, with the targets made on the images' device: timm 0.4 makes them on 'cuda'."""

    def __call__(self, x, target):
        lam = {'elem': self._mix_elem, 'pair': self._mix_pair, 'batch': self._mix_batch}[self.mode](x)
        off = self.label_smoothing / self.num_classes
        one_hot = torch.full((len(target), self.num_classes), off, device=x.device)
        one_hot.scatter_(1, target.long().view(-1, 1), 1.0 - self.label_smoothing + off)
        return x, one_hot * lam + one_hot.flip(0) * (1.0 - lam)


class StepProfile:
    """profiling.StepProfile before torch 1.9, by torch.autograd.profiler (the vendor's builds take use_npu)."""

    def __init__(self, kind: str, steps: int, wait: int, folder: str):
        self.first, self.last, self.count = wait + 1, wait + 1 + steps, 0
        self.path = os.path.join(folder, 'trace.json')
        os.makedirs(folder, exist_ok=True)
        self.recorder = torch.autograd.profiler.profile(**({} if kind == 'cpu' else {f'use_{kind}': True}))
        self.recording = False

    def step(self) -> None:
        self.count += 1
        if self.count == self.first:
            self.recorder.__enter__()
            self.recording = True
        elif self.count == self.last:
            self.stop()

    def stop(self) -> None:
        if self.recording:
            self.recording = False
            self.recorder.__exit__(None, None, None)
            self.recorder.export_chrome_trace(self.path)
