"""Which format a log has, told by the lines and the traits that were seen in it. A new format is a row of FORMATS."""

import re
from typing import Optional, Set, Tuple

# What tells apart formats that have the same lines: (name, bytes that such a line holds, regex). Looked for in the
# first lines of a training only.
TRAITS = (
    ('logger', b'.py ', re.compile(rb'\(\w+\.py \d+\): INFO ')),
    ('fps', b'  fps:', re.compile(rb'  fps:')),
    ('img/s', b'  img/s:', re.compile(rb'  img/s:')),
    ('card', b'pu id: ', re.compile(rb'\[[gn]pu id: ')),
    (  # an older timm, with which ConvMixer and VAN were trained, printed the loss with four digits
        'four digits',
        b'Train: ',
        re.compile(rb'Train: .*Loss: +(?:\d\.\d{3}|\d\d\.\d\d|\d{3}\.\d|\d{4}\.) \('),
    ),
)

OURS = 'images over seconds after the warm-up, synchronised'
FROM_START = 'running mean since the epoch began, first step included'
WITHOUT_THREE = 'all images of the epoch over the time since its fourth step: n/(n-3) too high for n steps'
WINDOWS = 'mean over windows of 20 steps; 0 before the 26th step, which is left out'
COMPUTE = 'images per second of the compute alone: loading left out, not synchronised'
WITHOUT_TWO = 'batch over mean step time, the first 2 steps left out'
WITHOUT_FIVE = 'mean over epochs, the first 5 steps of each left out'
NONE = 'the log states none'

# (name, sets of line forms and traits, what the FPS of such a log is). A log has the first format of which one set was
# seen whole.
FORMATS = (
    ('metrics', [{'event'}, {'event train'}], OURS),
    ('result', [{'result'}], OURS),
    ('ours', [{'own train'}, {'own eval'}, {'own fps'}, {'own run'}], OURS),
    ('spach', [{'meter train', 'logger'}, {'spach fps'}], WITHOUT_THREE),
    ('twins', [{'meter train', 'fps'}], WINDOWS),
    ('torchvision', [{'meter train', 'img/s'}, {'vision test'}], COMPUTE),
    ('deit', [{'meter train'}, {'accuracy of'}, {'max accuracy'}], NONE),
    ('vit', [{'imagenet train', 'card'}, {'vit fps'}, {'star eval', 'card'}], WITHOUT_TWO),
    ('imagenet', [{'imagenet train'}, {'star eval'}], NONE),
    ('van', [{'timm train', 'van fps'}, {'van fps'}], WITHOUT_FIVE),
    ('convmixer', [{'timm train', 'four digits'}], FROM_START),
    ('timm', [{'timm train'}, {'timm test'}, {'timm star'}, {'best metric'}], FROM_START),
    ('mlperf', [{'mllog'}], 'as its submitter measured'),
    ('summary', [{'summary'}, {'final'}], 'as the run that wrote it measured'),
)


def describe(tags: Set[str]) -> Tuple[Optional[str], Optional[str]]:
    """-> (name of the format, what the FPS that such a log states is), or (None, None)."""
    for name, needs, meaning in FORMATS:
        if any(need <= tags for need in needs):
            return name, meaning
    return None, None
