"""Trains, fine-tunes or evaluates Twins (PCPVT and SVT) on an ImageFolder, on NPU, CUDA or CPU.

    python train.py --data-path DIR                                  the recipe: pcpvt_small_v0, 100 epochs
    python train.py --data-path DIR --eval --resume checkpoint.pth   accuracy of a checkpoint

The scripts in test/ run this file; `python train.py --help` lists every option.
"""

import sys

from common import cli
from common.hooks import Hooks

# Meituan-AutoML/Twins at 4700293 (main.py) with --drop-path 0.3 on 8 x 128 images, for the ModelZoo's 100 epochs (upstream
# trains 300). The rate scales with the global batch as upstream's does; the ModelZoo's did not.
RECIPE = {
    'network': 'Twins-PCPVT-S_for_PyTorch',
    'model': 'pcpvt_small_v0',
    'batch_size': 128,
    'img_size': 224,
    'crop_pct': 0.875,
    'mean': [0.485, 0.456, 0.406],
    'std': [0.229, 0.224, 0.225],
    'interpolation': 'bicubic',
    'opt': 'adamw',
    'weight_decay': 0.05,
    'clip_grad': 5.0,
    'lr_base': 5e-4,
    'lr_base_size': 512,
    'lr_scaled': True,
    'sched': 'cosine',
    'epochs': 100,
    'warmup_epochs': 5,
    'warmup_lr': 1e-6,
    'min_lr': 1e-5,
    'cooldown_epochs': 0,
    'aa': 'rand-m9-mstd0.5-inc1',
    'train_interpolation': 'bicubic',
    'color_jitter': 0.4,
    'mixup': 0.8,
    'cutmix': 1.0,
    'smoothing': 0.1,
    'reprob': 0.25,
    'remode': 'pixel',
    'drop_path': 0.3,
    'opt_level': 'O1',
    'loss_scale': 'dynamic',
    'seed': 0,
    # Upstream has no fine-tuning recipe that runs. Found on digits, textures and faces (docs/usage.md), with batches of 16 to 1024.
    'cases': {
        'finetune': {'lr_base': 1e-4, 'lr_base_size': 256, 'lr_scaling': 'sqrt', 'epochs': 30, 'warmup_epochs': 2}
    },
}


def create_model(name, *args, **kwargs):
    """A model of the folder by name, see gvt.py: (name, num_classes=1000, img_size=224, drop_path=None, **kwargs)."""
    from gvt import create_model as create  # here, because it brings torch

    return create(name, *args, **kwargs)


def patches():
    """-> what changes on an NPU"""
    from npu_patch import PATCHES

    return PATCHES


HOOKS = Hooks(
    create_model,
    patches,
    blocks=r'blocks\.\d+\.\d+',
    layers=r'(?:patch_embeds(?=\.[1-9])|pos_block|blocks)\.(\d+)\.(\d+)?',
)

if __name__ == '__main__':
    sys.exit(cli.main(__doc__.split('\n')[0], RECIPE, HOOKS))
