"""What each kind of line does to the training that it belongs to. Training lines are in log.py: they come in columns.

A handler is a function (log, form, values, number): the line's form, the values of its groups, and the line's number.
It may raise ValueError, TypeError and the like where the line does not hold what it should; Log.handle reports the line.
"""

import json
import math
import re
from typing import Any, Dict

from common.logs.forms import ARGUMENT, EPOCH_RECORD, STEP_EVENT, SUMMARY_KEYS, TRAIN_FORMS, Form
from common.logs.logged_run import EMA, MODEL, Evaluation
from common.logs.series import EPOCH
from common.logs.values import TEXTS, field, fields, first, percent, real, text
from common.messages import MISSING, STEP_FIELDS

Values = Dict[str, Any]  # bytes of a line or values of JSON; None for a group that the line has not
NUMBER = re.compile(r'(\d*\.?\d+)(?:/s|%| \(\S+\))?$')  # of a summary: 376.64/s, 81.23%, 2.638 (2.98), .25
COARSE = 0.0501  # percent; how far an accuracy that is printed with one decimal may be from the one in full
ROUNDING = 0.006  # percent; the best accuracy that a log states may be printed with two decimals
MAX_EPOCH = 10**5  # no training has so many
IGNORED_WITHIN = 30  # lines within which an exception that Python ignores prints what it was


def on_process(log: Any, form: Form, values: Values, number: int) -> None:
    """What a process says of itself before its first step: that it begins, or goes on from a checkpoint, and facts."""
    if form.kind != 'facts':
        log.announce(resumed=form.kind == 'resume')
    if 'epochs' in values:  # of our own line: how many there are to be
        values = dict(values, epochs=None, planned_epochs=values['epochs'])
    log.state(values)
    for argument in ARGUMENT.finditer(values.get('arguments') or b''):
        log.state(argument.groupdict())


def on_end(log: Any, form: Form, values: Values, number: int) -> None:
    """All that was to be done is done; how long it took, or how fast it was."""
    log.run.fields.update(fields(values))
    if values.get('clock'):
        hours, minutes, seconds = map(int, values['clock'].split(b':'))
        log.run.fields['seconds'] = ((24 * int(values['days'] or 0) + hours) * 60 + minutes) * 60 + seconds
    if values.get('data_percent'):
        log.run.fields.update(data_wait=float(values['data_percent']) / 100, measured=True)
    log.run.end('OK', ended=True)


def on_ignored(log: Any, form: Form, values: Values, number: int) -> None:
    log.ignored_at = number


def on_error(log: Any, form: Form, values: Values, number: int) -> None:
    if number - log.ignored_at > IGNORED_WITHIN:
        weak = values.get('weak')
        log.run.end('FAILED', text(weak or values['reason']) or 'an error without a word', weak is not None)
    log.ignored_at = -math.inf


def owner_of(values: Values) -> str:
    averaged = b'averaged weights' in (values.get('note') or b'') or values.get('weights') == EMA
    return EMA if averaged or values.get('ema') or values.get('ema2') else MODEL


def evaluation(log: Any, values: Values, number: int) -> Evaluation:
    acc1, acc5, epoch = percent(values['acc1']), percent(values.get('acc5')), real(values.get('epoch'))
    run = log.run
    return Evaluation(acc1, acc5, real(values.get('loss')), first(epoch, run.epoch), run.seconds(), number)


def on_eval(log: Any, form: Form, values: Values, number: int) -> None:
    """An evaluation; or a 'star', which does not say whose accuracy it is, and may wait for a 'label', which does, but
    has one decimal only.
    """
    if values.get('step') and int(values['step']) < int(values['steps']):  # not the last line of an evaluation
        return
    run, new = log.run, evaluation(log, values, number)
    if form.kind == 'star':
        if log.format == 'ours':
            raise ValueError('a line of ours that is cut')
        log.settle_evaluation()
        run.waiting = new
        return
    if form.kind == 'label':
        run.has_labels = True
        if run.waiting is not None and abs(run.waiting.acc1 - new.acc1) <= COARSE:
            new, run.waiting = run.waiting, None
    run.evaluate(owner_of(values), new)


def on_best(log: Any, form: Form, values: Values, number: int) -> None:
    """Max accuracy stands after every evaluation; the best metric, of timm, at the end: it is that of the averaged
    weights if those were evaluated.
    """
    log.settle_evaluation()
    run, epoch = log.run, values.get('epoch')
    if owner_of(values) == MODEL and not (epoch and run.fields.get('ema_acc1') is not None):
        run.best(percent(values['acc1']), int(epoch) if epoch else None, rounding=ROUNDING)
    if epoch:
        run.end('OK')


def on_claim(log: Any, form: Form, values: Values, number: int) -> None:
    """A line between the training lines states the rate of an epoch."""
    run, fps, seconds = log.run, float(values['fps']), first(values.get('time'), values.get('time2'))
    run.claims, run.claims_sum = run.claims + (fps > 0), run.claims_sum + fps
    run.fields.update(fields({'batch_size': values.get('batch_size')}))
    if seconds is not None:
        run.images.add([values['fps']], [seconds])


def on_summary(log: Any, form: Form, values: Values, number: int) -> None:
    key, value = text(values['key']), text(values['value'])
    name = SUMMARY_KEYS[key]
    if key == 'Network' and 'e2e_seconds' in log.run.fields:
        log.begin()
    if name not in TEXTS:
        state_number(log, key, name, value, number)
    else:
        log.run.fields[name] = value if value != MISSING else None
    if key == 'Status':  # only our launch.sh writes one
        log.run.fields.update(measured=value == 'OK', ended=value == 'OK')


def state_number(log: Any, key: str, name: str, value: str, number: int) -> None:
    """Takes a number of a summary. Scripts of other code bases write a summary of a crashed training too: it holds
    blanks, nan, a rate of 0 or a loss of 65536, which are reported as failures and not taken for numbers.
    """
    given = NUMBER.match(value)
    found = float(given.group(1)) if given else None
    if found is None and value not in (MISSING, '', 'nan', '-nan', 'inf', '-inf'):
        raise ValueError(value)
    if 'acc1' in name:
        percent(found)
    nothing = found is None or (found == 65536 and 'loss' in name)
    nothing = nothing or (found == 0 and (name == 'fps' or ('acc' in name and value in ('0', '0%'))))
    if nothing and value != MISSING:
        problem = f'{key} is {value or "blank"}'
        log.problem(number, f'{problem}, no number')
        if name in ('fps', 'min_loss'):
            log.run.end('FAILED', problem)
    if log.run.fields.get(name) is None:  # what lines of the training said counts more
        log.run.fields[name] = None if nothing else field(name, found)


def on_event(log: Any, form: Form, values: Values, number: int) -> None:
    event = json.loads(text(values['json']))
    kind, time = event['event'], real(event.get('time'))
    if kind == 'run':
        arguments = event.get('args') or {}
        log.announce(resumed=bool(arguments.get('resume')))
        log.state(dict(event, torch=version_of(event), planned_epochs=arguments.get('epochs')))
    elif kind == 'train':  # whose fields stand in another order than ours
        step_event(log, event)
    elif kind == 'eval':
        log.settle(time)
        if real(event.get('acc1')) is not None:
            log.run.evaluate(owner_of(event), evaluation(log, event, number))
        if real(event.get('best_acc1')) is not None:
            log.run.best(percent(event['best_acc1']), field('best_epoch', event.get('best_epoch')), rounding=ROUNDING)
    elif kind == 'throughput':
        log.run.fields.update(fields(event), measured=True)
        log.run.series.closed = True
    elif kind == 'end' and event.get('complete'):
        log.run.end('OK', ended=True)
    if log.announced is None:
        log.run.tick(time)


def step_event(log: Any, event: Values) -> None:
    form = next(form for form in TRAIN_FORMS if form.name == STEP_EVENT)
    epoch, step, steps = (int(event[name]) for name in ('epoch', 'step', 'steps'))
    if not (0 <= epoch < MAX_EPOCH and 0 < step <= steps):
        raise ValueError(event)
    columns = {name: [event[name]] for name in (*STEP_FIELDS, 'time') if real(event.get(name)) is not None}
    columns['loss'] = [math.nan if event['loss'] is None else float(event['loss'])]
    log.train(form, dict(columns, clock=columns['time'], steps=[steps]), [epoch * EPOCH + step])


def version_of(said: Values) -> Any:
    return ((said.get('environment') or {}).get('versions') or {}).get('torch')


def take_result(log: Any, raw: bytes) -> bool:
    """Whether the text is that of a result.json, which says what a training measured and how launch.sh saw it end."""
    try:
        result = json.loads(text(raw))
    except (ValueError, RecursionError):
        return False
    if not isinstance(result, dict) or 'status' not in result:
        return False
    status = result['status'] if result['status'] in ('OK', 'FAILED') else None
    log.run.tags.add('result')
    said = dict(result, torch=version_of(result), status=status)
    log.run.fields.update(fields(said), measured=True, ended=status == 'OK')
    return True


def on_epoch(log: Any, form: Form, values: Values, number: int) -> None:
    """An object of a log.txt."""
    epoch_record(log, json.loads(text(values['json'])), number)


def on_header(log: Any, form: Form, values: Values, number: int) -> None:
    """Names of columns become those of a log.txt. With --model-ema, timm evaluates the averaged weights last, and writes
    their accuracy under the same name as the model's; the args.yaml beside the file tells.
    """
    averaged = log.run.fields.get('model_ema')
    if averaged is None:
        log.problem(number, 'if timm ran with --model-ema, these accuracies are of the averaged weights')
    names = (
        re.sub(r'\beval_(?:top|prec)', 'test_acc', text(values['names'])).replace('eval_loss', 'test_loss').split(',')
    )
    log.csv_columns = [f'{name}_ema' if averaged == 'true' and 'test_' in name else name for name in names]


def on_row(log: Any, form: Form, values: Values, number: int) -> None:
    """Of timm's summary.csv."""
    cells = values['cells'].split(b',')
    if len(cells) == len(log.csv_columns):
        epoch_record(log, {name: float(cell or 'nan') for name, cell in zip(log.csv_columns, cells)}, number)


def epoch_record(log: Any, record: Values, number: int) -> None:
    """Means over the epoch, and accuracies of the model and of the averaged weights."""
    epoch, loss = int(record['epoch']), record.get('train_loss')
    if not 0 <= epoch < MAX_EPOCH:
        raise ValueError(epoch)
    if loss is not None:
        columns = {'loss': [float(loss)], 'steps': [1], 'lr': [real(first(record.get('train_lr'), record.get('lr')))]}
        log.train(EPOCH_RECORD, columns, [epoch * EPOCH + 1])
    for owner, end in ((MODEL, ''), (EMA, '_ema')):
        if real(record.get(f'test_acc1{end}')) is not None:
            evaluated = {name: record.get(f'test_{name}{end}') for name in ('acc1', 'acc5', 'loss')}
            log.run.evaluate(owner, evaluation(log, dict(evaluated, epoch=epoch), number))


HANDLERS = dict(  # by kind of a form
    **dict.fromkeys(('begin', 'facts', 'resume'), on_process),
    **dict.fromkeys(('eval', 'star', 'label'), on_eval),
    **dict(best=on_best, claim=on_claim, end=on_end, error=on_error, ignored=on_ignored, summary=on_summary),
    **dict(event=on_event, epoch=on_epoch, header=on_header, row=on_row),
)
