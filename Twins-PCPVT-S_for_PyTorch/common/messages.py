"""The lines that a training prints, as templates: the trainer fills them in, logs/forms.py reads them back.

Public tools look for `FPS:`, `Loss:` and `* Acc@1 n Acc@5 n` in them, and for the three lines of the final result.
"""

from typing import Optional, Union

RUN_LINE = (
    '{case}: {model}, {parameters:.2f} M parameters, {classes:d} classes, {img_size} pixels; '
    '{ranks:d} x {device_kind} ({device}); {precision}.'
)
SIZES_LINE = (
    '{train_size:d} training images, {steps:d} steps of {global_batch:d} images an epoch, {epochs:d} epochs, '
    'lr {lr:.3g}, {workers:d} workers a rank.'
)
RESUMED_LINE = 'Resumed from {resume} at epoch {epoch:d}, step {step:d}.'
TRAIN_LINE = (
    'Train: {epoch:d} [{step:>4d}/{steps:d} ({percent:>3.0f}%)]  Loss: {loss:.4f}  FPS: {fps:.2f}  '
    'Step: {step_ms:.1f} ms  Data: {data_percent:.1f}%  LR: {lr:.3e}  ETA: {eta}'
)
EVAL_LINE = ' * Acc@1 {acc1:.3f} Acc@5 {acc5:.3f} Loss: {loss:.4f}  ({images:d} images, {seconds:.1f} s{note})'
THROUGHPUT_LINE = (
    'FPS: {fps:.2f} over {steps:d} steps after {warmup_steps:d} of warm-up; step {step_ms:.1f} ms, '
    'p50 {step_ms_p50:.1f}, p95 {step_ms_p95:.1f}; {data_percent:.1f}% waiting for data; '
    'peak memory {peak_memory_mb:.0f} MB'
)
WAITED = (
    'the device waited for images {data_percent:.0f}% of the time, with {workers:d} --workers a rank and {cores:d} cores: more of '
    'them where cores are free, smaller image files, or simplejpeg, where it is not installed, give more FPS'
)
NO_THROUGHPUT_LINE = 'FPS: N/A ({fps_reason})'
FINAL_RULE = '------------------ Final result ------------------'
FINAL_LINES = (  # label, key of the summary
    ('Final Performance images/sec', 'ActualFPS'),
    ('Final Train Accuracy', 'TrainAccuracy'),
    ('E2E Training Duration sec', 'E2ETrainingTime'),
)
# The fields of a training step's event, in the order of its JSON; epoch is a whole number, as are step and steps
STEP_FIELDS = ('epoch', 'step', 'steps', 'lr', 'fps', 'step_ms', 'data_wait', 'loss', 'eta')
RECORD_LOST = 'The run is complete, and its record is not: {path} lacks {events:d} events ({problem}).'
MISSING = 'N/A'
ERROR_MARK = '[Error]'


def show(value: Union[int, float, str, None], digits: Optional[int] = None) -> str:
    """A value as the summaries write it: without a unit, with `digits` decimals where given; None as N/A."""
    if value is None:
        return MISSING
    return str(value) if digits is None else f'{value:.{digits}f}'
