"""What each kind of line does to the training that it belongs to. Training lines are in log.py: they come in columns.

A handler is a function (log, values, raw, number): the values of the form's groups, the line, its number. It may raise
ValueError, TypeError, KeyError and the like where the line does not hold what it should; Log.handle reports the line.
"""

import json
import re
from typing import Any, Dict, Optional

from common.logs.evaluations import Evaluation
from common.logs.forms import SUMMARY_KEYS
from common.logs.values import percent, positive, real, stamp, text
from common.messages import MISSING

ARGUMENTS = {  # of an argparse.Namespace
    'batch_size': re.compile(rb'\bbatch_size=(\d+)[,)]'),
    'ranks': re.compile(rb'\bworld_size=(\d+)[,)]'),
    'model': re.compile(rb"\bmodel='([^']+)'"),
}
SAID_BY_RUN = ('network', 'case', 'model', 'ranks', 'batch_size', 'device', 'device_kind', 'precision')
MEASURED = ('fps', 'fps_run', 'step_ms', 'step_ms_p50', 'step_ms_p95', 'data_wait', 'peak_memory_mb')
TEXTS = ('network', 'case_name', 'model', 'device', 'status', 'reason', 'fps_reason')  # of a summary
COUNTS = ('ranks', 'batch_size', 'best_epoch')
NUMBER = re.compile(r'(\d+(?:\.\d+)?)(?:/s|%| \(\S+\))?$')  # of a summary: 376.64/s, 81.23%, 2.638 (2.98)
NO_NUMBER = re.compile(r'(-?nan|-?inf)?$')
SUMMARY_BEGINS = 8  # after so many values of a summary, a Network is the first line of another summary


# ---- where a training begins, goes on or fails


def on_begin(log, values, raw, number):
    fields = {name: text(value) for name, value in values.items() if name in ('model', 'case', 'device')}
    arguments = values.get('arguments')
    if arguments is not None:
        found = {name: regex.search(arguments) for name, regex in ARGUMENTS.items()}
        fields.update({name: text(match.group(1)) for name, match in found.items() if match})
    given = dict(values, **fields)
    fields.update({name: int(given[name]) for name in ('ranks', 'batch_size') if name in given})
    if 'batch_size' in fields and 'ranks' in fields:
        fields['global_batch'] = fields['batch_size'] * fields['ranks']
    log.run.announce('begin', fields)


def on_sizes(log, values, raw, number):
    log.run.current_fields()['global_batch'] = int(values['global_batch'])


def on_resume(log, values, raw, number):
    log.run.announce('resume', {}, raw)


def on_error(log, values, raw, number):
    log.settle()
    log.run.fail(text(values['reason']) or 'an error without a word')


# ---- evaluations


def on_eval(log, values, raw, number):
    if not log.run.is_first_rank(values.get('id')):
        return
    acc1, acc5 = percent(values['acc1']), percent(values['acc5'])
    loss = float(values['loss']) if values.get('loss') else None
    if values.get('ema') or b'averaged weights' in (values.get('note') or b''):
        log.run.fields['ema_acc1'] = acc1
        return
    log.settle()
    log.run.clock.tick(stamp(raw))
    log.run.evaluation(Evaluation(acc1, acc5, loss))


def on_coarse(log, values, raw, number):
    """The accuracy with one decimal, beside or instead of a line that states it in full."""
    if not values['ema']:
        log.settle()
        log.run.evaluation(Evaluation(percent(values['acc1']), coarse=True))


def on_best(log, values, raw, number):
    epoch = int(values['epoch']) if values.get('epoch') else None
    log.run.evaluations.best_claim = (percent(values['acc1']), epoch)
    log.run.series.closed = True


# ---- throughput


def on_claim(log, values, raw, number):
    if not log.run.is_first_rank(values.get('id')):
        return
    fps = positive(values['fps'])
    if values.get('batch'):
        batch = int(values['batch'])  # of one process or of all of them: the time of the same line tells
        log.run.fields['global_batch'] = batch * max(1, round(fps * float(values['time']) / batch))
    log.run.claim(fps, raw)


def on_throughput(log, values, raw, number):
    run = log.run
    if values.get('fps_reason') is not None:
        run.fields['fps_reason'] = text(values['fps_reason'])
    else:
        measured = {name: float(values[name]) for name in MEASURED if name in values}
        measured.update(fps=positive(values['fps']), data_wait=float(values['data_percent']) / 100)
        run.measured = dict(measured, measured_steps=int(values['steps']))
    run.fields['status'] = 'OK'
    run.series.closed = True


# ---- summaries


def on_final(log, values, raw, number):
    for field, value in values.items():
        state(log, field, field, text(value), number)
    log.run.series.closed = True


def on_summary(log, values, raw, number):
    key, value = text(values['key']), text(values['value'])
    if key == 'Network' and len(log.run.stated) >= SUMMARY_BEGINS:
        log.begin()
    state(log, key, SUMMARY_KEYS[key], value, number)


def state(log, key: str, field: str, value: str, number: int) -> None:
    """Takes a value of a summary. Scripts of other code bases write a summary of a crashed training too: it holds
    blanks, nan, a rate of 0 or a loss of 65536, which are reported as failures and not taken for numbers.
    """
    stated = log.run.stated
    if field in TEXTS:
        stated[field] = value if value != MISSING else None
        return
    given = NUMBER.match(value)
    found = float(given.group(1)) if given else None
    empty = is_empty(field, value, found)
    if found is None and value != MISSING and not NO_NUMBER.match(value):
        raise ValueError(value)
    if value != MISSING and (found is None or empty):
        problem = f'{key} is {value or "blank"}'
        log.problem(number, f'{problem}, no number')
        if field in ('fps', 'min_loss'):
            stated.setdefault('failure', problem)
    stated[field] = None if found is None or empty else int(found) if field in COUNTS else found


def is_empty(field: str, value: str, number: Optional[float]) -> bool:
    """Whether a number of a summary is what a script writes where it found none."""
    if number == 0:
        return field == 'fps' or (value in ('0', '0%') and 'acc' in field)
    return number == 65536 and 'loss' in field


# ---- events of our metrics.jsonl


def on_event(log, values, raw, number):
    event = json.loads(text(values['json']))
    handler = EVENTS.get(event['event'])
    if handler is not None:
        handler(log, event)
    log.run.clock.tick(real(event.get('time')))


def event_run(log, event):
    fields = {name: event.get(name) for name in SAID_BY_RUN}
    fields['torch'] = torch_version(event)
    resumed = (event.get('args') or {}).get('resume')
    log.run.announce('resume' if resumed else 'begin', fields, event.get('time'))


def event_eval(log, event):
    acc1, acc5, best = (percent(event.get(name)) for name in ('acc1', 'acc5', 'best_acc1'))
    if event.get('weights') == 'ema':
        log.run.fields['ema_acc1'] = acc1
    elif acc1 is not None:
        log.settle()
        log.run.clock.tick(real(event.get('time')))
        log.run.evaluation(Evaluation(acc1, acc5, real(event.get('loss')), real(event.get('epoch'))))
        log.run.evaluations.best_claim = (best, real(event.get('best_epoch'))) if best is not None else None


def event_throughput(log, event):
    run = log.run
    run.measured = {name: real(event.get(name)) for name in MEASURED}
    run.measured['measured_steps'] = event.get('steps')
    run.fields['fps_reason'] = event.get('fps_reason')
    run.series.closed = True


def event_end(log, event):
    log.run.fields.update(status='OK' if event.get('complete') else None, checkpoint=event.get('checkpoint'))
    log.run.series.closed = True


EVENTS = {'run': event_run, 'eval': event_eval, 'throughput': event_throughput, 'end': event_end}


# ---- entries of MLPerf's logging


def on_mllog(log, values, raw, number):
    if values['key'] not in MLLOG:
        return
    entry = json.loads(text(values['json']))
    handler, milliseconds = MLLOG.get(entry['key'].encode()), real(entry.get('time_ms'))
    clock = milliseconds / 1000 if milliseconds is not None else None
    if handler is not None:
        handler(log, entry.get('value'), entry.get('metadata') or {}, raw, clock)
    log.run.clock.tick(clock)


def mllog_start(log, value, metadata, raw, clock):
    log.run.announce('begin', {}, raw)


def mllog_accuracy(log, value, metadata, raw, clock):
    """A share, or percent."""
    log.settle()
    log.run.clock.tick(clock)
    share = real(value)
    acc1 = percent(100 * share if share <= 1 else share)
    log.run.evaluation(Evaluation(acc1, epoch=real(metadata.get('epoch_num'))))


def mllog_stop(log, value, metadata, raw, clock):
    status = metadata.get('status')
    if status not in (None, 'success'):
        log.run.fail(f'run_stop says {status}')
    else:
        log.run.fields['status'] = 'OK'


def mllog_batch(log, value, metadata, raw, clock):
    log.run.current_fields()['global_batch'] = int(value)


def mllog_rate(log, value, metadata, raw, clock):
    log.run.claim(positive(value['throughput'] if isinstance(value, dict) else value), raw)


MLLOG = {
    b'init_start': mllog_start,
    b'run_start': mllog_start,
    b'run_stop': mllog_stop,
    b'eval_accuracy': mllog_accuracy,
    b'global_batch_size': mllog_batch,
    b'throughput': mllog_rate,
    b'tracked_stats': mllog_rate,
}

HANDLERS = {  # kind of a form -> its handler
    'begin': on_begin,
    'sizes': on_sizes,
    'resume': on_resume,
    'error': on_error,
    'eval': on_eval,
    'coarse': on_coarse,
    'best': on_best,
    'claim': on_claim,
    'throughput': on_throughput,
    'final': on_final,
    'summary': on_summary,
    'event': on_event,
    'mllog': on_mllog,
}


# ---- a result.json


def take_result(log, result: Dict[str, Any]) -> None:
    """ValueError where the object is no result of a training."""
    if 'status' not in result:
        raise ValueError('a JSON object without a status is no result of a run')
    run = log.run
    run.tags.add('result')
    more = ('case_name', 'checkpoint', 'last_acc5', 'last_epoch', 'eval_loss', 'fps_reason')
    run.fields.update((name, result.get(name)) for name in SAID_BY_RUN + more)
    run.fields['torch'] = torch_version(result)
    run.measured = {name: real(result.get(name)) for name in MEASURED}
    run.measured['measured_steps'] = real(result.get('steps'))
    run.training.epochs = real(result.get('epochs')) or 0
    accuracies = ('last_acc1', 'best_acc1', 'best_epoch', 'ema_acc1', 'final_loss', 'min_loss')
    run.stated.update((name, real(result.get(name))) for name in accuracies)
    take_verdict(log, result)


def take_verdict(log, result: Any) -> None:
    """What launch.sh found out about the training when it had ended."""
    if isinstance(result, dict) and result.get('status') in ('OK', 'FAILED'):
        log.run.fields.update(status=result['status'], reason=result.get('reason'))
        log.run.stated['seconds'] = real(result.get('e2e_seconds'))


def torch_version(said: Dict[str, Any]) -> Optional[str]:
    return ((said.get('environment') or {}).get('versions') or {}).get('torch')
