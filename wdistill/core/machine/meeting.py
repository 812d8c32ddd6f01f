"""Processes that wait for each other in Python, and notice when one of them has gone.

A process that waits in a collective of NCCL sits in C++, where Python handles no signal and nobody
notices that the peer it waits for has ended. Here a process asks the rendezvous store of the group,
again and again, whether all have arrived and whether one has failed. Collectives that move data
come right after such a meeting, so that they start together.

A process that is killed can tell nothing. So each one also keeps a connection to the next one open,
which the kernel closes when that one ends, however it ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import cache

from accelerate import Accelerator
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from wdistill.errors import PeerError

LAUNCHED = "WDISTILL_COMMAND"  # in the environment of the processes of `wdistill --num-processes`
SHORTEST, LONGEST = 0.002, 0.2  # seconds between two questions
PATIENCE = timedelta(seconds=10)  # for an answer of the store
GRACE = 10.0  # seconds in which a process that waits in C++ may notice by itself
FAILED, INTERRUPTED = "failed", "interrupted"
BYE = b"."  # what a process says that ends as it should


def group_store(accelerator: Accelerator, name: str = "") -> Store:
    """A connection to the store of the process group. Keys begin with the number of the
    :func:`together` that this process is in, so that nothing is left of an earlier one.
    """
    rank = accelerator.process_index
    number = _store("").add(f"entered/{rank}", 0)
    return _store(f"{number}/{name}")


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
    count = accelerator.num_processes
    if count == 1:
        return
    with as_peer_error():
        store = group_store(accelerator)
        ticket = store.add("arrived", 1)
        all_here = -(-ticket // count) * count  # nobody comes twice before all have come once
        pause = SHORTEST
        while store.add("arrived", 0) < all_here:
            if store.check([FAILED]):
                raise PeerError
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
def together(accelerator: Accelerator) -> Iterator[None]:
    """Within the context, a process that fails or ends ends the others too, which raise PeerError.

    Raises:
        PeerError: Another process has failed or ended.
    """
    if accelerator.num_processes == 1:
        yield
        return
    with as_peer_error():
        _store("").add(f"entered/{accelerator.process_index}", 1)
        store = group_store(accelerator)
    watch = _Watch(accelerator, store)
    try:
        with watch:
            yield
    except PeerError:
        raise
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        cause = _tell(store, f"{accelerator.process_index}{f' {INTERRUPTED}' * interrupted}")
        another = cause.split()[:1] != [str(accelerator.process_index)]
        by_launcher = interrupted and signal.SIGTERM in error.args and INTERRUPTED not in cause
        if (watch.lost and isinstance(error, (KeyboardInterrupt, RuntimeError))) or (
            another and by_launcher
        ):
            raise PeerError from error
        raise


def _tell(store: Store, cause: str) -> str:
    """Tell all that this process has failed. Returns the first cause that was told."""
    try:
        return store.compare_set(FAILED, "", cause).decode()
    except RuntimeError:  # the store is gone, and so is its process
        return cause


@contextmanager
def as_peer_error() -> Iterator[None]:
    """For what asks the store: it is gone with the machine or the launcher that held it."""
    try:
        yield
    except RuntimeError as error:
        raise PeerError from error


class _Watch:
    """Watches the next process as long as the context is open.

    ``lost``: it has ended without a word. The main thread is then interrupted as by Ctrl-C; if it
    does not hear that, because it waits in C++, the process ends after GRACE.
    """

    def __init__(self, accelerator: Accelerator, store: Store) -> None:
        self.lost = False
        self._rank, self._count = accelerator.process_index, accelerator.num_processes
        self._store, self._over, self._deciding = store, threading.Event(), threading.Lock()
        self._listener: socket.socket | None = None

    def __enter__(self) -> _Watch:
        with suppress(OSError):  # without a connection the store alone has to do
            own = _own_address()
            self._listener = socket.create_server(own, family=_family(own[0]))
            host, port = self._listener.getsockname()[:2]
            self._store.set(f"address/{self._rank}", f"{host} {port}")
        threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._deciding:
            self._over.set()
        if self.lost:  # the signal must not arrive later
            with suppress(KeyboardInterrupt):
                time.sleep(LONGEST)
        if self._listener is None:
            return
        with self._listener, suppress(OSError):
            self._listener.setblocking(False)
            while kind is None:  # whoever fails says nothing
                connection, _ = self._listener.accept()
                with connection:
                    connection.sendall(BYE)

    def _look(self) -> None:
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._connected())
            except (OSError, RuntimeError):
                return
            with suppress(OSError):
                while not self._over.is_set():
                    with suppress(TimeoutError):
                        if connection.recv(1) == BYE:
                            return
                        break
        with self._deciding:
            if self._over.is_set():
                return
            self.lost = True
            _tell(self._store, f"{(self._rank + 1) % self._count}")
            signal.pthread_kill(_main_thread(), signal.SIGINT)
        if not self._over.wait(GRACE):
            if LAUNCHED not in os.environ:
                sys.stderr.write(f"\nError: process {self._rank + 1}: {PeerError()}\n")
            os._exit(PeerError.exit_code)

    def _connected(self) -> socket.socket:
        key = f"address/{(self._rank + 1) % self._count}"
        while not self._store.check([key]):
            if self._over.wait(LONGEST):
                raise TimeoutError
        host, port = self._store.get(key).decode().split()
        connection = socket.create_connection((host, int(port)), PATIENCE.total_seconds())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(1.0)
        return connection


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
