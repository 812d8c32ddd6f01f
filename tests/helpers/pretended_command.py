"""Commands on the pretended device, in one process that has imported what they need.

    python -m helpers.pretended_command

reads lines of JSON, {"arguments": of wdistill, "limit": bytes of its memory or 0, "within": where
the memory is short, or ""}, and answers each with a line: exit code, what was printed and seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.pretend import NAME, install, pretended

TESTS = Path(__file__).parents[1]


def command(arguments: Sequence[str | Path], limit: int = 0, within: str = "") -> dict[str, Any]:
    """The command in this process, on the device. The network that finds easy images is hardly
    trained, and an estimate measures the smallest copies of a run: for that there is no option.
    """
    from helpers.runs import run_wdistill
    from wdistill.evaluation.sets import early
    from wdistill.pipeline import estimate

    early.STEPS, estimate.PATIENCE = 2, 0.0
    with pretended(limit, within) as seen:
        done = run_wdistill(*arguments)
    return {
        "code": done.returncode,
        "out": done.stdout,
        "errors": done.stderr,
        "kernels": sum(seen.kernels.values()),
        "operations": sorted(seen.kernels),
        "graphs": seen.kernels["graph"],
        "memory": dict(seen.memory),
        "host": {" at ".join(place): count for place, count in seen.host.items()},
    }


class DeviceProcess:
    """A process with the device, which runs one command after the other."""

    def __init__(self, environment: dict[str, str]) -> None:
        path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helpers.pretended_command"],
            env={**environment, "PYTHONPATH": path}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *arguments: str | Path, limit: int = 0, within: str = "") -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"arguments": [*map(str, arguments)], "limit": limit, "within": within}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the process with the device has ended: {self.process.wait()}"
        done: dict[str, Any] = json.loads(answer)
        return done

    def close(self) -> None:
        self.process.communicate()


def main() -> None:
    install()
    from helpers.pretended_graphs import PretendedRecorder
    from wdistill.core.machine.graphs import RECORDERS

    RECORDERS[NAME] = PretendedRecorder
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    for line in sys.stdin:
        print(json.dumps(command(**json.loads(line))), file=answers, flush=True)
    os._exit(0)  # PyTorch ends badly with tensors of a backend in Python


if __name__ == "__main__":
    main()
