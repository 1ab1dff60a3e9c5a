"""Trains or evaluates ConvMixer on an ImageFolder, on NPU, CUDA or CPU.

    python train.py --data-path DIR                                  the recipe: convmixer_1536_20, 150 epochs
    python train.py --data-path DIR --eval --resume checkpoint.pth   accuracy of a checkpoint

The scripts in test/ run this file; `python train.py --help` lists every option.
"""
import sys

from common import trainer
from common.errors import UserError
from common.hooks import Hooks
from convmixer import create_model
from npu_patch import PATCHES
from one_cycle import OneCycle

# locuslab/convmixer at 4704811: its README's command line on 10 x 64 images, on the defaults of its timm fork.
RECIPE = {
    'network': 'ConvMixer_for_PyTorch',
    'model': 'convmixer_1536_20',
    'batch_size': 64,
    'img_size': 224, 'crop_pct': .96, 'mean': [.485, .456, .406], 'std': [.229, .224, .225], 'interpolation': 'bicubic',
    'opt': 'adamw', 'opt_eps': 1e-3, 'weight_decay': 2e-5, 'clip_grad': 1.,
    'lr': .01,                                    # at any batch
    'sched': 'onecycle', 'epochs': 150, 'warmup_epochs': 0, 'cooldown_epochs': 0,
    'aa': 'rand-m9-mstd0.5-inc1', 'train_interpolation': 'random', 'color_jitter': .4,
    'mixup': .5, 'cutmix': .5, 'smoothing': .1, 'reprob': .25, 'remode': 'pixel',
    'opt_level': 'O2', 'loss_scale': 128., 'seed': 42,
    # Upstream has no fine-tuning recipe: a tenth of the rate for a fifth of the epochs is this collection's choice.
    'cases': {'finetune': {'lr': 1e-3, 'epochs': 30, 'warmup_epochs': 0}},
}


class ConvMixerHooks(Hooks):
    """--sched onecycle."""

    def settle(self, args):
        idle = {'warmup_epochs', 'warmup_lr', 'min_lr', 'cooldown_epochs'} & args.explicit
        if args.sched == 'onecycle' and idle:
            raise UserError('--%s does nothing in the one-cycle schedule; leave it out, or choose --sched cosine'
                            % sorted(idle)[0].replace('_', '-'))

    def schedule(self, args, optimizer, steps):
        if args.sched == 'onecycle':
            return OneCycle(optimizer, args.lr, args.epochs * steps), args.epochs
        return super().schedule(args, optimizer, steps)


if __name__ == '__main__':
    sys.exit(trainer.main(__doc__.split('\n')[0], RECIPE, ConvMixerHooks(create_model, PATCHES)))
