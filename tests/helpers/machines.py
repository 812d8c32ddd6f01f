"""Several machines played on loopback: each is an `accelerate launch` with one process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.runs import one_thread


class Machine:
    """A launcher and the process it has started, which work in a folder of their own."""

    def __init__(
        self,
        options: Sequence[str],
        folder: Path,
        arguments: Sequence[str | Path],
        env: dict[str, str],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._worker = folder, 0
        command = [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "wdistill"]
        self.launcher = subprocess.Popen(
            [*command, *map(str, arguments)],
            env=env, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def worker(self) -> int:
        """The process that computes; 0 as long as there is none."""
        with suppress(FileNotFoundError):
            path = Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children")
            self._worker = int((path.read_text().split() or [self._worker])[0])
        return self._worker

    def kill(self, what: str) -> None:
        """``what``: "process", "launcher", or "machine" for both."""
        worker = self.worker()  # torchrun gives it a session of its own
        if what != "process":
            self.launcher.kill()
        if what != "launcher":
            os.kill(worker, signal.SIGKILL)

    def end(self, timeout: float = 240) -> str:
        """Wait for the end of both. Returns the lines of stderr that are errors of wdistill."""
        worker, until = self.worker(), time.monotonic() + timeout
        _, errors = self.launcher.communicate(timeout=timeout)
        while Path(f"/proc/{worker}").exists():
            assert time.monotonic() < until, "the process goes on without its launcher"
            time.sleep(0.1)
        return "".join(
            f"{line}\n" for line in errors.splitlines() if line.startswith(("Error", "Interrupted"))
        )

    def clear(self) -> None:
        """Kill what is left of it."""
        for process in filter(None, (self.worker(), self.launcher.pid)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with suppress(ValueError):  # it has been read to its end
            self.launcher.communicate()


@contextmanager
def machines(
    folders: Sequence[Path],
    arguments: Sequence[str | Path],
    rendezvous: str = "static",
    env: dict[str, str] | None = None,
) -> Iterator[list[Machine]]:
    """One for each folder, all with the same command; none is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    count, started = str(len(folders)), []
    try:
        for rank, folder in enumerate(folders):
            options = (
                "--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no",
                "--num_machines", count, "--num_processes", count, "--machine_rank", str(rank),
                "--main_process_ip", "127.0.0.1", "--main_process_port", str(port),
                "--rdzv_backend", rendezvous,
            )  # fmt: skip
            started.append(Machine(options, folder, arguments, env or one_thread()))
            while not _listens(port):  # all of them believe to be where the store should be
                assert started[0].launcher.poll() is None, started[0].launcher.communicate()
                time.sleep(0.05)
        yield started
    finally:
        for machine in started:
            machine.clear()


def _listens(port: int) -> bool:
    """Whether a process of this machine does, seen without a connection to it."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)
