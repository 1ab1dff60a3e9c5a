"""The lines that are known, as data: our own, from the templates of messages.py, and those of other code bases.

The regular expressions are on bytes, so the text around the numbers may be UTF-8, GBK or damaged. They reach to the end
of the line, and a number that stands there must have as many decimals as its writer prints: so half a line does not
pass for a whole one. A new line is a row of FORMS, a new format a row of formats.py; the reader knows none by name.
"""

import collections
import re
import string

from common import messages

# The keys of a summary (Key = Value) -> the field of which each states the value.
SUMMARY_KEYS = {
    'ActualFPS': 'fps',
    'AvgFPS': 'fps',
    'FPSWholeRun': 'fps_run',
    'FPSReason': 'fps_reason',
    'TrainingTime': 'step_ms',
    'StepTimeP50': 'step_ms_p50',
    'StepTimeP95': 'step_ms_p95',
    'DataWait': 'data_wait',
    'PeakMemoryMB': 'peak_memory_mb',
    'TrainAccuracy': 'last_acc1',
    'ActualAccuracy': 'last_acc1',
    'MaxAccuracy': 'best_acc1',
    'BestAccuracy': 'best_acc1',
    'BestEpoch': 'best_epoch',
    'EmaAccuracy': 'ema_acc1',
    'ActualLoss': 'final_loss',
    'MinLoss': 'min_loss',
    'E2ETrainingTime': 'seconds',
    'E2EEvalTime': 'seconds',
    'RankSize': 'ranks',
    'BatchSize': 'batch_size',
    'Network': 'network',
    'CaseName': 'case_name',
    'Model': 'model',
    'Device': 'device',
    'Status': 'status',
    'Reason': 'reason',
}

# kind    what is done with such a line: a key of handlers.HANDLERS, or 'train'
# need    bytes that every such line holds; a line without them is not searched. Each different one costs time
# regex   searched for in the line; its named groups are the values of the line
# timing  of training lines: what `time` is, in seconds. 'running': the mean since the epoch began (and `now` is this
#         step's own); 'window': the mean of the last timing.WINDOW steps; 'interval': the mean since the line before
# first   of training lines: the number of the first step of an epoch, 0 or 1; None: what the log's first line has
# claim   how the `fps` of lines become the one that the log claims: 'last', or 'mean' of those above 0. 'rate': they do
#         not, each is the rate since the line before. With 'last' and 'rate', fps * time is the images of a step
# quick   of training lines: a regex that finds them in a block of lines, each with its end; see expand
Form = collections.namedtuple('Form', 'name kind need regex timing first claim quick')

# Shorthands in the regular expressions: what they stand for in `regex`, and in `quick` where that is something else.
# (?:x|) is (?:x)?, but faster.
SHORTHANDS = {
    b'<f>': (rb'\d+\.\d+',),
    b'<i>': (rb'\d+',),
    b'<.2>': (rb'\d+\.\d\d',),
    b'<.3>': (rb'\d+\.\d{3}',),
    b'<s>': (rb'\s+', rb'[ \t]+'),
    b'<nan>': (rb'(?:\d+\.\d*(?:e[+-]\d+|)|nan|inf)', rb'\d+\.\d*(?:|e[+-]\d+)'),  # a number, nan or inf
    b'<num>': (rb'\d+(?:\.\d+|)(?:e[+-]?\d+|)',),  # a number of JSON
    b'<wait>': (rb'(?:\d+ days?, |)[\d:]+', rb'\d+(?:[\d:]*| days?, [\d:]+)'),
    b'<text>': (rb'.*?', rb'[\w:, ]*\w'),
    b'<end>': (rb'\s*$', rb'\n'),
    b'<meters>': (rb'(?:[\w/]+: [^ \n]+(?: \([^)\n]*\)|)  )*?',),
    b'<id>': (rb'(?:\[\w+ id: *(?P<id>\d+) *\] *)?',),
}


def expand(pattern: bytes, quick: bool) -> bytes:
    """Writes out the shorthands. What `quick` matches, `regex` must match in that line alone, with the same groups: so
    nothing in a `quick` but <end> may match the end of a line.
    """
    for short, full in SHORTHANDS.items():
        pattern = pattern.replace(short, full[-1 if quick else 0])
    return pattern


def form(name, kind, need, regex, timing=None, first=0, claim=None) -> Form:
    quick = re.compile(expand(regex.lstrip(b'^'), True)) if kind == 'train' else None
    return Form(name, kind, need, re.compile(expand(regex, False)), timing, first, claim, quick)


def regex_of(template: str) -> bytes:
    """-> the regular expression that reads back what a template of messages.py writes, with a group for each field."""
    numbers = {'d': r'\d+', 'f': r'\d+\.\d{%s}', 'e': r'\d\.\d{%s}e[+-]\d+', 'g': r'\S+', '': '<text>'}
    parts = []
    for literal, field, spec, _ in string.Formatter().parse(template.strip()):
        parts.append(re.escape(literal))
        if field is not None:
            digits = spec.partition('.')[2][:-1]
            number = r'\d+' if digits == '0' else numbers[spec[-1:]].replace('%s', digits)
            blanks = ' *' if spec.startswith('>') else ''
            parts.append(f'{blanks}(?P<{field}>{number})')
    return (''.join(parts) + '<end>').encode()


TIMM_TRAIN = (
    rb'Train: (?P<epoch><i>) \[ *(?P<step><i>)/(?P<steps><i>) \( *<i>%\)\] +Loss: +(?P<loss><nan>) +\( *<nan>\) +'
    rb'Time: +(?P<now><f>)s, *<f>/s +\( *(?P<time><f>)s, *(?P<fps><f>)/s\) +LR: +[^ \n]+ +'
    rb'Data: +<f> \( *(?P<data><f>)\)<end>'
)
METER_TRAIN = (
    rb'Epoch: \[(?P<epoch><i>)\] +\[ *(?P<step><i>)/(?P<steps><i>)\]  eta: <wait>  (?:lr: [^ \n]+  |)'
    rb'(?:img/s: (?P<images><f>)  |)<meters>loss: (?P<loss><nan>) \([^)\n]*\)  <meters>time: (?P<time><f>)  '
    rb'(?:fps: ?(?P<fps><f>)  |)data: (?P<data><f>)(?:  max mem: <i>|(?<=\.\d{4}))<end>'
)
IMAGENET_TRAIN = (
    rb'Epoch: \[(?P<epoch><i>)\]\[ *(?P<step><i>)/ *(?P<steps><i>)\]<s>Time +(?P<now><f>) +\( *(?P<time><f>)\)<s>'
    rb'Data +<f> +\( *(?P<data><f>)\)<s>Loss +(?P<loss><nan>) +\( *<nan>\)<s>'
    rb'Acc@1 +<f> +\( *<f>\)<s>Acc@5 +<f> +\( *<f>\)<end>'
)
EVENT_TRAIN = (
    rb'^\{"event": "train", "time": (?P<clock><num>), "epoch": (?P<epoch><i>), "step": (?P<step><i>), '
    rb'"steps": (?P<steps><i>), "loss": (?P<loss><num>), "fps": (?P<fps><num>), "step_ms": (?P<step_ms><num>), '
    rb'"data_wait": (?P<data_wait><num>), .*\}<end>'
)
STAR_EVAL = rb'<id>(?:\[AVG-ACC\] )?\* Acc@1 +(?P<acc1><.3>) Acc@5 +(?P<acc5><.3>)(?: loss (?P<loss><.3>))?<end>'
TIMM_STAR = rb'\* Acc@1 (?P<acc1><.3>) \(<f>\) Acc@5 (?P<acc5><.3>) \(<f>\)<end>'
TIMM_TEST = (
    rb'Test(?: \((?P<ema>EMA)\))?: \[ *(?P<step><i>)/(?P<steps><i>)\] +Time: +<f> \( *<f>\) +'
    rb'Loss: +<nan> \( *(?P<loss><nan>)\) +Acc@1: +<f> \( *(?P<acc1><f>)\) +Acc@5: +<f> \( *(?P<acc5><f>)\)<end>'
)
VISION_TEST = rb'Test: +(?P<ema>EMA)? *Acc@1 (?P<acc1><.3>) Acc@5 (?P<acc5><.3>)<end>'
ACCURACY_OF = rb'Accuracy of the (?P<ema>ema )?(?:network|model) on the <i> test images: (?P<acc1><f>)%<end>'
SPACH_FPS = rb'Epoch: \[<i>\] FPS: (?P<fps><f>) \(<f> s / it\)<end>'
VIT_FPS = rb'<id>batch_size: *(?P<batch><i>) +Time: *(?P<time><f>) \* FPS@all (?P<fps><.3>)<end>'
SUMMARY = f'^(?P<key>{"|".join(SUMMARY_KEYS)}) = ?(?P<value>.*?)<end>'.encode()
MLLOG = rb':::MLLOG +(?P<json>\{.*?"key": *"(?P<key>\w+)".*\})<end>'
RESUMED = rb'(?:=> )?[Ll]oaded (?:checkpoint|successfully) .*\(epoch <i>\)'
RANK = rb'^(?:\[rank\d+\]: ?)?'
ERROR = RANK + rb'(?P<reason>(?!\S*ChildFailedError)[A-Za-z_][\w.]*(?:Error|Exception)\b(?::.*?)?)<end>'
EXCEPTION = RANK + rb'(?P<reason>[A-Za-z_][\w.]*Exception(?::.*?)?)<end>'
INTERRUPT = RANK + rb'(?P<reason>KeyboardInterrupt(?::.*?)?)<end>'

FORMS = [
    # training lines
    form('own train', 'train', b'Train: ', regex_of(messages.TRAIN_LINE), 'interval', 1, 'rate'),
    form('timm train', 'train', b'Train: ', TIMM_TRAIN, 'running', 0, 'last'),
    form('meter train', 'train', b'Epoch: [', METER_TRAIN, 'window', 0, 'mean'),
    form('imagenet train', 'train', b'Epoch: [', IMAGENET_TRAIN, 'running', None),
    form('event train', 'train', b'{"', EVENT_TRAIN, 'interval', 1, 'rate'),
    # evaluations
    form('own eval', 'eval', b'Acc@1', regex_of(messages.EVAL_LINE)),
    form('star eval', 'eval', b'Acc@1', STAR_EVAL),
    form('timm star', 'eval', b'Acc@1', TIMM_STAR),
    form('timm test', 'eval', b'Acc@1', TIMM_TEST),
    form('vision test', 'eval', b'Acc@1', VISION_TEST),
    form('accuracy of', 'coarse', b'ccuracy', ACCURACY_OF),
    form('max accuracy', 'best', b'ccuracy', rb'Max accuracy: (?P<acc1><.2>)%<end>'),
    form('best metric', 'best', b'Best metric', rb'\*\*\* Best metric: (?P<acc1><f>) \(epoch (?P<epoch><i>)\)<end>'),
    # throughput that the log states
    form('own fps', 'throughput', b'FPS', regex_of(messages.THROUGHPUT_LINE)),
    form('own fps', 'throughput', b'FPS', regex_of(messages.NO_THROUGHPUT_LINE)),
    form('spach fps', 'claim', b'FPS', SPACH_FPS),
    form('vit fps', 'claim', b'FPS', VIT_FPS),
    form('van fps', 'claim', b'FPS', rb'(?:^|\s)FPS:(?P<fps><.2>)<end>'),
    form('final', 'final', b'Final ', rb'Final Performance images?/sec *: *(?P<fps>.*?)<end>'),
    form('final', 'final', b'FPS', rb'^FPS : *(?P<fps>.*?)<end>'),
    form('final', 'final', b'Final ', rb'Final Train Accuracy *: *(?P<last_acc1>.*?)<end>'),
    form('final', 'final', b'E2E ', rb'E2E Training Duration sec *: *(?P<seconds>.*?)<end>'),
    form('summary', 'summary', b' =', SUMMARY),
    # JSON
    form('event', 'event', b'{"', rb'^\s*(?P<json>\{"event".*\})<end>'),
    form('mllog', 'mllog', b'{"', MLLOG),
    # where a training begins, goes on or fails
    form('own run', 'begin', b' M param', regex_of(messages.RUN_LINE)),
    form('own sizes', 'sizes', b' training images', regex_of(messages.SIZES_LINE)),
    form('arguments', 'begin', b'Namespace(', rb'Namespace\((?P<arguments>.*)'),
    form('own resume', 'resume', b'esum', regex_of(messages.RESUMED_LINE)),
    form('resume', 'resume', b'oaded ', RESUMED),
    form('resume', 'resume', b'esum', rb'\b[Rr]esum(?:ed|ing) (?:from|at|training)'),
    form('error', 'error', b'rror', rb'\[Error\] *(?P<reason>.*?)<end>'),
    form('error', 'error', b'rror', ERROR),
    form('error', 'error', b'xception', EXCEPTION),
    form('error', 'error', b'nterrupt', INTERRUPT),
    form('error', 'error', b'fault', rb'^(?P<reason>Segmentation fault\b.*?)<end>'),
    form('error', 'error', b'Killed', rb'^(?P<reason>Killed)<end>'),
]

# Kinds whose last line of a file, when it is cut short, still looks whole: without an end of line it is left out.
UNSURE = {'summary', 'final', 'begin', 'sizes', 'resume'}
# A line of the first form is a cut line of another form where the training has lines of one of these.
CUT_LINES = {'star eval': {'own run', 'own train', 'own eval'}}
# A line with such a beginning that is of no form is reported as damaged.
DAMAGED = re.compile(rb'Train: \d+ \[|Epoch: \[\d+\] *\[|\* Acc@1 \d|:::MLLOG|^\{"event')

BY_NEED = {}
for known in FORMS:
    at_start = known.regex.pattern.startswith(b'^')  # search() would try it at every place of the line
    BY_NEED.setdefault(known.need, []).append((known.regex.match if at_start else known.regex.search, known))
BY_NEED = tuple(BY_NEED.items())


def match(raw: bytes, active=BY_NEED):
    """A line -> (its form, the match); (None, True) where it holds what a form needs, but is of none; (None, None)."""
    near = None
    for need, forms in active:
        if need in raw:
            near = True
            for search, candidate in forms:
                found = search(raw)
                if found is not None:
                    return candidate, found
    return None, near
