"""Trains, fine-tunes or evaluates ViT (ViT-B/32 and its family) on an ImageFolder, on NPU, CUDA or CPU.

    python train.py DIR --pretrained-path WEIGHTS                    the recipe: 8 epochs from ImageNet-21k weights
    python train.py DIR --multiprocessing-distributed                on all devices of this machine
    python train.py DIR --evaluate --resume checkpoint.pth           accuracy of a checkpoint

The scripts in test/ run this file; `python train.py --help` lists every option.
"""

import re
import sys

import imagenet_cli
from common import cli, run_folder
from common.errors import UserError
from common.hooks import Hooks

# The ModelZoo's run (its vit_train.py), which fine-tunes timm's vit_base_patch32_224_in21k weights; from scratch on
# ImageNet-1k ViT-B/32 reaches about 74.9. --batch-size is the whole machine's: 256 a device, 2048 for eight.
RECIPE = {
    'network': 'Vit_base_patch32_224_for_PyTorch',
    'model': 'vit_base_patch32_224',
    'batch_size': 256,
    'batch_per_node': True,
    'img_size': 224,
    'crop_pct': 0.875,
    'mean': [0.5] * 3,
    'std': [0.5] * 3,
    'interpolation': 'bicubic',
    'opt': 'momentum',
    'momentum': 0.9,
    'weight_decay': 1e-4,  # timm calls SGD without Nesterov 'momentum'
    'lr': 0.03,  # at any batch
    'sched': 'cosine',
    'epochs': 8,
    'warmup_epochs': 0,
    'min_lr': 0.0,
    'cooldown_epochs': 0,
    'aa': None,
    'color_jitter': 0.0,
    'train_interpolation': 'bicubic',
    'mixup': 0.0,
    'cutmix': 0.0,
    'smoothing': 0.0,
    'reprob': 0.0,
    'opt_level': 'O1',
    'loss_scale': 'dynamic',
    'seed': 49,
    'print_freq': 10,
    # Upstream has no fine-tuning recipe that runs. Found on digits, textures and faces (docs/usage.md), with batches of 16 to 1024.
    'cases': {
        'finetune': {
            'lr': None,
            'lr_base': 0.01,
            'lr_base_size': 256,
            'lr_scaling': 'sqrt',
            'epochs': 8,
            'warmup_epochs': 0,
        }
    },
}


def create_model(name, *args, **kwargs):
    """A model of the folder by name, see vision_transformer.py: (name, num_classes=1000, img_size=224, drop_path=None, **kwargs)."""
    from vision_transformer import create_model as create  # here, because it brings torch

    return create(name, *args, **kwargs)


def patches():
    """-> what changes on an NPU"""
    from npu_patch import PATCHES

    return PATCHES


class ViTHooks(Hooks):
    """The classic ImageNet example's command line, and weights from elsewhere."""

    add_options = staticmethod(imagenet_cli.add_options)
    needs = imagenet_cli.NEEDS

    def settle(self, args):
        changed = {}
        if args.pretrained and not args.finetune and not args.resume:
            raise UserError(
                '--pretrained: no weights come with the code and none are downloaded; give a file by '
                '--pretrained-path (.npz of the JAX release, .pth or .safetensors)'
            )
        goes_on = args.resume or (args.auto_resume and run_folder.checkpoints(args.output_dir))
        if args.case == 'full' and not args.finetune and not goes_on:
            changed['notes'] = ['No --pretrained-path: the weights are random, and the recipe is one for fine-tuning.']
        if not args.given('img_size'):
            side = re.search(r'_(\d{3})(_|$)', args.model)
            changed['img_size'] = int(side.group(1)) if side else args.img_size
        changed.update(imagenet_cli.settle(args))
        return changed

    def read_weights(self, path):
        if not path.endswith('.npz'):
            return None
        from weights import load_npz

        try:
            return {'state_dict': load_npz(path)}
        except (OSError, ValueError) as e:
            raise UserError(f'--pretrained-path: {e}') from e

    def fit_weights(self, state, model):
        from weights import fit_to_model

        return fit_to_model(state, model)


HOOKS = ViTHooks(create_model, patches, blocks=r'blocks\.\d+', layers=r'blocks\.(\d+)\.')

if __name__ == '__main__':
    sys.exit(cli.main(__doc__.split('\n')[0], RECIPE, HOOKS))
