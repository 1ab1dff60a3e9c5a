"""A training in numbers."""

import math
from typing import Any, Dict, Optional, Tuple

from common.logs.logged_run import LoggedRun

DESCRIPTION = (
    'network case case_name model device device_kind ranks batch_size precision torch checkpoint'.split()
)  # either an event, a line or a summary states these
THROUGHPUT = (
    'fps fps_source fps_reason step_ms step_ms_p50 step_ms_p95 data_wait measured_steps fps_run peak_memory_mb'.split()
)
ROUNDING = 0.006  # percent; the best accuracy that a log states may be printed with two decimals
PASSES = 3  # training is counted as three forward passes


def summary(
    run: LoggedRun,
    batch: Optional[int] = None,
    target_acc: Optional[float] = None,
    model_flops: Optional[float] = None,
    peak_tflops: Optional[float] = None,
) -> Dict[str, Any]:
    """All numbers of a training; None for what the log does not give. Accuracies in percent.

    batch: images of all ranks per step, for logs that do not state it.
    target_acc: percent; seconds_to_target is the time when an evaluation first reached it.
    model_flops: operations of one image's forward pass; peak_tflops: what all devices of the training together can do,
    in 1e12 operations a second. With both, mfu is the share of the peak (0..1) that was used.
    """
    training = run.training
    if training.timing is not None:
        training.timing.close()
    numbers = {name: first(run.fields.get(name), run.stated.get(name)) for name in DESCRIPTION}
    numbers.update(throughput(run, batch))
    numbers.update(accuracy(run))
    numbers.update(losses(run))
    status, reason = verdict(run, numbers)
    resumed_from_another_log = bool(run.fields.get('resumed') and run.segments == 1)
    numbers.update(
        steps=training.steps or None,
        logged_steps=training.records or None,
        epochs=training.epochs or None,
        seconds=first(run.seconds(), run.stated.get('seconds')),
        resumed=run.segments - 1 + resumed_from_another_log,
    )
    reached = [time for acc1, time in run.evaluations.rising if target_acc is not None and acc1 >= target_acc]
    numbers['seconds_to_target'] = reached[0] if reached else None
    numbers['mfu'] = None
    if model_flops and peak_tflops and numbers['fps']:
        passes = 1 if numbers['case'] == 'eval' else PASSES
        numbers['mfu'] = numbers['fps'] * passes * model_flops / (peak_tflops * 1e12)
    return dict(numbers, status=status, reason=reason)


def first(*values: Any) -> Any:
    """The first of the values that is not None, or None."""
    return next((value for value in values if value is not None), None)


def global_batch(run: LoggedRun, asked: Optional[int]) -> Optional[int]:
    """Images of all ranks per step: as asked, as the log states it, or as a line's rate times its time; or None."""
    given, timing = asked or run.fields.get('global_batch'), run.training.timing
    if given is None and timing is not None and timing.images_per_step:
        given = round(sum(timing.images_per_step) / len(timing.images_per_step))
    return given or None


def throughput(run: LoggedRun, asked: Optional[int]) -> Dict[str, Any]:
    """fps and where it comes from, and the times of steps.

    fps_source: 'measured', where all images of the steps after the warm-up were divided by their seconds, by our own
    trainer or here; 'claimed', where it is what a log of another code base states; None, and then fps_reason says why.
    """
    timing, stated, batch = run.training.timing, run.stated, global_batch(run, asked)
    claims = run.training.claims
    claimed = run.measured.get('fps') or stated.get('fps') or claims.mean() or claims.last
    reason = run.fields.get('fps_reason') or stated.get('fps_reason')
    found = dict(dict.fromkeys(THROUGHPUT), fps_claimed=claimed, global_batch=batch, fps_reason=reason)
    timed = timing is not None and timing.steps and timing.seconds > 0
    if timed:
        found.update(step_times(timing))
    found.update((name, stated[name]) for name in found if stated.get(name) is not None and name != 'fps')
    found.update((name, value) for name, value in run.measured.items() if value is not None)
    fps = run.measured.get('fps')
    if fps is None and stated.get('fps') and stated.get('status') is not None:  # a summary that our launch.sh wrote
        fps = stated['fps']
    if fps is None and batch and timed and not found['fps_reason']:
        fps = batch * timing.steps / timing.seconds
    if fps is not None:
        return dict(found, fps=fps, fps_source='measured')
    if found['fps_reason'] is None:
        found['fps_reason'] = why_not_measured(timing, timed, batch)
        if claimed is not None:
            found.update(fps=claimed, fps_source='claimed')
    return found


def step_times(timing: Any) -> Dict[str, Any]:
    """The mean step and its percentiles in milliseconds, and the share of the time that was spent waiting for data."""
    found = {
        'step_ms': 1000 * timing.seconds / timing.steps,
        'data_wait': timing.data / timing.seconds,
        'measured_steps': timing.steps,
    }
    for percent in (50, 95):
        seconds = timing.times.percentile(percent)
        found[f'step_ms_p{percent}'] = None if seconds is None else 1000 * seconds
    return found


def why_not_measured(timing: Any, timed: bool, batch: Optional[int]) -> Optional[str]:
    if timing is None:
        return 'the log has no step times'
    if not timed:
        return 'the log has no step times after the warm-up'
    return None if batch else 'the log does not say how many images a step has; give --batch'


def accuracy(run: LoggedRun) -> Dict[str, Any]:
    """The last evaluation and the best one. What the log calls its best counts where it is better than those in it."""
    stated, evaluations = run.stated, run.evaluations
    best, epoch, seconds = evaluations.best or (None, None, None)
    claim, claim_epoch = evaluations.best_claim or (stated.get('best_acc1'), stated.get('best_epoch'))
    if claim is not None and (best is None or claim > best + ROUNDING):
        best, epoch, seconds = claim, claim_epoch, None
    last = first(run.fields.get('last_acc1'), stated.get('last_acc1'))
    return {
        'best_acc1': first(best, last),
        'best_epoch': None if epoch is None else int(epoch),
        'last_acc1': last,
        'last_acc5': run.fields.get('last_acc5'),
        'last_epoch': run.fields.get('last_epoch'),
        'ema_acc1': first(run.fields.get('ema_acc1'), stated.get('ema_acc1')),
        'eval_loss': run.fields.get('eval_loss'),
        'seconds_to_best': seconds,
    }


def losses(run: LoggedRun) -> Dict[str, Any]:
    training = run.training
    last = training.last_loss if training.records else run.stated.get('final_loss')
    return {
        'first_loss': training.first_loss,
        'final_loss': last if last is not None and math.isfinite(last) else None,
        'min_loss': first(training.min_loss, run.stated.get('min_loss')),
    }


def verdict(run: LoggedRun, numbers: Dict[str, Any]) -> Tuple[Optional[str], Optional[str]]:
    """-> (status, reason): 'FAILED' and why; 'OK' where the log says that the training ended well; else None."""
    status, reason = run.fields.get('status'), run.fields.get('reason')
    if status is None:
        status, reason = run.stated.get('status'), run.stated.get('reason')
    if status is None and run.stated.get('failure'):
        return 'FAILED', run.stated['failure']
    last_loss = run.training.last_loss
    if status != 'FAILED' and last_loss is not None and not math.isfinite(last_loss):
        return 'FAILED', 'the last loss is no number'
    says_something = run.fields.get('fps_reason') or run.training.records
    no_number = all(numbers[name] is None for name in ('fps', 'best_acc1', 'final_loss'))
    if status is None and not says_something and no_number:
        return 'FAILED', 'the log holds no step, accuracy or throughput'
    return status, reason
