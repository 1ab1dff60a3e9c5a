"""The command plot: loss, accuracy, learning rate and FPS of several logs as curves, by matplotlib."""

import importlib
import os
from argparse import Namespace
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from common.logs.report import Mistake, Read, Summary, short_name

FORMATS = ('.png', '.svg', '.pdf')


class Curves(NamedTuple):
    """A panel. curves: keys of a summary, what each is called in the legend, how it is drawn, and what is added to x: an
    evaluation of epoch n is at its end, where a curve of steps has n + 1.
    """

    name: str
    axis: str
    curves: Tuple[Tuple[str, str, Dict[str, Any], int], ...]


LINE, DOTS = {'linewidth': 1.2}, {'linestyle': '--', 'marker': 'o', 'markersize': 3, 'linewidth': 1}
PANELS = (
    Curves('loss', 'Loss', (('loss_curve', 'train', LINE, 0), ('eval_loss_curve', 'validation', DOTS, 1))),
    Curves('acc', 'Acc@1 (%)', (('evaluations', 'validation', DOTS, 1),)),
    Curves('lr', 'Learning rate', (('lr_curve', 'train', LINE, 0),)),
    Curves('fps', 'FPS (images/s)', (('fps_curve', 'train', LINE, 0),)),
)


def plot(args: Namespace, read: Read) -> int:
    if os.path.splitext(args.output)[1].lower() not in FORMATS:
        raise Mistake(f'{args.output}: a plot can be {", ".join(FORMATS)}')
    runs = [(label, read(path)) for label, path in zip(labels(args.paths), args.paths)]
    runs = [(', '.join(filter(None, (found['model'], label))), found) for label, found in runs]
    wanted = [panel for panel in PANELS if not args.panels or panel.name in args.panels]
    panels = [panel for panel in wanted if any(found[key] for _, found in runs for key, *_ in panel.curves)]
    if not panels:
        raise Mistake(f'there is no curve in {", ".join(args.paths)}')
    pyplot = matplotlib_for(args.output)
    size = (9, 0.6 + 2.6 * len(panels) + 0.25 * len(runs))
    figure, axes = pyplot.subplots(len(panels), 1, sharex=True, squeeze=False, figsize=size, constrained_layout=True)
    for axis, panel in zip(axes[:, 0], panels):
        draw(axis, panel, runs)
    axes[-1, 0].set_xlabel('Epoch')
    legend(figure, axes[:, 0])
    figure.savefig(args.output, dpi=130)
    print(args.output)
    return 0


def labels(paths: List[str]) -> List[str]:
    """What runs are called: the names of their files, or, where two are alike, the whole paths."""
    names = [short_name(path) for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def matplotlib_for(output: str) -> Any:
    """Its pyplot. Mistake where it is not installed: no training needs it."""
    try:
        library = importlib.import_module('matplotlib')
    except ImportError:
        library = None
    if getattr(library, '__version_info__', (0,)) < (3, 7):  # which can put a legend beside the axes
        raise Mistake(f'{output}: a plot needs matplotlib, 3.7 or newer; pip install matplotlib')
    library.use('Agg')
    library.rcParams['svg.fonttype'] = 'none'  # words stay words, which can be searched
    return importlib.import_module('matplotlib.pyplot')


def draw(axis: Any, panel: Curves, runs: List[Tuple[str, Summary]]) -> None:
    """A line for each curve of each run, in the run's colour."""
    for number, (label, found) in enumerate(runs):
        for key, what, style, shift in panel.curves:
            xs, ys = [x + shift for x, _ in found[key]], [y for _, y in found[key]]
            alone = {'marker': 'o'} if len(xs) == 1 else {}
            if xs:
                axis.plot(xs, ys, color=f'C{number % 10}', label=f'{label}: {what}', **dict(style, **alone))
        if panel.name == 'fps':
            shade(axis, f'C{number % 10}', found['fps_curve'], found['warmup_end'])
    axis.set_ylabel(panel.axis)
    axis.grid(True, alpha=0.3)


def shade(axis: Any, colour: str, curve: List[Tuple[float, float]], end: Optional[float]) -> None:
    """The warm-up, whose steps count in no FPS."""
    if curve and end is not None:
        axis.axvspan(int(curve[0][0]), end, color=colour, alpha=0.12, label='warm-up, not counted', linewidth=0)


def legend(figure: Any, axes: Any) -> None:
    """One for all panels, below them. Each curve stands in it once."""
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            entries.setdefault(label, handle)
    figure.legend(entries.values(), entries.keys(), loc='outside lower center', ncols=2, fontsize='small')
