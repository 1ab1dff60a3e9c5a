"""What the benches share: two ways of doing one thing, timed in turn.

Speed differs from machine to machine, and on one machine from minute to minute; the ratio of two neighbours does not.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def timed(work: Callable[[], Any]) -> float:
    """-> seconds of wall time"""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(ours: Callable[[], float], rival: Callable[[], float], pairs: int = 5) -> Sequence[float]:
    """-> how many times faster ours was, of each pair. Both give their seconds for the same work; who begins changes."""
    ratios = []
    for k in range(pairs):
        first, second = (ours, rival) if k % 2 == 0 else (rival, ours)
        one, other = first(), second()
        ratios.append(other / one if first is ours else one / other)
    return ratios


def said(ratios: Sequence[float]) -> str:
    """-> '1.98 (1.91 to 2.07)': the median, the least and the greatest."""
    return f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})'
