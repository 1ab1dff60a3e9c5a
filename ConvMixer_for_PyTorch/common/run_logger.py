"""Writes the record of a training while it goes on: lines on stdout, events in metrics.jsonl, TensorBoard."""

import collections
import datetime
import json
import math
import os
import platform
import sys
import time
from typing import Any, Deque, Dict, Optional

from common import messages
from common.errors import UserError, say
from common.progress import Progress
from common.run_folder import metrics_name

DRAWN = ('loss', 'fps', 'step_ms', 'data_wait', 'lr', 'acc1', 'acc5')  # the fields of events that TensorBoard shows


MOST_WAITING = 10000  # events that wait in memory, at most; a training of 300 epochs has fewer


class EventFile:
    """A file of lines, each of which is handed to the system at once, so that a killed process leaves whole lines.

    What cannot be written now, as on a full disk, waits in memory for the next time; of too many the oldest are lost.

    problem: why the last try failed, or None. lost: how many lines are.
    """

    def __init__(self, path: str):
        self.path, self.file, self.problem, self.lost = path, None, None, 0
        self.waiting: Deque[bytes] = collections.deque()

    def write(self, line: str) -> None:
        self.waiting.append(line.encode('utf-8'))
        if len(self.waiting) > MOST_WAITING:
            del self.waiting[1]  # the first may be written in part
            self.lost += 1
        try:
            if self.file is None:
                self.file = open(self.path, 'ab', buffering=0)  # noqa: SIM115 open to the end
            while self.waiting:
                self.waiting[0] = self.waiting[0][self.file.write(self.waiting[0]) :]
                if not self.waiting[0]:
                    self.waiting.popleft()
            self.problem = None
        except OSError as e:
            self.problem = e.strerror or str(e)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class RunLogger:
    """Lines on stdout and events in <folder>/metrics.jsonl (an evaluation: eval_metrics.jsonl), by the primary rank alone.

    Every event has the run's id: the script's RUN_ID, so that it finds what this run has written and nothing else.

    progress: the bar that is cleared before a line is printed.
    tensorboard: write the numbers of the events to <folder>/tensorboard too.
    """

    def __init__(self, folder: str, primary: bool, progress: Optional[Progress] = None, tensorboard=False, case='full'):
        self.primary = primary
        self.run_id = os.environ.get('RUN_ID') or f'{time.strftime("%Y%m%d-%H%M%S")}-{os.getpid()}'
        self.progress = progress
        self.file = self.writer = None
        if primary:
            self.file = EventFile(os.path.join(folder, metrics_name(case)))
            self.writer = summary_writer(os.path.join(folder, 'tensorboard')) if tensorboard else None

    def say(self, text: str, any_rank: bool = False) -> None:
        """Prints a line if this is the primary rank; with any_rank, on every rank that calls."""
        if self.primary or any_rank:
            if self.progress is not None:
                self.progress.clear()
            say(text)

    def event(self, kind: str, **fields: Any) -> None:
        """Appends one JSON object as one line. Where that fails, the training goes on and says so."""
        if self.primary:
            record = {'event': kind, 'time': round(time.time(), 3), **fields, 'run_id': self.run_id}
            before = self.file.problem
            self.file.write(json.dumps(plain(record)) + '\n')
            self._tell_of_problem(before, last=kind == 'end')

    def _tell_of_problem(self, before: Optional[str], last: bool) -> None:
        """A line where the record could be written `before` and cannot now, or the other way round; and at the end, if it cannot."""
        file = self.file
        if file.problem and last:
            self.say(
                messages.RECORD_LOST.format(path=file.path, events=len(file.waiting) + file.lost, problem=file.problem)
            )
        elif file.problem and not before:
            self.say(
                f'{file.path} cannot be written ({file.problem}): the training goes on, and its events wait in memory.'
            )
        elif before and not file.problem:
            lost = f', but for {file.lost}' if file.lost else ''
            self.say(f'{file.path} can be written again: the events that waited are in it{lost}.')

    def train(self, **fields: Any) -> None:
        """Fields: those of messages.STEP_FIELDS; data_wait is a share (0..1), eta in seconds."""
        self.event('train', **{name: fields[name] for name in messages.STEP_FIELDS})
        self._draw('train', fields, fields['epoch'] * fields['steps'] + fields['step'])
        shown = dict(
            fields,
            percent=100.0 * fields['step'] / fields['steps'],
            data_percent=100 * fields['data_wait'],
            eta=datetime.timedelta(seconds=fields['eta']),
        )
        self.say(messages.TRAIN_LINE.format(**shown))

    def evaluation(self, note: str = '', **fields: Any) -> None:
        """Fields: epoch, weights ('model' or 'ema'), acc1, acc5 (percent), loss, images, seconds, and the best's."""
        self.event('eval', **fields)
        group = 'eval' if fields['weights'] == 'model' else f'eval_{fields["weights"]}'
        self._draw(group, fields, fields['epoch'] or 0)
        self.say(messages.EVAL_LINE.format(note=note, **fields))

    def _draw(self, group: str, fields: Dict[str, Any], place: int) -> None:
        """Writes numbers for TensorBoard at `place`, a count of steps (train) or an epoch (eval)."""
        if self.writer is None:
            return
        for name in DRAWN:
            if fields.get(name) is not None:
                self.writer.add_scalar(f'{group}/{name}', fields[name], place)
        self.writer.flush()


def summary_writer(folder: str) -> Any:
    """-> TensorBoard's SummaryWriter. UserError where the package, which is no requirement, is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as e:
        raise UserError(
            f'--tensorboard needs the package tensorboard, which cannot be imported ({e}): pip install tensorboard'
        ) from e
    return SummaryWriter(folder)


def plain(value: Any) -> Any:
    """The value as JSON can hold it: NaN and infinity become None, tuples and sets lists, other objects text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def environment(accelerator: Any) -> Dict[str, Any]:
    """Versions and machine, for result.json. accelerator: `name` of the device, `packages` whose versions matter."""
    modules = {name: sys.modules.get(name) for name in accelerator.packages}
    return {
        'python': platform.python_version(),
        'platform': platform.platform(),
        'host': platform.node(),
        'cores': os.cpu_count(),
        'device': accelerator.name,
        'versions': {name: str(getattr(m, '__version__', 'unknown')) for name, m in modules.items() if m is not None},
    }
