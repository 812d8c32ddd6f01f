"""Processes that wait for each other in Python, and notice when one of them has gone.

A process that waits in a collective of NCCL sits in C++, where Python handles no signal and nobody
notices that the peer it waits for has ended. Here a process asks the rendezvous store of the group,
again and again, whether all have arrived and whether one has failed. Collectives that move data
come right after such a meeting, so that they start together.

A process that is killed can tell nothing. So each one also keeps a connection to the next one open,
which the kernel closes when that one ends, however it ends, and soon notices that a machine is cut
off. A process whose launcher was killed would go on alone, so it ends as well.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from accelerate import Accelerator
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from wdistill.errors import PeerError

LAUNCHED = "WDISTILL_COMMAND"  # in the environment of the processes of `wdistill --num-processes`
SHORTEST, LONGEST = 0.002, 0.2  # seconds between two questions
PATIENCE = timedelta(seconds=10)  # for an answer of the store
ANSWER = 3.0  # seconds for the store to learn who has failed
ARRIVAL = 600.0  # seconds between the first process and the last [torch: a group's own timeout]
GRACE = 10.0  # seconds in which a process that waits in C++ may notice by itself
LOOK = 1.0  # seconds between two looks at the launcher
# A machine that is cut off says nothing: ask after 3 s, then every 2 s, and give up after 3 times.
KEEP_ALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
LAUNCHER = "TORCHELASTIC_RUN_ID"  # in the environment of the processes of a launcher that stays
FAILED, INTERRUPTED = "failed", "interrupted"
BYE = b"."  # what a process says that ends as it should


@dataclass(frozen=True)
class _Place:
    """Which process of how many this is."""

    rank: int
    count: int

    @property
    def next(self) -> int:
        return (self.rank + 1) % self.count

    def store(self, name: str = "") -> Store:
        number = _store("").add(f"entered/{self.rank}", 0)
        return _store(f"{number}/{name}")

    def told(self, cause: str) -> str:
        """In words, what a process has told of itself or of another: "1" or "1 interrupted"."""
        rank, *interrupted = cause.split()
        what = "was interrupted" if interrupted else "has failed or was killed"
        return f"process {int(rank) + 1} of {self.count} {what}"


def group_store(accelerator: Accelerator, name: str = "") -> Store:
    """A connection to the store of the process group. Keys begin with the number of the
    :func:`together` that this process is in, so that nothing is left of an earlier one.
    """
    return _Place(accelerator.process_index, accelerator.num_processes).store(name)


def _store(name: str) -> Store:
    """As torchrun and `accelerate launch` say; another attempt of theirs is another group."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = _connection(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    return PrefixStore(f"wdistill/{attempt}/{name}", store)


@cache
def _connection(host: str, port: int) -> TCPStore:
    """Kept, because one in some hundred takes five seconds."""
    return TCPStore(host, port, is_master=False, timeout=PATIENCE)


def meet(accelerator: Accelerator) -> None:
    """Wait until all processes have called this.

    Raises:
        PeerError: Another process has failed or ended.
    """
    if accelerator.num_processes > 1:
        with as_peer_error():
            _meet(_Place(accelerator.process_index, accelerator.num_processes))


def _meet(place: _Place, patience: float = math.inf) -> None:
    store, until = place.store(), time.monotonic() + patience
    ticket = store.add("arrived", 1)
    all_here = -(-ticket // place.count) * place.count  # all come once before one comes twice
    pause = SHORTEST
    while (here := store.add("arrived", 0)) < all_here:
        if store.check([FAILED]):
            raise PeerError(place.told(store.get(FAILED).decode()))
        if time.monotonic() > until:
            raise PeerError(
                f"only {here} of {place.count} processes have started within {patience / 60:g} "
                "minutes"
            )
        time.sleep(pause)
        pause = min(LONGEST, 1.5 * pause)


@contextmanager
def main_process_first(accelerator: Accelerator) -> Iterator[None]:
    """The other processes enter when the main process has left, and not at all if it fails."""
    if not accelerator.is_main_process:
        meet(accelerator)
    yield
    if accelerator.is_main_process:
        meet(accelerator)


@contextmanager
def together(open_group: Callable[[], Accelerator]) -> Iterator[Accelerator]:
    """Within the context, a process that fails or ends ends the others too, which raise PeerError.

    Args:
        open_group: Forms the process group. It waits in C++ for processes that never come, so all
            meet before it is called, if a launcher holds the store.

    Raises:
        PeerError: Another process has failed or ended, or did not come.
    """
    place = _place_in_launched_group()
    accelerator = None
    if place is None:
        accelerator = open_group()
        place = _Place(accelerator.process_index, accelerator.num_processes)
    if place.count == 1:
        yield accelerator or open_group()
        return
    with as_peer_error():
        _store("").add(f"entered/{place.rank}", 1)
        store = place.store()
    with _Watch(place, store) as watch:
        try:
            with watch.looking():
                if accelerator is None:
                    with as_peer_error():
                        _meet(place, ARRIVAL)
                    accelerator = open_group()
                yield accelerator
        except PeerError:
            raise
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt) and watch.lost is None
            gone = place.rank if watch.lost is None else watch.lost
            cause = _tell(store, f"{gone}{f' {INTERRUPTED}' * interrupted}")
            if watch.lost is not None and isinstance(error, (KeyboardInterrupt, RuntimeError)):
                raise PeerError(watch.said(cause or str(gone)), cause is not None) from error
            by_launcher = interrupted and signal.SIGTERM in error.args
            if cause is None and by_launcher and LAUNCHER in os.environ:
                raise PeerError(_no_store(), told=False) from error
            another = cause is not None and cause.split()[0] != str(place.rank)
            if cause and another and by_launcher and INTERRUPTED not in cause:
                raise PeerError(place.told(cause)) from error
            raise


def _place_in_launched_group() -> _Place | None:
    """None if there is no store of a launcher's, or the environment does not tell."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    rank, count, port = (os.environ.get(n, "") for n in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if not (rank.isdecimal() and count.isdecimal() and port and os.environ.get("MASTER_ADDR")):
        return None
    return _Place(int(rank), int(count))


def _tell(store: Store, cause: str) -> str | None:
    """Tell all that this process has failed. Returns the first cause that was told; None if the
    store is gone, or cut off, when it would not answer for a quarter of an hour.
    """
    first: list[str | None] = [None]

    def tell() -> None:
        with suppress(RuntimeError):
            first.append(store.compare_set(FAILED, "", cause).decode())

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    teller.join(ANSWER)
    return first[-1]


@contextmanager
def as_peer_error() -> Iterator[None]:
    """For what asks the store: it is gone with the machine or the launcher that held it."""
    try:
        yield
    except RuntimeError as error:
        raise PeerError(_no_store(), told=False) from error


def _no_store() -> str:
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return f"the main machine's launcher ({where}) does not answer"


class _Watch:
    """Watches the next process and the launcher as long as the context is open.

    ``lost``: the process that has ended without a word, or this one, if its launcher has. The main
    thread is then interrupted as by Ctrl-C; if it does not hear that, because it waits in C++, the
    process ends after GRACE.
    """

    def __init__(self, place: _Place, store: Store) -> None:
        self.lost: int | None = None
        self._place, self._store, self._launcher = place, store, os.getppid()
        self._over, self._deciding = threading.Event(), threading.Lock()
        self._listener: socket.socket | None = None

    def __enter__(self) -> _Watch:
        with suppress(OSError):  # without a connection the store alone has to do
            own = _own_address()
            self._listener = socket.create_server(own, family=_family(own[0]))
            host, port = self._listener.getsockname()[:2]
            self._store.set(f"address/{self._place.rank}", f"{host} {port}")
        return self

    @contextmanager
    def looking(self) -> Iterator[None]:
        """``lost`` is set within this context only."""
        threading.Thread(target=self._look, daemon=True).start()
        try:
            yield
        finally:
            with self._deciding:
                self._over.set()
            if self.lost is not None:  # the signal must not arrive later
                with suppress(KeyboardInterrupt):
                    time.sleep(LONGEST)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._listener is None:
            return
        with self._listener, suppress(OSError):
            self._listener.setblocking(False)
            while kind is None:  # whoever fails says nothing
                connection, _ = self._listener.accept()
                with connection:
                    connection.sendall(BYE)

    def said(self, cause: str) -> str:
        """In words, who is lost, where ``cause`` was told first."""
        if self.lost == self._place.rank:
            return f"the launcher of process {self.lost + 1} of {self._place.count} has ended"
        return self._place.told(cause)

    def _look(self) -> None:
        lost = self._first_lost()
        with self._deciding:
            if lost is None or self._over.is_set():
                return
            self.lost = lost
            signal.pthread_kill(_main_thread(), signal.SIGINT)
        cause = _tell(self._store, str(lost)) or str(lost)
        if not self._over.wait(GRACE):
            if LAUNCHED not in os.environ:
                error = PeerError(self.said(cause))
                sys.stderr.write(f"\nError: process {self._place.rank + 1}: {error}\n")
            os._exit(PeerError.exit_code)

    def _first_lost(self) -> int | None:
        """None if the next process ends as it should, or this one does."""
        connection: socket.socket | None = None
        with ExitStack() as stack:
            while not self._over.is_set():
                if LAUNCHER in os.environ and os.getppid() != self._launcher:
                    return self._place.rank
                if connection is not None:
                    said = _heard(connection)
                    if said is not None:
                        return None if said == BYE else self._place.next
                elif not self._over.wait(LONGEST):
                    with suppress(OSError, RuntimeError):
                        if self._store.check([FAILED]):  # it had no time to connect, or no way
                            return int(self._store.get(FAILED).split()[0])
                        connection = self._connected()
                        if connection is not None:
                            stack.enter_context(connection)
        return None

    def _connected(self) -> socket.socket | None:
        """None as long as the next process has not said where it listens."""
        key = f"address/{self._place.next}"
        if not self._store.check([key]):
            return None
        host, port = self._store.get(key).decode().split()
        connection = socket.create_connection((host, int(port)), PATIENCE.total_seconds())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):  # not on every system
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        connection.settimeout(LOOK)
        return connection


def _heard(connection: socket.socket) -> bytes | None:
    """None if the other end says nothing, b"" if it has gone or does not answer."""
    try:
        return connection.recv(1)
    except TimeoutError as error:
        return None if error.errno is None else b""  # the kernel's has a number
    except OSError:
        return b""


def _main_thread() -> int:
    """It is told by a real signal, which also ends a system call that waits."""
    return threading.main_thread().ident or 0


def _own_address() -> tuple[str, int]:
    """The address of this machine that the others can reach, as seen on the way to the store."""
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    with socket.create_connection(place, PATIENCE.total_seconds()) as connection:
        host: str = connection.getsockname()[0]
    return host, 0


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
