"""Trains or evaluates ConvMixer on an ImageFolder, on NPU, CUDA or CPU.

    python train.py --data-path DIR                                  the recipe: convmixer_1536_20, 150 epochs
    python train.py --data-path DIR --eval --resume checkpoint.pth   accuracy of a checkpoint

The scripts in test/ run this file; `python train.py --help` lists every option.
"""

import sys

from common import cli
from common.hooks import Hooks

# locuslab/convmixer at 4704811: its README's command line on 10 x 64 images, on the defaults of its timm fork.
RECIPE = {
    'network': 'ConvMixer_for_PyTorch',
    'model': 'convmixer_1536_20',
    'batch_size': 64,
    'img_size': 224,
    'crop_pct': 0.96,
    'mean': [0.485, 0.456, 0.406],
    'std': [0.229, 0.224, 0.225],
    'interpolation': 'bicubic',
    'opt': 'adamw',
    'opt_eps': 1e-3,
    'weight_decay': 2e-5,
    'clip_grad': 1.0,
    'lr': 0.01,  # at any batch
    'sched': 'onecycle',
    'epochs': 150,
    'warmup_epochs': 0,
    'cooldown_epochs': 0,
    'aa': 'rand-m9-mstd0.5-inc1',
    'train_interpolation': 'random',
    'color_jitter': 0.4,
    'mixup': 0.5,
    'cutmix': 0.5,
    'smoothing': 0.1,
    'reprob': 0.25,
    'remode': 'pixel',
    'opt_level': 'O2',
    'loss_scale': 128.0,
    'seed': 42,
    # Upstream has no fine-tuning recipe that runs. Found on digits, textures and faces (docs/usage.md), with batches of 16 to 1024.
    'cases': {
        'finetune': {
            'lr': None,
            'lr_base': 3e-3,
            'lr_base_size': 256,
            'lr_scaling': 'sqrt',
            'epochs': 30,
            'warmup_epochs': 0,
        }
    },
}


def create_model(name, *args, **kwargs):
    """A model of the folder by name, see convmixer.py: (name, num_classes=1000, img_size=224, drop_path=None, **kwargs)."""
    from convmixer import create_model as create  # here, because it brings torch

    return create(name, *args, **kwargs)


def patches():
    """-> what changes on an NPU"""
    from npu_patch import PATCHES

    return PATCHES


class ConvMixerHooks(Hooks):
    """--sched onecycle; weights of timm."""

    def schedule(self, args, optimizer, steps):
        if args.sched == 'onecycle':
            from one_cycle import OneCycle

            return OneCycle(optimizer, args.lr, args.epochs * steps), args.epochs
        return super().schedule(args, optimizer, steps)

    def other_names(self, model):
        from convmixer import timm_names

        return timm_names(model)


HOOKS = ConvMixerHooks(create_model, patches, blocks=r'[3-9]|\d\d+', layers=r'(\d+)\.')

if __name__ == '__main__':
    sys.exit(cli.main(__doc__.split('\n')[0], RECIPE, HOOKS))
