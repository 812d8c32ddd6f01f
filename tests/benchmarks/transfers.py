"""Whether the tests on the pretended device notice a transfer that somebody forgot.

    PYTHONPATH=.:tests python -m tests.benchmarks.transfers -o transfers.json
    PYTHONPATH=.:tests python -m tests.benchmarks.transfers -o FILE --only synthesis/ --jobs 2
    PYTHONPATH=.:tests python -m tests.benchmarks.transfers -o FILE --show

Every `.to(device)`, `device=` of a new tensor, transfer of `to_device` and `to_float`, device that
is handed on, `.cpu()`, `non_blocking` and `pin_memory()` of the package is taken away, one at a
time, in a process that gets the changed code of that function. Then the scenes of the tests
(tests/helpers/pretended_scenes.py, and the steps that tests/integration/test_device_waits.py holds
to their budget) that make the transfer are run until one notices: it fails, a step waits, a network
computes on the host, or the device computes nothing. Rows are written as they are found. The same
command goes on where it was, and tries again what was not noticed, with another `--scene` perhaps.
Ends with 1 if a removal was not noticed that ``REASONS`` does not explain.
"""

from __future__ import annotations

import ast
import builtins
import gc
import importlib
import json
import os
import pkgutil
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from helpers.environment import isolate

isolate()

import click
import numpy as np
from helpers.pretend import install
from helpers.pretended_command import command
from helpers.pretended_group import EXPECTED, exchanged
from helpers.pretended_parts import PARTS, part
from helpers.pretended_scenes import scenes
from helpers.pretended_steps import BUDGET, steps

PACKAGE = Path(__file__).parents[2] / "wdistill"
FACTORIES = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "tensor", "zeros"}
STATES = {  # which compute nothing there
    "repeatable", "network_precision", "device_name", "get_device_name", "max_memory_allocated",
    "get_device_capability", "open_accelerator", "partial", "launch", "_check_device",
    "_check_devices",
}  # fmt: skip
HOST = '__import__("torch").device("cpu")'
SCENES = (
    "run", "group", *BUDGET, *PARTS, "evaluate", "recipe", "several", "vit", "choices", "convnets",
    "estimate",
)  # fmt: skip
LIMIT = 300  # seconds of the processor
REASONS = {  # why it is not noticed: which
    "CUDA alone: tests/core/machine/test_transfer.py": (
        "core/machine/transfer.py: tensor.pin_memory()",
    ),
    "a number: CUDA takes tensors without dimensions from the host": (
        "synthesis/spectrum.py: torch.zeros((), device=device)",
        "synthesis/spaces.py: torch.zeros((), device=device)",
    ),
    "it is copied to the host again where files are written": (
        "networks/training.py: value.detach().cpu()", "labels/committee.py: value.cpu()",
        "pipeline/stages/convnets.py: v.cpu()",
    ),
    "it is copied to the host where its numbers are read": (
        "core/processes.py: values.cpu()",
        "evaluation/students/outcomes.py: torch.stack(list(losses)).float().cpu()",
    ),
    "classes of different sizes: tests/synthesis/test_gradient_unequal.py": (
        "synthesis/optimise.py: Unequal.of(counts, device)",
        "synthesis/gradient.py: present.flatten().nonzero()[:, 0].to(device)",
    ),
    "whether images stay on the device: tests/evaluation/test_metrics_device.py": (
        "core/machine/transfer.py: torch.get_device_module(device)",
        "core/machine/transfer.py: free(device)",
        "data/pixels/store.py: "
        "may_stay(len(self) * 3 * self.preprocessing.resolution ** 2, device)",
        "evaluation/metrics.py: store.all_on(network.device, 256)",
    ),
    "features of a survey are on the host": ("transport/allocation.py: features.double().cpu()",),
    "it goes to the device again for the synthesis": ("synthesis/spectrum.py: value.cpu()",),
    "CUDA graphs, which these scenes do not use: tests/integration/test_device_graphs.py": (
        "core/machine/graphs.py: kind(device)",
        "evaluation/training.py: Graphs(training.graphs, device, preprocessing.resolution)",
        "synthesis/optimise.py: "
        "Graphs(GraphSwitch() if drawn else objective.graphs, device, side)",
        "synthesis/optimise.py: concatenate(class_views).to(device)",  # else it goes later
    ),
    "CUDA alone, where graphs are recorded": (
        "core/machine/graphs.py: torch.cuda.Stream(device)",
        "core/machine/graphs.py: _side_stream(device)",
        "core/machine/graphs.py: torch.cuda.current_stream(self._stream.device)",
    ),
    "MPS alone, which has no float64": (
        "transport/survey.py: means.cpu()", "transport/survey.py: variances.cpu()",
        "transport/survey.py: part.to(network.device)",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Removal:
    """A transfer and the text without it; first, last: lines; start, end: bytes of the file."""

    file: str
    first: int
    last: int
    kind: str
    before: str
    after: str
    start: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.file}:{self.first} {self.kind}: {self.before}"


def _is_device(node: ast.expr) -> bool:
    """`device` or `x.device`, but not a device that is spelled out."""
    return getattr(node, "id", getattr(node, "attr", "")) == "device"


def _likes(node: ast.expr) -> bool:
    """A tensor whose device and type are to be taken over."""
    return isinstance(node, ast.Name) and node.id in ("images", "like")


def _without(call: ast.Call, argument: ast.expr) -> str:
    copy = ast.Call(
        call.func,
        [a for a in call.args if a is not argument],
        [k for k in call.keywords if k.value is not argument],
    )
    return ast.unparse(copy)


def _replaced(call: ast.Call, argument: ast.expr, text: str) -> str:
    new = ast.parse(text, mode="eval").body
    args = [new if a is argument else a for a in call.args]
    keywords = [ast.keyword(k.arg, new if k.value is argument else k.value) for k in call.keywords]
    return ast.unparse(ast.Call(call.func, args, keywords))


def _called(call: ast.Call) -> tuple[str, str]:
    """The name of the function, and what it is an attribute of, if it is one."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr, ast.unparse(call.func.value)
    return getattr(call.func, "id", ""), ""


def _found(call: ast.Call) -> Iterator[tuple[str, str]]:
    """(kind, the call without its transfer)."""
    name, owner = _called(call)
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    arguments = [*call.args, *named.values()]
    if "non_blocking" in named:
        yield "non-blocking", _without(call, named["non_blocking"])
    if name == "to_device":
        yield name, ast.unparse(call.args[0])
    elif name in ("cpu", "pin_memory") and owner and not arguments:
        yield name, owner
    elif name == "to" and call.args and _likes(call.args[0]):
        yield name, _replaced(call, call.args[0], f"{ast.unparse(call.args[0])}.dtype")
    elif name == "to" and call.args and _is_device(call.args[0]):
        yield name, _without(call, call.args[0]) if len(call.args) > 1 else owner
    elif name in FACTORIES and owner == "torch":
        if "device" in named:
            yield "new tensor", _without(call, named["device"])
    elif name not in STATES:
        for argument in filter(_is_device, arguments):
            kind = name if name == "to_float" else "handed on"
            yield kind, _replaced(call, argument, HOST)


def removals(package: Path) -> list[Removal]:
    """All, in the order of the files."""
    result = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_bytes()
        starts = [0]
        for line in text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            for kind, after in _found(node):
                file, last = str(path.relative_to(package)), node.end_lineno or node.lineno
                before = ast.unparse(node)
                result.append(Removal(file, node.lineno, last, kind, before, after, start, end))
    return sorted(result, key=lambda r: (r.file, r.start, r.kind))


def forked(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of ``work`` in a child process, which may import what it likes."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        try:
            done = work()
        except BaseException as error:
            done = {"failed": f"{type(error).__name__}: {error}"}
        with os.fdopen(writing, "w") as pipe:
            json.dump(done, pipe)
        os._exit(0)  # PyTorch ends badly with tensors of a backend in Python
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(text)) if text else {"failed": "the process ended"}


def change(file: str, text: bytes) -> None:
    """Give the functions of this process the code in ``text``, wherever they are held."""
    path, new = str(PACKAGE / file), {}
    waiting = [compile(text, path, "exec")]
    while waiting:
        code = waiting.pop()
        new[code.co_qualname, code.co_firstlineno] = code
        waiting.extend(part for part in code.co_consts if isinstance(part, CodeType))
    for function in [f for f in gc.get_objects() if isinstance(f, FunctionType)]:
        old = function.__code__
        if old.co_filename == path:
            function.__code__ = new[old.co_qualname, old.co_firstlineno]


def without(removal: Removal) -> bytes:
    """Its file; other lines keep their numbers."""
    text = (PACKAGE / removal.file).read_bytes()
    lines = b"\n" * (removal.last - removal.first)
    after = b"(" + removal.after.encode() + lines + b")"
    return text[: removal.start] + after + text[removal.end :]


def watch(found: Sequence[Removal]) -> set[str]:
    """The names of those transfers that happen from now on."""
    reached: set[str] = set()

    def passed(name: str, value: object) -> object:
        reached.add(name)
        return value

    builtins.passed = passed  # type: ignore[attr-defined]
    for file in {removal.file for removal in found}:
        own = [removal for removal in found if removal.file == file]
        marks = [(r.start, -r.end, f"passed({r.name!r}, ".encode()) for r in own]
        marks += [(r.end, r.start, b")") for r in own]
        text, parts, last = (PACKAGE / file).read_bytes(), [], 0
        for place, _, mark in sorted(marks, key=lambda m: (m[0], m[2] != b")", m[1])):
            parts += [text[last:place], mark]
            last = place
        change(file, b"".join([*parts, text[last:]]))
    return reached


def played(
    scene: str, folder: Path, removal: Removal | None = None, found: Sequence[Removal] = ()
) -> dict[str, Any]:
    """A scene without that transfer: failed, host, seconds, those of ``found`` that happened."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    began, reached = time.process_time(), watch(found)
    if removal is not None:
        change(removal.file, without(removal))
    if scene == "group":
        wrong = exchanged() != EXPECTED
        done: dict[str, Any] = {"failed": "other values" if wrong else "", "host": {}}
    elif scene in PARTS:
        done = {"failed": "", **part(scene)}
    elif scene in BUDGET:
        waits = steps(names=[scene])[scene]["waits"]
        late = sum(waits.values()) > BUDGET[scene]
        done = {"failed": f"waits {waits}"[:200] if late else "", "host": {}}
    else:
        ran = command([*map(str, scenes(folder)[scene])])
        said = ran["errors"].strip().splitlines() or ["?"]
        done = {"failed": said[-1][-200:] if ran["code"] else "", "host": ran["host"]}
    seconds = time.process_time() - began
    return {**done, "seconds": seconds, "reached": sorted(reached)}


def noticed(done: dict[str, Any], sound: dict[str, Any]) -> str:
    """Why the scene is not as without the removal; "" if it is."""
    if done.get("failed"):
        return str(done["failed"])
    if "values" in done and not np.allclose(done["values"], sound["values"], 1e-3, 1e-3):
        return "other values"
    if sound.get("kernels") and not done["kernels"]:
        return "the device computes nothing"
    new = {place: n for place, n in done["host"].items() if n > sound["host"].get(place, 0)}
    if new:
        return f"networks on the host: {new}"[:200]
    return ""


class Theatre:
    """base: the folder of what scenes start from."""

    def __init__(self, work: Path) -> None:
        self.work, self.base = work, work / "base"
        self.base.mkdir()

    def play(
        self, scene: str, removal: Removal | None = None, found: Sequence[Removal] = ()
    ) -> dict[str, Any]:
        if scene == "run" and found:  # evaluations start from it
            return forked(lambda: played(scene, self.base, None, found))
        with tempfile.TemporaryDirectory(dir=self.work) as scratch:
            folder = Path(scratch) / "scene"
            shutil.copytree(self.base, folder)
            shutil.rmtree(folder / scene, ignore_errors=True)
            return forked(lambda: played(scene, folder, removal, found))

    def known(
        self, pool: ThreadPoolExecutor, every: Sequence[Removal], names: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """All scenes with nothing removed, cheapest first."""

        def play(scene: str) -> dict[str, Any]:
            done = self.play(scene, found=every)
            if done["failed"]:
                raise click.ClickException(f"{scene} fails as it is: {done['failed']}")
            print(f"{scene}: {done['seconds']:.0f} s", file=sys.stderr, flush=True)
            return done

        found = {}
        if "run" in names:  # what others start from
            found["run"] = play("run")
        rest = [name for name in names if name != "run"]
        found |= dict(zip(rest, pool.map(play, rest), strict=True))
        return dict(sorted(found.items(), key=lambda item: item[1]["seconds"]))

    def judge(self, removal: Removal, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
        scenes = [name for name, sound in known.items() if removal.name in sound["reached"]]
        why = by = ""
        for name in scenes:
            why = noticed(self.play(name, removal), known[name])
            if why:
                by = name
                break
        told = {key: getattr(removal, key) for key in ("file", "first", "kind", "before")}
        return {**told, "reached": scenes, "by": by, "why": why}


def reason(row: dict[str, Any]) -> str:
    """Why it does not matter here, or is seen elsewhere."""
    places = (row["file"], f"{row['file']}: {row['before']}", row["kind"])
    return next((why for why, where in REASONS.items() if {*places} & {*where}), "")


def table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in (r for r in rows if not r["by"]):
        reached = ", ".join(row["reached"]) or "no scene"
        why = reason(row) or "NOT EXPLAINED"
        lines.append(
            f"{row['file']}:{row['first']} {row['kind']}: {row['before']} ({reached}): {why}"
        )
    count = sum(bool(row["by"]) for row in rows)
    explained = sum(bool(reason(row)) for row in rows if not row["by"])
    lines.append(f"{count} of {len(rows)} noticed, {explained} explained")
    return "\n".join(lines)


@click.command()
@click.option("--only", default="", help="Files whose path in the package begins so.")
@click.option("--scene", "names", multiple=True, default=SCENES, help="[default: all]")
@click.option("--jobs", default=1, show_default=True)
@click.option("--show", is_flag=True, help="print what --output holds and stop")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(only: str, names: tuple[str, ...], jobs: int, show: bool, output: Path) -> None:
    rows: list[dict[str, Any]] = json.loads(output.read_text()) if output.exists() else []
    rows = [row for row in rows if row["by"]] if not show else rows
    done = {(row["file"], row["first"], row["kind"], row["before"]) for row in rows}
    if not show:
        install()
        for module in pkgutil.walk_packages([str(PACKAGE)], "wdistill."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        every = removals(PACKAGE)
        wanted = [
            r for r in every
            if r.file.startswith(only) and (r.file, r.first, r.kind, r.before) not in done
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(jobs) as pool:
            theatre = Theatre(Path(work))
            known = theatre.known(pool, every, names)
            for row in pool.map(lambda r: theatre.judge(r, known), wanted):
                rows.append(row)
                output.write_text(json.dumps(rows, indent=1))
                print(f"{row['file']}:{row['first']} {row['by'] or '-'}", file=sys.stderr)
    click.echo(table(rows))
    sys.exit(any(not (row["by"] or reason(row)) for row in rows))


if __name__ == "__main__":
    main()
