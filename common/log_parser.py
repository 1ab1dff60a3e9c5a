"""Reads the logs of trainings, ours and those of other code bases. Standard library only, Python 3.7 or later.

    python -m common.log_parser summary LOG [--json | --markdown | --csv] [--batch N] [--target-acc P]
    python -m common.log_parser compare A B... [--fail-under fps=0.95,acc=0.99] [--scaling [N]] [--markdown]
    python -m common.log_parser check LOG [--require fps,acc] [--min acc1=75.9 fps=2000] [--target-acc P] [--finished]
                                          [--junit FILE] [--markdown]
    python -m common.log_parser table LOG...
    python -m common.log_parser plot LOG... -o curves.png

LOG is a log, a metrics.jsonl, a result.json, a summary, a log.txt, a summary.csv, the folder that a training left, or
- for standard input; gzip is unpacked. LOG#2 is the second of the trainings in a file, LOG#-1 (or LOG) the last.

Exit status: 0 good; 1 what was asked for is not so, or there is a mistake; 2 wrong arguments; 3 the format is not
known.

As a library, parse(path).summary(). It needs the folder common/ alone, which may be copied anywhere.
"""

import argparse
import glob
import os
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

from common.logs import compare, handlers, plot, report
from common.logs.log import BAD_VALUES, Log
from common.logs.reader import CANNOT_READ, LONGEST, open_log
from common.messages import ERROR_MARK

__all__ = ['Log', 'find', 'main', 'parse']

COMMANDS = {
    'summary': report.summary,
    'compare': compare.compare,
    'check': compare.check,
    'table': report.table,
    'plot': plot.plot,
}
# A folder's files, those that say most of its training first
OF_A_FOLDER = 'metrics.jsonl result.json *_bs*_*p_*.log train_*.log eval_*.log *.log log_rank0.txt log.txt summary.csv'

# Files that are read with one that has this name, in this order
BESIDE = {'summary.csv': ('args.yaml', 'summary.csv'), 'metrics.jsonl': ('metrics.jsonl', 'result.json')}


def parse(path: str, batch: Optional[int] = None) -> Log:
    """Reads a log, a metrics.jsonl, a result.json, a summary, a log.txt, a summary.csv or a training's folder; '-' is
    standard input. Raises nothing.

    batch: images of all ranks per step, for logs that do not state it. What cannot be read is in .problems; where that
    is all, .unreadable is a sentence, and .runs is one empty training.
    """
    log = Log(path, batch)
    try:
        log.path = find(path)
        folder, name = os.path.split(log.path)
        for each in BESIDE.get(name, (name,)):
            if each == name or os.path.isfile(os.path.join(folder, each)):
                read(log, os.path.join(folder, each))
    except (*CANNOT_READ, *BAD_VALUES) as e:
        log.unreadable = f'{log.path}: {(getattr(e, "strerror", None) or str(e))[:200]}'
        log.problems.append(log.unreadable)
    return log


def read(log: Log, path: str) -> None:
    """Fills a log. OSError, or ValueError and the like where the whole file is one JSON object that is not sound."""
    with open_log(path) as stream:
        head = stream.read(2)
        if head.lstrip().startswith(b'{'):
            head += stream.read(LONGEST)
        if not handlers.take_result(log, head):
            log.read(stream, head)


def find(path: str) -> str:
    """A folder -> the file in it that says most of its training; a file stays. FileNotFoundError."""
    if not os.path.isdir(path):
        return path
    for pattern in OF_A_FOLDER.split():
        found = sorted(glob.glob(os.path.join(glob.escape(path), pattern)), key=os.path.getmtime)
        if found:
            return found[-1]
    raise FileNotFoundError(2, 'the folder holds no metrics.jsonl, result.json, *.log, log.txt or summary.csv')


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m common.log_parser', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', metavar=' | '.join(COMMANDS))

    def command(name: str, help: str, path: str, count: Optional[str] = None, forms: Tuple[str, ...] = ('markdown',)):
        sub = commands.add_parser(name, help=help, description=help)
        sub.add_argument(path, nargs=count, help='a log or a training folder; LOG#2 is the second training in it')
        sub.add_argument('--batch', type=int, help='images of all ranks per step, if the log does not say')
        form = sub.add_mutually_exclusive_group()
        for name in forms:
            form.add_argument(f'--{name}', dest='form', action='store_const', const=name, help=f'as {name}')
        return sub

    sub = command('summary', 'what one log says', 'path', None, ('json', 'markdown', 'csv'))
    sub.add_argument('--target-acc', type=float, metavar='P', help='percent: print the seconds until they were reached')
    sub = command('compare', 'the other logs against the first; exit 1 when one is worse', 'paths', '+')
    least = f'the least share of A that the others must reach (default: {compare.FAIL_UNDER})'
    sub.add_argument('--fail-under', metavar='KEY=RATIO,...', help=least)
    times = 'the efficiency on N times the devices of A (default: by the ranks that the logs state)'
    sub.add_argument('--scaling', nargs='?', type=float, const=0, metavar='N', help=times)
    sub = command('check', 'exit 1 with the reason when a number is missing or too low, or the training failed', 'path')
    required = 'fps, acc, loss or a key of summary --json (default: fps,acc)'
    sub.add_argument('--require', default='fps,acc', metavar='KEY,...', help=required)
    sub.add_argument(
        '--min', nargs='+', metavar='KEY=NUMBER', help='the least that numbers must be: acc1=75.9 fps=2000'
    )
    sub.add_argument('--target-acc', type=float, metavar='P', help='percent that the best accuracy must have reached')
    sub.add_argument('--finished', action='store_true', help='all epochs must have been done')
    sub.add_argument('--junit', metavar='FILE', help='write what was checked as a JUnit report')
    command('table', 'a results table as in the READMEs', 'paths', '+')
    sub = command('plot', 'loss, accuracy, learning rate and FPS as curves (needs matplotlib)', 'paths', '+', ())
    sub.add_argument('-o', '--output', required=True, help='a file: .png, .svg or .pdf')
    sub.add_argument('--panels', nargs='+', choices=[panel.name for panel in plot.PANELS], help='these only')
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    """The command line. -> the exit status. SystemExit(2) for wrong arguments."""
    parser = options()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.error(f'name a command: {", ".join(COMMANDS)}')
    if args.command == 'compare' and len(args.paths) < 2:
        parser.error('compare needs two logs or more')
    if args.batch is not None and args.batch < 1:
        parser.error(f'--batch {args.batch} is no number of images')
    try:
        if getattr(args, 'target_acc', None) is not None:
            compare.in_percent(args.target_acc, '--target-acc')
        return COMMANDS[args.command](args, lambda path, **more: summary_of(path, args.batch, **more))
    except (report.Mistake, OSError) as e:
        print(f'{ERROR_MARK} {e}', file=sys.stderr)
        return 1


def summary_of(given: str, batch: Optional[int], **more: Any) -> Dict[str, Any]:
    """The summary of PATH or PATH#RUN. Mistake where there is none."""
    numbered = re.match(r'(.+)#(-?\d+)$', given) if not os.path.exists(given) else None
    path, run = numbered.groups() if numbered else (given, '-1')
    log = parse(path, batch)
    if log.unreadable:
        raise report.Mistake(log.unreadable)
    try:
        return log.summary(int(run), **more)
    except IndexError as e:
        raise report.Mistake(str(e)) from e


if __name__ == '__main__':
    sys.exit(main())
