"""Trains, fine-tunes or evaluates ConvNeXt on an ImageFolder, on NPU, CUDA or CPU.

python train.py --data-path DIR                                  the recipe: convnext_atto, 300 epochs
python train.py --data-path DIR --eval --resume checkpoint.pth   accuracy of a checkpoint
"""

import sys

from common import cli
from common.hooks import Hooks

# An example, shaped after the paper's appendix A; nobody has trained ImageNet with it here.
RECIPE = {
    'network': 'ConvNeXt_for_PyTorch',
    'model': 'convnext_atto',
    'batch_size': 128,
    'img_size': 224,
    'interpolation': 'bicubic',
    'opt': 'adamw',
    'weight_decay': 0.05,
    'momentum': 0.9,
    'lr_base': 4e-3,
    'lr_base_size': 4096,
    'sched': 'cosine',
    'epochs': 300,
    'warmup_epochs': 20,
    'warmup_lr': 1e-6,
    'min_lr': 1e-6,
    'cooldown_epochs': 0,
    'aa': 'rand-m9-mstd0.5-inc1',
    'train_interpolation': 'bicubic',
    'color_jitter': 0.4,
    'mixup': 0.8,
    'cutmix': 1.0,
    'smoothing': 0.1,
    'reprob': 0.25,
    'remode': 'pixel',
    'drop_path': 0.1,
    'seed': 0,
    'cases': {'finetune': {'lr_base': 4e-4, 'epochs': 30, 'warmup_epochs': 2}},
}


def create_model(name, *args, **kwargs):
    """A model of the folder by name, see convnext.py: (name, num_classes=1000, img_size=224, drop_path=None, **kwargs)."""
    from convnext import create_model as create  # here, because it brings torch

    return create(name, *args, **kwargs)


def patches():
    """-> what changes on an NPU"""
    from npu_patch import PATCHES

    return PATCHES


HOOKS = Hooks(create_model, patches)

if __name__ == '__main__':
    sys.exit(cli.main(__doc__.split('\n')[0], RECIPE, HOOKS))
