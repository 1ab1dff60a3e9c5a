"""Run: the parts of one run, built from the options, and what is done with them. trainer.py makes one."""
import contextlib
import os

import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer
from timm.utils import ModelEmaV2, distribute_bn
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from common import checkpoint, compat, data, log_formats, patches, precision, profiling, throughput
from common.distributed import Ranks, StopRequest
from common.engine import evaluate, train_one_epoch
from common.errors import Interrupted, UserError
from common.progress import Progress
from common.run_log import RunLog, environment


@contextlib.contextmanager
def blamed(option):
    """What timm cannot make of an option's value becomes a sentence with the option's name."""
    try:
        yield
    except (ValueError, TypeError, AssertionError, AttributeError, KeyError, RuntimeError) as e:
        raise UserError('%s: timm cannot use it (%s: %s); see its documentation for the names it knows'
                        % (option, type(e).__name__, e))


class Run:
    """The parts of one run, and what is done with them. engine.py uses the attributes set in __init__ and prepare_*."""

    def __init__(self, args, ranks, device, classes, loaded, hooks):
        self.args, self.ranks, self.accelerator, self.classes, self.hooks = args, ranks, device, classes, hooks
        self.progress = Progress(ranks.primary)
        self.log = RunLog(args.output_dir, ranks.primary, self.progress, args.tensorboard)
        self.stop = StopRequest(ranks)
        self.eval_ranks = ranks if args.dist_eval else Ranks(environ={})
        self.precision = precision.choose(args, device)
        self.clip = precision.clipper(args.clip_grad, args.clip_mode)
        self.batches = self.ema = self.optimizer = self.schedule = self.profile = None
        self.best_acc1 = self.best_epoch = None
        self.last_acc1, self.first_epoch, self.first_step = 0., 0, 0
        self.saved_over = set()
        self.build_model(loaded)
        self.prepare_evaluation()
        if args.case != 'eval':
            self.prepare_training()
            if args.resume:
                self.resume(loaded)

    # ---- building

    def build_model(self, loaded):
        """self.model: on the device, with the checkpoint's weights where one is given."""
        args = self.args
        wanted = {'num_classes': args.num_classes, 'img_size': args.img_size, 'drop_path': args.drop_path}
        wanted.update({'drop_rate': args.drop} if args.drop else {})
        wanted.update(self.hooks.model_options(args))
        try:
            model = self.hooks.create_model(args.model, **wanted)
        except ValueError as e:
            raise UserError('--model: %s' % e)
        if loaded is not None:
            self.load_weights(model, loaded)
        self.patch(model)
        if args.sync_bn and self.accelerator.kind == 'cpu':
            raise UserError('--sync-bn: torch has it for accelerators only; leave it out on a CPU')
        if args.sync_bn and self.ranks.world > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        model = model.to(self.accelerator.device)
        self.model = model.to(memory_format=torch.channels_last) if args.channels_last else model

    def patch(self, model):
        """Changes the model for the device as --npu-patch says."""
        wanted = patches.chosen(self.hooks.patches, self.args.npu_patch)
        if self.accelerator.patched:
            for line in patches.apply(wanted, model, self.accelerator):
                self.log.say('Patch %s' % line)
        elif 'npu_patch' in self.args.explicit:
            self.log.say('--npu-patch %s: nothing is patched, this run is on %s.' % (self.args.npu_patch, self.accelerator.kind))

    def load_weights(self, model, loaded):
        """For --resume all weights must fit; for --finetune the head may differ and is then made anew."""
        args = self.args
        path = args.resume or args.finetune
        saved_classes = loaded.get('classes')
        if args.resume and saved_classes and list(saved_classes) != self.classes:
            raise UserError('checkpoint %s was trained on %d classes (%s, ...) and %s has %d (%s, ...); take the data set '
                            'of the training, or --finetune' % (path, len(saved_classes), saved_classes[0], args.data_path,
                                                                 len(self.classes), self.classes[0]))
        try:
            state, changes = self.hooks.fit_weights(checkpoint.weights(loaded, path, args.use_ema), model)
        except ValueError as e:
            raise UserError('checkpoint %s: %s' % (path, e))
        fresh = checkpoint.load_weights(model, state, path, args.model, loaded.get('arch'), new_head=bool(args.finetune))
        changes += ['averaged weights'] if args.use_ema else []
        changes += ['made anew: %s' % ', '.join(fresh)] if fresh else []
        self.log.say('; '.join(['Weights from %s' % path] + changes))

    def prepare_evaluation(self):
        args = self.args
        dataset = data.Images(os.path.join(args.data_path, 'val'), data.transform_of(args, training=False))
        order = data.EvalOrder(len(dataset), args.validation_batch_size, self.eval_ranks, args.eval_steps)
        self.val_size, self.val_counted = len(dataset), order.size
        self.val_batches = data.Batches(data.make_loader(dataset, order, args, self.accelerator),
                                        data.Stage(args, self.accelerator), self.accelerator, args.skip_bad_images, self.tell)

    def prepare_training(self):
        args = self.args
        with blamed('--aa %s' % args.aa):
            transform = data.transform_of(args, training=True)
        dataset = data.Images(os.path.join(args.data_path, 'train'), transform, args.seed, replace=args.skip_bad_images > 0)
        self.train_size = len(dataset)
        repeats = 3 if args.repeated_aug and self.ranks.world > 1 else 1
        self.order = data.TrainOrder(len(dataset), args.batch_size, self.ranks, args.seed, args.max_steps, repeats)
        self.steps = self.order.steps
        self.stage = data.TrainStage(args, self.accelerator, self.ranks)
        self.batches = data.Batches(data.make_loader(dataset, self.order, args, self.accelerator), self.stage,
                                    self.accelerator, args.skip_bad_images, self.tell)
        self.criterion = self.make_criterion()
        with blamed('--opt %s' % args.opt):
            self.optimizer = create_optimizer(args, self.model)
        if args.fused_optimizer:
            self.optimizer = self.accelerator.fused_optimizer(self.optimizer)
        if args.model_ema:            # before the precision changes the model: the average stays in float32
            self.ema = ModelEmaV2(self.model, decay=args.model_ema_decay)
        self.model, self.optimizer = self.precision.prepare(self.model, self.optimizer)
        with blamed('--sched %s' % args.sched):
            self.schedule, self.epochs = self.hooks.schedule(args, self.optimizer, self.steps)
        self.net = self.wrap()

    def tell(self, text):
        """Says what one rank alone knows."""
        self.log.say(text, any_rank=True)

    def make_criterion(self):
        if self.stage.mixup is not None:
            return SoftTargetCrossEntropy()
        if self.args.smoothing:
            return LabelSmoothingCrossEntropy(self.args.smoothing)
        return nn.CrossEntropyLoss()

    def wrap(self):
        """What is trained: the model, compiled and distributed as asked. Its weights are those of self.model."""
        net = self.model
        if self.args.compile:
            net = compat.compiled(net)
            if net is None:
                raise UserError('--compile needs torch 2.0 or newer, and this is %s; leave it out' % torch.__version__)
        if self.ranks.world > 1:
            net = DistributedDataParallel(net, device_ids=self.accelerator.ddp_devices)
        return net

    def resume(self, loaded):
        """Goes on where the checkpoint was written: same step, same random numbers."""
        args = self.args
        if loaded.get('format') != 1 or 'optimizer' not in loaded:
            self.log.say('The checkpoint has weights only in this collection\'s sense: the run begins at epoch 0 with them.')
        else:
            self.resume_optimizer(loaded)
            self.precision.load_state_dict(loaded.get('scaler'))
            if self.ema is not None and loaded.get('state_dict_ema'):
                self.ema.module.load_state_dict(loaded['state_dict_ema'])
            self.best_acc1, self.best_epoch = loaded.get('best_acc1'), loaded.get('best_epoch')
            self.first_epoch = loaded['epoch']
            seen = loaded['step'] * loaded['global_batch']      # in images: the batch may have changed
            self.first_step = min(seen // (args.batch_size * self.ranks.world), self.steps)
            if self.first_step == self.steps:
                self.first_epoch, self.first_step = self.first_epoch + 1, 0
        if args.start_epoch is not None:
            self.first_epoch, self.first_step = args.start_epoch, 0
        self.saved_over.add(os.path.abspath(args.resume))       # the run's own file: not another run's to be set aside

    def resume_optimizer(self, loaded):
        """Takes over the moments; the rates are the schedule's."""
        opt = loaded['args']['opt']
        if opt != self.args.opt:
            raise UserError('checkpoint %s was trained with --opt %s and cannot go on with --opt %s; give the same, or begin anew '
                            'with --finetune' % (self.args.resume, opt, self.args.opt))
        with blamed('--resume %s (its optimizer)' % self.args.resume):
            self.optimizer.load_state_dict(loaded['optimizer'])

    # ---- saying

    def introduce(self):
        """What this run is, before it begins."""
        args, ranks = self.args, self.ranks
        settings = {k: v for k, v in sorted(vars(args).items()) if k not in ('explicit', 'notes')}
        batch = args.batch_size * (ranks.local_world if args.batch_per_node else 1)    # as the command line counts
        self.log.event('run', network=args.network, case=args.case, model=args.model, ranks=ranks.world,
                       batch_size=batch, device=self.accelerator.name, device_kind=self.accelerator.kind,
                       precision=self.precision.words, summary_also=args.summary_also, environment=environment(self.accelerator), args=settings)
        parameters = sum(p.numel() for p in self.model.parameters())
        self.log.say(log_formats.RUN_LINE.format(
            case=args.case, model=args.model, parameters=parameters / 1e6, classes=args.num_classes, img_size=args.img_size,
            ranks=ranks.world, device_kind=self.accelerator.kind, device=self.accelerator.name, precision=self.precision.words))
        for note in args.notes + compat.absences(self.model, self.accelerator.kind, args.channels_last, self.precision.words):
            self.log.say(note)
        if args.case != 'eval':
            self.log.say(log_formats.SIZES_LINE.format(
                train_size=self.train_size, steps=self.steps, global_batch=args.batch_size * ranks.world, epochs=self.epochs,
                lr=args.lr, workers=args.workers))
            if self.first_epoch or self.first_step:
                self.log.say(log_formats.RESUMED_LINE.format(resume=args.resume, epoch=self.first_epoch, step=self.first_step))

    # ---- doing

    def evaluate_only(self):
        meter = throughput.Throughput(self.accelerator, throughput.warmup_steps(
            self.args.warmup_steps, len(self.val_batches)))
        self.evaluate(epoch=None, meter=meter)
        self.conclude(meter)

    def fit(self):
        """Trains from the first epoch to the last; after each: save, evaluate, save the best."""
        self.meter = throughput.Throughput(self.accelerator, throughput.warmup_steps(self.args.warmup_steps, self.steps))
        self.accelerator.reset_peak_memory()
        if self.args.profile and self.ranks.primary:
            self.profile = profiling.StepProfile(self.accelerator, self.args.profile, self.meter.warmup_steps, self.path('profile'))
            self.log.say('Steps %d to %d are profiled, which slows them and the FPS of this run; the trace will be in %s.' % (
                self.meter.warmup_steps + 2, self.meter.warmup_steps + 1 + self.args.profile, self.profile.folder))
        if self.first_epoch >= self.epochs:
            self.log.say('The run of %s is at epoch %d of %d: nothing is left to train, it is evaluated.' % (
                self.args.resume, self.first_epoch, self.epochs))
            self.evaluate(self.epochs - 1)
        for epoch in range(self.first_epoch, self.epochs):
            first_step = self.first_step if epoch == self.first_epoch else 0
            if epoch:      # timm's schedules set the rates of epoch 0 when they are made
                self.schedule.step(epoch, self.last_acc1)       # the accuracy matters to the plateau schedule alone
            self.schedule.step_update(epoch * self.steps + first_step)
            signum, step = train_one_epoch(self, epoch, first_step)
            if signum:
                self.stop_profile()
                self.stop_here(signum, epoch, step)
            if self.ranks.world > 1 and self.args.dist_bn != 'none':
                distribute_bn(self.model, self.ranks.world, self.args.dist_bn == 'reduce')
            self.save('checkpoint.pth', epoch + 1, 0)       # before the evaluation, which may be interrupted
            best = self.evaluate(epoch)
            self.save('checkpoint.pth', epoch + 1, 0)       # with the accuracy
            if best:
                self.save('model_best.pth', epoch + 1, 0)
        self.stop_profile()
        self.conclude(self.meter)

    def stop_profile(self):
        if self.profile is not None:
            self.profile.close()
            self.profile = None

    def stop_here(self, signum, epoch, step):
        self.save('checkpoint.pth', epoch, step)
        raise Interrupted(signum, 'at epoch %d, step %d; %s' % (epoch, step, self.way_on()))

    def way_on(self):
        """What to do after an interruption, as a clause."""
        if self.args.case == 'eval':
            return 'nothing was lost, start it again'
        return 'go on with --resume=%s' % self.path('checkpoint.pth')

    def evaluate(self, epoch, meter=None):
        """Accuracy of the model, and of the averaged weights. -> whether this epoch's model is the best so far."""
        result = evaluate(self.model, self.val_batches, self, meter)
        self.last_acc1 = result['acc1']
        best = epoch is not None and (self.best_acc1 is None or result['acc1'] > self.best_acc1)
        if best:
            self.best_acc1, self.best_epoch = result['acc1'], epoch
        note = '' if self.val_counted == self.val_size else ', a sample of %d' % self.val_size
        bad = len(self.val_batches.bad)
        note += ', %d unreadable on rank 0' % bad if bad else ''
        self.log.evaluation(note, epoch=epoch, weights='model', best_acc1=self.best_acc1, best_epoch=self.best_epoch, **result)
        if self.ema is not None:
            result = evaluate(self.ema.module, self.val_batches, self)
            self.log.evaluation(note + ', averaged weights', epoch=epoch, weights='ema', **result)
        return best

    def conclude(self, meter):
        """The run's last lines: throughput, checkpoint, end."""
        measured = meter.result(self.ranks)
        self.log.event('throughput', **measured)
        if measured['fps'] is None:
            self.log.say(log_formats.NO_THROUGHPUT_LINE.format(**measured))
        else:
            self.log.say(log_formats.THROUGHPUT_LINE.format(data_percent=100 * measured['data_wait'], **measured))
        best = self.path('checkpoint.pth') if self.args.case != 'eval' else self.args.resume
        self.log.say('Checkpoint: %s' % best)
        self.log.event('end', checkpoint=best, complete=True)

    def close(self):
        """Ends the loading processes, and lets go of the process group of `stop`."""
        for batches in (self.batches, self.val_batches):
            if batches is not None:
                batches.close()
        self.stop.close()

    # ---- keeping

    def path(self, name):
        return os.path.abspath(os.path.join(self.args.output_dir, name))

    def save(self, name, epoch, step):
        """The primary rank writes the state to go on with at (epoch, step). Another run's file of that name is renamed."""
        last = epoch >= self.epochs
        if not self.ranks.primary or not (last or step or epoch % self.args.save_freq == 0 or name == 'model_best.pth'):
            return
        path = self.path(name)
        if path not in self.saved_over:
            aside = checkpoint.set_aside(path)
            if aside:
                self.log.say('%s of an earlier run is now %s' % (path, aside))
            self.saved_over.add(path)
        checkpoint.save(self.state(epoch, step), path)

    def state(self, epoch, step):
        args = {k: list(v) if isinstance(v, (list, tuple)) else v for k, v in vars(self.args).items() if k not in ('explicit', 'notes')}
        return {'format': 1, 'arch': self.args.model, 'epoch': epoch, 'step': step,
                'global_batch': self.args.batch_size * self.ranks.world, 'state_dict': self.precision.weights(self.model, self.optimizer),
                'state_dict_ema': self.ema.module.state_dict() if self.ema is not None else None,
                'optimizer': self.optimizer.state_dict(), 'scaler': self.precision.state_dict(),
                'best_acc1': self.best_acc1, 'best_epoch': self.best_epoch, 'classes': self.classes, 'args': args}


