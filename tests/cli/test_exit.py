"""A signal ends a command wherever it arrives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from wdistill.cli.exit import fail, hang_up_if_unread

LOST = "Error: another process of this job has ended; what was finished is kept"

SCRIPT = """
import os, signal, sys, time
from wdistill.cli.exit import interrupt, listen, signal_of

class Held:
    def __del__(self):  # nothing that is raised here reaches anyone
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(5)

listen()
try:
    held = Held()
    del held
    time.sleep(60)
except KeyboardInterrupt as error:
    interrupt(signal_of(error))
"""


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_a_signal_that_python_swallows_comes_again(number: int, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(number)],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.strip().startswith("Interrupted. To go on: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_other_exceptions_that_are_swallowed_are_told_as_ever() -> None:
    script = SCRIPT.replace("time.sleep(5)", "raise ValueError('mine')")
    script = script.replace("os.kill(os.getpid(), int(sys.argv[1]))", "pass")
    script = script.replace("time.sleep(60)", "pass")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert "ValueError: mine" in done.stderr
    assert done.returncode == 0


def test_a_closed_pipe_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "wdistill", "config", "run"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_broken_pipe_elsewhere_is_an_error_like_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w") as read:
        monkeypatch.setattr(sys, "stdout", read)
        monkeypatch.setattr(sys, "stderr", read)
        hang_up_if_unread()


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ("[gloo/tcp.cc:537] Connection closed by peer [127.0.0.1]:1", {"RANK": "0"}, LOST),
        ("NCCL error in: ProcessGroupNCCL.cpp, remote process exited", {"RANK": "0"}, LOST),
        ("Connection reset by peer", {}, "Error: RuntimeError: Connection reset by peer (a defect"),
    ],
)
def test_a_lost_peer_is_no_defect(
    text: str, variables: dict[str, str], expected: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Only a process without peers has a defect then."""

    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr("wdistill.cli.exit.PATIENCE", 0)
    monkeypatch.setattr("signal.getsignal", lambda _: None)  # no launcher has ended it
    with pytest.raises(SystemExit):
        fail(RuntimeError(text), debug=False, code=1)
    said = capfd.readouterr().err
    assert said.startswith(expected)
    assert said.count("\n") == 1
