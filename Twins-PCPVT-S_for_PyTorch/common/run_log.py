"""Writes what a run says: log lines and metrics.jsonl while it goes on; result.json, the summary and the loss history after.

The first half is used by the trainer, the second by launch.sh, through `python -m common.run_log begin|finish`; that half
needs the standard library only, so that a run whose torch does not even import still gets its FAILED summary.
"""

import argparse
import datetime
import glob
import json
import math
import os
import platform
import sys
import time

from common import log_formats, log_summary
from common.errors import UserError


# ---- while the run goes on


class RunLog:
    """Log lines on stdout and events in <folder>/metrics.jsonl, from the primary rank; silent on the others.

    progress: the bar that lines interrupt. tensorboard: also write the numbers of events to <folder>/tensorboard.
    """

    def __init__(self, folder, primary, progress=None, tensorboard=False):
        self.primary, self.progress = primary, progress
        self.file = self.writer = None
        if primary:
            self.file = open(os.path.join(folder, 'metrics.jsonl'), 'a', encoding='utf-8')
            self.writer = summary_writer(os.path.join(folder, 'tensorboard')) if tensorboard else None

    def say(self, text, any_rank=False):
        """A line from the primary rank, or from whichever calls."""
        if self.primary or any_rank:
            if self.progress is not None:
                self.progress.clear()
            print(text, flush=True)

    def event(self, kind, **fields):
        """One JSON object on a line of its own, flushed, so that a killed run leaves whole events."""
        if self.primary:
            record = dict(event=kind, time=round(time.time(), 3))
            record.update(fields)
            self.file.write(json.dumps(plain(record)) + '\n')
            self.file.flush()

    def train(self, **fields):
        """epoch, step, steps, loss, fps, step_ms, data_wait (0..1), lr, eta (seconds)."""
        self.event('train', **fields)
        self.draw('train', fields, fields['epoch'] * fields['steps'] + fields['step'])
        self.say(
            log_formats.TRAIN_LINE.format(
                **dict(
                    fields,
                    percent=100.0 * fields['step'] / fields['steps'],
                    data_percent=100 * fields['data_wait'],
                    eta=datetime.timedelta(seconds=fields['eta']),
                )
            )
        )

    def evaluation(self, note='', **fields):
        """epoch, weights ('model' or 'ema'), acc1, acc5, loss, images, seconds, and the best so far."""
        self.event('eval', **fields)
        self.draw('eval' if fields['weights'] == 'model' else 'eval_' + fields['weights'], fields, fields['epoch'] or 0)
        self.say(log_formats.EVAL_LINE.format(note=note, **fields))

    def draw(self, group, fields, place):
        """Numbers -> TensorBoard, at step (train) or epoch (eval) `place`."""
        if self.writer is not None:
            for name in ('loss', 'fps', 'step_ms', 'data_wait', 'lr', 'acc1', 'acc5'):
                if fields.get(name) is not None:
                    self.writer.add_scalar('%s/%s' % (group, name), fields[name], place)
            self.writer.flush()


def summary_writer(folder):
    """Imported here, because the rest of this file works without torch."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as e:
        raise UserError(
            '--tensorboard needs the package tensorboard, which cannot be imported (%s): pip install tensorboard' % e
        )
    return SummaryWriter(folder)


def plain(value):
    """The value as JSON can hold it: no NaN, no tuples, no objects."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def environment(accelerator):
    """Versions and machine, for result.json."""
    versions = {}
    for name in accelerator.packages:
        module = sys.modules.get(name)
        if module is not None:
            versions[name] = str(getattr(module, '__version__', 'unknown'))
    return {
        'python': platform.python_version(),
        'platform': platform.platform(),
        'host': platform.node(),
        'cores': os.cpu_count(),
        'device': accelerator.name,
        'versions': versions,
    }


# ---- before and after, for launch.sh


def begin(folder, log_name, case):
    """Makes the output folder, and moves an earlier run's files into previous/<time>/.

    Checkpoints stay where they are: this run may be asked to read them (the trainer renames before it would overwrite).
    An evaluation leaves the training run's log and summary beside its own.
    """
    os.makedirs(folder, exist_ok=True)
    if case == 'eval':
        old = [os.path.join(folder, name) for name in (log_name, 'metrics.jsonl', 'result.json')]
        old += glob.glob(os.path.join(glob.escape(folder), '*_eval.log'))
    else:
        old = [os.path.join(folder, name) for name in os.listdir(folder) if not name.endswith('.pth')]
    old = [path for path in old if os.path.isfile(path)]
    if not old:
        return
    stamp, n = time.strftime('%Y%m%d-%H%M%S'), 0
    aside = os.path.join(folder, 'previous', stamp)
    while os.path.exists(aside):
        n += 1
        aside = os.path.join(folder, 'previous', '%s-%d' % (stamp, n))
    os.makedirs(aside)
    for path in old:
        os.rename(path, os.path.join(aside, os.path.basename(path)))
    print('The files of an earlier run were moved to %s' % aside, flush=True)


def finish(folder, log_name, network, case, ranks, code, seconds):
    """Writes result.json, <CaseName>.log and the loss history, and prints the last lines. -> the exit status.

    A run that ended 0 but reached no end is a failure too.
    """
    result = log_summary.summarize(log_summary.read_events(os.path.join(folder, 'metrics.jsonl'))[0])
    for key, known in (('network', network), ('case', case), ('ranks', ranks)):
        result[key] = known if result[key] is None else result[key]
    code, reason = verdict(code, result['complete'], os.path.join(folder, log_name))
    result.update(
        device_type=platform.machine(),
        e2e_seconds=seconds,
        exit_code=code,
        reason=reason,
        status='FAILED' if reason else 'OK',
    )
    name = log_summary.case_name(result)
    losses = result.pop('losses')
    if result['status'] == 'OK' and case != 'eval':
        write(os.path.join(folder, 'train_%s_loss.txt' % name), ''.join('%s\n' % loss for loss in losses))
    items = log_summary.summary_items(result)
    write(os.path.join(folder, name + '.log'), ''.join('%s = %s\n' % item for item in items))
    write(os.path.join(folder, 'result.json'), json.dumps(dict(result, case_name=name), indent=1) + '\n')
    print_end(result, dict(items))
    return code


def verdict(code, complete, log_path):
    """-> (exit status, why it failed or None)."""
    if code == 0:
        return (0, None) if complete else (1, 'the trainer ended without an error but before the end of the run')
    reason = log_summary.failure_reason(log_path)
    if code in (130, 143) and not reason.startswith('stopped by'):
        reason = 'stopped by a signal before there was anything to save'
    return code, reason


def print_end(result, items):
    sys.stdout.flush()
    if result['status'] != 'OK':
        print('%s %s (exit %s)' % (log_formats.ERROR_MARK, result['reason'], result['exit_code']), flush=True)
        return
    print(log_formats.FINAL_RULE)
    for label, key in log_formats.FINAL_LINES:
        print('%s : %s' % (label, items[key]), flush=True)


def write(path, text):
    """Writes a small file whole or not at all."""
    with open(path + '.tmp', 'w', encoding='utf-8') as f:
        f.write(text)
    os.replace(path + '.tmp', path)


def main(argv=None):
    parser = argparse.ArgumentParser(prog='python -m common.run_log', description=__doc__.split('\n')[0])
    parser.add_argument('command', choices=['begin', 'finish'])
    parser.add_argument('--folder', required=True)
    parser.add_argument('--log-name', required=True)
    parser.add_argument('--case', required=True)
    parser.add_argument('--network', default='unknown')
    parser.add_argument('--ranks', type=int, default=1)
    parser.add_argument('--code', type=int, default=0, help='exit status of the trainer')
    parser.add_argument('--seconds', type=int, default=0, help='since the script began')
    args = parser.parse_args(argv)
    try:
        if args.command == 'begin':
            return begin(args.folder, args.log_name, args.case) or 0
        return finish(args.folder, args.log_name, args.network, args.case, args.ranks, args.code, args.seconds)
    except OSError as e:
        print(
            '%s the output folder %s cannot be used (%s); choose another with --output_dir'
            % (log_formats.ERROR_MARK, args.folder, e),
            file=sys.stderr,
        )
        return args.code or 1


if __name__ == '__main__':
    sys.exit(main())
