"""The lines of a log, as data: the templates that our own writer fills in, and a table of what all known lines yield.

A new line form is a row of LINES, a new format a row of FORMATS; log_parser.py knows none by name. The regular expressions are
on bytes, so the text around the numbers may be UTF-8, GBK or damaged. They reach to the end of the line, and a number that
stands there must have the decimals that its writer prints: half a line does not pass for a whole one.
"""

import collections
import re
import string

# ---- our own lines: run_log.py and trainer.py fill them in; FPS:, Loss: and "* Acc@1 n Acc@5 n" are what public tools look for
RUN_LINE = (
    '{case}: {model}, {parameters:.2f} M parameters, {classes:d} classes, {img_size:d} pixels; {ranks:d} x {device_kind} '
    '({device}); {precision}.'
)
SIZES_LINE = (
    '{train_size:d} training images, {steps:d} steps of {global_batch:d} images an epoch, {epochs:d} epochs, lr {lr:.3g}, '
    '{workers:d} workers a rank.'
)
RESUMED_LINE = 'Resumed from {resume} at epoch {epoch:d}, step {step:d}.'
TRAIN_LINE = (
    'Train: {epoch:d} [{step:>4d}/{steps:d} ({percent:>3.0f}%)]  Loss: {loss:.4f}  FPS: {fps:.2f}  Step: {step_ms:.1f} ms'
    '  Data: {data_percent:.1f}%  LR: {lr:.3e}  ETA: {eta}'
)
EVAL_LINE = ' * Acc@1 {acc1:.3f} Acc@5 {acc5:.3f} Loss: {loss:.4f}  ({images:d} images, {seconds:.1f} s{note})'
THROUGHPUT_LINE = (
    'FPS: {fps:.2f} over {steps:d} steps after {warmup_steps:d} of warm-up; step {step_ms:.1f} ms, p50 '
    '{step_ms_p50:.1f}, p95 {step_ms_p95:.1f}; {data_percent:.1f}% waiting for data; peak memory {peak_memory_mb:.0f} MB'
)
NO_THROUGHPUT_LINE = 'FPS: N/A ({fps_reason})'
FINAL_RULE = '------------------ Final result ------------------'
FINAL_LINES = (
    ('Final Performance images/sec', 'ActualFPS'),
    ('Final Train Accuracy', 'TrainAccuracy'),
    ('E2E Training Duration sec', 'E2ETrainingTime'),
)
MISSING = 'N/A'
ERROR_MARK = '[Error]'

# The keys of a summary (Key = Value) -> the field that each yields.
SUMMARY_KEYS = {
    'ActualFPS': 'fps',
    'AvgFPS': 'fps',
    'TrainingTime': 'step_ms',
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
    'StepTimeP50': 'step_ms_p50',
    'StepTimeP95': 'step_ms_p95',
    'DataWait': 'data_wait',
    'PeakMemoryMB': 'peak_memory_mb',
    'FPSWholeRun': 'fps_run',
    'RankSize': 'ranks',
    'BatchSize': 'batch_size',
    'Network': 'network',
    'CaseName': 'case_name',
    'Model': 'model',
    'Device': 'device',
    'Status': 'status',
    'Reason': 'reason',
    'FPSReason': 'fps_reason',
}

# ---- what a line form is
# kind      what is done with it: the method Log.on_<kind>
# need      bytes that every such line holds, others meet no regular expression; few different ones, each is looked for in each line
# regex     searched for in the line; its named groups are what the line yields
# timing    of training lines: what `time`, in seconds, is: 'running' the mean since the epoch began (beside it `now`, this
#           step's own), 'window' the mean of the last 20 steps (LAST in log_runs.py), 'interval' the mean since the line before
# first     of training lines: the number of an epoch's first step, 0 or 1; None: what the log's own first line has
# claim     how the lines' `fps` become the figure that the log claims: 'last', 'mean' of those above 0; 'rate': not at all, it is
#           the rate since the line before. Of 'last' and 'rate', fps * time is the number of images in a step
# quick     of training lines: regex that finds them in a block, end of line included, but for what is rare; see expand
Line = collections.namedtuple('Line', 'name kind need regex timing first claim quick')


def line(name, kind, need, regex, timing=None, first=0, claim=None):
    quick = re.compile(expand(regex.lstrip(b'^'), 1)) if kind == 'train' else None
    return Line(name, kind, need, re.compile(expand(regex, 0)), timing, first, claim, quick)


def regex_of(template):
    """-> the regular expression (bytes) that reads back what the template writes; a group for each field."""
    forms = {'d': r'\d+', 'f': r'\d+\.\d{%s}', 'e': r'\d\.\d{%s}e[+-]\d+', 'g': r'\S+', '': '<text>'}
    parts = []
    for text, field, spec, _ in string.Formatter().parse(template.strip()):
        parts.append(re.escape(text))
        if field is not None:
            digits = spec.partition('.')[2][:-1]
            form = r'\d+' if digits == '0' else forms[spec[-1:]].replace('%s', digits)
            parts.append('%s(?P<%s>%s)' % (' *' if spec.startswith('>') else '', field, form))
    return (''.join(parts) + '<end>').encode()


# Shorthands: what each stands for and, where that is something else, in `quick`. (?:x|) is (?:x)?, but faster.
SHORTHANDS = {
    b'<f>': (rb'\d+\.\d+',),
    b'<i>': (rb'\d+',),
    b'<.2>': (rb'\d+\.\d\d',),
    b'<.3>': (rb'\d+\.\d{3}',),
    b'<s>': (rb'\s+', rb'[ \t]+'),
    b'<l>': (rb'(?:\d+\.\d*(?:e[+-]\d+|)|nan|inf)', rb'\d+\.\d*(?:|e[+-]\d+)'),  # a loss
    b'<j>': (rb'\d+(?:\.\d+|)(?:e[+-]?\d+|)',),  # a number of JSON
    b'<wait>': (rb'(?:\d+ days?, |)[\d:]+', rb'\d+(?:[\d:]*| days?, [\d:]+)'),
    b'<text>': (rb'.*?', rb'[\w:, ]*\w'),
    b'<end>': (rb'\s*$', rb'\n'),
    b'<meters>': (rb'(?:[\w/]+: [^ \n]+(?: \([^)\n]*\)|)  )*?',),
    b'<id>': (rb'(?:\[\w+ id: *(?P<id>\d+) *\] *)?',),
}


def expand(pattern, quick):
    """Writes out the shorthands. What the quick one matches, the other must match in that line alone, with the same groups: so nothing
    in it but <end> may match the end of a line.
    """
    for short, full in SHORTHANDS.items():
        pattern = pattern.replace(short, full[-1 if quick else 0])
    return pattern


LINES = [
    line(name, kind, need, regex, *more)
    for name, kind, need, regex, *more in [
        # training
        ('own train', 'train', b'Train: ', regex_of(TRAIN_LINE), 'interval', 1, 'rate'),
        (
            'timm train',
            'train',
            b'Train: ',
            rb'Train: (?P<epoch><i>) \[ *(?P<step><i>)/(?P<steps><i>) \( *<i>%\)\] +Loss: +(?P<loss><l>) +\( *<l>\) +'
            rb'Time: +(?P<now><f>)s, *<f>/s +\( *(?P<time><f>)s, *(?P<fps><f>)/s\) +LR: +[^ \n]+ +Data: +<f> \( *(?P<data><f>)\)<end>',
            'running',
            0,
            'last',
        ),
        (
            'meter train',
            'train',
            b'Epoch: [',
            rb'Epoch: \[(?P<epoch><i>)\] +\[ *(?P<step><i>)/(?P<steps><i>)\]  eta: <wait>  (?:lr: [^ \n]+  |)'
            rb'(?:img/s: (?P<images><f>)  |)<meters>loss: (?P<loss><l>) \([^)\n]*\)  <meters>time: (?P<time><f>)  '
            rb'(?:fps: ?(?P<fps><f>)  |)data: (?P<data><f>)(?:  max mem: <i>|(?<=\.\d{4}))<end>',
            'window',
            0,
            'mean',
        ),
        (
            'imagenet train',
            'train',
            b'Epoch: [',
            rb'Epoch: \[(?P<epoch><i>)\]\[ *(?P<step><i>)/ *(?P<steps><i>)\]<s>Time +(?P<now><f>) +\( *(?P<time><f>)\)<s>'
            rb'Data +<f> +\( *(?P<data><f>)\)<s>Loss +(?P<loss><l>) +\( *<l>\)<s>Acc@1 +<f> +\( *<f>\)<s>Acc@5 +<f> +\( *<f>\)<end>',
            'running',
            None,
        ),
        (
            'event train',
            'train',
            b'{"',
            rb'^\{"event": "train", "time": (?P<clock><j>), "epoch": (?P<epoch><i>), "step": (?P<step><i>), "steps": (?P<steps><i>), '
            rb'"loss": (?P<loss><j>), "fps": (?P<fps><j>), "step_ms": (?P<step_ms><j>), "data_wait": (?P<data_wait><j>), .*\}<end>',
            'interval',
            1,
            'rate',
        ),
        # evaluation
        ('own eval', 'eval', b'Acc@1', regex_of(EVAL_LINE)),
        (
            'star eval',
            'eval',
            b'Acc@1',
            rb'<id>(?:\[AVG-ACC\] )?\* Acc@1 +(?P<acc1><.3>) Acc@5 +(?P<acc5><.3>)(?: loss (?P<loss><.3>))?<end>',
        ),
        ('timm star', 'eval', b'Acc@1', rb'\* Acc@1 (?P<acc1><.3>) \(<f>\) Acc@5 (?P<acc5><.3>) \(<f>\)<end>'),
        (
            'timm test',
            'eval',
            b'Acc@1',
            rb'Test(?: \((?P<ema>EMA)\))?: \[ *(?P<step><i>)/(?P<steps><i>)\] +Time: +<f> \( *<f>\) +Loss: +<l> \( *(?P<loss><l>)\) +'
            rb'Acc@1: +<f> \( *(?P<acc1><f>)\) +Acc@5: +<f> \( *(?P<acc5><f>)\)<end>',
        ),
        ('vision test', 'eval', b'Acc@1', rb'Test: +(?P<ema>EMA)? *Acc@1 (?P<acc1><.3>) Acc@5 (?P<acc5><.3>)<end>'),
        (
            'accuracy of',
            'coarse',
            b'ccuracy',
            rb'Accuracy of the (?P<ema>ema )?(?:network|model) on the <i> test images: (?P<acc1><f>)%<end>',
        ),
        ('max accuracy', 'best', b'ccuracy', rb'Max accuracy: (?P<acc1><.2>)%<end>'),
        ('best metric', 'best', b'Best metric', rb'\*\*\* Best metric: (?P<acc1><f>) \(epoch (?P<epoch><i>)\)<end>'),
        # throughput that the log states
        ('own fps', 'throughput', b'FPS', regex_of(THROUGHPUT_LINE)),
        ('own fps', 'throughput', b'FPS', regex_of(NO_THROUGHPUT_LINE)),
        ('spach fps', 'claim', b'FPS', rb'Epoch: \[<i>\] FPS: (?P<fps><f>) \(<f> s / it\)<end>', None, 0, 'mean'),
        (
            'vit fps',
            'claim',
            b'FPS',
            rb'<id>batch_size: *(?P<batch><i>) +Time: *(?P<time><f>) \* FPS@all (?P<fps><.3>)<end>',
            None,
            0,
            'mean',
        ),
        ('van fps', 'claim', b'FPS', rb'(?:^|\s)FPS:(?P<fps><.2>)<end>', None, 0, 'mean'),
        ('final', 'final', b'Final ', rb'Final Performance images?/sec *: *(?P<fps>.*?)<end>'),
        ('final', 'final', b'FPS', rb'^FPS : *(?P<fps>.*?)<end>'),
        ('final', 'final', b'Final ', rb'Final Train Accuracy *: *(?P<last_acc1>.*?)<end>'),
        ('final', 'final', b'E2E ', rb'E2E Training Duration sec *: *(?P<seconds>.*?)<end>'),
        ('summary', 'summary', b' =', rb'^(?P<key>%s) = ?(?P<value>.*?)<end>' % '|'.join(SUMMARY_KEYS).encode()),
        # JSON on a line
        ('event', 'event', b'{"', rb'^\s*(?P<json>\{"event".*\})<end>'),
        ('mllog', 'mllog', b'{"', rb':::MLLOG +(?P<json>\{.*?"key": *"(?P<key>\w+)".*\})<end>'),
        # where a run begins, goes on or fails
        ('own run', 'begin', b' M param', regex_of(RUN_LINE)),
        ('own sizes', 'sizes', b' training images', regex_of(SIZES_LINE)),
        ('arguments', 'begin', b'Namespace(', rb'Namespace\((?P<arguments>.*)'),
        ('own resume', 'resume', b'esum', regex_of(RESUMED_LINE)),
        ('resume', 'resume', b'oaded ', rb'(?:=> )?[Ll]oaded (?:checkpoint|successfully) .*\(epoch <i>\)'),
        ('resume', 'resume', b'esum', rb'\b[Rr]esum(?:ed|ing) (?:from|at|training)'),
        ('error', 'error', b'rror', rb'\[Error\] *(?P<reason>.*?)<end>'),
        (
            'error',
            'error',
            b'rror',
            rb'^(?:\[rank\d+\]: ?)?(?P<reason>(?!\S*ChildFailedError)[A-Za-z_][\w.]*(?:Error|Exception)\b(?::.*?)?)<end>',
        ),
        ('error', 'error', b'xception', rb'^(?:\[rank\d+\]: ?)?(?P<reason>[A-Za-z_][\w.]*Exception(?::.*?)?)<end>'),
        ('error', 'error', b'nterrupt', rb'^(?:\[rank\d+\]: ?)?(?P<reason>KeyboardInterrupt(?::.*?)?)<end>'),
        ('error', 'error', b'fault', rb'^(?P<reason>Segmentation fault\b.*?)<end>'),
        ('error', 'error', b'Killed', rb'^(?P<reason>Killed)<end>'),
    ]
]

UNSURE = {'summary', 'final', 'begin', 'sizes', 'resume'}  # kinds whose last line, cut short, still looks whole
SHORTER = {
    'star eval': {'own run', 'own train', 'own eval'}
}  # what is half a line in a run that has lines of these forms
DAMAGED = re.compile(
    rb'Train: \d+ \[|Epoch: \[\d+\] *\[|\* Acc@1 \d|:::MLLOG|^\{"event'
)  # what begins so should have matched
STAMP = re.compile(rb'\[?(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)')  # a logger's time, before the line
ANSI = re.compile(rb'\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))')
ARGUMENTS = {
    'batch_size': re.compile(rb'\bbatch_size=(\d+)[,)]'),
    'ranks': re.compile(rb'\bworld_size=(\d+)[,)]'),
    'model': re.compile(rb"\bmodel='([^']+)'"),
}

# What is looked for in a run's first lines to tell apart formats that share line forms: (name, what such a line holds, regex).
TRAITS = (
    ('logger', b'.py ', re.compile(rb'\(\w+\.py \d+\): INFO ')),
    ('fps', b'  fps:', re.compile(rb'  fps:')),
    ('img/s', b'  img/s:', re.compile(rb'  img/s:')),
    ('card', b'pu id: ', re.compile(rb'\[[gn]pu id: ')),
    ('four digits', b'Train: ', re.compile(rb'Train: .*Loss: +(?:\d\.\d{3}|\d\d\.\d\d|\d{3}\.\d|\d{4}\.) \(')),
)

# name, which lines and traits tell it (any of these sets, seen whole; the first format that fits counts), what its own FPS is.
# ConvMixer's and VAN's logs are an older timm's, which printed the loss with four digits.
FROM_START = 'running mean since the epoch began, first step included'
FORMATS = (
    ('metrics', [{'event'}, {'event train'}], 'images over seconds after the warm-up, synchronised'),
    ('result', [{'result'}], 'images over seconds after the warm-up, synchronised'),
    (
        'ours',
        [{'own train'}, {'own eval'}, {'own fps'}, {'own run'}],
        'images over seconds after the warm-up, synchronised',
    ),
    (
        'spach',
        [{'meter train', 'logger'}, {'spach fps'}],
        'all images of the epoch over the time since its fourth step: n/(n-3) too high for n steps',
    ),
    ('twins', [{'meter train', 'fps'}], 'mean over windows of 20 steps; 0 before the 26th step, which is left out'),
    (
        'torchvision',
        [{'meter train', 'img/s'}, {'vision test'}],
        'images per second of the compute alone: loading left out, not synchronised',
    ),
    ('deit', [{'meter train'}, {'accuracy of'}, {'max accuracy'}], 'the log states none'),
    (
        'vit',
        [{'imagenet train', 'card'}, {'vit fps'}, {'star eval', 'card'}],
        'batch over mean step time, the first 2 steps left out',
    ),
    ('imagenet', [{'imagenet train'}, {'star eval'}], 'the log states none'),
    ('van', [{'timm train', 'van fps'}, {'van fps'}], 'mean over epochs, the first 5 steps of each left out'),
    ('convmixer', [{'timm train', 'four digits'}], FROM_START),
    ('timm', [{'timm train'}, {'timm test'}, {'timm star'}, {'best metric'}], FROM_START),
    ('mlperf', [{'mllog'}], 'as its submitter measured'),
    ('summary', [{'summary'}, {'final'}], 'as the run that wrote it measured'),
)
