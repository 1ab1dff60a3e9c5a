"""What launch.sh makes of a run's events: the result, the reason of a failure, the lines of <CaseName>.log. Standard library only."""

import json
import os
import re

from common.log_formats import ERROR_MARK, MISSING
from common.log_report import show

CASE_SUFFIX = {'full': 'acc', 'performance': 'perf', 'eval': 'eval', 'finetune': 'finetune'}
DIGITS = {'fps': 2, 'min_loss': 4, 'best_acc1': 3}  # after the point, in a summary


def read_events(path):
    """metrics.jsonl -> (list of events, list of problems with line numbers). A line that is cut is a problem, no error."""
    events, problems = [], []
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            for number, line in enumerate(f, 1):
                try:
                    event = json.loads(line)
                except ValueError:
                    event = None
                if isinstance(event, dict) and 'event' in event:
                    events.append(event)
                elif line.strip():
                    problems.append('%s:%d: not an event' % (path, number))
    except OSError as e:
        problems.append('%s: %s' % (path, e.strerror or e))
    return events, problems


def summarize(events):
    """Events -> one dict; None for whatever the run did not measure.

    last_acc1/last_acc5/last_epoch: the last evaluation; best_*: the best one. Percent. Throughput: see throughput.py.
    """
    result = dict.fromkeys(
        (
            'network',
            'case',
            'model',
            'ranks',
            'batch_size',
            'device',
            'fps',
            'fps_reason',
            'fps_run',
            'step_ms',
            'step_ms_p50',
            'step_ms_p95',
            'data_wait',
            'peak_memory_mb',
            'last_acc1',
            'last_acc5',
            'last_epoch',
            'eval_images',
            'eval_seconds',
            'eval_loss',
            'best_acc1',
            'best_epoch',
            'ema_acc1',
            'final_loss',
            'min_loss',
            'summary_also',
            'steps',
            'epochs',
            'seconds',
            'checkpoint',
            'complete',
        )
    )
    losses, epochs = [], set()
    for event in events:
        kind, fields = event['event'], {k: v for k, v in event.items() if k not in ('event', 'time')}
        if kind == 'train':
            losses.append(fields.get('loss'))
            epochs.add(fields.get('epoch'))
        elif kind == 'eval' and fields.get('weights') == 'ema':
            result['ema_acc1'] = fields.get('acc1')
        elif kind == 'eval':
            result.update(
                last_acc1=fields.get('acc1'),
                last_acc5=fields.get('acc5'),
                last_epoch=fields.get('epoch'),
                eval_images=fields.get('images'),
                eval_seconds=fields.get('seconds'),
                eval_loss=fields.get('loss'),
                best_acc1=fields.get('best_acc1'),
                best_epoch=fields.get('best_epoch'),
            )
        elif kind in ('run', 'throughput', 'end'):
            result.update(fields)
    if losses:
        result['final_loss'] = losses[-1]
        result['min_loss'] = min((loss for loss in losses if loss is not None), default=None)
    result.update(losses=losses, epochs=len(epochs) or None, complete=bool(result['complete']))
    return result


def failure_reason(log_path):
    """The sentence in a failed run's raw log: our own error line or the exception, else the last line.

    Of several the first counts: a rank that dies takes the others down, and they complain after it.
    """
    try:
        with open(log_path, 'rb') as f:
            f.seek(max(0, os.path.getsize(log_path) - 200000))
            lines = f.read().decode('utf-8', 'replace').splitlines()
    except OSError:
        return 'the run left no log'
    lines = [line.strip() for line in lines if line.strip()]
    for line in lines:
        if ERROR_MARK in line:
            return line[line.index(ERROR_MARK) + len(ERROR_MARK) :].strip()
        if re.match(r'(\[rank\d+\]: ?)?[\w.]*(Error|Exception|Interrupt)\b', line) and 'ChildFailedError' not in line:
            return line
    return (lines or ['the run left an empty log'])[-1]


def case_name(result):
    """<Network>_bs<BatchSize>_<RankSize>p_<perf|acc|eval|finetune>"""
    known = (show(result[key]).replace(MISSING, 'NA') for key in ('network', 'batch_size', 'ranks'))  # it names files
    return '%s_bs%s_%sp_%s' % (*known, CASE_SUFFIX.get(result['case'], result['case']))


def summary_items(result):
    """The result -> the (Key, text) pairs of <CaseName>.log, in their order."""
    ok = result['status'] == 'OK'
    evaluating = result['case'] == 'eval'
    items = [
        ('Network', result['network']),
        ('RankSize', show(result['ranks'])),
        ('BatchSize', show(result['batch_size'])),
        ('DeviceType', result['device_type']),
        ('CaseName', case_name(result)),
        ('ActualFPS', show(result['fps'] if ok else None, 2)),
        ('TrainingTime', show(result['step_ms'] if ok and not evaluating else None, 2)),
        ('TrainAccuracy', show(result['last_acc1'] if ok else None, 3)),
        ('ActualLoss', show((result['eval_loss'] if evaluating else result['final_loss']) if ok else None, 4)),
        ('E2ETrainingTime', show(result['e2e_seconds'])),
        ('Status', result['status']),
    ]
    # a folder's own historical names: {key of the summary: field of the result}
    also = [
        (key, show(result[field] if ok else None, DIGITS[field]))
        for key, field in (result['summary_also'] or {}).items()
    ]
    if not ok:
        return items + also + [('Reason', result['reason'])]
    if evaluating:
        items += [('ActualAccuracy', show(result['last_acc1'], 3)), ('E2EEvalTime', show(result['e2e_seconds']))]
    else:
        items += [
            ('BestAccuracy', show(result['best_acc1'], 3)),
            ('BestEpoch', show(result['best_epoch'])),
            ('EmaAccuracy', show(result['ema_acc1'], 3)),
            ('Checkpoint', show(result['checkpoint'])),
        ]
    return (
        items
        + also
        + [
            ('Model', show(result['model'])),
            ('Device', show(result['device'])),
            ('EvalImages', show(result['eval_images'])),
            ('StepTimeP50', show(result['step_ms_p50'], 2)),
            ('StepTimeP95', show(result['step_ms_p95'], 2)),
            ('DataWait', show(result['data_wait'], 4)),
            ('PeakMemoryMB', show(result['peak_memory_mb'], 0)),
            ('FPSWholeRun', show(result['fps_run'], 2)),
        ]
        + ([('FPSReason', result['fps_reason'])] if result['fps_reason'] else [])
    )
