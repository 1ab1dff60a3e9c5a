"""A curve in bounded memory."""

import math
from typing import Callable, Iterable, List, Tuple

Point = Tuple[float, float]

MOST = 1000  # points that a curve keeps, two of each stretch


def extremes(points: Iterable[Point]) -> List[Point]:
    """The points with the least and the greatest value, from left to right."""
    by_value = sorted(points, key=lambda point: point[1])
    return sorted({by_value[0], by_value[-1]})


class Curve:
    """Of each stretch of the values that were added, the least and the greatest: no spike is lost. Stretches become longer as the
    curve grows. Values that are not finite are left out.
    """

    def __init__(self) -> None:
        self.stretches: List[List[Point]] = []
        self.last: List[Point] = []
        self.long, self.room = 1, 0  # how many values a stretch has, and the last one can still take

    def extend(self, values: List[float], place: Callable[[int], float]) -> None:
        """place(i): the x of the i-th value; is called for those only that are kept."""
        if not math.isfinite(sum(values)):
            kept = [i for i, value in enumerate(values) if math.isfinite(value)]
            return self.extend([values[i] for i in kept], lambda i: place(kept[i])) if kept != [] else None
        start, count = 0, len(values)
        while start < count:
            self._make_room()
            end = min(count, start + self.room)
            part = values[start:end]
            found = [(place(i), values[i]) for i in {start + part.index(min(part)), start + part.index(max(part))}]
            self.stretches[-1] = extremes(self.stretches[-1] + found)
            self.room -= end - start
            start = end
        self.last = [(place(count - 1), values[-1])] if count else self.last
        return None

    def _make_room(self) -> None:
        if self.room:
            return
        if len(self.stretches) >= MOST // 2:
            pairs = zip(self.stretches[::2], self.stretches[1::2])
            self.stretches, self.long = [extremes(a + b) for a, b in pairs], 2 * self.long
        self.stretches.append([])
        self.room = self.long

    def all(self) -> List[Point]:
        points = [point for stretch in self.stretches for point in stretch]
        return points + [point for point in self.last if point != points[-1]]
