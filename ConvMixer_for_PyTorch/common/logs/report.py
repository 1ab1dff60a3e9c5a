"""The commands summary and table: what logs say, as text, Markdown, CSV or JSON.

A command is a function (args, read) -> exit status, where read(path) gives the summary of a log.
"""

import csv
import json
import os
import sys
from argparse import Namespace
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from common.messages import ERROR_MARK, MISSING, show

Summary = Dict[str, Any]  # of numbers.summary
Read = Callable[..., Summary]

SHORT = {'acc': 'best_acc1', 'acc1': 'best_acc1', 'loss': 'final_loss'}  # names of a command -> keys
NOT_FLAT = 'loss_curve fps_curve lr_curve evaluations eval_loss_curve warmup_end problems'.split()
ALWAYS = ('status', 'fps', 'best_acc1', 'final_loss')  # printed as N/A where there is none
TOO_GOOD = 1.05  # scaling efficiency; above it, one of the two figures was measured wrongly
FORMAT_NOT_KNOWN = 3  # exit status
COLUMNS = ('name', 'model', 'last Acc@1', 'best Acc@1', 'FPS', 'FPS is', 'scaling', 'epochs', 'AMP', 'PyTorch')


class Mistake(Exception):
    """The command cannot be done as it was given. The text is one sentence."""


def brief(value: Any) -> str:
    """A number with six digits at most."""
    return f'{value:.6g}' if isinstance(value, float) else show(value)


def value_of(found: Summary, name: str, option: str) -> Any:
    """The number behind a name that was given with an option, or None. Mistake where there is no such name."""
    if SHORT.get(name, name) not in found:
        raise Mistake(f'{option}: there is no {name!r}; there are fps, acc, loss and the keys of summary --json')
    value = found[SHORT.get(name, name)]
    if option != '--require' and isinstance(value, (str, list)):
        raise Mistake(f'{option}: {name} is no number')
    return value


def markdown(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table that GitHub and GitLab show, as in the summary of a CI's job."""
    lines = [[str(value).replace('|', '\\|').replace('\n', ' ') for value in row] for row in [list(head), *rows]]
    lines.insert(1, ['---'] * len(lines[0]))
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def said(found: Summary) -> Optional[str]:
    """How the training ended if not well, or that the format is not known; None where there is nothing to say."""
    return f'{found["status"]}: {found["reason"]}' if found['status'] and found['reason'] else found['reason']


def short_name(path: str) -> str:
    return os.path.basename(path.rstrip('/'))


def summary(args: Namespace, read: Read) -> int:
    found = read(args.path, target_acc=args.target_acc)
    flat = {key: value for key, value in found.items() if key not in NOT_FLAT}
    if args.form == 'json':
        print(json.dumps(found, indent=1, allow_nan=False))
    elif args.form == 'csv':
        writer = csv.writer(sys.stdout, lineterminator='\n')
        writer.writerow(flat)
        writer.writerow('' if value is None else value for value in flat.values())
    elif args.form == 'markdown':
        print(markdown(('key', 'value'), ((key, brief(value)) for key, value in flat.items())))
    else:
        if found['reason']:
            print(said(found))
        for key, value in flat.items():
            if key in ALWAYS or (value is not None and key != 'reason'):
                print(f'{key:<18} {brief(value)}')
        if found['runs'] > 1:
            print('PATH#1 is the first of these runs, PATH#-1 or PATH the last')
    if args.form != 'json':
        for problem in found['problems']:
            print(problem, file=sys.stderr)
    if found['format'] is None:
        return 1 if found['status'] == 'FAILED' else FORMAT_NOT_KNOWN
    return 0


def table(args: Namespace, read: Read) -> int:
    """A row for each log. Where one log of a network is of one rank, the others' rows say how well they scale. A log that cannot be read
    is named, and leaves the others their rows; -> 1 then.
    """
    rows, unread = [], 0
    for path in args.paths:
        try:
            rows.append((path, read(path)))
        except Mistake as e:
            unread += 1
            print(f'{ERROR_MARK} {e}', file=sys.stderr)
    single = {found['network']: found for _, found in rows if found['ranks'] == 1 and found['network']}
    lines: List[List[Any]] = []
    for path, found in rows:
        name = f'{found["ranks"]}p-{(found["device_kind"] or "device").upper()}' if found['ranks'] else short_name(path)
        one, ranks = single.get(found['network']), found['ranks'] or 1
        scaling, too_good = efficiency(one, found, ranks) if one and ranks > 1 else (MISSING, '')
        if too_good:
            print(f'Warning: {name} scales {too_good}', file=sys.stderr)
        failed, unknown = found['status'] == 'FAILED', found['format'] is None
        fps = 'FAILED' if failed else 'format not known' if unknown else show(found['fps'], 2)
        accuracies = [show(None if failed else found[key], 3) for key in ('last_acc1', 'best_acc1')]
        cells = [name, found['model'], *accuracies, fps, found['fps_source'], scaling]
        cells += [found[key] for key in ('epochs', 'precision', 'torch')]
        lines.append(['-' if value in (None, MISSING) else value for value in cells])
    print(markdown(COLUMNS, lines))
    return 1 if unread else 0


def efficiency(one: Summary, many: Summary, times: float) -> Tuple[str, str]:
    """-> how well a training scales on so many times the devices of another, in percent, and a warning or ''."""
    if not (one['fps'] and many['fps'] and times > 0):
        return MISSING, ''
    found = many['fps'] / one['fps'] / times
    warning = f'above {100 * TOO_GOOD:.0f} %, a sign of a wrong measurement.' if found > TOO_GOOD else ''
    return f'{100 * found:.1f} %', warning
