"""A run: all that changes its result, and what does not."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_args

from wdistill.config.common import PRECISION, SEED
from wdistill.config.data import DataConfig
from wdistill.config.distillation import MOST_IPC, BarycenterConfig, SynthesisConfig
from wdistill.config.publication import CodingConfig, LabelViewsConfig, RelabelConfig
from wdistill.config.students import StudentConfig
from wdistill.config.teacher import TeacherConfig
from wdistill.core.settings import (
    Device,
    Option,
    Precision,
    Range,
    Settings,
    Tracker,
    between,
    command_words,
    flat,
    setting,
    validated,
)
from wdistill.errors import OptionError

_BUDGET = Option(
    "In place of --ipc: as many images (as WebP) and labels as fit into so many bytes of files, "
    "such as 120kB; short students choose how to spend them. [default: no limit]",
    "--budget",
    Range("a number of bytes from 1", 1, 1e18),
    "BYTES",
)


@dataclass(frozen=True)
class RunConfig(Settings):
    """Everything that changes the result. Two runs of equal hash give the same dataset."""

    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    barycenter: BarycenterConfig = field(default_factory=BarycenterConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    coding: CodingConfig = field(default_factory=CodingConfig)
    relabel: RelabelConfig = field(default_factory=RelabelConfig)
    label_views: LabelViewsConfig = field(default_factory=LabelViewsConfig)
    evaluate: StudentConfig = field(default_factory=StudentConfig)
    budget: int | None = field(default=None, metadata={"option": _BUDGET})
    seed: int = field(default=0, metadata={"option": SEED})
    mixed_precision: Precision = field(default="no", metadata={"option": PRECISION})

    def __post_init__(self) -> None:
        super().__post_init__()
        Option("", allowed=between(1, MOST_IPC)).check("barycenter.ipc", self.barycenter.ipc)
        if self.budget is not None and self.coding.image_format == "png":
            raise OptionError(
                "`budget` is spent on WebP images, but `coding.image_format` is png; leave it out"
            )
        self._check_numbers()
        if "views" in self.evaluate.labels and self.label_views.count == 0:
            raise OptionError(
                "`evaluate.labels=views` needs stored views; give their number with "
                "`label_views.count`"
            )

    def _check_numbers(self) -> None:
        """One number of images, or one budget, says it all. The default of ``ipc`` stands for none
        given, since a file with all settings has it.
        """
        own = self.barycenter
        given = {
            "barycenter.ipc": own.ipc != BarycenterConfig.ipc,
            "barycenter.images": own.images is not None,
            "budget": self.budget is not None,
        }
        names = [f"`{name}`" for name, is_given in given.items() if is_given]
        if len(names) > 1:
            raise OptionError(f"{names[0]} and {names[1]} are both given; leave one of them out")
        if self.budget is not None and self.label_views.budget is not None:
            raise OptionError(
                "`label_views.budget` has no effect with `budget`, which views fill; leave one of "
                "them out"
            )

    @property
    def least_ipc(self) -> int:
        """Images that each class must have, as far as is known before the classes are counted and
        a budget is spent.
        """
        own = self.barycenter
        shared = self.budget is not None or own.images is not None or own.allocation == "w2"
        return 1 if shared else own.ipc

    @classmethod
    def from_dict(cls, values: Any) -> RunConfig:
        """The settings that :meth:`to_dict` wrote, also as JSON and by anyone.

        What is missing has its default; ``teacher.trust_remote_code`` is never taken over. Raises
        OptionError on a name, type or value that is not allowed.
        """
        config = validated(cls, values)
        teacher = dataclasses.replace(config.teacher, trust_remote_code=False)
        return dataclasses.replace(config, teacher=teacher)

    def changed(self) -> dict[str, Any]:
        """Settings that differ from their defaults, as ``{"section.name": value}``."""
        defaults = flat(RunConfig().to_dict())
        return {k: v for k, v in flat(self.to_dict()).items() if v != defaults[k]}

    def command(self) -> str:
        """`wdistill run` with these settings; those without a flag are left to a file."""
        return command_words(["run"], self, RunConfig())


@dataclass(frozen=True)
class RuntimeConfig(Settings):
    """What a user may change without changing the result."""

    section = "runtime"
    device: Device = setting(
        "auto",
        "Where to compute. auto: CUDA, then MPS, then CPU. [source: Accelerate]",
        "--device",
        allowed=get_args(Device),
    )
    num_workers: int | None = setting(
        None,
        "Workers that decode images: threads, or processes where they are more than 8, on Linux, "
        "for splits too large for memory. [default: the cores, shared by the processes of this "
        "machine, at most 32; where threads decode, at most 16]",
        "--num-workers",
        allowed=between(1, 256),
    )
    pixel_cache: str | None = setting(
        None,
        "Folder that keeps the decoded images of large splits for later runs at this resolution. "
        "[default: in the run folder, removed at the end]",
        "--pixel-cache",
        metavar="DIR",
    )
    estimate: bool = setting(
        False,
        "Say first how long the run will take; this itself takes a minute or two. [default: no]",
        "--estimate",
    )
    cuda_graphs: bool = setting(
        False,
        "Start the steps of synthesis and students as CUDA graphs where images have at most 64 "
        "pixels a side: the same operations, started as one. Where that fails the run goes on "
        "without. Other devices are not affected. [default: no, never run on a GPU yet]",
        "--cuda-graphs",
    )
    quiet: bool = setting(False, "No progress bars; errors and the result only. [default: no]")
    track: Tracker | None = setting(
        None,
        "Where losses and accuracies can be followed. [default: nowhere]",
        "--track",
        allowed=get_args(Tracker),
    )
    streaming: bool = setting(
        False,
        "Do not store the dataset: read it from the Hub once, and keep of each image what the "
        "backbone sees. [default: no, as in datasets]",
        "--streaming",
    )
    shard: str | None = setting(
        None,
        "Only part I of N, alone, for job arrays; `wdistill merge` joins the parts. It needs a "
        "trained backbone. [default: all of it]",
        "--shard",
        metavar="I/N",
    )
    command: str | None = setting(
        None,
        "How the run was started, for its card. [default: the command line; in Python that of the "
        "same settings]",
    )
