"""Processes of one group that no launcher watches: each ends by itself or waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from torch.distributed import TCPStore

from helpers.environment import environment

WAITING = Path(__file__).with_name("waiting")
TESTS = WAITING.parents[1]
PLACES = [str(WAITING), str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
END = """
sys.stdout.flush()
os._exit(0)  # without the threads of the process group
"""


def ranks(script: str, count: int, timeout: float = 300) -> tuple[str, list[int]]:
    """What ``count`` processes print, and their exit codes; no launcher ends the others."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    every = []
    for rank in range(count):
        variables = {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port,
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "PYTHONPATH": os.pathsep.join(PLACES),
        }  # fmt: skip
        every.append(
            subprocess.Popen(
                [sys.executable, "-c", script + END],
                env=environment(**{name: str(value) for name, value in variables.items()}),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    try:
        said = [process.communicate(timeout=timeout) for process in every]
    finally:
        for process in every:
            process.kill()
    codes = [process.returncode for process in every]
    return "".join(out for out, _ in said) + "".join(errors[-2000:] for _, errors in said), codes
