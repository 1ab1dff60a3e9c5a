"""What each kind of line does to the training that it belongs to. Training lines are in log.py: they come in columns.

A handler is a function (log, values, raw, number): the values of the form's groups, the line, its number. It may raise
ValueError, TypeError, KeyError and the like where the line does not hold what it should; Log.handle reports the line.
"""

import json
import re
from typing import Any, Dict

from common.logs.evaluations import EMA, MODEL, Evaluation
from common.logs.forms import EPOCH_RECORD, SUMMARY_KEYS
from common.logs.series import EPOCH
from common.logs.timing import Images
from common.logs.values import count, first, percent, positive, real, text, words
from common.messages import MISSING

Values = Dict[str, bytes]  # None for a group that the line has not
# Of an argparse.Namespace; whose images batch_size is, and what world_size counts, the format says
ARGUMENTS = dict(batch_size='batch_size', world_size='world_size', epochs='planned_epochs', model='model', arch='model')
ARGUMENT = re.compile(rb"\b(batch_size|world_size|epochs|model|arch)='?([^',)]{1,200})'?[,)]")
GIVEN = 'ranks batch_size global_batch world_size planned_epochs'.split()
SAID_BY_RUN = 'network case model device device_kind precision case_name checkpoint'.split()
COUNTED_BY_RUN = ('ranks', 'batch_size')
MEASURED = 'fps fps_run step_ms step_ms_p50 step_ms_p95 data_wait peak_memory_mb'.split()
RESULTS = 'epochs last_acc1 last_acc5 last_epoch best_acc1 best_epoch ema_acc1 eval_loss final_loss min_loss'.split()
TEXTS = 'network case_name model device status reason fps_reason'.split()  # of a summary; the others are numbers
COUNTS = ('ranks', 'batch_size', 'best_epoch')
NUMBER = re.compile(r'(\d*\.?\d+)(?:/s|%| \(\S+\))?$')  # of a summary: 376.64/s, 81.23%, 2.638 (2.98), .25
MAX_EPOCH = 10**5  # no training has so many
IGNORED_WITHIN = 30  # lines within which an exception that Python ignores prints what it was

# ---- where a training begins, goes on or ends


def facts(values: Values) -> Dict[str, Any]:
    """What a line says of a training before it begins."""
    found: Dict[str, Any] = {name: text(values[name]) for name in ('model', 'case', 'device') if values.get(name)}
    found.update((name, int(values[name])) for name in GIVEN if values.get(name))
    return dict(found, planned_epochs=int(values['epochs'])) if values.get('epochs') else found  # of our own line


def on_begin(log: Any, values: Values, raw: bytes, number: int) -> None:
    log.run.announce('begin', facts(values))


def on_facts(log: Any, values: Values, raw: bytes, number: int) -> None:
    log.run.current_fields().update(facts(values))


def on_arguments(log: Any, values: Values, raw: bytes, number: int) -> None:
    """A Namespace(...), or the first of its lines."""
    said = dict(ARGUMENT.findall(values['arguments']))
    log.run.announce('begin', facts({ARGUMENTS[text(key)]: value for key, value in said.items()}))


def on_argument(log: Any, values: Values, raw: bytes, number: int) -> None:
    """One of the further lines of a Namespace(...)."""
    log.run.current_fields().update(facts({ARGUMENTS[text(values['key'])]: values['value']}))


def on_resume(log: Any, values: Values, raw: bytes, number: int) -> None:
    log.run.announce('resume', {}, raw)


def on_end(log: Any, values: Values, raw: bytes, number: int) -> None:
    hours, minutes, seconds = map(int, values['clock'].split(b':'))
    log.settle(raw)
    log.run.fields.update(seconds=((24 * int(values['days'] or 0) + hours) * 60 + minutes) * 60 + seconds, ended=True)
    log.run.end('OK')


def on_ignored(log: Any, values: Values, raw: bytes, number: int) -> None:
    log.ignored_at = number


def on_error(log: Any, values: Values, raw: bytes, number: int) -> None:
    ignored, log.ignored_at = log.ignored_at is not None and number - log.ignored_at <= IGNORED_WITHIN, None
    if not ignored:
        log.settle(raw)
        weak = values.get('weak')
        log.run.end('FAILED', text(weak or values['reason']) or 'an error without a word', weak is not None)


# ---- evaluations


def owner_of(values: Values) -> str:
    averaged = b'averaged weights' in (values.get('note') or b'')
    return EMA if averaged or values.get('ema') or values.get('ema2') else MODEL


def evaluation(log: Any, values: Values, raw: bytes, number: int, coarse: bool = False) -> Evaluation:
    acc1, acc5 = percent(values['acc1']), percent(values.get('acc5'))
    log.settle(raw)
    return log.run.evaluation(number, acc1, acc5, float(values['loss']) if values.get('loss') else None, coarse=coarse)


def on_eval(log: Any, values: Values, raw: bytes, number: int) -> None:
    if not values.get('step') or int(values['step']) >= int(values['steps']):  # the last line of an evaluation
        new = evaluation(log, values, raw, number)
        log.evaluated(log.run.evaluations.add(owner_of(values), new))


def on_star(log: Any, values: Values, raw: bytes, number: int) -> None:
    if log.format == 'ours':
        log.problem(number, 'a line of an evaluation that is cut; left out')
    elif log.run.is_first_rank(values.get('id')):
        new = evaluation(log, values, raw, number)
        log.run.evaluations.add_unlabelled(new)


def on_label(log: Any, values: Values, raw: bytes, number: int) -> None:
    new = evaluation(log, values, raw, number, coarse=True)
    log.evaluated(log.run.evaluations.label(owner_of(values), new))


def on_best(log: Any, values: Values, raw: bytes, number: int) -> None:
    """Max accuracy stands after every evaluation; the best metric, of timm, at the end: it is that of the averaged
    weights if those were evaluated.
    """
    run, epoch = log.run, values.get('epoch')
    if owner_of(values) == MODEL and not (epoch and EMA in run.evaluations.last):
        run.evaluations.best_claim = (percent(values['acc1']), int(epoch) if epoch else None)
    if epoch:
        run.end('OK')


# ---- throughput


def on_claim(log: Any, values: Values, raw: bytes, number: int) -> None:
    run, fps = log.run, positive(values['fps'])
    seconds, batch = first(values.get('time'), values.get('time2')), int(values.get('batch') or 0)
    if not run.is_first_rank(values.get('id')) or not run.claim(fps, raw) or seconds is None:
        return
    this = Images()  # the batch is that of one process or of all of them: the rate and the time tell
    for images in (this, run.images):
        images.add(values['fps'], seconds)
    if batch:
        run.fields['global_batch'] = this.multiple_of(batch)
        if run.fields['global_batch'] is None:
            log.problem(number, f'batch_size {batch} is not what the rate and the time of this line say')


def on_throughput(log: Any, values: Values, raw: bytes, number: int) -> None:
    if values.get('fps_reason') is not None:
        log.run.fields['fps_reason'] = text(values['fps_reason'])
    else:
        measured = {name: float(values[name]) for name in MEASURED if name in values}
        measured.update(fps=positive(values['fps']), data_wait=float(values['data_percent']) / 100)
        log.run.fields.update(measured, measured_steps=int(values['steps']), measured=True)
    log.run.fields['ended'] = True
    log.run.end('OK')


# ---- summaries


def on_summary(log: Any, values: Values, raw: bytes, number: int) -> None:
    key, value = text(values['key']), text(values['value'])
    if key == 'Network' and 'e2e_seconds' in log.run.fields:
        log.begin()
    state(log, key, SUMMARY_KEYS[key], value, number)
    if key == 'Status':  # only our launch.sh writes one
        log.run.fields.update(measured=value == 'OK', ended=value == 'OK')


def state(log: Any, key: str, field: str, value: str, number: int) -> None:
    """Takes a value of a summary. Scripts of other code bases write a summary of a crashed training too: it holds
    blanks, nan, a rate of 0 or a loss of 65536, which are reported as failures and not taken for numbers.
    """
    fields = log.run.fields
    if field in TEXTS:
        fields[field] = value if value != MISSING else None
        return
    given = NUMBER.match(value)
    found = float(given.group(1)) if given else None
    if found is None and value not in (MISSING, '', 'nan', '-nan', 'inf', '-inf'):
        raise ValueError(value)
    if found is not None and 'acc1' in field:
        percent(found)
    nothing = found is None or (found == 65536 and 'loss' in field)
    nothing = nothing or (found == 0 and (field == 'fps' or ('acc' in field and value in ('0', '0%'))))
    if nothing and value != MISSING:
        problem = f'{key} is {value or "blank"}'
        log.problem(number, f'{problem}, no number')
        if field in ('fps', 'min_loss') and not fields.get('status'):
            log.run.end('FAILED', problem)
    fields[field] = None if nothing else int(found) if field in COUNTS else found


# ---- events of our metrics.jsonl


def on_event(log: Any, values: Values, raw: bytes, number: int) -> None:
    event = json.loads(text(raw))
    run, kind, time = log.run, event['event'], real(event.get('time'))
    if kind == 'run':
        arguments = event.get('args') or {}
        said = dict(said_by_run(event), planned_epochs=count(arguments.get('epochs')))
        run.announce('resume' if arguments.get('resume') else 'begin', said, time)
    elif kind == 'eval':
        event_eval(log, event, number)
    elif kind == 'throughput':
        run.fields.update(measured_by_us(event), measured=True, measured_steps=real(event.get('steps')))
        run.series.closed = True
    elif kind == 'end' and event.get('complete'):
        run.fields.update(ended=True, checkpoint=words(event.get('checkpoint')))
        run.end('OK')
    log.run.tick(time)


def event_eval(log: Any, event: Dict[str, Any], number: int) -> None:
    acc1, acc5, best = (percent(event.get(name)) for name in ('acc1', 'acc5', 'best_acc1'))
    if acc1 is not None:
        log.settle(b'')
        log.run.tick(real(event.get('time')))
        new = log.run.evaluation(number, acc1, acc5, real(event.get('loss')), real(event.get('epoch')))
        log.evaluated(log.run.evaluations.add(EMA if event.get('weights') == EMA else MODEL, new))
    if best is not None:
        log.run.evaluations.best_claim = (best, real(event.get('best_epoch')))


def said_by_run(said: Dict[str, Any]) -> Dict[str, Any]:
    versions = (said.get('environment') or {}).get('versions') or {}
    found: Dict[str, Any] = {name: words(said.get(name)) for name in SAID_BY_RUN}
    return dict(found, torch=words(versions.get('torch')), **{name: count(said.get(name)) for name in COUNTED_BY_RUN})


def measured_by_us(said: Dict[str, Any]) -> Dict[str, Any]:
    return dict({name: real(said.get(name)) for name in MEASURED}, fps_reason=words(said.get('fps_reason')))


# ---- one line for a whole epoch


def on_epoch(log: Any, values: Values, raw: bytes, number: int) -> None:
    """An object of a log.txt: means over the epoch, accuracies of the model and of the averaged weights."""
    said = json.loads(text(raw))
    epoch_record(log, said, ('test_acc1', 'test_acc5', 'test_loss'), number, MODEL)
    epoch_record(log, said, ('test_acc1_ema', 'test_acc5_ema', 'test_loss_ema'), number, EMA)


def on_header(log: Any, values: Values, raw: bytes, number: int) -> None:
    log.csv_columns = text(raw).split(',')


def on_row(log: Any, values: Values, raw: bytes, number: int) -> None:
    """A row of timm's summary.csv."""
    cells = text(raw).split(',')
    if log.csv_columns and len(cells) == len(log.csv_columns):
        said = {name: float(cell or 'nan') for name, cell in zip(log.csv_columns, cells)}
        top = 'prec' if 'eval_prec1' in said else 'top'
        epoch_record(log, said, (f'eval_{top}1', f'eval_{top}5', 'eval_loss'), number, log.csv_owner)


def epoch_record(log: Any, said: Dict[str, Any], names: tuple, number: int, owner: str) -> None:
    """names: of acc1, acc5 and the loss of the evaluation."""
    epoch, loss = int(said['epoch']), said.get('train_loss')
    if not 0 <= epoch < MAX_EPOCH:
        raise ValueError(epoch)
    acc1, acc5 = (percent(real(said.get(name))) for name in names[:2])
    if loss is not None and log.run.epoch != epoch:
        log.train(EPOCH_RECORD, {'loss': [float(loss)], 'total': [1]}, [epoch * EPOCH + 1], number)
    if acc1 is not None:
        new = log.run.evaluation(number, acc1, acc5, real(said.get(names[2])), epoch)
        log.evaluated(log.run.evaluations.add(owner, new))


HANDLERS = {
    name[3:]: handler for name, handler in list(globals().items()) if name.startswith('on_')
}  # by kind of a form


# ---- a result.json


def take_result(log: Any, result: Dict[str, Any]) -> None:
    """The object of a result.json."""
    log.run.tags.add('result')
    log.run.fields.update(said_by_run(result), **measured_by_us(result), measured=True)
    log.run.fields.update({name: real(result.get(name)) for name in RESULTS}, measured_steps=real(result.get('steps')))
    take_verdict(log, result)


def take_verdict(log: Any, result: Any) -> None:
    """What launch.sh found out about the training when it had ended."""
    if isinstance(result, dict) and result.get('status') in ('OK', 'FAILED'):
        fields, reason = log.run.fields, words(result.get('reason'))
        fields.update(status=result['status'], reason=reason, ended=result['status'] == 'OK')
        fields['e2e_seconds'] = real(result.get('e2e_seconds'))
