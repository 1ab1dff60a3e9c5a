"""The commands compare and check, for a CI: exit 1 where a number is worse than another, or missing."""

import math
import sys
from argparse import Namespace
from typing import Dict, List

from common.logs.report import TOO_GOOD, Mistake, Read, Summary, brief, value_of
from common.messages import MISSING

FAIL_UNDER = 'fps=0.95,acc=0.99'
LOWER_IS_BETTER = ('loss', 'step_ms', 'data_wait', 'seconds', 'memory')  # parts of names
COMPARED = (
    'fps',
    'best_acc1',
    'last_acc1',
    'final_loss',
    'step_ms_p50',
    'step_ms_p95',
    'data_wait',
    'peak_memory_mb',
    'seconds',
)


def finish(wrong: List[str]) -> int:
    """Prints what is wrong. -> the exit status"""
    for reason in wrong:
        print(reason, file=sys.stderr)
    return 1 if wrong else 0


def check(args: Namespace, read: Read) -> int:
    found = read(args.path)
    wrong = [f'FAILED: {found["reason"]}'] if found['status'] == 'FAILED' else []
    for name in args.require.split(','):
        value = value_of(found, name.strip(), '--require')
        if value is None:
            why = found['fps_reason'] if name == 'fps' else None
            wrong.append(f'{name} is missing in {args.path}' + (f' ({why})' if why else ''))
        else:
            print(f'{name} {brief(value)}' + (f' ({found["fps_source"]})' if name == 'fps' else ''))
    return finish(wrong)


def compare(args: Namespace, read: Read) -> int:
    wanted = thresholds(args.fail_under or FAIL_UNDER)
    a, b = read(args.a), read(args.b)
    both = ((args.a, a), (args.b, b))
    wrong = [f'{path} FAILED: {found["reason"]}' for path, found in both if found['status'] == 'FAILED']
    print_comparison(a, b)
    if args.scaling is not None:
        print_scaling(a, b, args.scaling)
        wanted = thresholds(args.fail_under) if args.fail_under else {}
    for name, least in wanted.items():
        wrong += worse(name, least, a, b, explicit=bool(args.fail_under))
    return finish(wrong)


def print_comparison(a: Summary, b: Summary) -> None:
    print(f'{"":<16} {"A":>14} {"B":>14} {"B/A":>8}')
    for key in COMPARED:
        one, two = a.get(key), b.get(key)
        if one is None and two is None:
            continue
        if one is None or two is None:
            end = f'  only in {"B" if one is None else "A"}'
        else:
            ratio = f'{two / one:.3f}' if one else MISSING
            end = f'{ratio:>8}'
        print(f'{key:<16} {brief(one):>14} {brief(two):>14} {end}')
    if a['fps_source'] != b['fps_source'] and None not in (a['fps'], b['fps']):
        print(f'Warning: FPS is {a["fps_source"]} in A and {b["fps_source"]} in B; they do not compare.')


def print_scaling(a: Summary, b: Summary, times: float) -> None:
    """Efficiency of B on `times` the devices of A; 0: as many as the logs state."""
    if not times:
        if not (a['ranks'] and b['ranks']):
            raise Mistake(
                '--scaling: the logs do not state their ranks; '
                'give how many times the devices B has, such as --scaling 8'
            )
        times = b['ranks'] / a['ranks']
    efficiency = b['fps'] / a['fps'] / times if a['fps'] and b['fps'] and times > 0 else None
    shown = MISSING if efficiency is None else f'{100 * efficiency:.1f} %'
    print(f'scaling efficiency on {times:g} times the devices: {shown}')
    if efficiency is not None and efficiency > TOO_GOOD:
        limit = f'{100 * TOO_GOOD:.0f} %'
        print(f'Warning: above {limit}, a sign of a wrong measurement; look at what the two FPS count.')


def thresholds(text: str) -> Dict[str, float]:
    """'fps=0.95,acc=0.99' -> {'fps': .95, 'acc': .99}; Mistake."""
    found = {}
    for part in text.split(','):
        name, _, ratio = part.partition('=')
        try:
            found[name.strip()] = float(ratio)
        except ValueError as e:
            raise Mistake(f'--fail-under {text!r}: write it as KEY=RATIO,... such as {FAIL_UNDER}') from e
    return found


def worse(name: str, least: float, a: Summary, b: Summary, explicit: bool) -> List[str]:
    """-> the reason why B fails, or none, as a list.

    A number that only A has is lost in B, which is worse. One that A has not matters only where the user asked for it.
    """
    one, two = value_of(a, name, '--fail-under'), value_of(b, name, '--fail-under')
    if two is None:
        return [f'{name} is missing in B'] if one is not None or explicit else []
    if one is None:
        return [f'{name} is missing in A'] if explicit else []
    ratio = goodness(name, one, two)
    if ratio >= least:
        return []
    return [f'{name} is worse: {brief(two)} against {brief(one)}, {ratio:.3f} of it, less than {least:g}']


def goodness(name: str, a: float, b: float) -> float:
    """How good b is beside a: 1 the same, below 1 worse; infinite where a is 0."""
    if any(word in name for word in LOWER_IS_BETTER):
        a, b = b, a
    return b / a if a else math.inf if b else 1.0
