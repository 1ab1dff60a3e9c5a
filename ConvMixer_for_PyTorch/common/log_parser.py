"""Reads the logs of training runs, ours and others', and computes what they are worth. Standard library only, Python 3.7 on.

    python -m common.log_parser summary LOG [--json | --markdown | --csv] [--batch N] [--target-acc P] [--model-flops F --peak-tflops P]
    python -m common.log_parser compare A B [--fail-under fps=0.95,acc=0.99] [--scaling [N]]
    python -m common.log_parser plot LOG... -o curves.svg
    python -m common.log_parser check LOG --require fps,acc
    python -m common.log_parser table LOG...

LOG is a log, a metrics.jsonl, a result.json, a summary, or the folder that a run left. As a library: parse(path).summary().
What the formats are stands in log_formats.py; this file reads lines into runs and runs into numbers; log_report.py shows them.
"""
import argparse
import calendar
import glob
import json
import operator
import os
import re
import sys
import time

from common import log_formats, log_report
from common.log_formats import ERROR_MARK, MISSING
from common.log_runs import EPOCH, YOUNG, Run

MEASURED = ('fps', 'fps_run', 'step_ms', 'step_ms_p50', 'step_ms_p95', 'data_wait', 'peak_memory_mb')
COUNTS = ('ranks', 'batch_size', 'best_epoch')
MLLOG_KEYS = {b'init_start', b'run_start', b'run_stop', b'eval_accuracy', b'global_batch_size', b'throughput', b'tracked_stats'}
BLOCK = 1 << 18          # bytes read at a time
LONGEST = 1 << 24        # bytes; a longer line is no line of a log
FEW = 300                # lines of a block that are of no form
MAX_RUNS = 100           # the last ones are kept
MAX_PROBLEMS = 100

BY_NEED = {}
for known_form in log_formats.LINES:
    at_start = known_form.regex.pattern.startswith(b'^')      # search() would try it everywhere
    BY_NEED.setdefault(known_form.need, []).append((known_form.regex.match if at_start else known_form.regex.search, known_form))
BY_NEED = tuple(BY_NEED.items())


def match(raw, active=BY_NEED):
    """A line -> (its form, the match); (None, True) where it holds what a form needs and fits none; (None, None)."""
    near = None
    for need, forms in active:
        if need in raw:
            near = True
            for search, form in forms:
                found = search(raw)
                if found is not None:
                    return form, found
    return None, near


class Log:
    """A file, read: .runs (list of Run, the last MAX_RUNS of .begun), .problems (list of 'PATH:LINE: what'), .format (a name of log_formats.FORMATS or None)."""

    def __init__(self, path, batch=None):
        self.path, self.batch, self.problems, self.more_problems = path, batch, [], 0
        self.runs, self.begun = [Run()], 1
        self.columns, self.rows = [], []   # training lines not yet handed over: lists of values, one for each group, then rows of groups
        self.form, self.first_raw, self.last_raw = None, b'', b''
        self.unreadable = None             # why there is nothing to read, as a sentence

    @property
    def run(self):
        return self.runs[-1]

    @property
    def format(self):
        return describe(self.run.tags)[0]

    def problem(self, number, text):
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append('%s:%d: %s' % (self.path, number, text))
        else:
            self.more_problems += 1

    def summary(self, **options):
        """The last run in numbers, see Run.summary, with format, what its FPS means, the number of runs, curves and problems."""
        name, meaning = describe(self.run.tags)
        numbers = self.run.summary(batch=self.batch, **options)
        return dict({'path': self.path, 'format': name, 'status': None, 'runs': self.begun}, **dict(
            numbers, fps_meaning=meaning if numbers['fps_claimed'] is not None else None, loss_curve=self.run.loss.all(),
            fps_curve=self.run.rate.all(), evaluations=self.run.evals.all(), problems=self.problems))

    # ---- lines

    def read(self, stream):
        """Reads a binary stream to its end, in bounded memory."""
        rest, number = b'', 1
        while True:
            data = stream.read(BLOCK)
            if not data:
                break
            cut = max(data.rfind(b'\n'), data.rfind(b'\r')) + 1
            block, rest = (rest + data[:cut], data[cut:]) if cut else (b'', rest + data)
            if len(rest) > LONGEST:
                self.problem(number, 'a line of more than %d MB; left out' % (LONGEST >> 20))
                rest = b''
            if block:
                self.scan(block, number)
                number += block.count(b'\n')
        if rest.strip():
            self.scan(rest, number, whole=False)
        if self.more_problems:
            self.problems.append('%s: %d more problems' % (self.path, self.more_problems))
        return self

    def scan(self, block, number, whole=True):
        """Lines, from a line number on; not whole: the last line of a file, which has no end."""
        if b'\x1b' in block:
            block = log_formats.ANSI.sub(b'', block)
        lines, form = block.split(b'\n'), self.form
        last = number + len(lines) - 1
        if b'\r' in block:
            lines = [(n, part) for n, raw in enumerate(lines, number) for part in raw.split(b'\r') if part]
            last = lines[-1][0] if lines else number
            self.scan_lines(lines, block, whole)
        elif not whole or form is None or not form.quick.match(self.last_raw + b'\n') or not self.scan_quickly(block, lines, number):
            self.scan_lines(enumerate(lines, number), block, whole)
        self.flush(last)

    def scan_quickly(self, block, lines, number):
        """The same in one pass, for a block most of whose lines are of the form of the last training line.

        -> False, and nothing is done, where something stands before a training line on its line.
        """
        form, width = self.form, self.form.quick.groups + 1
        pieces = form.quick.split(block)      # what is between training lines, the groups of a line, what is between...
        others = pieces[::width]
        breaks = [i for i, other in enumerate(others) if other]
        if any(others[i][-1:] != b'\n' for i in breaks):
            return False
        columns, low, at = [pieces[i::width] for i in range(1, width)], 0, 0
        for high in sorted({*breaks, len(others) - 1}):
            if high > low:
                if self.form is not form:
                    self.flush(number + at)
                    self.form = form
                self.add([column[low:high] for column in columns], lines[at])
                low, at = high, at + high - low
                self.last_raw = lines[at - 1]
            more = others[high].count(b'\n')
            if more:
                self.scan_lines(enumerate(lines[at:at + more], number + at), others[high])
                at += more
        return True

    def add(self, columns, raw):
        """Training lines of the form of the last one, of which raw is the first."""
        if self.rows:
            self.rows += zip(*columns)
        elif self.columns:
            for column, more in zip(self.columns, columns):
                column += more
        else:
            self.first_raw, self.columns = raw, columns

    def scan_lines(self, lines, block, whole=True):
        """Lines with their numbers, one by one; they are all in the block."""
        rows, others, active = self.rows, 0, BY_NEED
        need, search = (self.form.need, self.form.regex.search) if self.form is not None else (b'\n', None)
        for n, raw in lines:
            if need in raw:                   # most lines are training lines of the same form as the one before
                found = search(raw)
                if found is not None:
                    if not rows and not self.columns:
                        self.first_raw = raw
                    rows.append(found.groups())
                    self.last_raw = raw
                    continue
            form, found = match(raw, active)
            if form is None:
                others += 1
                if others == FEW:             # worth finding out which of the needs are in this block at all
                    active = [entry for entry in BY_NEED if entry[0] in block]
                if not whole or found and log_formats.DAMAGED.search(raw):
                    self.problem(n, 'the last line has no end; left out' if not whole else 'a damaged line; left out')
            elif form.kind == 'train':
                self.flush(n)
                self.form, self.first_raw, self.last_raw = form, raw, raw
                need, search = form.need, form.regex.search
                rows.append(found.groups())
            elif not whole and form.kind in log_formats.UNSURE:
                self.problem(n, 'the last line has no end; left out')
            else:
                self.handle(form, found.groupdict(), raw, n)

    def handle(self, form, values, raw, number):
        """Everything but training lines."""
        if form.name in log_formats.SHORTER and log_formats.SHORTER[form.name] & self.run.tags:
            self.problem(number, 'a damaged line; left out')
            return
        if form.kind == 'eval' and values.get('step') and int(values['step'][:9]) < int(values['steps'][:9]):
            return
        self.flush(number)
        try:
            getattr(self, 'on_' + form.kind)(values, raw, number)
        except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as e:
            self.problem(number, 'a line that holds no %s (%s)' % (form.name, type(e).__name__))
            return
        self.tag(form, raw)

    def tag(self, form, raw):
        run = self.run
        if form.name not in run.tags or len(run.tags) < 8 and run.records < 100:
            run.tags.add(form.name)
            for name, need, regex in log_formats.TRAITS:
                if need in raw and regex.search(raw):
                    run.tags.add(name)

    # ---- training lines

    def flush(self, number):
        """Hands the training lines read so far, up to this line's number, to their run."""
        if not self.rows and not self.columns:
            return
        columns, self.columns = self.columns, []
        if self.rows:
            more = list(map(list, zip(*self.rows)))
            columns = list(map(operator.add, columns, more)) if columns else more
            self.rows.clear()
        try:
            columns, keys = prepare(self.form, columns)
        except (ValueError, OverflowError):
            rows = list(zip(*columns))
            sound = [row for row in rows if is_sound(self.form, row)]
            self.problem(number, '%d of the training lines up to here hold no sound numbers; left out' % (len(rows) - len(sound)))
            if not sound:
                return
            columns, keys = prepare(self.form, zip(*sound))
        run = self.run
        if not run.pending and keys[0] > run.last_key and all(map(operator.lt, keys, keys[1:])):
            run.remember(keys)
            self.take(columns, keys)
        else:
            chosen = run.repeated(keys)
            self.sort_out(columns, keys) if chosen is None else self.take(columns, keys, chosen)
        for clock in (columns['clock'][0], columns['clock'][-1]) if 'clock' in columns else map(stamp, (self.first_raw, self.last_raw)):
            self.run.tick(clock if clock is None else float(clock))

    def take(self, columns, keys, chosen=None):
        if chosen is not None:
            columns = {name: [column[i] for i in chosen] for name, column in columns.items()}
            keys = [keys[i] for i in chosen]
        if keys:
            self.run.train(self.form, columns, keys)
            self.run.alive()
            self.tag(self.form, self.first_raw)

    def sort_out(self, columns, keys):
        """Lines that do not simply go on: of several ranks, printed twice, of another run or of a resumed one."""
        chosen = []
        for i, key in enumerate(keys):
            where = self.run.place(key)
            if where == 'again':
                continue
            if where != 'next':
                self.take(columns, keys, chosen)
                chosen = []
                if where == 'new':
                    self.begin()
                else:
                    self.run.resume(key)
            self.run.remember([key])
            chosen.append(i)
        self.take(columns, keys, chosen)

    # ---- runs

    def begin(self):
        """A run begins."""
        self.runs.append(Run(self.run.pending_fields))
        self.begun += 1
        del self.runs[:-MAX_RUNS]

    def mark(self, kind, fields, text=None):
        """A line that stands at the beginning of a process; what follows decides whether a run begins or goes on.

        In a young run it is another rank's, and so is the same text again.
        """
        run = self.run
        if run.fresh():
            run.fields.update(fields)
            if kind == 'resume':
                run.fields['resumed'] = True
        elif text not in run.marks and (not run.young() or kind == 'resume'):
            run.pending = kind if run.pending != 'resume' else run.pending
            run.pending_fields.update(fields)
        if text is not None:
            run.marks.append(text)
            del run.marks[:-YOUNG]

    def settle(self):
        """A record that is no training line: after a beginning, it is the first of a run."""
        if self.run.pending == 'begin':
            self.begin()
        elif self.run.pending == 'resume':
            self.run.resume()

    def ours(self, values):
        """Whether a line is of the rank that spoke first; lines without a rank are."""
        rank = values.get('id')
        if rank is not None and self.run.ids is None:
            self.run.ids = rank
        return rank is None or rank == self.run.ids

    # ---- what the kinds of lines do: values are the regex's groups

    def on_begin(self, values, raw, number):
        fields = {name: text(value) for name, value in values.items() if name in ('model', 'case', 'device')}
        arguments = values.get('arguments')
        if arguments is not None:
            found = {name: regex.search(arguments) for name, regex in log_formats.ARGUMENTS.items()}
            fields.update({name: text(match.group(1)) for name, match in found.items() if match})
        fields.update({name: int(value) for name, value in dict(values, **fields).items() if name in ('ranks', 'batch_size')})
        if 'batch_size' in fields and 'ranks' in fields:
            fields['global_batch'] = fields['batch_size'] * fields['ranks']
        self.mark('begin', fields)

    def on_sizes(self, values, raw, number):
        run = self.run
        (run.pending_fields if run.pending else run.fields)['global_batch'] = int(values['global_batch'])

    def on_resume(self, values, raw, number):
        self.mark('resume', {}, raw)

    def on_eval(self, values, raw, number):
        if not self.ours(values):
            return
        acc1, acc5 = percent(values['acc1']), percent(values['acc5'])
        loss = float(values['loss']) if values.get('loss') else None
        if values.get('ema') or b'averaged weights' in (values.get('note') or b''):
            self.run.fields['ema_acc1'] = acc1
            return
        self.settle()
        self.run.tick(stamp(raw))
        self.run.evaluation(acc1, acc5, loss)

    def on_coarse(self, values, raw, number):
        if not values['ema']:
            self.settle()
            self.run.evaluation(percent(values['acc1']), coarse=True)

    def on_best(self, values, raw, number):
        self.run.best_claim = (percent(values['acc1']), int(values['epoch']) if values.get('epoch') else None)
        self.run.closed = True

    def on_claim(self, values, raw, number):
        if not self.ours(values):
            return
        fps = positive(values['fps'])
        if values.get('batch'):
            batch = int(values['batch'])      # of one process or of all: the line's own time tells
            self.run.fields['global_batch'] = batch * max(1, round(fps * float(values['time']) / batch))
        self.run.claim(fps, raw)

    def on_throughput(self, values, raw, number):
        run = self.run
        if values.get('fps_reason') is not None:
            run.fields.update(fps_reason=text(values['fps_reason']))
        else:
            run.measured = {name: float(values[name]) for name in MEASURED if name in values}
            run.measured.update(fps=positive(values['fps']), data_wait=float(values['data_percent']) / 100, measured_steps=int(values['steps']))
        run.fields['status'] = 'OK'
        run.closed = True

    def on_final(self, values, raw, number):
        for field, value in values.items():
            self.state(field, field, text(value), number)
        self.run.closed = True

    def on_summary(self, values, raw, number):
        key, value = text(values['key']), text(values['value'])
        if key == 'Network' and len(self.run.said) >= 8:
            self.begin()
        self.state(key, log_formats.SUMMARY_KEYS[key], value, number)

    def state(self, key, field, value, number):
        """Takes a value of a summary. What a crashed run leaves in its place is a failure, no number."""
        run = self.run
        if field in ('network', 'case_name', 'model', 'device', 'status', 'reason', 'fps_reason'):
            run.said[field] = value if value != MISSING else None
        else:
            given = re.match(r'(\d+(?:\.\d+)?)(?:/s|%| \(\S+\))?$', value)
            number_ = float(given.group(1)) if given else None
            empty = number_ == 0 and (field == 'fps' or value in ('0', '0%') and 'acc' in field) or number_ == 65536 and 'loss' in field
            if number_ is None and value != MISSING and not re.match(r'(-?nan|-?inf)?$', value):
                raise ValueError(value)
            if value != MISSING and (number_ is None or empty):
                self.problem(number, '%s is %s, no number' % (key, value or 'blank'))
                if field in ('fps', 'min_loss'):
                    run.said.setdefault('failure', '%s is %s' % (key, value or 'blank'))
            run.said[field] = None if empty else int(number_) if number_ is not None and field in COUNTS else number_

    def on_error(self, values, raw, number):
        self.settle()
        self.run.fail(text(values['reason']) or 'an error without a word')

    def on_event(self, values, raw, number):
        event = json.loads(text(values['json']))
        kind = event['event']
        if kind in ('run', 'eval', 'throughput', 'end'):
            getattr(self, 'event_' + kind)(event)
        self.run.tick(real(event.get('time')))

    def event_run(self, event):
        fields = {name: event.get(name) for name in ('network', 'case', 'model', 'ranks', 'batch_size', 'device', 'device_kind', 'precision')}
        versions = (event.get('environment') or {}).get('versions') or {}
        fields['torch'] = versions.get('torch')
        self.mark('resume' if (event.get('args') or {}).get('resume') else 'begin', fields, event.get('time'))

    def event_eval(self, event):
        acc1, acc5, best = (percent(event.get(name)) for name in ('acc1', 'acc5', 'best_acc1'))
        if event.get('weights') == 'ema':
            self.run.fields['ema_acc1'] = acc1
        elif acc1 is not None:
            self.settle()
            self.run.tick(real(event.get('time')))
            self.run.evaluation(acc1, acc5, real(event.get('loss')), event.get('epoch'))
            self.run.best_claim = (best, event.get('best_epoch')) if best is not None else None

    def event_throughput(self, event):
        self.run.measured = {name: real(event.get(name)) for name in MEASURED}
        self.run.measured['measured_steps'] = event.get('steps')
        self.run.fields['fps_reason'] = event.get('fps_reason')
        self.run.closed = True

    def event_end(self, event):
        self.run.fields.update(status='OK' if event.get('complete') else None, checkpoint=event.get('checkpoint'))
        self.run.closed = True

    def on_mllog(self, values, raw, number):
        if values['key'] not in MLLOG_KEYS:
            return
        entry = json.loads(text(values['json']))
        key, value, more = entry['key'], entry.get('value'), entry.get('metadata') or {}
        clock = real(entry.get('time_ms'))
        clock = clock / 1000 if clock is not None else None
        if key in ('init_start', 'run_start'):
            self.mark('begin', {}, raw)
        elif key == 'eval_accuracy':
            self.settle()
            self.run.tick(clock)
            value = real(value)
            self.run.evaluation(percent(100 * value if value <= 1 else value), epoch=more.get('epoch_num'))
        elif key == 'run_stop' and more.get('status') not in (None, 'success'):
            self.run.fail('run_stop says %s' % more['status'])
        elif key == 'run_stop':
            self.run.fields['status'] = 'OK'
        elif key == 'global_batch_size':
            (self.run.pending_fields if self.run.pending else self.run.fields)['global_batch'] = int(value)
        elif key in ('throughput', 'tracked_stats'):
            self.run.claim(positive(value['throughput'] if isinstance(value, dict) else value), raw)
        self.run.tick(clock)

    # ---- a result.json

    def read_result(self, raw):
        result = json.loads(text(raw))
        if 'status' not in result:
            raise ValueError('a JSON object without a status is no result of a run')
        run = self.run
        run.tags.add('result')
        run.fields.update((name, result.get(name)) for name in (
            'network', 'case', 'model', 'ranks', 'batch_size', 'device', 'device_kind', 'precision', 'checkpoint', 'last_acc5',
            'last_epoch', 'eval_loss', 'fps_reason'))
        run.fields.update(case_name=result.get('case_name'), torch=((result.get('environment') or {}).get('versions') or {}).get('torch'))
        run.measured = {name: real(result.get(name)) for name in MEASURED}
        run.measured['measured_steps'] = real(result.get('steps'))
        run.epochs = real(result.get('epochs')) or 0
        run.said.update((name, real(result.get(name))) for name in (
            'last_acc1', 'best_acc1', 'best_epoch', 'ema_acc1', 'final_loss', 'min_loss'))
        self.judge(result)

    def judge(self, result):
        """What launch.sh found out about the run when it had ended."""
        if isinstance(result, dict) and result.get('status') in ('OK', 'FAILED'):
            self.run.fields.update(status=result['status'], reason=result.get('reason'))
            self.run.said['seconds'] = real(result.get('e2e_seconds'))


# ---- values

def text(raw):
    """Bytes of a log as text: UTF-8, else GBK, else with marks in the place of what is neither."""
    for encoding in ('utf-8', 'gbk'):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode('utf-8', 'replace')


def real(value):
    """A finite number, or None."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18 else None


def percent(value):
    """An accuracy, or None where there is none; ValueError where it cannot be one."""
    if value is None:
        return None
    value = float(value)
    if not 0 <= value <= 100:
        raise ValueError(value)
    return value


def positive(value):
    value = float(value)
    if not 0 < value < 1e12:
        raise ValueError(value)
    return value


def stamp(raw):
    """Seconds since 1970 of the time that a logger wrote before a line, or None. The zone does not matter: differences count."""
    found = log_formats.STAMP.match(raw)
    if not found:
        return None
    try:
        return calendar.timegm(time.strptime((found.group(1) + found.group(2)).decode(), '%Y-%m-%d%H:%M:%S'))
    except ValueError:
        return None


def prepare(form, columns):
    """The values of each regex group -> ({group: column}, positions). ValueError when a line is not sound."""
    columns = dict(zip(sorted(form.regex.groupindex, key=form.regex.groupindex.get), columns))
    epochs, totals = ({value: int(value) for value in set(columns[name])} for name in ('epoch', 'steps'))
    steps, total = list(map(int, columns['step'])), list(map(totals.get, columns['steps']))
    if min(totals.values()) < 1 or max(totals.values()) >= EPOCH or max(epochs.values()) >= 10 ** 6 or any(map(operator.gt, steps, total)):
        raise ValueError('a step beyond its epoch')
    columns['total'] = total
    if 'step_ms' in columns:
        columns['time'] = [float(ms) / 1000 for ms in columns['step_ms']]
        waits, unit = (columns['data_wait'], 1) if 'data_wait' in columns else (columns['data_percent'], 100)
        columns['data'] = [seconds * float(wait) / unit for seconds, wait in zip(columns['time'], waits)]
    begins = {value: epoch * EPOCH for value, epoch in epochs.items()}
    return columns, list(map(operator.add, map(begins.get, columns['epoch']), steps))


def is_sound(form, row):
    try:
        prepare(form, zip(row))
    except (ValueError, OverflowError):
        return False
    return True


def describe(tags):
    """-> (name of the format, what its own FPS is), or (None, None)."""
    for name, needs, meaning in log_formats.FORMATS:
        if any(need <= tags for need in needs):
            return name, meaning
    return None, None


# ---- the library's entrance

def parse(path, batch=None):
    """Reads a log, a metrics.jsonl, a result.json, a summary or a run's folder. -> Log; never an exception.

    batch: images of all ranks per step, for logs that do not say it. What cannot be read is in .problems, and .runs is then
    one empty run, whose summary is FAILED.
    """
    log = Log(path, batch)
    try:
        log.path = path = find(path)
        with open(path, 'rb') as stream:
            head = stream.read(4096).lstrip()
            if head.startswith(b'{') and not head.startswith(b'{"event"'):
                log.read_result(head + stream.read(LONGEST))
            else:
                stream.seek(0)
                log.read(stream)
        beside = os.path.join(os.path.dirname(path), 'result.json')
        if os.path.basename(path) == 'metrics.jsonl' and os.path.isfile(beside):
            with open(beside, 'rb') as stream:
                log.judge(json.loads(text(stream.read(LONGEST))))
    except OSError as e:
        log.unreadable = '%s: %s' % (path, e.strerror or e)
        log.problems.append(log.unreadable)
    except ValueError as e:
        log.unreadable = '%s: %s' % (path, str(e)[:200])
        log.problems.append(log.unreadable)
    return log


def find(path):
    """A folder -> the file in it that says most of its run; a file stays. FileNotFoundError."""
    if not os.path.isdir(path):
        return path
    for pattern in ('metrics.jsonl', 'result.json', '*_bs*_*p_*.log', 'train_*.log', 'eval_*.log', '*.log'):
        found = sorted(glob.glob(os.path.join(glob.escape(path), pattern)), key=os.path.getmtime)
        if found:
            return found[-1]
    raise FileNotFoundError(2, 'the folder holds no metrics.jsonl, result.json or *.log')


# ---- the command line

def options():
    parser = argparse.ArgumentParser(prog='python -m common.log_parser', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', metavar='summary | compare | plot | check | table')

    def command(name, text, *paths):
        sub = commands.add_parser(name, help=text, description=text)
        for path, count in paths:
            sub.add_argument(path, nargs=count, help='a log, metrics.jsonl, result.json, summary, or the folder of a run')
        sub.add_argument('--batch', type=int, help='images of all ranks per step, where the log does not say it')
        return sub

    summary = command('summary', 'what one log says; exit 1 when it says nothing', ('path', None))
    form = summary.add_mutually_exclusive_group()
    for name in ('json', 'markdown', 'csv'):
        form.add_argument('--' + name, dest='form', action='store_const', const=name, help='as ' + name)
    summary.add_argument('--target-acc', type=float, metavar='P', help='percent: also the seconds until an evaluation reached it')
    summary.add_argument('--model-flops', type=float, metavar='F', help="operations of one image's forward pass, for the MFU")
    summary.add_argument('--peak-tflops', type=float, metavar='P', help='of all devices of the run together, for the MFU')
    compare = command('compare', 'B against A; exit 1 when B is worse', ('a', None), ('b', None))
    compare.add_argument('--fail-under', metavar='KEY=RATIO,...', help='the least share of A that B must reach (default: %s)'
                         % log_report.FAIL_UNDER)
    compare.add_argument('--scaling', nargs='?', type=float, const=0, metavar='N',
                         help='the efficiency of B on N times the devices of A (default: by the ranks that the logs state)')
    plot = command('plot', 'loss, accuracy and FPS as curves', ('paths', '+'))
    plot.add_argument('-o', '--output', required=True, help='curves.svg, .html, or .png (needs matplotlib)')
    check = command('check', 'exit 1 with the reason when a number is missing or the run failed', ('path', None))
    check.add_argument('--require', default='fps,acc', metavar='KEY,...', help='fps, acc, loss or a key of summary --json (default: fps,acc)')
    command('table', 'a results table as in the READMEs', ('paths', '+'))
    return parser


def main(argv=None):
    parser = options()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.error('name a command: summary, compare, plot, check or table')
    try:
        return getattr(log_report, args.command)(args, lambda path, **more: readable(path, args.batch).summary(**more))
    except (log_report.Mistake, OSError) as e:
        print('%s %s' % (ERROR_MARK, e), file=sys.stderr)
        return 1


def readable(path, batch):
    log = parse(path, batch)
    if log.unreadable:
        raise log_report.Mistake(log.unreadable)
    return log


if __name__ == '__main__':
    sys.exit(main())
