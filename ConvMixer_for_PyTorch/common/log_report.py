"""Shows what log_parser.py computed: text, Markdown, CSV, JSON; comparisons, curves, tables, and the check of a CI.

Each command is a function (args, read) -> exit status, where read(path) gives the summary of a log.
"""

import csv
import html
import importlib
import json
import math
import os
import sys

from common.log_formats import MISSING

FAIL_UNDER = 'fps=0.95,acc=0.99'
SHORT = {
    'fps': ('fps',),
    'acc': ('best_acc1', 'last_acc1'),
    'loss': ('final_loss',),
}  # names on the command line -> keys
CURVES = ('loss_curve', 'fps_curve', 'evaluations')
LOWER_IS_BETTER = ('loss', 'step_ms', 'data_wait', 'seconds', 'memory')
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
TOO_GOOD = 1.05  # scaling efficiency; above it, one of the two figures was measured wrongly
COLOURS = ('#1f77b4', '#d62728', '#2ca02c', '#9467bd', '#ff7f0e', '#17becf', '#8c564b', '#7f7f7f')


class Mistake(Exception):
    """Of the one who gave the command: one sentence."""


def show(value, digits=None):
    """A bare number, or N/A."""
    if value is None:
        return MISSING
    return '%.*f' % (digits, value) if digits is not None else str(value)


def brief(value):
    """For people: six digits."""
    return '%.6g' % value if isinstance(value, float) else show(value)


def value_of(summary, name):
    """The number behind a name of the command line, or None. KeyError for a name that there is not."""
    for key in SHORT.get(name, (name,)):
        if summary[key] is not None:
            return summary[key]
    return None


# ---- one run


def summary(args, read):
    found = read(args.path, target_acc=args.target_acc, model_flops=args.model_flops, peak_tflops=args.peak_tflops)
    flat = {key: value for key, value in found.items() if key not in CURVES + ('problems',)}
    if args.form == 'json':
        print(json.dumps(found, indent=1))
    elif args.form == 'csv':
        writer = csv.writer(sys.stdout, lineterminator='\n')
        writer.writerow(flat)
        writer.writerow('' if value is None else value for value in flat.values())
    elif args.form == 'markdown':
        print('| key | value |\n|---|---|')
        for key, value in flat.items():
            print('| %s | %s |' % (key, brief(value).replace('|', '\\|')))
    else:
        print_text(found, flat)
    if args.form != 'json':
        for problem in found['problems']:
            print(problem, file=sys.stderr)
    nothing = found['format'] is None and found['status'] == 'FAILED'
    return 1 if nothing else 0


def print_text(found, flat):
    if found['status'] == 'FAILED':
        print('FAILED: %s' % found['reason'])
    if found['runs'] > 1:
        print('%d runs in this log; the last one:' % found['runs'])
    for key, value in flat.items():
        if (
            value is not None
            and key not in ('status', 'reason', 'fps_source', 'fps_meaning')
            or key in ('fps', 'best_acc1', 'final_loss')
        ):
            print('%-18s %s%s' % (key, brief(value), explained(found, key)))
    if found['status'] != 'FAILED':
        print('%-18s %s' % ('status', found['status'] or 'the log does not say that the run ended'))


def explained(found, key):
    if key == 'fps' and found['fps_source'] == 'measured':
        return '   (measured: images over seconds after the warm-up)'
    if key in ('fps', 'fps_claimed') and found['fps_meaning']:
        return '   (claimed: %s)' % found['fps_meaning']
    return ''


def check(args, read):
    """No number is a failure."""
    found = read(args.path)
    wrong = ['FAILED: %s' % found['reason']] if found['status'] == 'FAILED' else []
    for name in args.require.split(','):
        try:
            value = value_of(found, name.strip())
        except KeyError:
            raise Mistake('--require: there is no %r; there are fps, acc, loss and the keys of summary --json' % name)
        if value is None:
            why = found['fps_reason'] if name == 'fps' else None
            wrong.append('%s is missing in %s%s' % (name, args.path, ' (%s)' % why if why else ''))
        else:
            print('%s %s%s' % (name, brief(value), ' (%s)' % found['fps_source'] if name == 'fps' else ''))
    for reason in wrong:
        print(reason, file=sys.stderr)
    return 1 if wrong else 0


# ---- two runs


def thresholds(text):
    """'fps=0.95,acc=0.99' -> {'fps': .95, 'acc': .99}; Mistake."""
    found = {}
    for part in text.split(','):
        name, _, ratio = part.partition('=')
        try:
            found[name.strip()] = float(ratio)
        except ValueError:
            raise Mistake('--fail-under %r: write it as KEY=RATIO,... such as %s' % (text, FAIL_UNDER))
    return found


def goodness(name, a, b):
    """How good b is beside a: 1 the same, below 1 worse; infinite where a is 0."""
    if any(word in name for word in LOWER_IS_BETTER):
        a, b = b, a
    return b / a if a else math.inf if b else 1.0


def compare(args, read):
    wanted = thresholds(args.fail_under or FAIL_UNDER)
    a, b = read(args.a), read(args.b)
    wrong = [
        '%s FAILED: %s' % (path, found['reason'])
        for path, found in ((args.a, a), (args.b, b))
        if found['status'] == 'FAILED'
    ]
    print('%-16s %14s %14s %8s' % ('', 'A', 'B', 'B/A'))
    for key in COMPARED:
        one, two = a.get(key), b.get(key)
        if one is not None and two is not None:
            print('%-16s %14s %14s %8s' % (key, brief(one), brief(two), '%.3f' % (two / one) if one else MISSING))
        elif one is not None or two is not None:
            print('%-16s %14s %14s   only in %s' % (key, brief(one), brief(two), 'B' if one is None else 'A'))
    if a['fps_source'] != b['fps_source'] and None not in (a['fps'], b['fps']):
        print('Warning: FPS is %s in A and %s in B; they do not compare.' % (a['fps_source'], b['fps_source']))
    if args.scaling is not None:
        print_scaling(a, b, args.scaling)
        wanted = thresholds(args.fail_under) if args.fail_under else {}
    for name, least in wanted.items():
        wrong += worse(name, least, a, b, explicit=bool(args.fail_under))
    for reason in wrong:
        print(reason, file=sys.stderr)
    return 1 if wrong else 0


def worse(name, least, a, b, explicit):
    """-> list of at most one reason. A number that B has lost is worse; one that neither has matters only where it is asked for."""
    try:
        one, two = value_of(a, name), value_of(b, name)
    except KeyError:
        raise Mistake('--fail-under: there is no %r; there are fps, acc, loss and the keys of summary --json' % name)
    if two is None or one is None:
        lost = one is not None or explicit
        return (
            ['%s is missing in %s' % (name, 'B' if two is None else 'A')] if lost and (two is None or explicit) else []
        )
    ratio = goodness(name, one, two)
    return (
        ['%s is worse: %s against %s, %.3f of it, less than %g' % (name, brief(two), brief(one), ratio, least)]
        if ratio < least
        else []
    )


def print_scaling(a, b, times):
    """Efficiency of B on `times` the devices of A; 0: as many as their ranks say."""
    if not times:
        if not (a['ranks'] and b['ranks']):
            raise Mistake(
                '--scaling: the logs do not state their ranks; give how many times the devices B has, such as --scaling 8'
            )
        times = b['ranks'] / a['ranks']
    efficiency = b['fps'] / a['fps'] / times if a['fps'] and b['fps'] and times > 0 else None
    print(
        'scaling efficiency on %g times the devices: %s'
        % (times, MISSING if efficiency is None else '%.1f %%' % (100 * efficiency))
    )
    if efficiency is not None and efficiency > TOO_GOOD:
        print(
            'Warning: above %.0f %%, a sign of a wrong measurement; look at what the two FPS count.' % (100 * TOO_GOOD)
        )


def table(args, read):
    """Name, Acc@1, FPS, epochs, precision and PyTorch, and where one run of a network has one rank, how the others scale."""
    rows = [(path, read(path)) for path in args.paths]
    single = {found['network']: found for _, found in rows if found['ranks'] == 1 and found['fps'] and found['network']}
    print('| name | Acc@1 | FPS | FPS is | scaling | epochs | AMP | PyTorch |\n|---|---|---|---|---|---|---|---|')
    high = []
    for path, found in rows:
        name = (
            '%dp-%s' % (found['ranks'], (found['device_kind'] or 'device').upper())
            if found['ranks']
            else os.path.basename(path.rstrip('/'))
        )
        one, scaling = single.get(found['network']), None
        if one and found['ranks'] > 1 and found['fps']:
            scaling = found['fps'] / one['fps'] / found['ranks']
            high += [name] if scaling > TOO_GOOD else []
        failed = found['status'] == 'FAILED'
        cells = [
            name,
            show(None if failed else found['best_acc1'], 3),
            'FAILED' if failed else show(found['fps'], 2),
            found['fps_source'],
            None if scaling is None else '%.1f %%' % (100 * scaling),
            found['epochs'],
            found['precision'],
            found['torch'],
        ]
        print(
            '| %s |' % ' | '.join('-' if cell in (None, MISSING) else str(cell).replace('|', '\\|') for cell in cells)
        )
    for name in high:
        print(
            'Warning: %s scales above %.0f %%, a sign of a wrong measurement.' % (name, 100 * TOO_GOOD), file=sys.stderr
        )
    return 0


# ---- curves


def plot(args, read):
    end = os.path.splitext(args.output)[1].lower()
    if end not in ('.svg', '.html', '.png'):
        raise Mistake('%s: a plot can be .svg, .html or .png' % args.output)
    runs = [(os.path.basename(path.rstrip('/')), read(path)) for path in args.paths]
    # an evaluation belongs to the end of its epoch, where the loss curve is at the next number
    panels = [
        (
            title,
            [
                (name, [(x + shift, y) for x, y in found[key] if x is not None and math.isfinite(y)])
                for name, found in runs
            ],
        )
        for title, key, shift in (('loss', 'loss_curve', 0), ('Acc@1, %', 'evaluations', 1), ('FPS', 'fps_curve', 0))
    ]
    if not any(points for _, lines in panels for _, points in lines):
        raise Mistake('there is no curve in %s' % ', '.join(args.paths))
    if end == '.png':
        return plot_png(panels, args.output)
    drawn = svg(panels)
    if end == '.html':
        drawn = '<!DOCTYPE html>\n<meta charset="utf-8">\n<title>%s</title>\n%s' % (
            html.escape(', '.join(args.paths)),
            drawn,
        )
    with open(args.output, 'w', encoding='utf-8') as f:
        f.write(drawn)
    print(args.output)
    return 0


def plot_png(panels, output):
    try:
        importlib.import_module('matplotlib').use('Agg')  # no requirement of any folder: used where it happens to be
        pyplot = importlib.import_module('matplotlib.pyplot')
    except ImportError:
        raise Mistake(
            '%s: .png needs matplotlib, which is not installed; give -o %s.svg' % (output, os.path.splitext(output)[0])
        )
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(8, 9))
    for axis, (title, lines) in zip(axes, panels):
        for name, points in lines:
            axis.plot([x for x, _ in points], [y for _, y in points], label=name)
        axis.set_ylabel(title)
    axes[0].legend()
    axes[-1].set_xlabel('epoch')
    figure.savefig(output)
    print(output)
    return 0


def svg(panels, width=800, height=240):
    """The panels one below the other, as the text of one self-contained SVG."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">'
        % (width, height * len(panels) + 20),
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for i, (title, lines) in enumerate(panels):
        parts += panel(title, lines, 70, i * height + 30, width - 90, height - 60)
    for i, (name, _) in enumerate(panels[0][1]):
        parts.append(
            '<text x="%d" y="16" fill="%s">%s</text>' % (70 + 180 * i, COLOURS[i % len(COLOURS)], html.escape(name))
        )
    return '\n'.join(parts + ['</svg>']) + '\n'


def panel(title, lines, left, top, width, height):
    """A frame with the ranges at its axes, and a line for each run."""
    xs, ys = ([point[i] for _, points in lines for point in points] for i in (0, 1))
    yield '<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#888"/>' % (left, top, width, height)
    yield '<text x="%d" y="%d">%s</text>' % (left + 4, top + 14, html.escape(title if xs else title + ': ' + MISSING))
    if not xs:
        return
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    for number, y in ((y1, top + 10), (y0, top + height)):
        yield '<text x="%d" y="%d" text-anchor="end">%.4g</text>' % (left - 4, y, number)
    for number, x in ((x0, left), (x1, left + width)):
        yield '<text x="%d" y="%d" text-anchor="middle">%.4g</text>' % (x, top + height + 14, number)
    for i, (_, points) in enumerate(lines):
        places = ' '.join(
            '%.1f,%.1f' % (left + width * (x - x0) / (x1 - x0 or 1), top + height * (1 - (y - y0) / (y1 - y0 or 1)))
            for x, y in points
        )
        colour = COLOURS[i % len(COLOURS)]
        yield (
            '<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>' % (places, colour)
            if len(points) > 1
            else ''.join(
                '<circle cx="%s" cy="%s" r="3" fill="%s"/>' % (*place.split(','), colour) for place in places.split()
            )
        )
