"""Checks and measurements for the first minutes with a GPU; `first_hour.sh` describes them.

    python -m tests.benchmarks.first_hour OUTPUT [--tiny] [--device cpu] [--only CHECK ...]

Only the standard library is needed to start. Each check is a process of its own with a scratch
folder: `--check NAME` runs one and prints its result as the last line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]
MODULE = "tests.benchmarks.first_hour"
TESTS = Path(__file__).parents[1]
MINUTES = 9.0
PATIENCE = 40  # times the limits, with --tiny: the sizes are for any machine, also a busy one
# Seconds that each check may take, in the order in which they run: the most telling first.
LIMITS = {
    "machine": 40, "wrong_column": 40, "steps_224": 50, "steps_32": 50, "equal_runs": 80,
    "imagenet_shaped": 80, "graphs": 45, "bf16": 40, "memory": 40, "steps_64": 40, "busy": 35,
}  # fmt: skip
TAIL = 2000  # characters of a failed check's output


def environment() -> dict[str, str]:
    """Of the checks: no network, and this checkout before anything that is installed."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}


def run_limited(command: Sequence[str], limit: float) -> Result:
    """Run ``command``, whose last line of output is a JSON object, for ``limit`` seconds at most.

    Returns:
        That object with ``ok`` and ``seconds``; of a failure instead ``error``, its last line, and
        ``output``, the end of what it printed.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(),
        )
        try:
            code: int | None = process.wait(max(0.0, limit))
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError):  # also what it has started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        lines = output.read().splitlines()
    taken = {"seconds": round(time.monotonic() - began, 1), "limit": round(limit, 1)}
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    if code == 0:
        with contextlib.suppress(ValueError):
            return {"ok": True, **taken, **json.loads(last)}
    error = f"took longer than {limit:.0f} s" if code is None else last
    return {"ok": False, **taken, "error": error, "output": "\n".join(lines)[-TAIL:]}


def run_all(
    names: Sequence[str], arguments: Sequence[str], minutes: float, patience: int
) -> Result:
    """The results of the checks, one after the other; see :func:`run_limited`."""
    end, checks = time.monotonic() + 60 * minutes, {}
    for name in names:
        left = end - time.monotonic()
        with tempfile.TemporaryDirectory(prefix="wdistill-hour-") as folder:
            command = [sys.executable, "-m", MODULE, folder, "--check", name, *arguments]
            limit = min(patience * LIMITS[name], left)
            checks[name] = (
                run_limited(command, limit)
                if left > 0
                else {"ok": False, "error": f"no time was left of {minutes:g} minutes"}
            )
        result = checks[name]
        said = "ok" if result["ok"] else f"FAILED: {result['error']}"
        print(f"{name}: {said} ({result.get('seconds', 0)} s)", flush=True)
    return checks


def arguments_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the JSON file")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for any machine")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all checks together")
    parser.add_argument("--only", nargs="+", choices=tuple(LIMITS), default=tuple(LIMITS))
    parser.add_argument("--check", choices=tuple(LIMITS), help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    options = arguments_of(words)
    size = ["--tiny"] if options.tiny else []
    if options.check:
        from benchmarks import first_hour_runs, first_hour_steps

        job = first_hour_runs.Job(options.output, options.tiny, options.device)
        check = {**first_hour_runs.CHECKS, **first_hour_steps.CHECKS}[options.check]
        print("\n" + json.dumps(check(job)), flush=True)
        return 0
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    patience = PATIENCE if options.tiny else 1
    passed_on = [*size, "--device", options.device]
    start = time.monotonic()
    checks = run_all(options.only, passed_on, options.minutes, patience)
    failed = [name for name, result in checks.items() if not result["ok"]]
    found = {
        "began": began, "seconds": round(time.monotonic() - start, 1), "tiny": options.tiny,
        "failed": failed, "checks": checks,
    }  # fmt: skip
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(checks) - len(failed)} of {len(checks)} checks passed: {options.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
