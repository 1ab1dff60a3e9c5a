#!/usr/bin/env python3
"""Writes the logs beside this file, in the forms of the formats they stand for:  python make_logs.py [FOLDER]

Made-up trainings, so that every number is known: an epoch of STEPS steps, of which step i takes seconds(i), EPOCHS
epochs. The expected results are in expected.json, worked out by hand from these rules, not by the parser.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EPOCHS, STEPS, EVERY, BATCH = 3, 100, 10, 512


def seconds(i):
    """The first two steps of an epoch are slow (compilation, workers), every tenth waits a little for data."""
    return 20.0 if i == 0 else 2.0 if i == 1 else 0.5 if i % 10 == 9 else 0.25


def data_seconds(i):
    return 1.0 if i == 0 else 0.25 if i % 10 == 9 else 0.0


def mean(of, i, window=None):
    first = 0 if window is None else max(0, i + 1 - window)
    return sum(of(k) for k in range(first, i + 1)) / (i + 1 - first)


def rate_without(skipped):
    """Images per second of an epoch without its first steps."""
    return BATCH * (STEPS - skipped) / sum(map(seconds, range(skipped, STEPS)))


def loss(epoch, i):
    return 7 - 2 * epoch - 0.015 * i


def mean_loss(epoch, i):
    return 7 - 2 * epoch - 0.0075 * i


def acc1(epoch):
    return (41.25, 60.5, 58.125)[epoch]


def acc5(epoch):
    return acc1(epoch) + 20


def printed(last=True):
    """The steps that a loop prints: every tenth, and the last."""
    return [i for i in range(STEPS) if i % EVERY == 0 or (last and i == STEPS - 1)]


def timm(old, fps_lines=False):
    """old: as timm printed it when ConvMixer and VAN were trained."""
    digits = '#.4g' if old else '#.3g'
    d = 4 if old else 3  # decimals of an evaluation
    yield 'Training in distributed mode with multiple processes, 1 device per process. Process 0, total 8.'
    yield 'Model convmixer_1536_20 created, param count:51625256'
    yield f'Scheduled epochs: {EPOCHS}'
    for epoch in range(EPOCHS):
        for i in printed():
            now, average, percent = seconds(i), mean(seconds, i), 100.0 * i / (STEPS - 1)
            losses = f'{loss(epoch, i):{digits}} ({mean_loss(epoch, i):#.3g})'
            times = f'{now:.3f}s, {BATCH / now:>7.2f}/s  ({average:.3f}s, {BATCH / average:>7.2f}/s)'
            data = f'{data_seconds(i):.3f} ({mean(data_seconds, i):.3f})'
            head = f'Train: {epoch} [{i:>4d}/{STEPS} ({percent:>3.0f}%)]'
            yield f'{head}  Loss: {losses}  Time: {times}  LR: {1e-3:.3e}  Data: {data}'
        if fps_lines:
            yield f'FPS:{rate_without(5):.2f}'
        for i in (0, 50, 97):
            value = acc1(epoch) if i == 97 else 30.0
            losses = f'{0.9513:>7.{d}f} ({1.0809 - epoch / 10:>6.{d}f})'
            top1 = f'{80.0595:>7.{d}f} ({value:>7.{d}f})'
            top5 = f'{97.0238:>7.{d}f} ({value + 20:>7.{d}f})'
            yield f'Test: [{i:>4d}/97]  Time: 0.659 (0.298)  Loss: {losses}  Acc@1: {top1}  Acc@5: {top5}'
        yield f"Current checkpoints:\n ('./output/checkpoint-{epoch}.pth.tar', {acc1(epoch)})\n"
    yield f'*** Best metric: {acc1(1)} (epoch 1)'


def meters(epoch, i, before='', after='', fps='', eta='0:00:30'):
    """A line of a metric logger: means over the last 20 steps. before, after: further meters beside the loss."""
    losses = f'{loss(epoch, i):.4f} ({mean_loss(epoch, i):.4f})'
    time, data = mean(seconds, i, 20), mean(data_seconds, i, 20)
    head = f'Epoch: [{epoch}]  [{i:>4d}/{STEPS}]  eta: {eta}  lr: 0.000001'
    return f'{head}  {before}loss: {losses}  {after}time: {time:.4f}  {fps}data: {data:.4f}  max mem: 123'


TEST_METERS = '[ 0/98]  eta: 0:01:00  loss: 1.0 (1.0)  acc1: 70.0 (70.0)  acc5: 90.0 (90.0)  '
TEST_METERS += 'time: 0.6  data: 0.4  max mem: 123'


def namespace(batch, ranks):
    given = f"batch_size={batch}, data_path='/data/imagenet', epochs=3, model='pcpvt_small_v0', resume=''"
    return f'Namespace({given}, world_size={ranks})'


def deit_end(epoch, prefix=''):
    last = mean_loss(epoch, STEPS - 1)
    yield f'{prefix}Averaged stats: lr: 0.000001  loss: {last:.4f} ({last:.4f})'
    yield f'{prefix}Test:  {TEST_METERS}'
    yield f'{prefix}* Acc@1 {acc1(epoch):.3f} Acc@5 {acc5(epoch):.3f} loss {1.0 - epoch / 10:.3f}'
    yield f'{prefix}Accuracy of the network on the 50000 test images: {acc1(epoch):.1f}%'
    yield f'{prefix}Max accuracy: {max(map(acc1, range(epoch + 1))):.2f}%'


def deit():
    yield '| distributed init (rank 0): env://'
    yield namespace(64, 8)
    for epoch in range(EPOCHS):
        for i in printed():
            yield meters(epoch, i, eta='1 day, 2:03:04' if i == 0 else '0:00:30')
        yield f'Epoch: [{epoch}] Total time: 0:00:50 (0.5000 s / it)'
        yield from deit_end(epoch)
    yield 'Training time 0:03:00'


def twins():
    yield '| distributed init (rank 0): env://'
    for epoch in range(EPOCHS):
        for i in printed():
            fps = 0.0 if i < 26 else BATCH / mean(seconds, i, 20)
            yield meters(epoch, i, fps=f'fps:{fps:.4f}  ')
        yield f'Epoch: [{epoch}] Total time: 0:00:50 (0.5000 s / it)'
        yield from deit_end(epoch)
    yield 'Training time 0:03:00'


def spach():
    def prefix(minute, second):
        return f'[2023-01-01 10:{minute:02d}:{second:02d} spach_ms_s_patch4_224_conv] (utils.py 175): INFO '

    yield prefix(0, 0) + 'number of params: 44000000'
    for epoch in range(EPOCHS):
        for i in printed():
            yield prefix(epoch, i // 2) + meters(epoch, i)
        fps = BATCH * STEPS / sum(map(seconds, range(3, STEPS)))
        yield prefix(epoch, 50) + f'Epoch: [{epoch}] FPS: {fps:.2f} (0.30 s / it)'
        yield from deit_end(epoch, prefix(epoch, 55))
    yield prefix(3, 0) + 'Training time 0:03:00'


def torchvision():
    yield 'Not using distributed mode'
    yield namespace(512, 1)
    for epoch in range(EPOCHS):
        for i in printed(False):
            accuracies = 'acc1: 0.0000 (0.1000)  acc5: 0.0000 (0.5000)  '
            yield meters(epoch, i, before=f'img/s: {BATCH / 0.2}  ', after=accuracies)
        yield f'Epoch: [{epoch}] Total time: 0:00:50'
        yield f'Test:   {TEST_METERS}'
        yield 'Test:  Total time: 0:00:20'
        yield f'Test:  Acc@1 {acc1(epoch):.3f} Acc@5 {acc5(epoch):.3f}'
    yield 'Training time 0:03:00'


def imagenet(vit=False):
    base = 0 if vit else 1  # the example counted from 0 once and counts from 1 today
    for epoch in range(EPOCHS):
        if vit:
            yield f'=> Epoch[{epoch}] Setting lr: 0.0300'
        for i in printed(False):
            parts = [
                f'Epoch: [{epoch}][{i + base:>4d}/ {STEPS:>3d}]',
                f'Time {seconds(i):6.3f} ({mean(seconds, i):6.3f})',
                f'Data {data_seconds(i):6.3f} ({mean(data_seconds, i):6.3f})',
                f'Loss {loss(epoch, i):.4e} ({mean_loss(epoch, i):.4e})',
            ]
            more = [] if vit else ['lr 0.1000']
            yield '\t'.join([*parts, 'Acc@1   1.00 (  2.00)', 'Acc@5   5.00 (  6.00)', *more])
        for card in (0, 1) if vit else ():
            fps = rate_without(2)
            yield f'[npu id: {card} ] batch_size: {BATCH} Time: {BATCH / fps:.3f} * FPS@all {fps:.3f}'
        for i in (0, 50):
            parts = [f'Test: [{i + base:>3d}/98]', 'Time  0.300 ( 0.400)', 'Loss 1.0000e+00 (1.0000e+00)']
            yield '\t'.join([*parts, 'Acc@1  80.47 ( 80.55)', 'Acc@5  95.00 ( 95.00)'])
        head = '[gpu id: 0 ] [AVG-ACC] *' if vit else ' *  '
        yield f'{head} Acc@1 {acc1(epoch):.3f} Acc@5 {acc5(epoch):.3f}'


def ema1(epoch):
    """Acc@1 of the averaged weights: poor at first, better than the model at the end."""
    return (0.125, 40.5, 61.75)[epoch]


def imagenet_old():
    """The example as it was for years: Prec@1, steps from 0, no width for the numbers."""
    yield "=> creating model 'resnet18'"
    for epoch in range(EPOCHS):
        for i in printed(False):
            parts = [
                f'Epoch: [{epoch}][{i}/{STEPS}]',
                f'Time {seconds(i):.3f} ({mean(seconds, i):.3f})',
                f'Data {data_seconds(i):.3f} ({mean(data_seconds, i):.3f})',
                f'Loss {loss(epoch, i):.4f} ({mean_loss(epoch, i):.4f})',
            ]
            yield '\t'.join([*parts, 'Prec@1 1.000 (2.000)', 'Prec@5 5.000 (6.000)'])
        yield '\t'.join(
            ['Test: [0/98]', 'Time 0.300 (0.400)', 'Loss 1.0000 (1.0000)', 'Prec@1 80.47 (80.55)', 'Prec@5 9.0 (9.0)']
        )
        yield f' * Prec@1 {acc1(epoch):.3f} Prec@5 {acc5(epoch):.3f}'


def swin(kin=False):
    """Swin's logger. kin: as MLLA, which counts from 1, prints no weight decay, and evaluates the averaged weights
    too, the first time before the first epoch.
    """

    def line(text, place=216):
        return f'[2024-05-06 07:{minute:02d}:00 tiny_patch4_window7_224] (main.py {place}): INFO {text}'

    def evaluated(value, whose='network'):
        yield line(
            '\t'.join(
                [
                    'Test: [10/98]',
                    'Time 0.300 (0.400)',
                    'Loss 1.0 (1.0)',
                    'Acc@1 1.0 (1.0)',
                    'Acc@5 2.0 (2.0)',
                    'Mem 456MB',
                ]
            )
        )
        yield line(f' * Acc@1 {value:.3f} Acc@5 {value + 20:.3f}')
        yield line(f'Accuracy of the {whose} on the 50000 test images: {value:.1f}%')

    minute, base, more = 0, int(kin), '' if kin else ' wd 0.0500\t'
    yield 'RANK and WORLD_SIZE in environ: 0/8'
    yield line('Full config saved to output/config.json', 349)
    yield line(
        'AMP_ENABLE: true\nDATA:\n  BATCH_SIZE: 64\n  IMG_SIZE: 224\nMODEL:\n  NAME: tiny_patch4_window7_224', 352
    )
    yield from evaluated(ema1(0), 'ema network') if kin else ()
    for epoch in range(EPOCHS):
        for i in printed(False):
            minute = 10 * epoch + i // 20
            head = f'Train: [{epoch + base}/{EPOCHS}][{i + base}/{STEPS}]\teta 0:00:30 lr 0.000100\t{more}'
            times = (
                f'time {seconds(i):.4f} ({mean(seconds, i):.4f})\tloss {loss(epoch, i):.4f} ({mean_loss(epoch, i):.4f})'
            )
            yield line(f'{head}{times}\tgrad_norm 1.2345 (2.3456)\tmem 456MB')
        yield line(f'EPOCH {epoch + base} training takes 0:00:50')
        yield from evaluated(acc1(epoch))
        yield from evaluated(ema1(epoch), 'ema network') if kin else ()
        yield line(f'Max accuracy: {max(map(acc1, range(epoch + 1))):.2f}%')
        if kin:
            yield line(f'Max ema accuracy: {max(map(ema1, range(epoch + 1))):.2f}%')
    minute = 30
    yield line('Training time 0:30:00')


def convnext():
    """DeiT's loop with an evaluation of the averaged weights after that of the model; Namespace over several lines, as
    MAE prints it.
    """
    yield namespace(32, 16).replace(', ', ',\n')
    yield f'Start training for {EPOCHS} epochs'
    for epoch in range(EPOCHS):
        for i in printed():
            yield meters(
                epoch, i, before='min_lr: 0.000001  ', after='class_acc: 0.1000 (0.1000)  weight_decay: 0.05  '
            )
        yield f'Averaged stats: loss: {mean_loss(epoch, STEPS - 1):.4f}'
        yield f'* Acc@1 {acc1(epoch):.3f} Acc@5 {acc5(epoch):.3f} loss 1.000'
        yield f'Accuracy of the model on the 50000 test images: {acc1(epoch):.1f}%'
        yield f'Max accuracy: {max(map(acc1, range(epoch + 1))):.2f}%'
        yield f'* Acc@1 {ema1(epoch):.3f} Acc@5 {ema1(epoch) + 20:.3f} loss 1.100'
        yield f'Accuracy of the model EMA on 50000 test images: {ema1(epoch):.1f}%'
        yield f'Max EMA accuracy: {max(map(ema1, range(epoch + 1))):.2f}%'
    yield 'Training time 1:02:03'


def log_txt():
    for epoch in range(EPOCHS):
        said = dict(
            train_lr=1e-4, train_loss=mean_loss(epoch, STEPS - 1), test_loss=1.5 - epoch / 10, test_acc1=acc1(epoch)
        )
        said.update(
            test_acc5=acc5(epoch), epoch=epoch, n_parameters=28589128, test_loss_ema=1.2, test_acc1_ema=ema1(epoch)
        )
        yield json.dumps(said)


def summary_csv():
    yield 'epoch,train_loss,eval_loss,eval_top1,eval_top5,lr'
    for epoch in range(EPOCHS):
        yield f'{epoch},{mean_loss(epoch, STEPS - 1)},{1.5 - epoch / 10},{acc1(epoch)},{acc5(epoch)},0.0001'


MEASURED = dict(fps=1869.52, step_ms=273.9, step_ms_p50=250.0, step_ms_p95=500.0, steps=280, warmup_steps=20)


def line_of_ours(epoch, i):
    """The numbers of a training line: means over the last EVERY steps."""
    step = mean(seconds, i, EVERY)
    wait = mean(data_seconds, i, EVERY) / step
    said = dict(epoch=epoch, step=i + 1, steps=STEPS, loss=loss(epoch, i), fps=BATCH / step, step_ms=1000 * step)
    return dict(said, data_wait=wait, lr=1e-3)


def ours():
    sys.path.insert(0, str(HERE.parents[2]))
    from common import messages

    device = dict(ranks=8, device_kind='npu', device='Ascend910', precision='float16 (apex O1)')
    yield messages.RUN_LINE.format(case='full', model='van_b0', parameters=4.1, classes=1000, img_size=224, **device)
    sizes = dict(train_size=51200, steps=STEPS, global_batch=BATCH, epochs=EPOCHS, lr=1e-3, workers=8)
    yield messages.SIZES_LINE.format(**sizes)
    for epoch in range(EPOCHS):
        for i in range(EVERY - 1, STEPS, EVERY):
            said, percent = line_of_ours(epoch, i), 100.0 * (i + 1) / STEPS
            data = 100 * said['data_wait']
            yield messages.TRAIN_LINE.format(percent=percent, data_percent=data, eta='1 day, 0:00:10', **said)
        said = dict(acc5=acc5(epoch), images=50000, seconds=12.3)
        yield messages.EVAL_LINE.format(acc1=acc1(epoch), loss=1.5 - epoch / 10, note='', **said)
        yield messages.EVAL_LINE.format(acc1=acc1(epoch) - 1, loss=1.5, note=', averaged weights', **said)
    yield messages.THROUGHPUT_LINE.format(data_percent=9.5, peak_memory_mb=12345.0, **MEASURED)
    yield 'Checkpoint: /out/checkpoint.pth'


def metrics():
    sys.path.insert(0, str(HERE.parents[2]))
    from common import messages

    def event(kind, time, **fields):
        return json.dumps(dict(event=kind, time=time, **fields))

    run = dict(network='VAN-Classification_for_PyTorch', case='full', model='van_b0', ranks=8, batch_size=64)
    run.update(device='Ascend910', device_kind='npu', precision='float16')
    yield event('run', 1000.0, **run, environment={'versions': {'torch': '2.1.0'}}, args={'resume': None})
    best = 0
    for epoch in range(EPOCHS):
        start = 1000.0 + 100 * epoch
        for i in range(EVERY - 1, STEPS, EVERY):
            said = dict(line_of_ours(epoch, i), eta=10)
            yield event('train', start + i, **{name: said[name] for name in messages.STEP_FIELDS})
        best = max(best, epoch, key=acc1)
        said = dict(epoch=epoch, weights='model', acc1=acc1(epoch), acc5=acc5(epoch), loss=1.5 - epoch / 10)
        said.update(images=50000, seconds=12.3, best_acc1=acc1(best), best_epoch=best)
        yield event('eval', start + 100, **said)
    said = dict(MEASURED, fps_reason=None, fps_run=1500.0, data_wait=0.095, images=143360, seconds=76.7)
    yield event('throughput', 1301.0, **said, peak_memory_mb=12345.0)
    yield event('end', 1302.0, checkpoint='/out/checkpoint.pth', complete=True)


def summary(fps='376.64/s', accuracy='80.2', loss='2.638 (2.98)'):
    yield from ('Network = ConvMixer', 'RankSize = 8', 'BatchSize = 64', 'DeviceType = aarch64')
    yield from ('CaseName = ConvMixer_bs64_8p_acc', f'ActualFPS = {fps}', 'TrainingTime = 1359.39')
    yield from (f'TrainAccuracy = {accuracy}', f'ActualLoss = {loss}', 'E2ETrainingTime = 98765')


def summary_spach(fps='2936.68', loss='2.5381', accuracy='81.23%'):
    yield from ('Network = SPACH_for_PyTorch', 'RankSize = 8', 'BatchSize = 128', 'DeviceType = aarch64')
    yield from ('CaseName = SPACH_for_PyTorch_bs128_8p_acc', f'AvgFPS = {fps}', f'MinLoss = {loss}')
    yield from (f'MaxAccuracy = {accuracy}', 'E2ETrainingTime = 98765')


def stdout():
    """What a script of the original folders prints at its end."""
    yield '------------------ Final result ------------------'
    yield 'Final Performance images/sec : 2936.68'
    yield 'Final Train Accuracy : 81.23'
    yield 'E2E Training Duration sec : 98765'


def crashed():
    yield from list(timm(True))[:12]
    yield 'Traceback (most recent call last):'
    yield '  File "train.py", line 812, in <module>'
    yield 'RuntimeError: HCCL error in: ProcessGroupHCCL.cpp:55'


LOGS = {
    'convmixer.log': timm(True),
    'van.log': timm(True, True),
    'timm.log': timm(False),
    'spach.log': spach(),
    'vit.log': imagenet(True),
    'twins.log': twins(),
    'deit.log': deit(),
    'imagenet.log': imagenet(),
    'torchvision.log': torchvision(),
    'imagenet_old.log': imagenet_old(),
    'swin.log': swin(),
    'mlla.log': swin(kin=True),
    'convnext.log': convnext(),
    'log.txt': log_txt(),
    'summary.csv': summary_csv(),
    'ours.log': ours(),
    'metrics.jsonl': metrics(),
    'summary.log': summary(),
    'summary_spach.log': summary_spach(),
    'stdout.log': stdout(),
    'crashed.log': crashed(),
    'crashed_summary.log': summary('', '', ''),
    'crashed_spach.log': summary_spach('-nan', '65536', '0'),
}


def main(folder):
    for name, lines in LOGS.items():
        (Path(folder) / name).write_bytes(''.join(line + '\n' for line in lines).encode())


if __name__ == '__main__':
    main(sys.argv[1] if len(sys.argv) > 1 else HERE)
