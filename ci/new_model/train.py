"""Trains, fine-tunes or evaluates $name on an ImageFolder, on NPU, CUDA or CPU.

    python train.py --data-path DIR                                  the recipe: $model, 300 epochs
    python train.py --data-path DIR --eval --resume checkpoint.pth   accuracy of a checkpoint

The scripts in test/ run this file; `python train.py --help` lists every option.
"""

import sys

from common import cli
from common.hooks import Hooks

# Where the recipe comes from: a skeleton of ci/new_model.py; nobody has trained ImageNet with it.
RECIPE = {
    'network': '$folder',
    'model': '$model',
    'batch_size': 128,
    'img_size': 224,
    'crop_pct': 0.875,
    'mean': [0.485, 0.456, 0.406],
    'std': [0.229, 0.224, 0.225],
    'interpolation': 'bicubic',
    'opt': 'adamw',
    'weight_decay': 0.05,
    'lr_base': 1e-3,
    'lr_base_size': 1024,
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
}


def create_model(name, *args, **kwargs):
    """A model of the folder by name, see $module.py: (name, num_classes=1000, img_size=224, drop_path=None, **kwargs)."""
    from $module import create_model as create  # here, because it brings torch

    return create(name, *args, **kwargs)


def patches():
    """-> what changes on an NPU"""
    from npu_patch import PATCHES

    return PATCHES


# blocks=: the names of the blocks, for --grad-checkpointing; layers=: the numbers in the names of weights, for --layer-decay
HOOKS = Hooks(create_model, patches)

if __name__ == '__main__':
    sys.exit(cli.main(__doc__.split('\n')[0], RECIPE, HOOKS))
