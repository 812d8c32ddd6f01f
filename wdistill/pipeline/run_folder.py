"""A run and its folder, which belongs to exactly one run."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from wdistill.config import RunConfig
from wdistill.core.devices import less_precise
from wdistill.core.files import IDENTITY, read_json, write_json
from wdistill.core.machine.graphs import GraphSwitch
from wdistill.core.settings import flat
from wdistill.core.units import (
    Advance,
    Computation,
    R,
    Shard,
    Stage,
    StageOutput,
    StoredUnits,
    Unit,
    class_units,
    compute_units,
)
from wdistill.data.dataset import ImageData
from wdistill.data.pixels import Decoding
from wdistill.errors import RunFolderError

SECONDS = "seconds.json"


@dataclass(frozen=True)
class Run:
    """What all stages need: settings, data, folder and devices.

    Attributes:
        shares: Images of each class, once they are shared out; None for equal numbers.
        budget: Bytes of the files, once the settings say what they are spent on in their place.
        graphs: Whether to use CUDA graphs.
    """

    config: RunConfig
    data: ImageData
    folder: Path
    accelerator: Accelerator
    decoding: Decoding
    quiet: bool
    shard: Shard | None = None
    shares: tuple[int, ...] | None = None
    budget: int | None = None
    graphs: GraphSwitch = field(default_factory=GraphSwitch)

    def at(self, temperature: float) -> Run:
        """The same with labels at this temperature where the settings leave it open."""
        evaluate = self.config.evaluate.at(temperature)
        return replace(self, config=replace(self.config, evaluate=evaluate))

    @property
    def ipc(self) -> int:
        """Images per class: of each, or on average, rounded."""
        if self.shares is not None:
            return max(1, round(sum(self.shares) / len(self.shares)))
        return self.config.barycenter.mean(len(self.data.class_names))

    @property
    def images(self) -> int:
        """Images of all classes together."""
        if self.shares is not None:
            return sum(self.shares)
        return self.config.barycenter.total(len(self.data.class_names))

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class."""
        return self.shares or (self.ipc,) * len(self.data.class_names)

    @property
    def labels(self) -> torch.Tensor:
        """(N,) int64, the class of each image of the set."""
        return torch.arange(len(self.counts)).repeat_interleave(torch.tensor(self.counts))

    def rows(self, label: int) -> slice:
        """The images of a class among all, class by class."""
        start = sum(self.counts[:label])
        return slice(start, start + self.counts[label])

    def unit_rows(self, unit: Unit) -> slice:
        """The images of a unit among all."""
        return slice(self.rows(unit.classes[0]).start, self.rows(unit.classes[-1]).stop)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def autocast(self) -> torch.dtype | None:
        return torch.bfloat16 if self.config.mixed_precision == "bf16" else None

    @property
    def units(self) -> tuple[Unit, ...]:
        """They depend on the mean number of images alone, so that a part of a run knows them."""
        classes, at_once = len(self.data.class_names), self.config.synthesis.images_per_step
        return class_units(classes, self.ipc, at_once)

    def compute(
        self,
        stage: Stage[R],
        function: Callable[[Unit, Advance], R],
        begin: Callable[[Unit], object] | None = None,
    ) -> StageOutput[R]:
        """Compute the missing units of ``stage``, of this shard only if the run is one;
        ``function`` and ``begin`` as for :class:`Computation`.
        """
        units = self.shard.of(self.units) if self.shard else self.units
        computation = Computation(stage, function, begin)
        compute_units(computation, units, self.work, self.accelerator, self.quiet)
        return StageOutput(stage.key, StoredUnits(stage, self.work, self.units))


def default_output(config: RunConfig, shard: Shard | None = None) -> Path:
    """runs/<last part of the dataset's name>-<size>, see :func:`_size`, plus the shard's name.

    A glob pattern takes the name of its folder; characters other than letters, digits, ``_``, ``.``
    and ``-`` become ``-``.
    """
    path = Path((config.data.dataset or "fashion-mnist-subset").rstrip("/"))
    while glob.has_magic(str(path)):
        path = path.parent
    name = re.sub(r"[^\w.-]+", "-", path.name.removesuffix(".parquet")).strip("-.") or "dataset"
    part = f"-{shard.name}" if shard else ""
    return Path("runs") / f"{name}-{_size(config)}{part}"


def _size(config: RunConfig) -> str:
    """``ipc10``, ``100images`` or ``50000B``; ``-w2`` after it where that shares images out, and
    ``-convnet`` where they are made for ConvNets.
    """
    own = config.barycenter
    size = f"ipc{own.ipc}" if own.images is None else f"{own.images}images"
    if config.budget is not None:
        size = f"{config.budget}B"
    shared = "" if own.allocation == "uniform" else f"-{own.allocation}"
    return f"{size}{shared}" + ("" if config.synthesis.aim == "any" else f"-{config.synthesis.aim}")


def identity(config: RunConfig, fingerprint: str) -> dict[str, Any]:
    """What identifies a run: the data, variables that make float32 less precise, and all settings
    except those of the evaluation, of the labels and of the coding.
    """
    settings = flat(config.to_dict())
    ignored_prefixes = (
        "evaluate.",
        "relabel.",
        "label_views.",
        "coding.",
        "teacher.allow_weak",
        "teacher.trust_remote_code",
    )
    identifying = {
        key: value for key, value in settings.items() if not key.startswith(ignored_prefixes)
    }
    environment = {f"environment.{name}": value for name, value in less_precise().items()}
    return {**identifying, **environment, "data.fingerprint": fingerprint}


def claim(folder: Path, config: RunConfig, fingerprint: str) -> None:
    """Mark ``folder`` as belonging to this run, or check that it does.

    A run that has only a teacher may be replaced by another.

    Raises:
        RunFolderError: The folder holds results of another run, or files that are not a run.
    """
    current = identity(config, fingerprint)
    path = folder / IDENTITY
    if not path.exists():
        _check_empty(folder)
        write_json(path, current)
        return
    previous = read_json(path)
    if not isinstance(previous, dict):
        raise RunFolderError(f"{str(path)!r} is not this tool's; choose another `output`")
    # A setting that came later had its default: nothing else could be asked for.
    defaults = flat(RunConfig().to_dict())
    previous = {key: defaults[key] for key in current.keys() & defaults.keys()} | previous
    different = sorted(
        key for key in current.keys() | previous.keys() if current.get(key) != previous.get(key)
    )
    has_results = any((folder / "work").glob("transport-*")) or (folder / "publish").exists()
    if different and has_results:
        changes = ", ".join(
            f"{key} was {previous.get(key)!r} and is now {current.get(key)!r}"
            for key in different[:3]
        )
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise RunFolderError(
            f"{str(folder)!r} holds another run: {changes}{more}; choose another `output`"
        )
    if different:
        write_json(path, current)


def _check_empty(folder: Path) -> None:
    # An interrupted write may leave a temporary file, which belongs to no run.
    names = [entry.name for entry in folder.iterdir()]
    foreign = [n for n in names if n != ".lock" and not (n[0] == "." and n.endswith(".tmp"))]
    if foreign:
        raise RunFolderError(
            f"{str(folder)!r} is not empty and is not a run (it holds {sorted(foreign)[0]!r}); "
            "choose another `output`"
        )


def stage_times(run: Run) -> dict[str, float]:
    """Seconds of each stage, summed over all starts of the run."""
    path = run.work / SECONDS
    return dict(read_json(path)) if path.exists() else {}
