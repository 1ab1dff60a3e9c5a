"""Reads what a run left behind. Standard library only, Python 3.7 on; the templates of our own lines stand here too.

    python -m common.log_parser summary PATH [--json]

PATH is a metrics.jsonl or a folder that holds one. Exit 1 when there is nothing to summarise.
"""
import argparse
import json
import os
import re
import sys

# ---- our own lines: run_log.py fills them in; FPS:, Loss: and "* Acc@1 n Acc@5 n" are what public tools look for
TRAIN_LINE = ('Train: {epoch} [{step:>4}/{steps} ({percent:>3.0f}%)]  Loss: {loss:.4f}  FPS: {fps:.2f}  Step: {step_ms:.1f} ms'
              '  Data: {data_percent:.1f}%  LR: {lr:.3e}  ETA: {eta}')
EVAL_LINE = ' * Acc@1 {acc1:.3f} Acc@5 {acc5:.3f} Loss: {loss:.4f}  ({images} images, {seconds:.1f} s{note})'
FINAL_RULE = '------------------ Final result ------------------'
FINAL_LINES = (('Final Performance images/sec', 'ActualFPS'), ('Final Train Accuracy', 'TrainAccuracy'),
               ('E2E Training Duration sec', 'E2ETrainingTime'))
MISSING = 'N/A'
CASE_SUFFIX = {'full': 'acc', 'performance': 'perf', 'eval': 'eval', 'finetune': 'finetune'}
ERROR_MARK = '[Error]'
DIGITS = {'fps': 2, 'min_loss': 4, 'best_acc1': 3}     # after the point, in a summary


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
    result = dict.fromkeys(('network', 'case', 'model', 'ranks', 'batch_size', 'device', 'fps', 'fps_reason', 'fps_run',
                            'step_ms', 'step_ms_p50', 'step_ms_p95', 'data_wait', 'peak_memory_mb', 'last_acc1', 'last_acc5',
                            'last_epoch', 'eval_images', 'eval_seconds', 'eval_loss', 'best_acc1', 'best_epoch',
                            'ema_acc1', 'final_loss', 'min_loss', 'summary_also', 'steps', 'epochs', 'seconds', 'checkpoint', 'complete'))
    losses, epochs = [], set()
    for event in events:
        kind, fields = event['event'], {k: v for k, v in event.items() if k not in ('event', 'time')}
        if kind == 'train':
            losses.append(fields.get('loss'))
            epochs.add(fields.get('epoch'))
        elif kind == 'eval' and fields.get('weights') == 'ema':
            result['ema_acc1'] = fields.get('acc1')
        elif kind == 'eval':
            result.update(last_acc1=fields.get('acc1'), last_acc5=fields.get('acc5'), last_epoch=fields.get('epoch'),
                          eval_images=fields.get('images'), eval_seconds=fields.get('seconds'), eval_loss=fields.get('loss'),
                          best_acc1=fields.get('best_acc1'), best_epoch=fields.get('best_epoch'))
        elif kind in ('run', 'throughput', 'end'):
            result.update(fields)
    if losses:
        result['final_loss'] = losses[-1]
        result['min_loss'] = min((loss for loss in losses if loss is not None), default=None)
    result.update(losses=losses, epochs=len(epochs) or None, complete=bool(result['complete']))
    return result


def failure_reason(log_path):
    """The sentence in a failed run's raw log: our own error line, else the exception, else the last line.

    Of several the first counts: a rank that dies takes the others down, and they complain after it.
    """
    try:
        with open(log_path, 'rb') as f:
            f.seek(max(0, os.path.getsize(log_path) - 200000))
            lines = f.read().decode('utf-8', 'replace').splitlines()
    except OSError:
        return 'the run left no log'
    lines = [line.strip() for line in lines if line.strip()]
    said = [line for line in lines if ERROR_MARK in line]
    if said:
        return said[0][said[0].index(ERROR_MARK) + len(ERROR_MARK):].strip()
    raised = [line for line in lines if re.match(r'(\[rank\d+\]: ?)?[\w.]*(Error|Exception|Interrupt)\b', line)
              and 'ChildFailedError' not in line]
    return raised[0] if raised else (lines or ['the run left an empty log'])[-1]


def case_name(result):
    """<Network>_bs<BatchSize>_<RankSize>p_<perf|acc|eval|finetune>"""
    known = (show(result[key]).replace(MISSING, 'NA') for key in ('network', 'batch_size', 'ranks'))   # it names files
    return '%s_bs%s_%sp_%s' % (*known, CASE_SUFFIX.get(result['case'], result['case']))


def show(value, digits=None):
    """A bare number, or N/A."""
    if value is None:
        return MISSING
    return '%.*f' % (digits, value) if digits is not None else str(value)


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
    also = [(key, show(result[field] if ok else None, DIGITS[field])) for key, field in (result['summary_also'] or {}).items()]
    if not ok:
        return items + also + [('Reason', result['reason'])]
    if evaluating:
        items += [('ActualAccuracy', show(result['last_acc1'], 3)), ('E2EEvalTime', show(result['e2e_seconds']))]
    else:
        items += [('BestAccuracy', show(result['best_acc1'], 3)), ('BestEpoch', show(result['best_epoch'])),
                  ('EmaAccuracy', show(result['ema_acc1'], 3)), ('Checkpoint', show(result['checkpoint']))]
    return items + also + [
        ('Model', show(result['model'])), ('Device', show(result['device'])), ('EvalImages', show(result['eval_images'])),
        ('StepTimeP50', show(result['step_ms_p50'], 2)), ('StepTimeP95', show(result['step_ms_p95'], 2)),
        ('DataWait', show(result['data_wait'], 4)), ('PeakMemoryMB', show(result['peak_memory_mb'], 0)),
        ('FPSWholeRun', show(result['fps_run'], 2)),
    ] + ([('FPSReason', result['fps_reason'])] if result['fps_reason'] else [])


def main(argv=None):
    parser = argparse.ArgumentParser(prog='python -m common.log_parser', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', metavar='summary')
    summary = commands.add_parser('summary', help='what one run measured')
    summary.add_argument('path', help='metrics.jsonl, or the folder that holds it')
    summary.add_argument('--json', action='store_true', help='as one JSON object')
    args = parser.parse_args(argv)
    if args.command is None:
        parser.error('name a command: summary')
    path = os.path.join(args.path, 'metrics.jsonl') if os.path.isdir(args.path) else args.path
    events, problems = read_events(path)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not events:
        print('%s %s holds no event of a run' % (ERROR_MARK, path), file=sys.stderr)
        return 1
    result = summarize(events)
    result['problems'] = problems
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        for key, value in result.items():
            if key not in ('losses', 'args', 'environment'):
                print('%-16s %s' % (key, show(value)))
    return 0


if __name__ == '__main__':
    sys.exit(main())
