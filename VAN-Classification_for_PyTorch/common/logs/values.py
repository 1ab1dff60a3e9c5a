"""From the bytes of a line, or the values of JSON, to checked values."""

import calendar
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

# What a logger or a container writes before a line
STAMP = re.compile(rb'[^\d\n]{0,9}([12]\d{3})-(0[1-9]|1[0-2])-(\d\d)[ T](\d\d):(\d\d):(\d\d)')
# What lines, events and results state outright: texts, how many of something there are, and other numbers
TEXTS = 'network model device device_kind precision torch model_ema status reason fps_reason'.split()
COUNTS = 'ranks batch_size global_batch planned_epochs best_epoch epochs'.split()
NUMBERS = """
    world_size warmup_steps fps step_ms step_ms_p50 step_ms_p95 data_wait peak_memory_mb e2e_seconds
    last_acc1 last_acc5 best_acc1 ema_acc1 eval_loss final_loss min_loss
""".split()


def text(raw: bytes) -> str:
    """Bytes of a log as text: as UTF-8, else as GBK, else as UTF-8 with marks in place of what cannot be read."""
    for encoding in ('utf-8', 'gbk'):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode('utf-8', 'replace')


def real(value: Any) -> Optional[float]:
    """A number of a line or of JSON if it is finite, else None. ValueError for bytes that are no number."""
    value = float(value) if isinstance(value, bytes) else value
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18 else None


def floats(column: Sequence[Any]) -> List[Optional[float]]:
    """Numbers of lines; None where a line has none. ValueError for bytes that are no number."""
    try:
        return list(map(float, column))
    except TypeError:
        return [None if value is None else float(value) for value in column]


def number(printed: Any) -> Optional[float]:
    """None for None and for bytes that are no number."""
    try:
        return float(printed)
    except (TypeError, ValueError):
        return None


def field(name: str, value: Any) -> Any:
    """The value of a field, as a line or JSON gives it, or None where it is no such value."""
    if name in TEXTS:
        value = text(value) if isinstance(value, bytes) else value
        return value if isinstance(value, str) else None
    value = real(value)
    if name in COUNTS and value is not None:
        return int(value) if value == int(value) and 0 <= value < 10**9 else None
    return value


def fields(values: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields among the values."""
    known = TEXTS + COUNTS + NUMBERS
    return {name: field(name, values[name]) for name in known if values.get(name) is not None}


def percent(value: Any) -> Optional[float]:
    """An accuracy in percent; None stays None. ValueError where it cannot be one."""
    value = real(value)
    if value is not None and not 0 <= value <= 100:
        raise ValueError(value)
    return value


def stamp(raw: bytes) -> Optional[float]:
    """Seconds since 1970 of the time that stands before a line, or None. Only differences of it are used, so the time
    zone does not matter.
    """
    found = STAMP.match(raw)
    return calendar.timegm(tuple(map(int, found.groups()))) if found else None


def first(*values: Any) -> Any:
    """The first of the values that is not None, or None."""
    return next((value for value in values if value is not None), None)
