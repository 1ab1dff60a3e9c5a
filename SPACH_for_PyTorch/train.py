"""Trains or evaluates SPACH, sMLP and ShiftViT on an ImageFolder, on NPU, CUDA or CPU.

    python train.py --data-path DIR                                  the recipe: spach_ms_s_patch4_224_conv, 300 epochs
    python train.py --data-path DIR --eval --resume checkpoint.pth   accuracy of a checkpoint

The scripts in test/ run this file; `python train.py --help` lists every option.
"""

import sys

from common import cli
from common.hooks import Hooks

# microsoft/SPACH, main.py at its defaults, on 8 x 128 images. Weight decay spares 1-d weights (the ModelZoo's did not).
RECIPE = {
    'network': 'SPACH_for_PyTorch',
    'model': 'spach_ms_s_patch4_224_conv',
    'batch_size': 128,
    'img_size': 224,
    'crop_pct': 0.875,
    'mean': [0.485, 0.456, 0.406],
    'std': [0.229, 0.224, 0.225],
    'interpolation': 'bicubic',
    'opt': 'adamw',
    'weight_decay': 0.05,
    'lr_base': 5e-4,
    'lr_base_size': 512,
    'lr_scaled': True,
    'sched': 'cosine',
    'epochs': 300,
    'warmup_epochs': 20,
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
    'repeated_aug': True,
    'model_ema': True,
    'model_ema_decay': 0.99996,
    'opt_level': 'O2',
    'loss_scale': 128.0,
    'seed': 0,
    # Upstream has no fine-tuning recipe that runs. Found on digits, textures and faces (docs/usage.md), with batches of 16 to 1024.
    'cases': {
        'finetune': {'lr_base': 6e-4, 'lr_base_size': 256, 'lr_scaling': 'sqrt', 'epochs': 30, 'warmup_epochs': 2}
    },
    'summary_also': {'AvgFPS': 'fps', 'MinLoss': 'min_loss', 'MaxAccuracy': 'best_acc1'},  # the folder's names of old
}
SPACH_DROP_PATH = 0.1  # upstream's --drop-path, which reaches its spach models only


def create_model(name, *args, **kwargs):
    """A model of the folder by name, see models/registry.py: (name, num_classes=1000, img_size=224, drop_path=None, **kwargs)."""
    from models.registry import create_model as create  # here, because it brings torch

    return create(name, *args, **kwargs)


def patches():
    """-> what changes on an NPU"""
    from npu_patch import PATCHES

    return PATCHES


class SpachHooks(Hooks):
    """Upstream's options of its own, and --npu."""

    adopted = ('stem_type', 'shared_spatial_func')
    always = 'stem_type shared_spatial_func'

    def add_options(self, parser):
        option = parser.add_argument_group('SPACH').add_argument
        option('--npu', action='store_const', const='npu', dest='device', help='as --device npu')
        option('--stem-type', choices=['conv1', 'conv4'], default='conv1', help='how an image becomes patches')
        option('--shared-spatial-func', action='store_true', help='one spatial function for all blocks of a stage')

    def model_options(self, args):
        wanted = {'stem_type': args.stem_type, 'shared_spatial_func': args.shared_spatial_func}
        if args.drop_path is None and args.model.startswith('spach'):
            wanted['drop_path'] = SPACH_DROP_PATH
        return wanted


HOOKS = SpachHooks(
    create_model,
    patches,
    blocks=r'layer\d\.\d+|(layers\.\d+\.)?blocks\.\d+|(token|channel)_mix\.\d+',
    layers=r'layer(\d)\.(\d+)|layers\.(\d+)\.(?:blocks\.(\d+))?|(?:blocks|token_mix|channel_mix)\.(\d+)',
)

if __name__ == '__main__':
    sys.exit(cli.main(__doc__.split('\n')[0], RECIPE, HOOKS))
