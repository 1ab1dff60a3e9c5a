"""The command plot: loss, accuracy and FPS of several logs as curves, as .svg, .html or, with matplotlib, .png."""

import html
import importlib
import math
import os
from argparse import Namespace
from typing import Iterator, List, NamedTuple, Tuple

from common.logs.report import Mistake, Read
from common.messages import MISSING

COLOURS = ('#1f77b4', '#d62728', '#2ca02c', '#9467bd', '#ff7f0e', '#17becf', '#8c564b', '#7f7f7f')
SVG = 'http://www.w3.org/2000/svg'  # the name of the format; it is never opened

Line = Tuple[str, List[Tuple[float, float]]]  # name of a log, points


class Panel(NamedTuple):
    title: str
    lines: List[Line]


# title, key of the summary, what is added to x: an evaluation of epoch n is at its end, where the loss curve has n + 1
PANELS = (('loss', 'loss_curve', 0), ('Acc@1, %', 'evaluations', 1), ('FPS', 'fps_curve', 0))


def plot(args: Namespace, read: Read) -> int:
    end = os.path.splitext(args.output)[1].lower()
    if end not in ('.svg', '.html', '.png'):
        raise Mistake(f'{args.output}: a plot can be .svg, .html or .png')
    logs = [(os.path.basename(path.rstrip('/')), read(path)) for path in args.paths]
    panels = []
    for title, key, shift in PANELS:
        panels.append(Panel(title, [(name, points(found[key], shift)) for name, found in logs]))
    if not any(line for panel in panels for _, line in panel.lines):
        raise Mistake(f'there is no curve in {", ".join(args.paths)}')
    if end == '.png':
        write_png(panels, args.output)
    else:
        drawn = svg(panels)
        if end == '.html':
            title = html.escape(', '.join(args.paths))
            drawn = f'<!DOCTYPE html>\n<meta charset="utf-8">\n<title>{title}</title>\n{drawn}'
        with open(args.output, 'w', encoding='utf-8') as f:
            f.write(drawn)
    print(args.output)
    return 0


def points(curve: list, shift: int) -> List[Tuple[float, float]]:
    return [(x + shift, y) for x, y in curve if x is not None and math.isfinite(y)]


def write_png(panels: List[Panel], output: str) -> None:
    try:
        importlib.import_module('matplotlib').use('Agg')  # not required by any folder; used where it is installed
        pyplot = importlib.import_module('matplotlib.pyplot')
    except ImportError as e:
        instead = os.path.splitext(output)[0] + '.svg'
        raise Mistake(f'{output}: .png needs matplotlib, which is not installed; give -o {instead}') from e
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(8, 9))
    for axis, panel in zip(axes, panels):
        for name, line in panel.lines:
            axis.plot([x for x, _ in line], [y for _, y in line], label=name)
        axis.set_ylabel(panel.title)
    axes[0].legend()
    axes[-1].set_xlabel('epoch')
    figure.savefig(output)


def svg(panels: List[Panel], width: int = 800, height: int = 240) -> str:
    """The panels one below the other, as the text of one self-contained SVG. height: of each."""
    size = f'width="{width}" height="{height * len(panels) + 20}"'
    parts = [
        f'<svg xmlns="{SVG}" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for i, panel in enumerate(panels):
        parts += drawn_panel(panel, 70, i * height + 30, width - 90, height - 60)
    for i, (name, _) in enumerate(panels[0].lines):
        parts.append(f'<text x="{70 + 180 * i}" y="16" fill="{colour(i)}">{html.escape(name)}</text>')
    return '\n'.join(parts + ['</svg>']) + '\n'


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def drawn_panel(panel: Panel, left: int, top: int, width: int, height: int) -> Iterator[str]:
    """A frame with the ranges at its axes, and a line for each log."""
    xs, ys = ([point[i] for _, line in panel.lines for point in line] for i in (0, 1))
    title = panel.title if xs else f'{panel.title}: {MISSING}'
    yield f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#888"/>'
    yield f'<text x="{left + 4}" y="{top + 14}">{html.escape(title)}</text>'
    if not xs:
        return
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    for number, y in ((y1, top + 10), (y0, top + height)):
        yield f'<text x="{left - 4}" y="{y}" text-anchor="end">{number:.4g}</text>'
    for number, x in ((x0, left), (x1, left + width)):
        yield f'<text x="{x}" y="{top + height + 14}" text-anchor="middle">{number:.4g}</text>'
    for i, (_, line) in enumerate(panel.lines):
        places = []
        for x, y in line:
            right, down = (x - x0) / (x1 - x0 or 1), 1 - (y - y0) / (y1 - y0 or 1)
            places.append((f'{left + width * right:.1f}', f'{top + height * down:.1f}'))
        yield drawn_line(places, colour(i))


def drawn_line(places: List[Tuple[str, str]], stroke: str) -> str:
    """places: x and y of each point. One point alone is a dot."""
    if len(places) > 1:
        joined = ' '.join(f'{x},{y}' for x, y in places)
        return f'<polyline points="{joined}" fill="none" stroke="{stroke}" stroke-width="1.5"/>'
    return ''.join(f'<circle cx="{x}" cy="{y}" r="3" fill="{stroke}"/>' for x, y in places)
