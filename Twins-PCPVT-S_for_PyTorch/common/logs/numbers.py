"""A training in numbers. What the log does not say is None; a problem tells of a number that had to be left out."""

import math
from typing import Any, Dict, List, Optional, Tuple

from common.logs.forms import LOOKED_FOR, Format, describe
from common.logs.logged_run import LoggedRun
from common.logs.series import ALTERNATING
from common.logs.values import first

OF_THE_RUN = 'network model device device_kind ranks world_size batch_size precision torch'.split()
KEYS = """
    format status finished network model device device_kind ranks batch_size precision torch
    fps fps_source fps_claimed step_ms step_ms_p50 step_ms_p95 data_wait global_batch peak_memory_mb
    best_acc1 best_epoch seconds_to_best last_acc1 last_acc5 ema_acc1 eval_loss final_loss min_loss
    steps logged_steps epochs seconds resumed seconds_to_target reason fps_reason fps_meaning
""".split()
TOO_COARSE = 0.02  # of the time of a step; its printed digits must not leave open more
NEAR = 0.1  # how far the FPS of a summary times the time of a step may be from the images of a step
MIXED = 'lines of two processes stand among each other; what they add up to cannot be told'
NOT_KNOWN = f'the format is not known; looked for: {LOOKED_FOR}'


def summary(run: LoggedRun, batch: Optional[int] = None, target_acc: Optional[float] = None) -> Dict[str, Any]:
    """All numbers of a training; None for what the log does not give. Accuracies in percent, seconds, milliseconds
    (names with _ms), MB of 2**20 bytes (of the process that printed), images a second; data_wait is a share (0..1).

    batch: images of all ranks per step, for logs that do not state it.
    target_acc: percent; seconds_to_target is the time when an evaluation of the model first reached it.
    """
    known, problems = describe(run.tags), []
    if run.series.strays >= ALTERNATING:
        problems.append(MIXED)
        run = LoggedRun({name: run.fields.get(name) for name in OF_THE_RUN})
        run.fields.update(reason=MIXED, fps_reason=MIXED)
    found: Dict[str, Any] = {name: run.fields.get(name) for name in KEYS}
    found.update(format=known.name if known else None, ranks=ranks(run, known))
    found['seconds'] = first(run.seconds(), run.fields.get('e2e_seconds'))
    if run.records:
        found['epochs'] = len(run.done)
    if run.timing is not None:
        found.update(steps=sum(steps for _, steps in run.done), logged_steps=run.records)
    found['global_batch'] = global_batch(run, known, batch, problems)
    found.update(throughput(run, found, problems))
    if found['best_acc1'] is None:
        found['best_acc1'] = found['last_acc1']
    reached = [new.seconds for new in run.rising if target_acc is not None and new.acc1 >= target_acc]
    found['seconds_to_target'] = reached[0] if reached else None
    found['finished'] = finished(run)
    found['status'], found['reason'] = verdict(run, found)
    if known and known.fps and found['fps_claimed'] is not None:
        found['fps_meaning'] = f'claimed: {known.fps}'
    found = {name: value if finite(value) else None for name, value in found.items()}
    curves = dict(loss_curve=run.loss, fps_curve=run.rate, lr_curve=run.lr)
    curves.update(evaluations=run.accuracy, eval_loss_curve=run.eval_loss)
    found.update((name, curve.all()) for name, curve in curves.items())
    return dict(found, warmup_end=warmup_end(run), problems=problems)


def warmup_end(run: LoggedRun) -> Optional[float]:
    """Where on a curve, in epochs, the first process's warm-up ends, whose steps count in no FPS."""
    steps = first(run.fields.get('warmup_steps'), run.timing.warm if run.timing is not None else None)
    return None if steps is None or not run.done else run.done[0][0] + steps / run.steps


def finite(value: Any) -> bool:
    """Whether JSON can hold it."""
    return not isinstance(value, float) or math.isfinite(value)


def ranks(run: LoggedRun, known: Optional[Format]) -> Optional[int]:
    """How many processes trained. Beside a node's batch size, world_size may count nodes or processes."""
    world = run.fields.get('world_size') if known and known.batch == 'process' else None
    return first(run.fields.get('ranks'), int(world) if world else None)


def global_batch(run: LoggedRun, known: Optional[Format], asked: Optional[int], problems: List[str]) -> Optional[int]:
    """Images of all ranks per step: as asked, as the log states it, or as its rates and times tell; or None."""
    given, one, world = first(asked, run.fields.get('global_batch')), run.fields.get('batch_size'), ranks(run, known)
    if given is None and one and known and known.batch == 'node':
        given = one if run.fields.get('world_size') in (-1, 1) else run.images.multiple_of(one)
        if given is None:
            problems.append(f'batch_size {one} is that of a node, and nothing tells how many images all nodes have')
    elif given is None and one and world and 'summary' not in run.tags:
        given = one * world
    if given and run.images.excludes(given):
        where = '--batch' if asked else 'the log'
        problems.append(f'a step has {given} images by {where}, but about {run.images.low:.6g} by the rates and times')
        return None
    return given or run.images.multiple_of(1)


def throughput(run: LoggedRun, found: Dict[str, Any], problems: List[str]) -> Dict[str, Any]:
    """fps and where it comes from, and the times of steps.

    fps_source: 'measured', where all images of the steps after the warm-up were divided by their seconds, by our own
    trainer or here; 'claimed', where it is what a log of another code base states; None, and then fps_reason says why.
    """
    stated, reason = run.fields, run.fields.get('fps_reason')
    claimed = first(stated.get('fps'), claim(run, found['ranks'], problems))
    times = {name: value for name, value in step_times(run).items() if stated.get(name) is None}
    if stated.get('step_time'):
        times['step_ms'] = summary_step_ms(run, problems)
    fps, source = stated.get('fps') if stated.get('measured') else None, 'measured'
    if fps is None and not reason:
        fps, reason = fps_by_times(run.timing, found['global_batch'], times.get('step_ms') is not None)
        if fps is None:
            fps, source = claimed, 'claimed'
    return dict(times, fps=fps, fps_source=source if fps is not None else None, fps_reason=reason, fps_claimed=claimed)


def claim(run: LoggedRun, world: Optional[int], problems: List[str]) -> Optional[float]:
    """The FPS that the log states, if it is that of all processes."""
    if 'meter train:images' in run.tags and world != 1:
        problems.append("img/s is one process's, and not the training's; left out")
        return None
    if run.claims:
        return run.claims_sum / run.claims
    is_running_mean = run.tags & {'timm train', 'old timm train'}  # of which the last one counts
    return run.rate.last[0][1] if is_running_mean else None


def step_times(run: LoggedRun) -> Dict[str, Any]:
    """The mean step and its percentiles in milliseconds, and the share of the time that was spent waiting for data.
    Percentiles only where the log has the time of every step. Nothing where the times were printed too coarsely.
    """
    timing = run.timing
    if timing is None or not timing.counted.seconds:
        return {}
    steps, seconds = timing.counted.steps, timing.counted.seconds
    if timing.rounding * steps > TOO_COARSE * seconds:
        return {}
    return {
        'step_ms': 1000 * seconds / steps,
        'step_ms_p50': timing.percentile_ms(50),
        'step_ms_p95': timing.percentile_ms(95),
        'data_wait': timing.counted.waited / seconds if timing.has_waits else None,
    }


def fps_by_times(timing: Any, batch: Optional[int], precise: bool) -> Tuple[Optional[float], Optional[str]]:
    """-> (images per second after the warm-up, None) or (None, why not)."""
    if timing is None:
        return None, 'the log has no step times'
    if not timing.counted.seconds:
        return None, 'the log has no step times after the warm-up'
    if timing.counted.share > 0:
        return timing.counted.steps / timing.counted.share, None
    if not precise:
        return None, 'the step times are printed too coarsely for steps as short as these'
    if not batch:
        return None, 'the log does not say how many images a step has; give --batch'
    return batch * timing.counted.steps / timing.counted.seconds, None


def summary_step_ms(run: LoggedRun, problems: List[str]) -> Optional[float]:
    """The TrainingTime of a summary in milliseconds. Old folders wrote seconds or milliseconds: FPS times the time of
    a step is the images of a step, which tells.
    """
    time, fps, one, world = (run.fields.get(name) for name in ('step_time', 'fps', 'batch_size', 'ranks'))
    for images in (one * (world or 1), one) if one and fps else ():
        for unit in (1, 1000):
            if abs(fps * time * unit / 1000 / images - 1) <= NEAR:
                return time * unit
    problems.append(f'TrainingTime = {time:g}: FPS and BatchSize do not tell whether seconds or milliseconds; left out')
    return None


def finished(run: LoggedRun) -> Optional[bool]:
    """Whether all epochs were done; None where the log says neither that it ended nor how many there were to be."""
    planned, ok = run.fields.get('planned_epochs'), run.fields.get('status') == 'OK'
    if run.fields.get('ended'):
        return True
    if not planned or run.epoch is None:
        return True if ok else None
    last = planned - 1
    if 'swin train' in run.tags:  # Swin's kin number epochs from where they number steps
        last += run.timing.first
    return run.epoch >= last and (ok or run.evaluated == run.epoch)


def verdict(run: LoggedRun, found: Dict[str, Any]) -> Tuple[Optional[str], Optional[str]]:
    """-> (status, reason): 'FAILED' and why; 'OK' where the log says that the training ended well; 'UNFINISHED' where
    it ends before its last epoch, and may still be running; else None, with a reason where the format is not known.
    """
    status, reason = run.fields.get('status'), run.fields.get('reason')
    if status == 'FAILED':
        return status, reason
    if not finite(found['final_loss']):
        return 'FAILED', 'the last loss is no number'
    if found['finished'] is False:
        where = f'the log ends in epoch {run.epoch}, and {run.fields["planned_epochs"]:g} epochs were planned'
        return 'UNFINISHED', f'{where}: it was cut short, or still runs'
    if status is None and found['format'] is None:
        return None, NOT_KNOWN
    return status, reason
