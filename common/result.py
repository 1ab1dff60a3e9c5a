"""What launch.sh does before and after a training process:  python -m common.result begin|finish ...

begin moves an earlier training's files out of the way; finish makes result.json, the summary <CaseName>.log and the
loss history out of the events. Standard library only: where torch does not import, there still is a FAILED summary.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import sys
from typing import Any, Dict, List, Optional, Tuple

from common import run_folder
from common.errors import KNOWN, RANK_ENDED, UserError, killed_by, say
from common.messages import ERROR_MARK, FINAL_LINES, FINAL_RULE, MISSING, RECORD_LOST, show

EXCEPTION = re.compile(r'(\[rank\d+\]: ?)?[\w.]*(Error|Exception|Interrupt)(:|$)')  # the last line of a traceback
CASE_SUFFIX = {'full': 'acc', 'performance': 'perf', 'eval': 'eval', 'finetune': 'finetune'}
STOPPED = (129, 130, 143)  # by a signal that asks for an end
EVENT_FIELDS = (
    'network case model ranks batch_size device fps fps_reason fps_run step_ms step_ms_p50 step_ms_p95 data_wait advice '
    'peak_memory_mb last_acc1 last_acc5 last_epoch eval_images eval_seconds eval_loss best_acc1 best_epoch ema_acc1 '
    'final_loss min_loss summary_also steps epochs seconds checkpoint complete'
).split()

# The summary: {key: field of the result}. A failed training has N/A for what it measured.
CASE = dict(Network='network', RankSize='ranks', BatchSize='batch_size', DeviceType='device_type', CaseName='case_name')
MEASURED = dict(ActualFPS='fps', TrainingTime='step_ms', TrainAccuracy='last_acc1', ActualLoss='loss')
END = dict(E2ETrainingTime='e2e_seconds', Status='status')
EVALUATED = dict(ActualAccuracy='last_acc1', E2EEvalTime='e2e_seconds')
TRAINED = dict(BestAccuracy='best_acc1', BestEpoch='best_epoch', EmaAccuracy='ema_acc1', Checkpoint='checkpoint')
DETAILS = dict(Model='model', Device='device', EvalImages='eval_images')
DETAILS.update(StepTimeP50='step_ms_p50', StepTimeP95='step_ms_p95', DataWait='data_wait')
DETAILS.update(PeakMemoryMB='peak_memory_mb', FPSWholeRun='fps_run')
REMARKS = dict(FPSReason='fps_reason', Advice='advice')  # where there is something to say
DIGITS = dict.fromkeys(('fps', 'fps_run', 'step_ms', 'step_ms_p50', 'step_ms_p95'), 2)  # after the point
DIGITS.update(last_acc1=3, best_acc1=3, ema_acc1=3, loss=4, min_loss=4, data_wait=4, peak_memory_mb=0)


def read_events(path: str) -> List[Dict[str, Any]]:
    """The events of a metrics.jsonl. Lines that are cut or foreign are left out; a missing file has none."""
    if not os.path.isfile(path):  # a device may have no end
        return []
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            events = [event_of(line) for line in f]
    except OSError:
        return []
    return [event for event in events if event is not None]


def event_of(line: str) -> Optional[Dict[str, Any]]:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and 'event' in event else None


def summarize(events: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Events -> one dict, with None for what was not measured.

    last_*: the last evaluation, best_*: the best one; accuracies in percent. Throughput: see throughput.py.
    """
    result = dict.fromkeys(EVENT_FIELDS)
    losses, epochs = [], set()
    for event in events:
        kind, fields = event['event'], {k: v for k, v in event.items() if k not in ('event', 'time')}
        if kind == 'train':
            losses.append(fields.get('loss'))
            epochs.add(fields.get('epoch'))
        elif kind == 'eval' and fields.get('weights') == 'ema':
            result['ema_acc1'] = fields.get('acc1')
        elif kind == 'eval':
            result.update({name: fields.get(name) for name in ('best_acc1', 'best_epoch')})
            result.update({f'last_{name}': fields.get(name) for name in ('acc1', 'acc5', 'epoch')})
            result.update({f'eval_{name}': fields.get(name) for name in ('images', 'seconds', 'loss')})
        elif kind in ('run', 'throughput', 'end'):
            result.update(fields)
    if losses:
        result['final_loss'] = losses[-1]
        result['min_loss'] = min((loss for loss in losses if loss is not None), default=None)
    result.update(losses=losses, epochs=len(epochs) or None, complete=bool(result['complete']))
    return result


def log_lines(log_path: str) -> Optional[List[str]]:
    """The last lines of a training's log, without the empty ones; None where there is no log."""
    try:
        with open(log_path, 'rb') as f:
            f.seek(max(0, os.path.getsize(log_path) - 200000))
            text = f.read().decode('utf-8', 'replace')
    except OSError:
        return None
    return [line.strip() for line in text.splitlines() if line.strip()]


def stated_reason(lines: List[str]) -> Optional[str]:
    """The sentence in a failed training's log that says why: our own error line or the exception; None where nothing does.

    The first of several counts: when a rank dies, the other ranks fail after it, and print errors of their own.
    """
    for line in lines:
        if re.match(r'\[Error\] rank \d+ was killed by', line):  # the launcher's: it knows which rank was the first
            return line[len(ERROR_MARK) :].strip() + (words_of_cann(lines) if 'SIGABRT' in line else '')
    if any(line.startswith('terminate called') for line in lines):
        return f'the trainer was aborted{words_of_cann(lines)}'
    ours = [line for line in lines if re.match(r'\[Error\](?!:)', line)]  # CANN's own lines hold '[Error]: '
    reasons = []
    for line in lines:
        if line in ours:
            reasons.append(line[len(ERROR_MARK) :].strip())
        elif EXCEPTION.match(line) and 'ChildFailedError' not in line:
            reasons.append(next((told[len(ERROR_MARK) :].strip() for told in ours if line[:150] in told), line))
    return next((reason for reason in reasons if not follows(reason)), reasons[0] if reasons else None)


def follows(reason: str) -> bool:
    """Whether it is what a rank says that fails because another one has ended."""
    known = [part for part, meaning in KNOWN if meaning == RANK_ENDED]
    return any(part in reason.lower() for part in [RANK_ENDED, 'rank was stopped', *known])


def words_of_cann(lines: List[str]) -> str:
    """torch_npu aborts the process from threads of its own. -> what CANN has said before, such as ' (EI0002: ...)', or ''."""
    said = [re.search(pattern, line) for pattern in (r'\bE[A-Z]\d{4}: .*', r'(?<=what\(\):).*') for line in lines]
    return next((f' ({found.group().strip()[:300]})' for found in said if found), '')


def case_name(result: Dict[str, Any]) -> str:
    """<Network>_bs<BatchSize>_<RankSize>p_<perf|acc|eval|finetune>; NA for what is not known, as it names files."""
    network, batch, ranks = (show(result[key]).replace(MISSING, 'NA') for key in ('network', 'batch_size', 'ranks'))
    return f'{network}_bs{batch}_{ranks}p_{CASE_SUFFIX.get(result["case"], result["case"])}'


def summary_items(result: Dict[str, Any]) -> Dict[str, str]:
    """The result -> {key: text} of <CaseName>.log, in its order."""
    ok, evaluating = result['status'] == 'OK', result['case'] == 'eval'
    values = dict(result, case_name=case_name(result), loss=result['eval_loss' if evaluating else 'final_loss'])
    values['step_ms'] = None if evaluating else result['step_ms']
    also = result['summary_also'] or {}  # the folder's own names of keys
    if not ok:
        values.update((field, None) for fields in (MEASURED, also) for field in fields.values())
    parts = [CASE, MEASURED, END]
    parts += [EVALUATED if evaluating else TRAINED, also, DETAILS] if ok else [also, {'Reason': 'reason'}]
    parts += [{key: field} for key, field in REMARKS.items() if ok and result[field]]
    return {key: show(values[field], DIGITS.get(field)) for part in parts for key, field in part.items()}


def accuracies(result: Dict[str, Any]) -> List[str]:
    """-> a line that says whose the accuracies are: Final Train Accuracy, as public tools look for it, is the last one of any run."""
    last, best = (show(result[key], DIGITS[key]) for key in ('last_acc1', 'best_acc1'))
    if last == MISSING:
        return []
    if result['case'] == 'eval' or best == MISSING:
        return [f'Acc@1, evaluation: {last} of {show(result["eval_images"])} images']
    return [f'Acc@1, last: {last}, best: {best} (epoch {show(result["best_epoch"])})']


def begin(folder: str, log_name: str, case: str, lock: Optional[int], pid: Optional[int], node: int) -> None:
    """Makes the output folder, takes it for this run, and moves an earlier run's files to previous/<time>/ in it.

    Checkpoints stay: this training may be asked to read them, and the trainer renames them before it would overwrite.
    node: number of the machine. Several may share the folder; another than the first one's has nothing there but its log.
    """
    os.makedirs(folder, exist_ok=True)
    claimed = run_folder.claim(folder, case, lock, pid)
    log = os.path.join(folder, log_name)
    names = run_folder.of_runs(folder, case) if node == 0 else [log_name] if run_folder.is_ours(log) else []
    aside = run_folder.move_aside(folder, names)
    if os.path.exists(log):
        raise UserError(f'{log} is no log of a training here and is left alone; choose another folder by --output_dir')
    if aside is not None:
        say(f'The files of an earlier run were moved to {aside}')
        run_folder.note(claimed, str(pid or os.getpid()), aside)  # for finish
    with open(log, 'w', encoding='utf-8') as f:
        f.write(f'{run_folder.RUN_MARK}{os.environ.get("RUN_ID", "")}\n')


def finish(folder: str, log_name: str, network: str, case: str, ranks: int, code: int, seconds: int) -> int:
    """Writes result.json, <CaseName>.log and the loss history, and prints the last lines. -> the exit status."""
    run = os.environ.get('RUN_ID')
    recorded = read_events(os.path.join(folder, run_folder.metrics_name(case)))
    events = [event for event in recorded if run is None or event.get('run_id') == run]
    result = summarize(events)
    for key, known in (('network', network), ('case', case), ('ranks', ranks)):
        result[key] = known if result[key] is None else result[key]
    log = os.path.join(folder, log_name)
    code, reason = verdict(code, events, log)
    result.update(device_type=platform.machine(), e2e_seconds=seconds, exit_code=code, reason=reason)
    result['status'] = 'OK' if reason is None else 'FAILED'
    items = summary_items(result)
    back = None
    try:
        write_results(folder, case, result, items)
        if reason is not None and not any(event['event'] in ('train', 'eval') for event in events):
            back = put_back(folder, case)
    except OSError as e:
        code, unwritten = code or 1, f'the results cannot be written to {folder} ({e})'
        reason = unwritten if reason is None else f'{reason}; {unwritten}'
    if reason is None:
        say('\n'.join(accuracies(result) + [FINAL_RULE] + [f'{label} : {items[key]}' for label, key in FINAL_LINES]))
    else:
        if back is not None:
            say(back)
        say_why(reason, code, log, last=back is None)
    return code


def say_why(reason: Optional[str], code: int, log: str, last: bool = True) -> None:
    """The last line of a failed run, unless it stands there: the trainer's own words end the log. last: nothing was said after them."""
    if not last or (log_lines(log) or [''])[-1] != f'{ERROR_MARK} {reason}':
        say(f'{ERROR_MARK} {reason} (exit {code})')


def finish_on_another_machine(log: str, code: int) -> int:
    """The last line where NODE_RANK is not 0: the results are the first machine's to write. -> the exit status."""
    if code == 0:
        say('The results of the run are on the machine with NODE_RANK=0.')
    else:
        say_why(verdict(code, [], log)[1], code, log)
    return code


def write_results(folder: str, case: str, result: Dict[str, Any], items: Dict[str, str]) -> None:
    """Writes the files of a run that has ended. items: of the summary. Raises OSError."""
    metrics, result_path = (
        os.path.join(folder, name(case)) for name in (run_folder.metrics_name, run_folder.result_name)
    )
    name, losses = case_name(result), result.pop('losses')
    if result['status'] == 'OK' and case != 'eval':
        run_folder.write(os.path.join(folder, f'train_{name}_loss.txt'), ''.join(f'{loss}\n' for loss in losses))
    run_folder.write(os.path.join(folder, f'{name}.log'), ''.join(f'{key} = {text}\n' for key, text in items.items()))
    run_folder.write(result_path, json.dumps(dict(result, case_name=name), indent=1) + '\n')
    if case == 'eval':  # under the common names too, where no training has them
        for path, other in ((metrics, 'metrics.jsonl'), (result_path, 'result.json')):
            other = os.path.join(folder, other)
            if os.path.exists(path) and not run_folder.belongs_to_a_training(other):
                shutil.copyfile(path, other)


def put_back(folder: str, case: str) -> Optional[str]:
    """A run that has failed before its first step leaves the folder as it was, where an earlier run has got further. -> what to say"""
    try:
        with open(os.path.join(folder, run_folder.lock_name(case)), encoding='utf-8') as f:
            aside = f.read().partition('\n')[2]
    except OSError:
        return None
    if aside and os.path.exists(os.path.join(aside, run_folder.metrics_name(case))):
        failed = run_folder.move_back(folder, case, aside)
        return f"The files of the earlier run are back in their place; this run's are in {failed}"
    return None


def verdict(code: int, events: List[Dict[str, Any]], log_path: str) -> Tuple[int, Optional[str]]:
    """-> (exit status, why it failed or None). Exit status 0 without the event of a complete end is a failure too."""
    lines = log_lines(log_path)
    if code == 0:
        if any(event.get('complete') for event in events):
            return 0, None
        lost = [line for line in lines or [] if line.startswith(RECORD_LOST.partition('{')[0])]
        return 1, lost[-1] if lost else 'the trainer ended without an error but before the end of the run'
    stated = stated_reason(lines or [])
    name = signal_name(code)
    if code in STOPPED:
        if stated is not None and not follows(stated) and not stated.endswith('Interrupt'):
            return code, stated
        begun = any(event['event'] in ('train', 'eval') for event in events)
        return code, 'stopped by a signal before ' + (
            'it could save; the last checkpoint is as it was' if begun else 'there was anything to save'
        )
    if name is not None and (stated is None or stated.startswith('stopped by')):
        return code, f'the trainer {killed_by(name)}' + (f'; its ranks were {stated}' if stated else '')
    if stated is not None:
        return code, stated
    last = f'its last line: {lines[-1]}' if lines else 'its log is empty' if lines is not None else 'it left no log'
    return code, f'the trainer ended with exit {code} and gave no reason; {last}'


def signal_name(code: int) -> Optional[str]:
    """The exit status as a shell has it -> the name of the signal that ended the process, or None."""
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return None


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m common.result', description=__doc__.split('\n')[0])
    parser.add_argument('command', choices=['begin', 'finish'])
    for name in ('--folder', '--log-name', '--case'):
        parser.add_argument(name, required=True)
    parser.add_argument('--lock', type=int, help='the open file that is the lock')
    parser.add_argument('--pid', type=int, help='of the script')
    parser.add_argument('--node', type=int, default=0, help='number of the machine')
    parser.add_argument('--network', default='unknown')
    parser.add_argument('--ranks', type=int, default=1)
    parser.add_argument('--code', type=int, default=0, help='exit status of the trainer')
    parser.add_argument('--seconds', type=int, default=0, help='since the script began')
    args = parser.parse_args(argv)
    try:
        if args.command == 'begin':
            begin(args.folder, args.log_name, args.case, args.lock, args.pid, args.node)
            return 0
        if args.node:
            return finish_on_another_machine(os.path.join(args.folder, args.log_name), args.code)
        return finish(args.folder, args.log_name, args.network, args.case, args.ranks, args.code, args.seconds)
    except UserError as e:
        say(f'{ERROR_MARK} {e}', sys.stderr)
        return 1
    except OSError as e:
        choose = f'the output folder {args.folder} cannot be used ({e}); choose another with --output_dir'
        say(f'{ERROR_MARK} {choose}', sys.stderr)
        return args.code or 1


if __name__ == '__main__':
    sys.exit(main())
