"""Where the ranks meet before they are a process group: nobody waits in silence, or longer than --timeout.

torch's own rendezvous waits without a word, and a rank that comes twice leaves all of them waiting for another.
"""

import datetime
import os
import socket
import time
from functools import partial
from typing import Any, Callable, List

import torch.distributed as dist

from common.errors import RANK_ENDED, UserError

SAY_EVERY = 30  # seconds
POLL = 0.2  # seconds between two looks
ANSWER = datetime.timedelta(seconds=60)  # that a store has to answer in


def meet(ranks: Any, timeout: int) -> Any:
    """-> a store that all ranks have come to. timeout: seconds, 0 for ever. Raises UserError, RuntimeError.

    Rank 0 has the store, at MASTER_ADDR and MASTER_PORT.
    """
    try:
        host, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
    except (KeyError, ValueError) as e:
        raise UserError(
            f'WORLD_SIZE is {ranks.world}, and MASTER_ADDR or MASTER_PORT is not set ({e}); set both'
        ) from e
    store = open_store(host, port) if ranks.primary else find_store(host, port, ranks, timeout)
    here = socket.gethostname()
    if store.add(f'came {ranks.rank}', 1) > 1:
        other = store.get(f'host {ranks.rank}').decode()
        refuse(
            store,
            ranks,
            f'rank {ranks.rank} came twice, from {other} and from {here}: two machines have NODE_RANK='
            f'{ranks.rank // ranks.local_world}, or one was started again; give each its own and start all anew',
        )
    store.set(f'host {ranks.rank}', here)
    gather(store, ranks, 'here', timeout)
    return store


def open_store(host: str, port: int) -> Any:
    """Rank 0's part -> the store, which this process has from now on.

    Where the port is taken already, by another rank 0 on this machine, that one's store: both are told.
    """
    try:
        return dist.TCPStore(host, port, 1, True, ANSWER)  # 1: torch before 1.9 waits here for so many ranks
    except RuntimeError as e:
        if not port_is_taken(port):
            raise UserError(
                f'rank 0 cannot open its store at {host}:{port} ({first_line(e)}); MASTER_ADDR must be the address of '
                'the machine with NODE_RANK=0'
            ) from e
    try:
        return dist.TCPStore(host, port, 1, False, datetime.timedelta(seconds=5))
    except RuntimeError as e:
        raise UserError(f'port {port} is in use by another program; choose another one by MASTER_PORT') from e


def find_store(host: str, port: int, ranks: Any, timeout: int) -> Any:
    """The other ranks' part -> rank 0's store, as soon as there is one."""
    wait = Wait(ranks, timeout)
    while True:
        try:
            socket.create_connection((host, port), timeout=10).close()
            return dist.TCPStore(host, port, 1, False, ANSWER)
        except (OSError, RuntimeError) as e:  # not there yet, or just going
            problem = first_line(e)
        if wait.due():
            wait.tell(f'rank 0 (NODE_RANK=0) at {host}:{port} ({problem})', partial(leave, ranks))
        time.sleep(POLL)


def gather(store: Any, ranks: Any, stage: str, timeout: int) -> None:
    """Returns when all ranks have come to this stage. Where one gives up, raises UserError on all of them."""
    wait = Wait(ranks, timeout)
    try:
        store.add(f'{stage} {ranks.rank}', 1)
        arrived = store.add(stage, 1)
        while arrived < ranks.world:
            if store.add('refused', 0):
                leave(ranks, store.get('why').decode())
            if wait.due():
                missing = [r for r in range(ranks.world) if not store.add(f'{stage} {r}', 0)]
                wait.tell(named(missing, ranks), partial(refuse, store, ranks))
            time.sleep(POLL)
            arrived = store.add(stage, 0)
    except RuntimeError as e:
        raise UserError(f'{RANK_ENDED} (rank 0 has left the meeting: {first_line(e)})') from e


def refuse(store: Any, ranks: Any, why: str) -> None:
    """Ends the meeting for all that have come. Raises UserError."""
    store.set('why', why)
    store.add('refused', 1)
    leave(ranks, why)


def leave(ranks: Any, why: str) -> None:
    if ranks.primary:
        time.sleep(10 * POLL)  # the others still read why; the store ends with this process
    raise UserError(why)


def named(missing: List[int], ranks: Any) -> str:
    """-> such as 'ranks 2, 3 (NODE_RANK=1)'"""
    nodes = sorted({rank // ranks.local_world for rank in missing})
    some = ', '.join(map(str, missing[:8])) + (f', ... ({len(missing)} in all)' if len(missing) > 8 else '')
    where = f' (NODE_RANK={", ".join(map(str, nodes[:8]))})' if ranks.local_world < ranks.world else ''
    return f'rank{"s" * (len(missing) > 1)} {some}{where}'


def first_line(error: BaseException) -> str:
    return str(error).strip().split('\n')[0][:160]


def port_is_taken(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(('', port))
        except OSError:
            return True
    return False


class Wait:
    """A wait that is told of every half minute, by the first rank of each machine, and has an end."""

    def __init__(self, ranks: Any, timeout: int):
        self.ranks, self.timeout = ranks, timeout
        self.begun = self.said = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for a line, or for the end."""
        now = time.monotonic()
        return now - self.said >= SAY_EVERY or 0 < self.timeout <= now - self.begun

    def tell(self, missing: str, give_up: Callable[[str], None]) -> None:
        """Prints whom this rank waits for; or gives up, with a sentence, where the time is over."""
        self.said = time.monotonic()
        waited = self.said - self.begun
        if 0 < self.timeout <= waited:
            give_up(
                f'{missing} did not come within {self.timeout} s; start all machines within that time, with the same '
                'NNODES, MASTER_ADDR and MASTER_PORT, or allow more by --timeout'
            )
        if self.ranks.local == 0:
            end = f'at most {self.timeout} s (--timeout)' if self.timeout else 'for ever (--timeout 0)'
            print(f'Rank {self.ranks.rank} has waited {waited:.0f} s for {missing}; it waits {end}.', flush=True)
