"""From the bytes of a line to checked values."""

import calendar
import re
from typing import Any, Optional

# What a logger or a container writes before a line
STAMP = re.compile(rb'[^\d\n]{0,9}([12]\d{3})-(0[1-9]|1[0-2])-(\d\d)[ T](\d\d):(\d\d):(\d\d)')


def text(raw: bytes) -> str:
    """Bytes of a log as text: as UTF-8, else as GBK, else as UTF-8 with marks in place of what cannot be read."""
    for encoding in ('utf-8', 'gbk'):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode('utf-8', 'replace')


def real(value: Any) -> Optional[float]:
    """A value of JSON: the number itself if it is a finite number, else None."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18 else None


def count(value: Any) -> Optional[int]:
    """A value of JSON: the number itself if it can be how many of something there are, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9 else None


def words(value: Any) -> Optional[str]:
    """A value of JSON: the text itself, else None."""
    return value if isinstance(value, str) else None


def percent(value: Any) -> Optional[float]:
    """An accuracy in percent; None stays None. ValueError where it cannot be one."""
    if value is None:
        return None
    value = float(value)
    if not 0 <= value <= 100:
        raise ValueError(value)
    return value


def positive(value: Any) -> float:
    """A rate or a time. ValueError where it is not above 0."""
    value = float(value)
    if not 0 < value < 1e12:
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
