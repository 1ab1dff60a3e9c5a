"""The commands summary and table: what logs say, as text, Markdown, CSV or JSON.

A command is a function (args, read) -> exit status, where read(path) gives the summary of a log.
"""

import csv
import json
import os
import sys
from argparse import Namespace
from typing import Any, Callable, Dict, Optional

from common.messages import MISSING, show

Summary = Dict[str, Any]  # of numbers.summary
Read = Callable[..., Summary]

SHORT = {'fps': ('fps',), 'acc': ('best_acc1', 'last_acc1'), 'loss': ('final_loss',)}  # names of a command -> keys
NOT_FLAT = ('loss_curve', 'fps_curve', 'evaluations', 'problems')
ALWAYS = ('fps', 'best_acc1', 'final_loss')  # printed as N/A where there is none
APART = ('status', 'reason', 'fps_source', 'fps_meaning')  # printed in their own way
TOO_GOOD = 1.05  # scaling efficiency; above it, one of the two figures was measured wrongly


class Mistake(Exception):
    """The command cannot be done as it was given. The text is one sentence."""


def brief(value: Any) -> str:
    """A number with six digits at most."""
    return f'{value:.6g}' if isinstance(value, float) else show(value)


def value_of(found: Summary, name: str, option: str) -> Any:
    """The number behind a name that was given with an option, or None. Mistake where there is no such name."""
    keys = SHORT.get(name, (name,))
    for key in keys:
        if key not in found:
            raise Mistake(f'{option}: there is no {name!r}; there are fps, acc, loss and the keys of summary --json')
    return next((found[key] for key in keys if found[key] is not None), None)


def cell(value: Any) -> str:
    """A cell of a Markdown table."""
    return str(value).replace('|', '\\|')


# ---- summary


def summary(args: Namespace, read: Read) -> int:
    found = read(args.path, target_acc=args.target_acc, model_flops=args.model_flops, peak_tflops=args.peak_tflops)
    flat = {key: value for key, value in found.items() if key not in NOT_FLAT}
    if args.form == 'json':
        print(json.dumps(found, indent=1))
    elif args.form == 'csv':
        writer = csv.writer(sys.stdout, lineterminator='\n')
        writer.writerow(flat)
        writer.writerow('' if value is None else value for value in flat.values())
    elif args.form == 'markdown':
        print('| key | value |\n|---|---|')
        for key, value in flat.items():
            print(f'| {key} | {cell(brief(value))} |')
    else:
        print_text(found, flat)
    if args.form != 'json':
        for problem in found['problems']:
            print(problem, file=sys.stderr)
    says_nothing = found['format'] is None and found['status'] == 'FAILED'
    return 1 if says_nothing else 0


def print_text(found: Summary, flat: Summary) -> None:
    if found['status'] == 'FAILED':
        print(f'FAILED: {found["reason"]}')
    if found['runs'] > 1:
        print(f'{found["runs"]} runs in this log; the last one:')
    for key, value in flat.items():
        if key in ALWAYS or (value is not None and key not in APART):
            print(f'{key:<18} {brief(value)}{explained(found, key)}')
    if found['status'] != 'FAILED':
        status = found['status'] or 'the log does not say that the run ended'
        print(f'{"status":<18} {status}')


def explained(found: Summary, key: str) -> str:
    if key == 'fps' and found['fps_source'] == 'measured':
        return '   (measured: images over seconds after the warm-up)'
    if key in ('fps', 'fps_claimed') and found['fps_meaning']:
        return f'   (claimed: {found["fps_meaning"]})'
    return ''


# ---- table


def table(args: Namespace, read: Read) -> int:
    """A row for each log. Where one log of a network is of one rank, the others' rows say how well they scale."""
    rows = [(path, read(path)) for path in args.paths]
    single = {found['network']: found for _, found in rows if found['ranks'] == 1 and found['fps'] and found['network']}
    print('| name | Acc@1 | FPS | FPS is | scaling | epochs | AMP | PyTorch |\n|---|---|---|---|---|---|---|---|')
    too_good = []
    for path, found in rows:
        name = os.path.basename(path.rstrip('/'))
        if found['ranks']:
            name = f'{found["ranks"]}p-{(found["device_kind"] or "device").upper()}'
        scaling = scaling_of(found, single.get(found['network']))
        if scaling is not None and scaling > TOO_GOOD:
            too_good.append(name)
        failed = found['status'] == 'FAILED'
        cells = [
            name,
            show(None if failed else found['best_acc1'], 3),
            'FAILED' if failed else show(found['fps'], 2),
            found['fps_source'],
            None if scaling is None else f'{100 * scaling:.1f} %',
            found['epochs'],
            found['precision'],
            found['torch'],
        ]
        print(f'| {" | ".join("-" if value in (None, MISSING) else cell(value) for value in cells)} |')
    for name in too_good:
        warning = f'{name} scales above {100 * TOO_GOOD:.0f} %, a sign of a wrong measurement.'
        print(f'Warning: {warning}', file=sys.stderr)
    return 0


def scaling_of(found: Summary, one: Optional[Summary]) -> Optional[float]:
    """Efficiency of a training on several ranks, beside that of the same network on one; or None."""
    if one is None or not found['fps'] or found['ranks'] <= 1:
        return None
    return found['fps'] / one['fps'] / found['ranks']
