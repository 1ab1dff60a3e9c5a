"""A curve in bounded memory."""

import array
import math
import operator
from typing import Callable, Iterable, List, Tuple

Point = Tuple[float, float]

MOST = 1000  # points that a curve keeps, two of each stretch
VALUE = operator.itemgetter(1)


def extremes(points: Iterable[Point]) -> List[Point]:
    """The points with the least and the greatest value, from left to right."""
    by_value = sorted(points, key=VALUE)
    return sorted((by_value[0], by_value[-1]))


class Curve:
    """Of each stretch of the values that were added, the least and the greatest: no spike is lost. Stretches become longer as the
    curve grows. Values that are not finite are left out.
    """

    def __init__(self) -> None:
        self.x, self.y = array.array('d'), array.array('d')  # two points of each stretch, which may be the same one
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
            found = [(place(i), values[i]) for i in (start + part.index(min(part)), start + part.index(max(part)))]
            begun = [] if self.room == self.long else self._cut(len(self.x) - 2)
            self._add(extremes(begun + found))
            self.room -= end - start
            start = end
        self.last = [(place(count - 1), values[-1])] if count else self.last
        return None

    def _make_room(self) -> None:
        if not self.room and len(self.x) >= MOST:
            points = self._cut(0)
            for i in range(0, len(points), 4):
                self._add(extremes(points[i : i + 4]))
            self.long *= 2
        self.room = self.room or self.long

    def _add(self, points: List[Point]) -> None:
        for x, y in points:
            self.x.append(x)
            self.y.append(y)

    def _cut(self, start: int) -> List[Point]:
        """Takes the points away from the one with number `start` on."""
        points = list(zip(self.x[start:], self.y[start:]))
        del self.x[start:], self.y[start:]
        return points

    def all(self) -> List[Point]:
        points = [*zip(self.x, self.y), *self.last]
        return [point for i, point in enumerate(points) if not i or point != points[i - 1]]
