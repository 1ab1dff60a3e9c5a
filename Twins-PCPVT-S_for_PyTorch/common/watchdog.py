"""Watches a rank from a thread: a run that makes no step any more, or cannot see that it was asked to stop, ends with the reason."""

import contextlib
import queue
import select
import signal
import threading
import time
from typing import Any, Callable, Iterator, Optional, Tuple

from common.errors import report, say
from common.stop import end_now

IMAGES, STEP, DISK = 'waits for images', 'is in a step', 'writes a checkpoint'  # where a rank may be
CODES = {IMAGES: 1, STEP: 2, DISK: 3}  # how the ranks tell each other
FIRST_STEP = 3  # times --timeout that a run has for its first step: kernels are compiled in it
GRACE = 10  # seconds that a step may still take once the run was asked to stop
PATIENCE = 120  # seconds for a save while the trainer hangs
LOADERS = 'a stopped loading process, a slow or lost disk, or too little shared memory (docker run --shm-size)'


class Watchdog:
    """The trainer says by `at` where it is, and holds `changing` while the weights change.

    timeout: seconds in one place after which the run ends; 0: never. save() -> what was saved, in words. where() -> the place in the
    training, in words.
    """

    def __init__(self, ranks: Any, requests: Any, timeout: float, save: Callable[[], str], where: Callable[[], str]):
        self.ranks, self.requests, self.timeout, self.save, self.where = ranks, requests, timeout, save, where
        self.lock = threading.Lock()
        self.place, self.since, self.steps = '', time.monotonic(), 0
        self.told: Optional[Tuple[str, float]] = None  # the place and time that the other ranks know of
        self.closed = False
        threading.Thread(target=self._watch, daemon=True).start()

    def at(self, place: str) -> None:
        """The trainer is now there: IMAGES, STEP or DISK; '' where it waits for nothing."""
        self.steps += place == IMAGES
        self.place, self.since = place, time.monotonic()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Nothing is saved meanwhile; nor after an error in it, which leaves half a step."""
        self.lock.acquire()
        yield
        self.lock.release()

    def rescue(self) -> str:
        """Saves from a thread of its own, as the device or the disk may never answer. -> what was saved, in words"""

        def work():
            return self.save() if self.lock.acquire(timeout=5) else None

        return answer(work, PATIENCE) or 'nothing could be saved'

    def close(self) -> None:
        self.closed = True

    def _watch(self) -> None:
        while not self.closed:
            select.select([self.requests.pipe], [], [], 1)
            signum, place, since = self.requests.told(), self.place, self.since
            if self.told is not None and self.told != (place, since):  # it has gone on
                self._tell(-CODES[self.told[0]])
                self.told = None
            if place and not self.closed:
                self._look(signum, place, since)

    def _look(self, signum: int, place: str, since: float) -> None:
        now, rank = time.monotonic(), self.ranks.rank
        seconds, limit = now - since, self.timeout * (1 if self.steps > 2 else FIRST_STEP)
        if signum and place != DISK and now - max(since, self.requests.since) > GRACE:
            name = signal.Signals(signum).name
            self._end(128 + signum, f'stopped by {name} while rank {rank} {place} ({self.where()})')
        if not limit or seconds < limit / 2 or (place == STEP and self.ranks.world == 1):
            return
        said = f'rank {rank} {place} for {seconds:.0f} s ({self.where()})'
        if self.told is None:
            self.told = (place, since)
            self._tell(CODES[place])
            say(f'{said}; the run ends after {limit:.0f} s.')
        elif seconds > limit and place != DISK:
            why = self._why(place)
            if why:
                self._end(1, f'{said}: {why}; raise --timeout, {self.timeout:g} s, if that is usual')

    def _why(self, place: str) -> str:
        """-> who is waited for; '' for a rank that writes a checkpoint, which has no limit."""
        if place == IMAGES:
            return LOADERS
        where = answer(lambda: [self.ranks.count(f'rank {rank}', 0) for rank in range(self.ranks.world)])
        if where is None:
            return 'rank 0 does not answer: it is stopped, or its machine is lost'
        if CODES[DISK] in where:
            return ''
        if CODES[IMAGES] in where:
            return f'rank {where.index(CODES[IMAGES])} waits for images: {LOADERS}'
        silent = [str(rank) for rank, code in enumerate(where) if code == 0]
        if silent:
            return f'rank {", ".join(silent)} does not answer: it is stopped, or its machine is lost'
        return 'the ranks wait for one another: their programs differ, or the network between them is broken'

    def _tell(self, code: int) -> None:
        """Tells the other ranks where this one is, by a number that is added to the last."""
        if self.ranks.world > 1:
            answer(lambda: self.ranks.count(f'rank {self.ranks.rank}', code))

    def _end(self, code: int, reason: str) -> None:
        """Ends this process. The other ranks are told by the launcher, or find their connections closed."""
        report(f'{reason}; {self.rescue()}')
        end_now(code)


def answer(ask: Callable[[], Any], patience: float = 10) -> Any:
    """-> what ask() gives, from a thread of its own; None where it fails or takes too long. The ranks' store is in rank 0's process."""
    found: queue.Queue = queue.Queue()

    def work():
        with contextlib.suppress(RuntimeError):
            found.put(ask())

    threading.Thread(target=work, daemon=True).start()
    try:
        return found.get(timeout=patience)
    except queue.Empty:
        return None
