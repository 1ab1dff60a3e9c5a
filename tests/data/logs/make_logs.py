#!/usr/bin/env python3
"""Writes the logs beside this file, by the print statements' forms of the formats they stand for:  python make_logs.py [FOLDER]

Made-up runs, so that every number is known: an epoch of STEPS steps, of which step i takes seconds(i), EPOCHS epochs. The
expected results are in expected.json, worked out by hand from these rules, not by the parser.
"""
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EPOCHS, STEPS, EVERY, BATCH = 3, 100, 10, 512


def seconds(i):
    """The first two steps of an epoch are slow (compilation, workers), every tenth waits a little for data."""
    return 20. if i == 0 else 2. if i == 1 else .5 if i % 10 == 9 else .25


def data_seconds(i):
    return 1. if i == 0 else .25 if i % 10 == 9 else .0


def mean(of, i, window=None):
    first = 0 if window is None else max(0, i + 1 - window)
    return sum(of(k) for k in range(first, i + 1)) / (i + 1 - first)


def loss(epoch, i):
    return 7 - 2 * epoch - .015 * i


def mean_loss(epoch, i):
    return 7 - 2 * epoch - .0075 * i


def acc1(epoch):
    return (41.25, 60.5, 58.125)[epoch]


def acc5(epoch):
    return acc1(epoch) + 20


def printed(last=True):
    """The steps that a loop prints: every tenth, and the last."""
    return [i for i in range(STEPS) if i % EVERY == 0 or (last and i == STEPS - 1)]


def timm(old, fps_lines=False):
    train = ('Train: {} [{:>4d}/{} ({:>3.0f}%)]  Loss: {:#.4g} ({:#.3g})  ' if old else
             'Train: {} [{:>4d}/{} ({:>3.0f}%)]  Loss: {:#.3g} ({:#.3g})  ')
    train += 'Time: {:.3f}s, {:>7.2f}/s  ({:.3f}s, {:>7.2f}/s)  LR: {:.3e}  Data: {:.3f} ({:.3f})'
    test = ('{}: [{:>4d}/{}]  Time: {:.3f} ({:.3f})  Loss: {:>7.4f} ({:>6.4f})  Acc@1: {:>7.4f} ({:>7.4f})  Acc@5: {:>7.4f} ({:>7.4f})' if old else
            '{}: [{:>4d}/{}]  Time: {:.3f} ({:.3f})  Loss: {:>7.3f} ({:>6.3f})  Acc@1: {:>7.3f} ({:>7.3f})  Acc@5: {:>7.3f} ({:>7.3f})')
    yield 'Training in distributed mode with multiple processes, 1 device per process. Process 0, total 8.'
    yield 'Model convmixer_1536_20 created, param count:51625256'
    yield 'Scheduled epochs: %d' % EPOCHS
    for epoch in range(EPOCHS):
        for i in printed():
            now, average = seconds(i), mean(seconds, i)
            yield train.format(epoch, i, STEPS, 100. * i / (STEPS - 1), loss(epoch, i), mean_loss(epoch, i), now, BATCH / now, average,
                               BATCH / average, 1e-3, data_seconds(i), mean(data_seconds, i))
        if fps_lines:
            yield 'FPS:{:.2f}'.format(BATCH * (STEPS - 5) / sum(map(seconds, range(5, STEPS))))
        for i in (0, 50, 97):
            value = acc1(epoch) if i == 97 else 30.
            yield test.format('Test', i, 97, .659, .298, .9513, 1.0809 - epoch / 10, 80.0595, value, 97.0238, value + 20)
        yield "Current checkpoints:\n ('./output/checkpoint-%d.pth.tar', %r)\n" % (epoch, acc1(epoch))
    yield '*** Best metric: {} (epoch {})'.format(acc1(1), 1)


def meters(epoch, i, more='', eta='0:00:30'):
    """A line of a metric logger: means over the last 20 steps."""
    head = 'Epoch: [{}]  [{:>4d}/{}]'.format(epoch, i, STEPS)
    return '  '.join([head, 'eta: ' + eta, 'lr: {:.6f}'.format(1e-6)] + more[:1] + ['loss: {:.4f} ({:.4f})'.format(loss(epoch, i), mean_loss(epoch, i))]
                     + more[1:2] + ['time: {:.4f}'.format(mean(seconds, i, 20))] + more[2:] +
                     ['data: {:.4f}'.format(mean(data_seconds, i, 20)), 'max mem: 123'])


def namespace(prefix=''):
    return prefix + "Namespace(batch_size=64, data_path='/data/imagenet', epochs=3, model='pcpvt_small_v0', resume='', world_size=8)"


def deit_end(epoch, prefix=''):
    yield prefix + 'Averaged stats: lr: 0.000001  loss: {0:.4f} ({0:.4f})'.format(mean_loss(epoch, STEPS - 1))
    yield prefix + 'Test:  [ 0/98]  eta: 0:01:00  loss: 1.0 (1.0)  acc1: 70.0 (70.0)  acc5: 90.0 (90.0)  time: 0.6  data: 0.4  max mem: 123'
    yield prefix + '* Acc@1 {:.3f} Acc@5 {:.3f} loss {:.3f}'.format(acc1(epoch), acc5(epoch), 1. - epoch / 10)
    yield prefix + 'Accuracy of the network on the 50000 test images: {:.1f}%'.format(acc1(epoch))
    yield prefix + 'Max accuracy: {:.2f}%'.format(max(map(acc1, range(epoch + 1))))


def deit():
    yield '| distributed init (rank 0): env://'
    yield namespace()
    for epoch in range(EPOCHS):
        for i in printed():
            yield meters(epoch, i, [], '1 day, 2:03:04' if i == 0 else '0:00:30')
        yield 'Epoch: [{}] Total time: 0:00:50 (0.5000 s / it)'.format(epoch)
        yield from deit_end(epoch)
    yield 'Training time 0:03:00'


def twins():
    yield '| distributed init (rank 0): env://'
    for epoch in range(EPOCHS):
        for i in printed():
            fps = 0. if i < 26 else BATCH / mean(seconds, i, 20)
            yield meters(epoch, i, []).replace('  data:', '  fps:{:.4f}  data:'.format(fps))
        yield 'Epoch: [{}] Total time: 0:00:50 (0.5000 s / it)'.format(epoch)
        yield from deit_end(epoch)
    yield 'Training time 0:03:00'


def spach():
    def prefix(minute, second, line=175):
        return '[2023-01-01 10:%02d:%02d spach_ms_s_patch4_224_conv] (utils.py %d): INFO ' % (minute, second, line)
    yield prefix(0, 0) + 'number of params: 44000000'
    for epoch in range(EPOCHS):
        for i in printed():
            yield prefix(epoch, i // 2) + meters(epoch, i, [])
        yield prefix(epoch, 50) + 'Epoch: [{}] FPS: {:.2f} ({:.2f} s / it)'.format(
            epoch, BATCH * STEPS / sum(map(seconds, range(3, STEPS))), .3)
        yield from deit_end(epoch, prefix(epoch, 55))
    yield prefix(3, 0) + 'Training time 0:03:00'


def torchvision():
    yield 'Not using distributed mode'
    yield namespace().replace(', world_size=8', '').replace('batch_size=64', 'batch_size=512') .replace(')', ', world_size=1)')
    for epoch in range(EPOCHS):
        for i in printed(False):
            yield meters(epoch, i, ['img/s: %s' % (BATCH / .2), 'acc1: 0.0000 (0.1000)  acc5: 0.0000 (0.5000)'])
        yield 'Epoch: [{}] Total time: 0:00:50'.format(epoch)
        yield 'Test:   [ 0/98]  eta: 0:01:00  loss: 1.0 (1.0)  acc1: 70.0 (70.0)  acc5: 90.0 (90.0)  time: 0.6  data: 0.4  max mem: 123'
        yield 'Test:  Total time: 0:00:20'
        yield 'Test:  Acc@1 {:.3f} Acc@5 {:.3f}'.format(acc1(epoch), acc5(epoch))
    yield 'Training time 0:03:00'


def imagenet(vit=False):
    base = 0 if vit else 1           # the example counted from 0 once and counts from 1 today
    for epoch in range(EPOCHS):
        if vit:
            yield '=> Epoch[%d] Setting lr: 0.0300' % epoch
        for i in printed(False):
            yield '\t'.join(['Epoch: [{}][{:>4d}/ {:>3d}]'.format(epoch, i + base, STEPS), 'Time {:6.3f} ({:6.3f})'.format(seconds(i), mean(seconds, i)),
                             'Data {:6.3f} ({:6.3f})'.format(data_seconds(i), mean(data_seconds, i)),
                             'Loss {:.4e} ({:.4e})'.format(loss(epoch, i), mean_loss(epoch, i)), 'Acc@1 {:6.2f} ({:6.2f})'.format(1., 2.),
                             'Acc@5 {:6.2f} ({:6.2f})'.format(5., 6.)])
        if vit:
            per_step = sum(map(seconds, range(2, STEPS))) / (STEPS - 2)
            for card in (0, 1):
                yield '[npu id: {} ] batch_size: {} Time: {:.3f} * FPS@all {:.3f}'.format(card, BATCH, per_step, BATCH / per_step)
        for i in (0, 50):
            yield '\t'.join(['Test: [{:>3d}/{}]'.format(i + base, 98), 'Time  0.300 ( 0.400)', 'Loss 1.0000e+00 (1.0000e+00)', 'Acc@1  80.47 ( 80.55)',
                             'Acc@5  95.00 ( 95.00)'])
        yield ('[gpu id: 0 ] [AVG-ACC]' if vit else '') + ' * Acc@1 {:.3f} Acc@5 {:.3f}'.format(acc1(epoch), acc5(epoch))


def mlperf():
    def entry(ms, kind, key, value, **metadata):
        return ':::MLLOG ' + json.dumps({'namespace': '', 'time_ms': ms, 'event_type': kind, 'key': key, 'value': value, 'metadata': metadata})
    yield entry(0, 'POINT_IN_TIME', 'submission_benchmark', 'resnet', file='train.py', lineno=1)
    yield entry(1000, 'INTERVAL_START', 'init_start', None)
    yield entry(1500, 'POINT_IN_TIME', 'global_batch_size', BATCH)
    yield entry(2000, 'INTERVAL_START', 'run_start', None)
    for epoch in range(EPOCHS):
        yield entry(2000 + 60000 * epoch, 'INTERVAL_START', 'epoch_start', None, epoch_num=epoch)
        yield entry(60000 + 60000 * epoch, 'INTERVAL_END', 'tracked_stats', {'throughput': 1000. + 100 * epoch}, step=100)
        yield entry(62000 + 60000 * epoch, 'INTERVAL_END', 'eval_accuracy', acc1(epoch) / 100, epoch_num=epoch)
    yield entry(190000, 'INTERVAL_END', 'run_stop', None, status='success')


def ours():
    sys.path.insert(0, str(HERE.parents[2]))
    from common import log_formats as f
    yield f.RUN_LINE.format(case='full', model='van_b0', parameters=4.1, classes=1000, img_size=224, ranks=8, device_kind='npu', device='Ascend910', precision='float16 (apex O1)')
    yield f.SIZES_LINE.format(train_size=51200, steps=STEPS, global_batch=BATCH, epochs=EPOCHS, lr=1e-3, workers=8)
    for epoch in range(EPOCHS):
        for i in range(EVERY - 1, STEPS, EVERY):
            step = mean(seconds, i, EVERY)
            yield f.TRAIN_LINE.format(epoch=epoch, step=i + 1, steps=STEPS, percent=100. * (i + 1) / STEPS, loss=loss(epoch, i), fps=BATCH / step,
                                      step_ms=1000 * step, data_percent=100 * mean(data_seconds, i, EVERY) / step, lr=1e-3, eta='1 day, 0:00:10')
        yield f.EVAL_LINE.format(acc1=acc1(epoch), acc5=acc5(epoch), loss=1.5 - epoch / 10, images=50000, seconds=12.3, note='')
        yield f.EVAL_LINE.format(acc1=acc1(epoch) - 1, acc5=acc5(epoch), loss=1.5, images=50000, seconds=12.3, note=', averaged weights')
    yield f.THROUGHPUT_LINE.format(fps=1869.52, steps=280, warmup_steps=20, step_ms=273.9, step_ms_p50=250., step_ms_p95=500., data_percent=9.5,
                                   peak_memory_mb=12345.)
    yield 'Checkpoint: /out/checkpoint.pth'


def metrics():
    yield json.dumps({'event': 'run', 'time': 1000., 'network': 'VAN-Classification_for_PyTorch', 'case': 'full', 'model': 'van_b0', 'ranks': 8,
                      'batch_size': 64, 'device': 'Ascend910', 'device_kind': 'npu', 'precision': 'float16',
                      'environment': {'versions': {'torch': '2.1.0'}}, 'args': {'resume': None}})
    best = None
    for epoch in range(EPOCHS):
        for i in range(EVERY - 1, STEPS, EVERY):
            step = mean(seconds, i, EVERY)
            yield json.dumps({'event': 'train', 'time': 1000. + 100 * epoch + i, 'epoch': epoch, 'step': i + 1, 'steps': STEPS, 'loss': loss(epoch, i),
                              'fps': BATCH / step, 'step_ms': 1000 * step, 'data_wait': mean(data_seconds, i, EVERY) / step, 'lr': 1e-3, 'eta': 10})
        best = epoch if best is None or acc1(epoch) > acc1(best) else best
        yield json.dumps({'event': 'eval', 'time': 1100. + 100 * epoch, 'epoch': epoch, 'weights': 'model', 'acc1': acc1(epoch), 'acc5': acc5(epoch),
                          'loss': 1.5 - epoch / 10, 'images': 50000, 'seconds': 12.3, 'best_acc1': acc1(best), 'best_epoch': best})
    yield json.dumps({'event': 'throughput', 'time': 1301., 'fps': 1869.52, 'fps_reason': None, 'fps_run': 1500., 'step_ms': 273.9, 'step_ms_p50': 250.,
                      'step_ms_p95': 500., 'data_wait': .095, 'steps': 280, 'images': 143360, 'seconds': 76.7, 'warmup_steps': 20, 'peak_memory_mb': 12345.})
    yield json.dumps({'event': 'end', 'time': 1302., 'checkpoint': '/out/checkpoint.pth', 'complete': True})


def summary(fps='376.64/s', accuracy='80.2', loss='2.638 (2.98)', more=()):
    yield from ('%s = %s' % item for item in [
        ('Network', 'ConvMixer'), ('RankSize', 8), ('BatchSize', 64), ('DeviceType', 'aarch64'), ('CaseName', 'ConvMixer_bs64_8p_acc'),
        ('ActualFPS', fps), ('TrainingTime', '1359.39'), ('TrainAccuracy', accuracy), ('ActualLoss', loss), ('E2ETrainingTime', 98765)])
    yield from more


def summary_spach(fps='2936.68', loss='2.5381', accuracy='81.23%'):
    yield from ('%s = %s' % item for item in [
        ('Network', 'SPACH_for_PyTorch'), ('RankSize', 8), ('BatchSize', 128), ('DeviceType', 'aarch64'), ('CaseName', 'SPACH_for_PyTorch_bs128_8p_acc'),
        ('AvgFPS', fps), ('MinLoss', loss), ('MaxAccuracy', accuracy), ('E2ETrainingTime', 98765)])


def stdout():
    """What a script of the original folders prints at its end, after nohup's noise (GBK)."""
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
    'convmixer.log': timm(True), 'van.log': timm(True, True), 'timm.log': timm(False), 'spach.log': spach(), 'vit.log': imagenet(True), 'twins.log': twins(),
    'deit.log': deit(), 'imagenet.log': imagenet(), 'torchvision.log': torchvision(), 'mlperf.log': mlperf(), 'ours.log': ours(), 'metrics.jsonl': metrics(),
    'summary.log': summary(), 'summary_spach.log': summary_spach(), 'stdout.log': stdout(), 'crashed.log': crashed(),
    'crashed_summary.log': summary('', '', ''), 'crashed_spach.log': summary_spach('-nan', '65536', '0'),
}


def main(folder):
    for name, lines in LOGS.items():
        (Path(folder) / name).write_bytes(''.join(line + '\n' for line in lines).encode())


if __name__ == '__main__':
    main(sys.argv[1] if len(sys.argv) > 1 else HERE)
