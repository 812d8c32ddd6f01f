"""Processes meet, and nobody waits for one that has gone, even where collectives wait in C++."""

from __future__ import annotations

import errno
import signal
from collections import defaultdict
from collections.abc import Callable
from threading import Event
from typing import cast

import pytest
from helpers.ranks import ranks
from torch.distributed import Store

from wdistill.core.machine import meeting

START = """
import os, signal, sys, time
from accelerate import Accelerator
from wdistill.core.machine import meeting
from wdistill.core.machine.meeting import main_process_first, meet, together
from wdistill.errors import PeerError
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
opened = lambda: accelerator
"""
ORDER = """
with together(opened):
    for turn in range(20):
        print(turn, "before", rank, flush=True)
        meet(accelerator)
        print(turn, "after", rank, flush=True)
        meet(accelerator)
    with main_process_first(accelerator):
        time.sleep(0.3 * (rank == 0))
        print("first", rank, flush=True)
"""
FAILS = """
for attempt in range(2):
    try:
        with together(opened), main_process_first(accelerator):
            if rank == 0:
                raise ValueError("a wrong column")
    except Exception as error:
        print(rank, attempt, type(error).__name__, flush=True)
with together(opened):  # what follows is not spoiled
    meet(accelerator)
print(rank, "done", flush=True)
"""
KILLED = """
try:
    with together(opened):
        meet(accelerator)
        if rank == 1:
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGKILL)
        WAIT
except PeerError as error:
    print(rank, error, flush=True)
    os._exit(error.exit_code)
"""
STOPPED = """
import threading
from wdistill.cli.exit import listen
listen()
threading.Timer(1 + 100 * (rank == 0), os.kill, (os.getpid(), NUMBER)).start()
try:
    with together(opened), main_process_first(accelerator):
        time.sleep(100)
except (KeyboardInterrupt, PeerError) as error:
    print(rank, type(error).__name__, *error.args, flush=True)
"""
LATE = """
import os, sys
from wdistill.core.machine import meeting
from wdistill.errors import PeerError
meeting.ARRIVAL = 3
def opened():
    raise AssertionError("it would wait in C++ for a week")
if os.environ["RANK"] == "0":
    try:
        with meeting.together(opened):
            pass
    except PeerError as error:
        print(error, flush=True)
"""
REFUSED = """
import os, sys
from accelerate import Accelerator
from wdistill.core.machine import meeting
from wdistill.errors import OptionError, PeerError
meeting.GRACE = 1
def opened():
    if os.environ["RANK"] == "1":
        raise OptionError("no such device")
    return Accelerator(cpu=True)
try:
    with meeting.together(opened):
        print("opened", flush=True)
except (OptionError, PeerError) as error:
    print(os.environ["RANK"], error, flush=True)
"""
LAUNCHER = """
import os
if os.environ["RANK"] == "1":
    os.environ["TORCHELASTIC_RUN_ID"] = "none"
    reading, writing = os.pipe()
    if os.fork():  # the launcher of process 2
        os.read(reading, 1)
        os._exit(0)
"""
ORPHAN = """
try:
    with together(opened):
        meet(accelerator)
        if rank == 1:
            os.write(writing, b".")
        time.sleep(100)
except PeerError as error:
    print(rank, error, flush=True)
"""
WAITS = {
    "in the store": "meet(accelerator)",
    "in Python": "time.sleep(100)",
    "in C++": "meeting.GRACE = 1; import torch.distributed as d; d.barrier()",
}


def test_nobody_goes_on_before_all_have_come() -> None:
    said, codes = ranks(START + ORDER.replace("print(", "print(time.monotonic(), "), 3)
    assert codes == [0, 0, 0], said
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in said.splitlines():
        time, *words = line.split()
        if len(words) == 3:
            times[words[0], words[1]].append(float(time))
    for turn in range(20):
        assert max(times[f"{turn}", "before"]) <= min(times[f"{turn}", "after"])
    first = {
        line.split()[2]: float(line.split()[0]) for line in said.splitlines() if "first" in line
    }
    assert min(first, key=first.__getitem__) == "0"


def test_a_failure_of_the_first_is_told_to_the_others() -> None:
    said, codes = ranks(START + FAILS, 2)
    assert codes == [0, 0], said
    for rank, error in enumerate(("ValueError", "PeerError")):
        own = [line for line in said.splitlines() if line.startswith(f"{rank} ")]
        assert own == [f"{rank} 0 {error}", f"{rank} 1 {error}", f"{rank} done"]


@pytest.mark.parametrize("where", WAITS)
def test_one_that_is_killed_ends_the_others(where: str) -> None:
    """Without a launcher that would end them; the wait of each is a day otherwise."""
    said, codes = ranks(START + KILLED.replace("WAIT", WAITS[where]), 3)
    assert codes == [76, -signal.SIGKILL, 76], said
    assert said.count("process 2 of 3 has failed or was killed; what was finished is kept") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_waits_for_another_hears_a_signal(number: signal.Signals) -> None:
    """And the other one, on another machine say, does not go on alone."""
    said, codes = ranks(START + STOPPED.replace("NUMBER", str(int(number))), 2)
    assert codes == [0, 0], said
    assert f"1 KeyboardInterrupt {int(number)}\n" in said
    assert "0 PeerError process 2 of 2 was interrupted; " in said


def test_one_that_does_not_come_is_not_waited_for_in_cpp() -> None:
    said, codes = ranks(LATE, 2)
    assert codes == [0, 0], said
    assert said.startswith("only 1 of 2 processes have started within 0.05 minutes; what was ")


def test_one_that_cannot_open_its_device_ends_the_others() -> None:
    """They form the process group meanwhile, in C++, and may be ended there."""
    said, codes = ranks(REFUSED, 2)
    assert codes in ([76, 0], [0, 0]), said
    assert "1 no such device\n" in said
    assert said.count("process 2 of 2 has failed or was killed; ") == 1
    assert "opened" not in said


def test_one_whose_launcher_is_killed_does_not_go_on_alone() -> None:
    """Nobody else would end it: a launcher gives each process a session of its own."""
    said, codes = ranks(LAUNCHER + START + ORPHAN, 2)
    assert codes == [0, 0], said
    assert "1 the launcher of process 2 of 2 has ended; " in said
    assert "0 process 2 of 2 has failed or was killed; " in said


def test_a_machine_that_is_cut_off_is_lost_and_one_that_is_silent_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel says so where it has asked in vain; the store does not answer then."""

    class Connection:
        def __init__(self, *error: object) -> None:
            self.error = TimeoutError(*error)

        def recv(self, _: int) -> bytes:
            raise self.error

    class Cut:
        def compare_set(self, *_: str) -> bytes:
            Event().wait(30)
            return b"7"

    heard = cast(Callable[[Connection], bytes | None], meeting._heard)
    assert heard(Connection(errno.ETIMEDOUT, "timed out")) == b""
    assert heard(Connection("timed out")) is None
    monkeypatch.setattr(meeting, "ANSWER", 0.1)
    assert meeting._tell(cast(Store, Cut()), "1") is None
