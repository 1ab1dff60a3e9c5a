"""Reads the logs of trainings, ours and those of other code bases. Standard library only, Python 3.7 or later.

    python -m common.log_parser summary LOG [--json | --markdown | --csv] [--batch N] [--target-acc P]
                                            [--model-flops F --peak-tflops P]
    python -m common.log_parser compare A B [--fail-under fps=0.95,acc=0.99] [--scaling [N]]
    python -m common.log_parser plot LOG... -o curves.svg
    python -m common.log_parser check LOG --require fps,acc
    python -m common.log_parser table LOG...

LOG is a log, a metrics.jsonl, a result.json, a summary, or the folder that a training left. As a library:
parse(path).summary(). How it is done stands in logs/.
"""

import argparse
import glob
import json
import os
import sys
from typing import List, Optional

from common.logs import compare, handlers, plot, report
from common.logs.log import BAD_VALUES, Log
from common.logs.reader import LONGEST
from common.logs.values import text
from common.messages import ERROR_MARK

COMMANDS = {
    'summary': report.summary,
    'compare': compare.compare,
    'plot': plot.plot,
    'check': compare.check,
    'table': report.table,
}


def parse(path: str, batch: Optional[int] = None) -> Log:
    """Reads a log, a metrics.jsonl, a result.json, a summary or a training's folder; raises nothing.

    batch: images of all ranks per step, for logs that do not state it. What cannot be read is in .problems, and .runs
    is then one empty training, whose summary is FAILED.
    """
    log = Log(path, batch)
    try:
        log.path = path = find(path)
        with open(path, 'rb') as stream:
            head = stream.read(4096).lstrip()
            if head.startswith(b'{') and not head.startswith(b'{"event"'):
                handlers.take_result(log, json.loads(text(head + stream.read(LONGEST))))
            else:
                stream.seek(0)
                log.read(stream)
        beside = os.path.join(os.path.dirname(path), 'result.json')
        if os.path.basename(path) == 'metrics.jsonl' and os.path.isfile(beside):
            with open(beside, 'rb') as stream:
                handlers.take_verdict(log, json.loads(text(stream.read(LONGEST))))
    except OSError as e:
        log.unreadable = f'{path}: {e.strerror or e}'
    except BAD_VALUES as e:
        log.unreadable = f'{path}: {str(e)[:200]}'
    log.problems += [log.unreadable] if log.unreadable else []
    return log


def find(path: str) -> str:
    """A folder -> the file in it that says most of its training; a file stays. FileNotFoundError."""
    if not os.path.isdir(path):
        return path
    for pattern in ('metrics.jsonl', 'result.json', '*_bs*_*p_*.log', 'train_*.log', 'eval_*.log', '*.log'):
        found = sorted(glob.glob(os.path.join(glob.escape(path), pattern)), key=os.path.getmtime)
        if found:
            return found[-1]
    raise FileNotFoundError(2, 'the folder holds no metrics.jsonl, result.json or *.log')


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m common.log_parser', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', metavar=' | '.join(COMMANDS))

    def command(name, help, *paths):
        sub = commands.add_parser(name, help=help, description=help)
        for path, count in paths:
            sub.add_argument(path, nargs=count, help='a log, metrics.jsonl, result.json, summary, or a training folder')
        sub.add_argument('--batch', type=int, help='images of all ranks per step, where the log does not state it')
        return sub

    sub = command('summary', 'what one log says; exit 1 when it says nothing', ('path', None))
    form = sub.add_mutually_exclusive_group()
    for name in ('json', 'markdown', 'csv'):
        form.add_argument(f'--{name}', dest='form', action='store_const', const=name, help=f'as {name}')
    reached = 'percent: print the seconds until an evaluation reached it'
    sub.add_argument('--target-acc', type=float, metavar='P', help=reached)
    sub.add_argument('--model-flops', type=float, metavar='F', help="operations of one image's forward pass, for MFU")
    sub.add_argument('--peak-tflops', type=float, metavar='P', help='of all devices of the training together, for MFU')
    sub = command('compare', 'B against A; exit 1 when B is worse', ('a', None), ('b', None))
    least = f'the least share of A that B must reach (default: {compare.FAIL_UNDER})'
    sub.add_argument('--fail-under', metavar='KEY=RATIO,...', help=least)
    times = 'the efficiency of B on N times the devices of A (default: by the ranks that the logs state)'
    sub.add_argument('--scaling', nargs='?', type=float, const=0, metavar='N', help=times)
    sub = command('plot', 'loss, accuracy and FPS as curves', ('paths', '+'))
    sub.add_argument('-o', '--output', required=True, help='curves.svg, .html, or .png (needs matplotlib)')
    sub = command('check', 'exit 1 with the reason when a number is missing or the training failed', ('path', None))
    required = 'fps, acc, loss or a key of summary --json (default: fps,acc)'
    sub.add_argument('--require', default='fps,acc', metavar='KEY,...', help=required)
    command('table', 'a results table as in the READMEs', ('paths', '+'))
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    parser = options()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.error(f'name a command: {", ".join(COMMANDS)}')
    try:
        return COMMANDS[args.command](args, lambda path, **more: readable(path, args.batch).summary(**more))
    except (report.Mistake, OSError) as e:
        print(f'{ERROR_MARK} {e}', file=sys.stderr)
        return 1


def readable(path: str, batch: Optional[int]) -> Log:
    log = parse(path, batch)
    if log.unreadable:
        raise report.Mistake(log.unreadable)
    return log


if __name__ == '__main__':
    sys.exit(main())
