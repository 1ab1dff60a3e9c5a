"""The commands compare and check, for a CI: exit 1 where a number is worse than another, too low or missing."""

import math
import sys
from argparse import Namespace
from typing import Dict, List, NamedTuple, Optional
from xml.etree import ElementTree

from common.logs import report
from common.logs.numbers import NOT_KNOWN
from common.logs.report import Mistake, Read, Summary, brief, markdown, said, short_name, value_of
from common.messages import MISSING, show

FAIL_UNDER, MIN = 'fps=0.95,acc=0.99', 'acc1=75.9'
LOWER_IS_BETTER = ('loss', 'step_ms', 'data_wait', 'seconds', 'memory')  # parts of names
COMPARED = 'fps best_acc1 last_acc1 ema_acc1 final_loss step_ms_p50 step_ms_p95 data_wait peak_memory_mb seconds'


class Case(NamedTuple):
    """One thing that was checked. wrong: why it is not as it should be, or None."""

    name: str
    value: str
    wrong: Optional[str] = None


def status_of(found: Summary, before: str = '') -> Case:
    is_bad = found['status'] == 'FAILED' or found['reason'] == NOT_KNOWN
    return Case('status', show(found['status']), f'{before}{said(found)}' if is_bad else None)


def finish(cases: List[Case]) -> int:
    """Prints what is wrong. -> the exit status"""
    wrong = [case.wrong for case in cases if case.wrong is not None]
    for reason in wrong:
        print(reason, file=sys.stderr)
    return 1 if wrong else 0


def pairs(text: str, option: str, example: str) -> Dict[str, float]:
    """'fps=0.95,acc=0.99' -> {'fps': .95, 'acc': .99}; Mistake."""
    found = {}
    for part in text.split(','):
        name, _, number = part.partition('=')
        try:
            found[name.strip()] = float(number)
        except ValueError as e:
            raise Mistake(f'{option} {text!r}: write it as KEY=NUMBER,... such as {example}') from e
        if not math.isfinite(found[name.strip()]):
            raise Mistake(f'{option} {text!r}: {number} is no number to compare with')
    return found


def check(args: Namespace, read: Read) -> int:
    """The log itself, and what the options ask for."""
    found = read(args.path, target_acc=args.target_acc)
    wanted = [(name.strip(), None, '--require') for name in args.require.split(',')]
    wanted += [(name, least, '--min') for part in args.min or () for name, least in pairs(part, '--min', MIN).items()]
    wanted += [('best_acc1', args.target_acc, '--target-acc')] if args.target_acc is not None else []
    cases = [status_of(found), *(number_of(found, args.path, *row) for row in wanted)]
    if args.finished:
        not_so = said(found) or 'the log does not say that all epochs were done'
        cases.append(Case('finished', show(found['finished']), None if found['finished'] else not_so))
    if args.junit:
        write_junit(args.junit, args.path, cases)
    if args.form == 'markdown':
        print(markdown(('check', 'value', 'result'), ((c.name, c.value, c.wrong or 'ok') for c in cases)))
    else:
        print(''.join(f'{case.name} {case.value}\n' for case in cases if case.wrong is None), end='')
    failed = finish(cases)
    return report.FORMAT_NOT_KNOWN if found['reason'] == NOT_KNOWN else failed


def number_of(found: Summary, path: str, name: str, least: Optional[float], option: str) -> Case:
    """A number that must be there, and at least so much."""
    value, wrong = value_of(found, name, option), None
    if value is None:
        why = f' ({found["fps_reason"]})' if name == 'fps' and found['fps_reason'] else ''
        wrong = f'{name} is missing in {path}{why}'
    elif least is not None and value < (in_percent(least, option) if 'acc' in name else least):
        wrong = f'{name} is {brief(value)}, and at least {least:g} is asked for'
    source = f' ({found["fps_source"]})' if name == 'fps' else ''
    return Case(name if least is None else f'{name} >= {least:g}', brief(value) + source, wrong)


def in_percent(value: float, option: str) -> float:
    """An accuracy as it is given with an option. Mistake where it is a share, or no percentage."""
    if not 1 < value <= 100:
        meant = f': for {100 * value:g} % give {100 * value:g}' if 0 < value <= 1 else ''
        raise Mistake(f'{option} {value:g}: an accuracy is in percent, above 1 and at most 100{meant}')
    return value


def write_junit(path: str, log: str, cases: List[Case]) -> None:
    """A report that GitLab, Jenkins and others show: a test for each thing that was checked. OSError."""
    counts = dict(tests=str(len(cases)), failures=str(sum(case.wrong is not None for case in cases)), errors='0')
    suite = ElementTree.Element('testsuite', counts, name=clean(log))
    for case in cases:
        test = ElementTree.SubElement(suite, 'testcase', classname=clean(short_name(log)), name=clean(case.name))
        if case.wrong is not None:
            ElementTree.SubElement(test, 'failure', message=clean(case.wrong))
    ElementTree.ElementTree(suite).write(path, encoding='utf-8', xml_declaration=True)


def clean(text: str) -> str:
    """Without characters that XML cannot hold; a reason out of a log may have any."""
    return ''.join(c if c.isprintable() else '?' for c in text)


def compare(args: Namespace, read: Read) -> int:
    """Each log against the first."""
    limits = pairs(args.fail_under or FAIL_UNDER, '--fail-under', FAIL_UNDER)
    limits = {} if args.scaling is not None and not args.fail_under else limits
    names = [chr(ord('A') + i) if i < 26 else f'log{i + 1}' for i in range(len(args.paths))]
    logs = [read(path) for path in args.paths]
    print_comparison(names, args.paths, logs, args.form)
    cases = [status_of(log, f'{path}: ') for path, log in zip(args.paths, logs)]
    for name, log in zip(names[1:], logs[1:]):
        if args.scaling is not None:
            print_scaling(logs[0], log, name, args.scaling)
        cases += [ratio_of(key, least, logs[0], log, name, bool(args.fail_under)) for key, least in limits.items()]
    return finish(cases)


def print_comparison(names: List[str], paths: List[str], logs: List[Summary], form: Optional[str]) -> None:
    rows = [['', *names, *(f'{name}/A' for name in names[1:]), '']]
    for key in COMPARED.split():
        values = [log[key] for log in logs]
        having = [name for name, value in zip(names, values) if value is not None]
        if having:
            ratios = [
                f'{value / values[0]:.3f}' if values[0] and value is not None else MISSING for value in values[1:]
            ]
            only = f'only in {", ".join(having)}' if len(having) < len(names) else ''
            rows.append([key, *map(brief, values), *ratios, only])
    if form == 'markdown':
        print(markdown(rows[0], rows[1:]))
        print('\n' + ', '.join(f'{name} = {short_name(path)}' for name, path in zip(names, paths)))
    else:
        for row in rows:
            print(f'{row[0]:<16} ' + ' '.join(f'{cell:>14}' for cell in row[1:-1]) + f'  {row[-1]}'.rstrip())
    sources = {log['fps_source'] for log in logs if log['fps'] is not None}
    if len(sources) > 1:
        which = ', '.join(f'{log["fps_source"]} in {name}' for name, log in zip(names, logs) if log['fps'] is not None)
        print(f'Warning: FPS is {which}; they do not compare.')


def print_scaling(a: Summary, b: Summary, name: str, times: float) -> None:
    """Efficiency of b on `times` the devices of a; 0: as many as the logs state."""
    if not times and not (a['ranks'] and b['ranks']):
        raise Mistake('--scaling: the logs do not state their ranks; give how often A has them, such as --scaling 8')
    times = times or b['ranks'] / a['ranks']
    efficiency, too_good = report.efficiency(a, b, times)
    print(f'scaling efficiency of {name} on {times:g} times the devices: {efficiency}')
    print(f'Warning: {too_good}\n' if too_good else '', end='')


def ratio_of(key: str, least: float, a: Summary, b: Summary, name: str, explicit: bool) -> Case:
    """A number of b as a share of that of a.

    A number that only A has is lost in b, which is worse. One that A has not matters only where the user asked for it.
    """
    one, two, wrong = value_of(a, key, '--fail-under'), value_of(b, key, '--fail-under'), None
    if one is None or two is None:
        missing = f'{key} is missing in {name if two is None else "A"}'
        return Case(key, MISSING, missing if explicit or one is not None else None)
    good, base = (one, two) if any(word in key for word in LOWER_IS_BETTER) else (two, one)
    found = good / base if base else math.inf if good else 1.0
    if found < least:
        wrong = f'{key} is worse in {name}: {brief(two)} against {brief(one)}, {found:.3f} of it, less than {least:g}'
    return Case(key, f'{found:.3f}', wrong)
