"""The lines and the formats that are known, as data: our own lines, from the templates of messages.py, and others'.

The regular expressions are on bytes, so the text around the numbers may be UTF-8, GBK or damaged. A number that stands
at the end of a line must have as many decimals as its writer prints, so that half a line does not pass for a whole
one. None of them may take more than linear time on any line: what repeats is bounded, or cannot be begun at many
places.
"""

import re
import string
from typing import Dict, Iterable, NamedTuple, Optional, Set, Tuple

from common import messages

# The keys of a summary (Key = Value) and the field of which each states the value; and those of a script's last lines.
SUMMARY_KEYS = dict(
    pair.split('=')
    for pair in """
    Network=network Model=model Device=device RankSize=ranks BatchSize=batch_size
    ActualFPS=fps AvgFPS=fps FPSReason=fps_reason TrainingTime=step_time StepTimeP50=step_ms_p50
    StepTimeP95=step_ms_p95 DataWait=data_wait PeakMemoryMB=peak_memory_mb TrainAccuracy=last_acc1
    ActualAccuracy=last_acc1 MaxAccuracy=best_acc1 BestAccuracy=best_acc1 BestEpoch=best_epoch EmaAccuracy=ema_acc1
    ActualLoss=final_loss MinLoss=min_loss E2ETrainingTime=e2e_seconds E2EEvalTime=e2e_seconds Status=status
    Reason=reason
    """.split()
)
SUMMARY_KEYS.update((label, SUMMARY_KEYS[key]) for label, key in messages.FINAL_LINES)
SUMMARY_KEYS.update({'Final Performance image/sec': 'fps', 'FPS': 'fps'})


class Form(NamedTuple):
    """A kind of line.

    kind: what is done with it: a key of handlers.HANDLERS, or 'train'.
    need: bytes that every such line holds; a line without them is not searched. Each different one costs time.
    regex: searched for in the line; its named groups are the values of the line.
    timing: of training lines, what their time is, in seconds or, in `step_ms`, milliseconds. 'running': the mean since
        the epoch began, and `now` is this step's own; 'window': the mean of the last timing.WINDOW steps; 'interval':
        the mean since the line before. `fps`, where a line has it, is a mean of the same kind.
    first: of training lines, the number of an epoch's first step; None: 0 where a log begins with 0, else 1.
    reals: of training lines, groups that are read as numbers in every line. The others are read where they are needed.
    """

    name: str
    kind: str
    need: bytes
    regex: 're.Pattern[bytes]'
    timing: Optional[str] = None
    first: Optional[int] = 0
    reals: Tuple[str, ...] = ()


SHORTHANDS = {  # of sets of characters and not \d, which takes longer
    b'<f>': rb'[0-9]+\.[0-9]+',
    b'<i>': rb'[0-9]{1,9}',
    b'<e>': rb'[0-9]{1,5}',  # an epoch
    b'<n>': rb'[1-9][0-9]{0,8}',  # how many steps an epoch has
    b'<.3>': rb'[0-9]+\.[0-9]{3}',
    b'<s>': rb'[ \t]+',
    b'<num>': rb'[-+.0-9aefin]+',  # characters of a number, nan or inf: to look for a number takes half as long again
    # Four digits that count: an older timm printed the loss so, today's prints three
    b'<4>': rb'(?:[1-9]\.\d{3}|[1-9]\d\.\d\d|[1-9]\d\d\.\d|[1-9]\d{3}\.|0\.0*[1-9]\d{3})(?= )',
    b'<wait>': rb'(?:[0-9]+ days?, )?[0-9:]+',
    b'<meters>': rb'(?:[\w/]{1,30}: [^ \n]{1,30}(?: \([^)\n]{0,30}\))?  ){0,12}?',
    b'<card>': rb'(?:\[\w+ id: *(?P<id>\d+) *\] *)?',
}
# What may stand before a training line: the time of a logger or a container, and some more of theirs or of a launcher. What Swin's
# logger writes, [time name] (file line):, is skipped at once and not letter by letter.
BEFORE = rb'(?m)^(?P<before>(?:\[[^]\n]{1,80}\] \([^)\n]{1,80}\): )?[^\n]{0,100}?)'


def compiled(pattern: bytes) -> 're.Pattern[bytes]':
    for short, full in SHORTHANDS.items():
        pattern = pattern.replace(short, full)
    return re.compile(pattern)


REALS, RATES = ['clock', 'loss', 'step_ms', 'data_wait', 'data_percent'], ['fps', 'images']
NOT_ASKED_FOR = re.compile(rb'\?P<(?:percent|eta)>')  # in training lines


def train(name: str, need: bytes, pattern: bytes, timing: str, first: Optional[int] = 0) -> Form:
    regex = compiled(BEFORE + NOT_ASKED_FOR.sub(b'?:', pattern) + rb'$\n?')
    reals = REALS if timing == 'running' else REALS + RATES
    return Form(name, 'train', need, regex, timing, first, tuple(name for name in regex.groupindex if name in reals))


def regex_of(template: str, end: str = '$') -> bytes:
    """-> the regular expression that reads back what a template of messages.py writes, with a group for each field."""
    numbers = {
        'd': r'[0-9]{1,9}',
        'f': r'[0-9]+\.[0-9]{%s}',
        'e': r'[0-9]\.[0-9]{%s}e[+-][0-9]+',
        'g': r'[^ \n]+',
        '': r'[^\n]{0,300}?',
    }
    parts = ['^' if template.startswith('{') else '']
    for literal, field, spec, _ in string.Formatter().parse(template.strip()):
        parts.append(re.escape(literal))
        if field is not None:
            digits = spec.partition('.')[2][:-1]
            number = r'[0-9]{1,18}' if digits == '0' else numbers[spec[-1:]].replace('%s', digits)
            parts.append(f'{" *" if spec.startswith(">") else ""}(?P<{field}>{number})')
    return (re.sub(r'\?\)$', ')', ''.join(parts)) + end).encode()  # the last text may be greedy, which is faster


TIMM_TRAIN = (
    rb'Train: (?P<epoch><e>) \[ *(?P<step><i>)/(?P<steps><n>) \( *<i>%\)\] +Loss: +(?P<loss><num>) +'
    rb'\( *<num>\) +Time: +(?P<now><f>)s, *<f>/s +\( *(?P<time><f>)s, *(?P<fps><f>)/s\) +LR: +(?P<lr><num>) +'
    rb'Data: +<f> \( *(?P<data><f>)\)[ \t]*'
)
METER_TRAIN = (
    rb'Epoch: \[(?P<epoch><e>)\] +\[ *(?P<step><i>)/(?P<steps><n>)\]  eta: <wait>  (?:lr: (?P<lr><num>)  )?'
    rb'(?:img/s: (?P<images><f>)  )?<meters>loss: (?P<loss><num>) \([^)\n]*\)  <meters>time: (?P<time><f>)  '
    rb'(?:fps: ?(?P<fps><f>)  )?data: (?P<data>\d+\.\d{4})(?:  max mem: (?P<peak_memory_mb><i>))?'
)
IMAGENET_TRAIN = (
    rb'Epoch: \[(?P<epoch><e>)\]\[ *(?P<step><i>)/ *(?P<steps><n>)\](?:,? *lr:? *(?P<lr><num>))?<s>'
    rb'Time +(?P<now><f>) +\( *(?P<time><f>)\)<s>(?:Data +<f> +\( *(?P<data><f>)\)<s>)?'
    rb'Loss +(?P<loss><num>) +\( *<num>\)[^\n]*'
)
SWIN_TRAIN = (
    rb'Train: \[(?P<epoch><e>)/(?P<planned_epochs><i>)\]\[(?P<step><i>)/(?P<steps><n>)\]<s>eta <wait> lr (?P<lr><num>)<s>'
    rb'(?:wd [^ \t\n]+<s>)?time (?P<now><f>) \((?P<time><f>)\)<s>loss (?P<loss><num>) \(<num>\)<s>'
    rb'(?:\w{1,30} [^ \t\n]{1,30} \([^)\n]{1,30}\)<s>){0,5}mem (?P<peak_memory_mb><i>)MB'
)
WHOLE = {'epoch': '<e>', 'step': '<i>', 'steps': '<n>'}  # fields of an event; the others are any number
EVENT_TRAIN = ', '.join(f'"{name}": (?P<{name}>{WHOLE.get(name, "<num>")})' for name in messages.STEP_FIELDS)
EVENT_TRAIN = rb'\{"event": "train", "time": (?P<clock><num>), ' + EVENT_TRAIN.encode() + rb'(?:, [^\n]*)?\}'
STEP_EVENT = 'event train'
TRAIN_FORMS = (
    train('own train', b'Train: ', regex_of(messages.TRAIN_LINE, ''), 'interval', first=1),
    train('old timm train', b'Train: ', TIMM_TRAIN.replace(b'<loss><num>', b'<loss><4>'), 'running'),
    train('timm train', b'Train: ', TIMM_TRAIN.replace(b'(?P<loss>', b'(?!<4>)(?P<loss>'), 'running'),
    train('swin train', b'Train: ', SWIN_TRAIN, 'running', first=None),
    train('meter train', b'Epoch: [', METER_TRAIN, 'window'),
    train('imagenet train', b'Epoch: [', IMAGENET_TRAIN, 'running', first=None),
    train(STEP_EVENT, b'{"event": "train"', EVENT_TRAIN, 'interval', first=1),
)
# A line for a whole epoch, of log.txt or summary.csv
EPOCH_RECORD = Form('epoch record', 'train', b'', re.compile(b''))

TIMM_TEST = (
    rb'Test(?: \((?P<ema>EMA)\))?: \[ *(?P<step><i>)/(?P<steps><i>)\] +Time: +<f> \( *<f>\) +'
    rb'Loss: +<num> \( *(?P<loss><num>)\) +Acc@1: +<f> \( *(?P<acc1><f>)\) +Acc@5: +<f> \( *(?P<acc5><f>)\)$'
)
STAR = (  # does not say whose accuracy it is; where another line does, that comes later: a label
    rb'<card>(?:\[AVG-ACC\] )?\* +(?:Acc|Prec)@1 +(?P<acc1><.3>) (?:Acc|Prec)@5 +(?P<acc5><.3>)'
    rb'(?: loss (?P<loss><.3>))?$'
)
LABEL = (
    rb'Accuracy of the (?P<ema>(?:ema|EMA) )?(?:network|model)(?P<ema2> EMA)? on (?:the )?<i> test images: '
    rb'(?P<acc1><f>)%$'
)
FPS_AT_ALL = (
    rb'<card>(?:batch_size: *(?P<batch_size><i>) +)?(?:Time: *(?P<time><f>) )?\* FPS@all (?P<fps><.3>)'
    rb'(?:,? *TIME@all (?P<time2><.3>))?$'
)
KILLED = (  # by the kernel, as the shell tells it
    rb'^(?:.{1,200}: line \d+: +\d+ )?(?P<reason>(?:Killed|Segmentation fault|Aborted|Terminated|Bus error)'
    rb'(?: \(core dumped\))?)(?:  .*)?$'
)
ARGUMENT = compiled(  # of a Namespace; whose images batch_size is, and what world_size counts, the format says
    rb'\b(?:batch_size=(?P<batch_size><i>)|world_size=(?P<world_size>-?<i>)|epochs=(?P<planned_epochs><i>)|'
    rb"(?:model|arch)='(?P<model>[^',)\n]{1,200})')[,)]"
)
SUMMARY = f'^(?P<key>{"|".join(SUMMARY_KEYS)}) = ?(?P<value>.*)$'.encode()
FINAL = (
    rb'^(?P<key>Final Performance images?/sec|Final Train Accuracy|E2E Training Duration sec|FPS(?= :)) *: *'
    rb'(?P<value>.*)$'
)

RAISED = (  # by Python, C++ or Slurm; of Ascend: EZ9999, E19999, EI0006
    rb'^(?P<reason>(?:[A-Za-z_][\w.]*(?:Error|Exception)|KeyboardInterrupt)(?:: .*|:)?|terminate called .*|'
    rb'(?:slurmstepd|srun): error: .*|E[A-Z0-9]\d{4}: .*)$'
)

OTHER_FORMS = (  # rows: name, kind, what one of must be in the line, regex; a form may have several
    ('own eval', 'eval', b'@1 ', regex_of(messages.EVAL_LINE)),
    ('star', 'star', b'@1 ', STAR),
    ('timm star', 'eval', b'@1 ', rb'\* Acc@1 (?P<acc1><.3>) \(<f>\) Acc@5 (?P<acc5><.3>) \(<f>\)$'),
    ('timm test', 'eval', b'@1: ', TIMM_TEST),
    ('vision test', 'eval', b'@1 ', rb'Test: +(?P<ema>EMA)? *Acc@1 (?P<acc1><.3>) Acc@5 (?P<acc5><.3>)$'),
    ('label', 'label', b'ccuracy', LABEL),
    ('max accuracy', 'best', b'ccuracy', rb'Max (?P<ema>ema |EMA )?accuracy: (?P<acc1>\d+\.\d\d)%$'),
    ('best metric', 'best', b'Best metric', rb'\*\*\* Best metric: (?P<acc1><f>) \(epoch (?P<epoch><i>)\)$'),
    # throughput that the log states
    ('own fps', 'end', b'FPS', regex_of(messages.THROUGHPUT_LINE)),
    ('own fps', 'end', b'FPS', regex_of(messages.NO_THROUGHPUT_LINE)),
    ('spach fps', 'claim', b'FPS', rb'Epoch: \[<i>\] FPS: (?P<fps><f>) \(<f> s / it\)$'),
    ('vit fps', 'claim', b'FPS', FPS_AT_ALL),
    ('van fps', 'claim', b'FPS', rb'(?:^|\s)FPS:(?P<fps>\d+\.\d\d)$'),
    ('summary', 'summary', b' =', SUMMARY),
    ('summary', 'summary', b'Final |E2E |FPS', FINAL),
    # a line for a whole epoch: JSON of DeiT's family, CSV of timm
    ('event', 'event', b'{"', rb'^(?P<json>\{"event": .*\})$'),
    ('log.txt', 'epoch', b'{"', rb'^(?P<json>\{"(?:train|test)_\w+": .*\})$'),
    ('summary.csv', 'header', b'epoch,', rb'^(?P<names>epoch,train_loss\b[\w,@/ .-]*)$'),
    # what a training says of itself before it begins
    ('own run', 'begin', b' M param', regex_of(messages.RUN_LINE)),
    ('own sizes', 'facts', b' training images', regex_of(messages.SIZES_LINE)),
    ('arguments', 'begin', b'Namespace(', rb'Namespace\((?P<arguments>.*)$'),
    ('argument', 'facts', b'=', rb'^' + ARGUMENT.pattern + rb'$'),  # a line of MAE's Namespace
    ('timm ranks', 'begin', b'Training ', rb'Training in distributed mode.{1,99}, total (?P<ranks><i>)\b'),
    ('timm ranks', 'begin', b'Training ', rb'Training with a single process on (?P<ranks>1)\b'),
    ('timm epochs', 'facts', b' epochs', rb'Scheduled epochs: (?P<planned_epochs><i>)'),
    ('deit epochs', 'facts', b' epochs', rb'Start training for (?P<planned_epochs><i>) epochs$'),
    ('timm ema', 'facts', b'model_ema', rb'^model_ema: (?P<model_ema>true|false)$'),  # of an args.yaml
    ('swin begins', 'begin', b'onfig saved', rb'Full config saved to '),
    ('swin batch', 'facts', b'BATCH_SIZE', rb'^  BATCH_SIZE: (?P<batch_size><i>)$'),
    ('swin ranks', 'facts', b'WORLD_SIZE', rb'RANK and WORLD_SIZE in environ: <i>/(?P<ranks><i>)$'),
    ('own resume', 'resume', b'esum', regex_of(messages.RESUMED_LINE)),
    ('resume', 'resume', b'oaded ', rb'[Ll]oaded (?:checkpoint|successfully) .{1,400}\(epoch <i>\)'),
    ('resume', 'resume', b'esum', rb'\b[Rr]esum(?:ed|ing) (?:from|at|training)'),
    # how it ends
    ('training time', 'end', b'Training ', rb'Training time (?:(?P<days><i>) days?, )?(?P<clock><i>:\d\d:\d\d)$'),
    ('ignored', 'ignored', b'xception', rb'^Exception ignored in\b'),
    ('error', 'error', b'rror', rb'\[Error\] *(?P<reason>.*)$'),
    ('error', 'error', b'rror', rb'^(?P<weak>\S*(?:ChildFailedError|CalledProcessError)\b.*)$'),
    ('error', 'error', b'exitcode', rb'torch\.distributed\.[\w.]{0,60}: ?(?P<weak>failed \(exitcode: .*)$'),
    ('error', 'error', b'rror|xception|nterrupt|terminate|E', RAISED),
    ('error', 'error', b'stopping', rb'(?P<reason>Loss is -?(?:nan|inf), stopping training)$'),
    ('error', 'error', b'Killed|ault|Aborted|Terminated|Bus error', KILLED),
)
BY_NEED: Dict[bytes, list] = {form.need: [] for form in TRAIN_FORMS}
for _name, _kind, _needs, _pattern in OTHER_FORMS:
    for _need in _needs.split(b'|'):
        _form = Form(_name, _kind, _need, compiled(_pattern))
        _at_start = _pattern.startswith(b'^')  # search() would try it at every place of the line
        BY_NEED.setdefault(_need, []).append((_form.regex.match if _at_start else _form.regex.search, _form))
for _form in TRAIN_FORMS:  # for those that stand between the lines of another one
    BY_NEED[_form.need].append((_form.regex.match, _form))
# Below the header of a summary.csv
CSV_ROW = Form('csv row', 'row', b',', compiled(rb'(?P<cells><i>(?:,[-+.\w]*)+)$'))
CSV_HEADER = b'epoch,train_loss'
# Kinds whose last line of a file, when it has no end of line, is not known to be whole by how it ends.
UNSURE = {'begin', 'facts', 'resume', 'summary', 'header', 'row', 'ignored'}
UNSURE_END = re.compile(rb'  max mem: \d*$')  # of a training line; the rest of such lines is sure
# A line with such a beginning that is of no form is reported as damaged.
DAMAGED = re.compile(rb'Train: \d+ \[|Train: \[\d|Epoch: \[\d+\] *\[|\* Acc@1 \d|^\{"event')


def candidates_of(block: bytes, csv: bool = False) -> list:
    """The rows of BY_NEED that can match in a line of this block. csv: it may have rows of a summary.csv."""
    found = [(need, forms) for need, forms in BY_NEED.items() if need in block]
    return found + ([(CSV_ROW.need, [(CSV_ROW.regex.match, CSV_ROW)])] if csv or CSV_HEADER in block else [])


def match(raw: bytes, candidates: list) -> Tuple[Optional[Form], Optional['re.Match[bytes]'], bool]:
    """A line without its end -> (its form, the match), or (None, None); and whether it holds what a form needs."""
    near = False
    for need, forms in candidates:
        if need in raw:
            near = True
            for search, candidate in forms:
                found = search(raw)
                if found is not None:
                    return candidate, found, near
    return None, None, near


class Format(NamedTuple):
    """needs: sets of tags; a log has the first format of which one set was seen whole. A tag is the name of a form, or
    of a form and an optional group that its line had. fps: what the FPS that such a log states is, or None if it states
    none. batch: whose images the batch size is that such a log prints among its arguments: a 'process' or a 'node'.
    """

    name: str
    needs: Iterable[Set[str]]
    fps: Optional[str] = None
    batch: Optional[str] = None


OURS = 'images over seconds after the warm-up, synchronised'
FROM_START = 'running mean since the epoch began, first step included'
WITHOUT_THREE = 'all images of the epoch over the time since its fourth step: n/(n-3) too high for n steps'
WINDOWS = 'mean over windows of 20 steps; 0 before the 26th step, which is left out'
COMPUTE = "one process's compute: loading left out, not synchronised"
FORMATS = (
    Format('metrics', [{'event'}, {STEP_EVENT}], OURS),
    Format('result', [{'result'}], OURS),
    Format('ours', [{'own train'}, {'own eval'}, {'own fps'}, {'own run'}], OURS),
    Format('swin', [{'swin train'}, {'swin begins', 'label'}], None, 'process'),
    Format('spach', [{'spach fps'}], WITHOUT_THREE, 'process'),
    Format('twins', [{'meter train:fps'}], WINDOWS, 'process'),
    Format('torchvision', [{'meter train:images'}, {'vision test'}], COMPUTE, 'process'),
    Format('deit', [{'meter train'}, {'label'}, {'max accuracy'}], None, 'process'),
    Format('log.txt', [{'log.txt'}]),
    Format('vit', [{'vit fps'}, {'star:id'}], 'batch over mean step time of the epoch', 'node'),
    Format('imagenet', [{'imagenet train'}, {'star'}], None, 'node'),
    Format('van', [{'van fps'}], 'mean over epochs, the first 5 steps of each left out', 'process'),
    Format('convmixer', [{'old timm train'}], FROM_START, 'process'),
    Format('timm', [{'timm train'}, {'timm test'}, {'timm star'}, {'best metric'}], FROM_START, 'process'),
    Format('summary.csv', [{'summary.csv'}, {'csv row'}]),
    Format('summary', [{'summary'}], 'as the run that wrote it measured'),
)
LOOKED_FOR = (
    'training lines, evaluations and summaries of ours, timm, the DeiT and Swin families, the ImageNet example, '
    "torchvision's references and the ModelZoo, JSON lines as DeiT's log.txt, and timm's summary.csv"
)


def describe(tags: Set[str]) -> Optional[Format]:
    """The format that lines and their parts tell, or None."""
    return next((known for known in FORMATS if any(need <= tags for need in known.needs)), None)
