"""Trains, fine-tunes or evaluates VAN (Visual Attention Network) on an ImageFolder, on NPU, CUDA or CPU.

    python train.py --data-path DIR                                  the recipe: van_base, 300 + 10 epochs
    python train.py --data-path DIR --eval --resume checkpoint.pth   accuracy of a checkpoint

The scripts in test/ run this file; `python train.py --help` lists every option.
"""

import sys

from common import cli
from common.hooks import Hooks

# Upstream's train.py (Visual-Attention-Network/VAN-Classification at e19779b) as its README runs it on 8 x 128 images.
# Mean and std of 0.5 and the crop of 0.9 are upstream's too: VAN inherits them from timm's ViT settings.
RECIPE = {
    'network': 'VAN-Classification_for_PyTorch',
    'model': 'van_base',
    'batch_size': 128,
    'img_size': 224,
    'crop_pct': 0.9,
    'mean': [0.5] * 3,
    'std': [0.5] * 3,
    'interpolation': 'bicubic',
    'opt': 'adamw',
    'weight_decay': 0.05,
    'momentum': 0.9,
    'lr_base': 1e-3,
    'lr_base_size': 1024,
    'sched': 'cosine',
    'epochs': 300,
    'warmup_epochs': 5,
    'warmup_lr': 1e-6,
    'min_lr': 1e-6,
    'cooldown_epochs': 10,
    'aa': 'rand-m9-mstd0.5-inc1',
    'train_interpolation': 'random',
    'color_jitter': 0.4,
    'mixup': 0.8,
    'cutmix': 1.0,
    'smoothing': 0.1,
    'reprob': 0.25,
    'remode': 'pixel',
    'drop_path': 0.1,
    'model_ema_decay': 0.9998,
    'opt_level': 'O1',
    'loss_scale': 'dynamic',
    'seed': 42,
    # Upstream has no fine-tuning recipe that runs. Found on digits, textures and faces (docs/usage.md), with batches of 16 to 1024.
    'cases': {
        'finetune': {
            'lr_base': 6e-4,
            'lr_base_size': 256,
            'lr_scaling': 'sqrt',
            'epochs': 30,
            'warmup_epochs': 2,
            'cooldown_epochs': 0,
        }
    },
}


def create_model(name, *args, **kwargs):
    """A model of the folder by name, see models/van.py: (name, num_classes=1000, img_size=224, drop_path=None, **kwargs)."""
    from models.van import create_model as create  # here, because it brings torch

    return create(name, *args, **kwargs)


def patches():
    """-> what changes on an NPU"""
    from npu_patch import PATCHES

    return PATCHES


HOOKS = Hooks(create_model, patches, blocks=r'block\d\.\d+', layers=r'(?:patch_embed(?=[2-4])|block|norm)(\d)\.(\d+)?')

if __name__ == '__main__':
    sys.exit(cli.main(__doc__.split('\n')[0], RECIPE, HOOKS))
