"""A curve in bounded memory."""

from typing import Any, Callable, List

MOST = 1000  # points that a curve keeps; when there are more, every second one is dropped


class Curve:
    """At most MOST points, evenly spaced among all that were added; and the last one."""

    def __init__(self):
        self.points, self.last = [], None
        self.every = 1  # one point of so many is kept
        self.seen = 0

    def extend(self, n: int, point: Callable[[int], Any]) -> None:
        """Adds n points; point(i) gives the i-th of them, and is called for those only that are kept."""
        self.points += map(point, range(-self.seen % self.every, n, self.every))
        self.seen += n
        self.last = point(n - 1)
        while len(self.points) > MOST:
            self.points = self.points[::2]
            self.every *= 2

    def all(self) -> List[Any]:
        return self.points + ([self.last] if self.last is not None and self.points[-1] != self.last else [])
