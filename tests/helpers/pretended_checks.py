"""What the tests of commands on the pretended device ask of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.environment import environment
from helpers.pretended_command import TESTS, DeviceProcess
from helpers.pretended_scenes import Command
from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import Manifest, read_manifest

ON_THE_HOST = {  # operations of networks, as these are opened, to see what images they accept
    "run": 34, "evaluate": 17, "recipe": 17, "several": 21, "reproduce": 34, "vit": 56,
    "choices": 34, "convnets": 13, "estimate": 102,
}  # fmt: skip
BY_DESIGN = ("kmeans.py", "annealing.py")  # k-means and barycenters are computed on the host


def finished(done: dict[str, Any]) -> dict[str, Any]:
    assert done["code"] == 0, done["out"][-1000:] + done["errors"][-3000:]
    return done


def played(device: DeviceProcess, commands: Mapping[str, Command], name: str) -> dict[str, Any]:
    """The command has ended well, and networks and distances of images were on the device."""
    done = finished(device(*commands[name]))
    places = {place: place.split(" at ")[1].split(":")[0] for place in done["host"]}
    others = {place: n for place, n in done["host"].items() if places[place] not in BY_DESIGN}
    assert sum(others.values()) == ON_THE_HOST[name], others
    return done


def elsewhere(command: Command, folder: Path, *options: str) -> list[str | Path]:
    """The same command with further options and another output folder, its last argument."""
    return [*command[:-2], *options, command[-2], folder]


def set_of(command: Command) -> Path:
    return Path(command[-1])


def manifest_of(command: Command) -> Manifest:
    return read_manifest(one_set(set_of(command)))


def results_of(module: str) -> dict[str, Any]:
    """The JSON of the last line that ``python -m module`` prints, in a process of its own."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", module], env=environment(PYTHONPATH=path),
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
