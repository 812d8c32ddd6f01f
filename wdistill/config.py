"""Settings of a run: frozen, validated, hashable. Each default states its source.

Sources: [paper] Liu et al., arXiv 2311.18531v3; [official] defaults of the authors' code for that
paper; [own] our choice, measured where the README says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from wdistill.errors import OptionError
from wdistill.from_json import from_json

Weights = Literal["uniform", "free"]
Init = Literal["real", "mean", "noise"]
Labels = Literal["hard", "soft", "views", "teacher"]
Baseline = Literal["random", "nearest", "herding", "full"]
GroupWeights = Literal["equal", "proportional"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["no", "bf16"]
Tracker = Literal["trackio", "tensorboard"]

FORMAT_VERSION = 1  # of run folders and published sets
PLACEHOLDER_REPO = "you/this-dataset"  # in a card's examples, until a push knows the name
LARGE_SET = 500
MOST_IPC = 100  # of a run; sets of others may have more
SMALLEST_CROP = 0.01  # share of the image's area
BUILT_IN = ("resnet18", "resnet10-w16", "convnet", "convnet-w64", "vit")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise OptionError(message)


def _choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    _check(value in allowed, f"{option} is {value!r}; choose one of {', '.join(allowed)}")


def _between(option: str, value: float | None, low: float, high: float, of: str = "") -> None:
    """None passes: it means that nothing was given."""
    message = f"{option} is {value}; give a number{of} from {low} to {high}"
    _check(value is None or low <= value <= high, message)


def _positive(option: str, value: float) -> None:
    _check(0 < value < math.inf, f"{option} is {value}; give a finite number above 0")


def _not_negative(option: str, value: float) -> None:
    message = f"{option} is {value}; give a finite number that is not negative"
    _check(0 <= value < math.inf, message)


@dataclass(frozen=True)
class DataConfig:
    """Which images, which labels. ``None`` means: infer."""

    dataset: str | None = None  # None: the embedded Fashion-MNIST subset
    config_name: str | None = None
    revision: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None  # None: each class is one measure, as in the paper
    train_split: str | None = None
    eval_split: str | None = None
    resolution: int | None = None  # None: the backbone's own size, or the images' if small
    skip_broken: bool = False

    def __post_init__(self) -> None:
        _between("--resolution", self.resolution, 8, 1024, of=" of pixels")


@dataclass(frozen=True)
class TeacherConfig:
    """The network whose features define the transport."""

    backbone: str = "resnet10-w16"  # [own] 92% on Fashion-MNIST in minutes on two CPU cores
    backbone_revision: str | None = None
    epochs: int = 10  # [own] for small images; [official] 50 for ImageNette from scratch
    batch_size: int = 128  # [own]
    allow_weak: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        _between("--teacher-epochs", self.epochs, 0, 10_000)
        _between("teacher.batch_size", self.batch_size, 1, 100_000)


@dataclass(frozen=True)
class BarycenterConfig:
    """Atoms and weights per class (paper, section 3.2)."""

    ipc: int = 10
    weights: Weights = "uniform"  # [paper]; [own] students do better than with free masses
    group_weights: GroupWeights = "equal"  # Cuturi and Doucet 2014, their unweighted mean
    restarts: int = 8  # [own] k-means++ starts per class; more of them below 80 atoms
    max_iterations: int = 100  # [own] Lloyd converges long before

    def __post_init__(self) -> None:
        _check(self.ipc >= 1, f"--ipc is {self.ipc}; give a number from 1 to {MOST_IPC}")
        _choice("--weights", self.weights, get_args(Weights))
        _choice("--group-weights", self.group_weights, get_args(GroupWeights))
        _between("barycenter.restarts", self.restarts, 1, 10_000)
        _between("barycenter.max_iterations", self.max_iterations, 1, 100_000)


@dataclass(frozen=True)
class SynthesisConfig:
    """Pixels towards atoms and statistics (paper, section 3.3) in one or more feature spaces."""

    init: Init = "real"  # [own]; [official] noise
    iterations: int = 300  # [own]; [official] 2000 from noise
    lr: float = (
        0.05  # [own] in units of the real images' deviation, see wdistill.synthesis.spectrum
    )
    feature_weight: float = 0.05  # [own] in units of the class's variance
    bn_weight: float = 10.0  # [official] for ImageNette
    ce_weight: float = 1.0  # [own]
    feature_spaces: tuple[str, ...] = ("convnet-w64:12",)  # [own]; [paper] none
    space_weight: float = 0.1  # [own] length of the pool's gradient, as a share of the teacher's
    space_mean_weight: float = 10.0  # [own] of the class mean, beside 1 of the single images
    crop_min: float = 0.4  # [own] smallest area share of a random crop
    whole_share: float = 0.5  # [own] of the views that are no crops; [official] 0
    images_per_step: int = 100  # [official] batch size; groups of whole classes fill it

    def __post_init__(self) -> None:
        _choice("--init", self.init, get_args(Init))
        _between("--iterations", self.iterations, 0, 100_000)
        _positive("synthesis.lr", self.lr)
        _not_negative("--bn-weight", self.bn_weight)
        for name in ("feature_weight", "ce_weight", "space_weight", "space_mean_weight"):
            _not_negative(f"synthesis.{name}", getattr(self, name))
        _between("synthesis.crop_min", self.crop_min, SMALLEST_CROP, 1)
        _between("synthesis.whole_share", self.whole_share, 0, 1)
        _between("synthesis.images_per_step", self.images_per_step, 1, 100_000)
        self.pool()

    def pool(self) -> tuple[tuple[str, int], ...]:
        """(network, how many of it) for each of ``feature_spaces``; ``none`` means no pool."""
        found = []
        for text in self.feature_spaces:
            name, colon, count = text.rpartition(":")
            if not (colon and count.isdecimal()):
                name, count = text, "1"
            _check(
                bool(name) and 1 <= int(count) <= 100,
                f"--feature-spaces is {text!r}; give a network, NETWORK:COUNT with a count from 1 "
                "to 100, or none",
            )
            found.append((name, int(count)))
        if ("none", 1) in found:
            _check(
                len(found) == 1, "--feature-spaces none excludes others; leave out one or the other"
            )
            return ()
        return tuple(found)


@dataclass(frozen=True)
class RelabelConfig:
    """Soft labels: the teacher's mean logits over augmented views, as probabilities."""

    views: int = 16  # [own]
    crop_min: float = 0.4  # [own] as in synthesis

    def __post_init__(self) -> None:
        _between("relabel.views", self.views, 1, 100_000)
        _between("relabel.crop_min", self.crop_min, SMALLEST_CROP, 1)


@dataclass(frozen=True)
class LabelViewsConfig:
    """The teacher's logits for single views of each image, stored beside the soft labels."""

    count: int = 0  # [own] an option; [official] one per epoch
    topk: int | None = None  # logits kept per view; None: all, as FKD does
    levels: int = 16  # [own] values that a stored logit can have; fewer cost accuracy
    crop_min: float = 0.4  # [own] as students see the images
    budget: int | None = None  # bytes of the stored views; None: no limit

    def __post_init__(self) -> None:
        _between("--label-views", self.count, 0, 1000)
        _between("label_views.levels", self.levels, 1, 2**16)
        _between("label_views.crop_min", self.crop_min, SMALLEST_CROP, 1)
        _check(
            self.topk is None or self.topk >= 1,
            f"--label-topk is {self.topk}; give a number of logits from 1",
        )
        _check(
            self.budget is None or self.budget >= 1,
            f"--label-budget is {self.budget}; give a number of bytes from 1",
        )


@dataclass(frozen=True)
class StudentConfig:
    """How students are trained (paper, section 4.1, and the official validation recipe)."""

    enabled: bool = True
    students: tuple[str, ...] = ()  # empty: the teacher's architecture, randomly initialised
    labels: tuple[Labels, ...] = ("hard", "soft")  # [own] what a user of the files alone can do
    epochs: int | None = None  # None: [own] 100 up to LARGE_SET images, 30 above; [official] 300
    steps: int | None = None  # optimiser steps, whatever the number of images; None: by epochs
    seeds: int = 2
    batch_size: int | None = None  # None: [own] 32 up to LARGE_SET images, 128 above; [official] 64
    lr: float = 1e-3  # [official] AdamW
    weight_decay: float = 0.01  # [official]
    temperature: float = 20.0  # [official]
    crop_min: float = 0.4  # [own]; [official] 0.08 at 224 px

    def __post_init__(self) -> None:
        for labels in self.labels:
            _choice("--labels", labels, get_args(Labels))
        _between("--eval-epochs", self.epochs, 1, 100_000)
        _between("--batch-size", self.batch_size, 1, 100_000)
        _positive("--lr", self.lr)
        _positive("--temperature", self.temperature)
        _not_negative("--weight-decay", self.weight_decay)
        _between("--steps", self.steps, 1, 10**7)
        _between("--eval-seeds", self.seeds, 1, 100)
        _between("evaluate.crop_min", self.crop_min, SMALLEST_CROP, 1)

    def budget(self, images: int) -> tuple[int, int]:
        """(optimiser steps, batch size) for a set of ``images``."""
        epochs, size = (100, 32) if images <= LARGE_SET else (30, 128)
        size = min(self.batch_size or size, images)
        return self.steps or (self.epochs or epochs) * math.ceil(images / size), size

    def fixed(self, images: int) -> StudentConfig:
        """The budget for a set of ``images``, to train on sets of any size."""
        steps, size = self.budget(images)
        return dataclasses.replace(self, epochs=None, steps=steps, batch_size=size)


@dataclass(frozen=True)
class EvaluateConfig:
    """What `wdistill evaluate` is to compare."""

    source: str
    columns: DataConfig = field(default_factory=DataConfig)  # of source, where it is no run
    against: DataConfig = field(default_factory=DataConfig)  # dataset None: what it was made from
    teacher: str | None = None  # None: the run's own
    evaluate: StudentConfig = field(default_factory=StudentConfig)
    baselines: tuple[Baseline, ...] = ("random",)
    augmentation_robust: bool = False
    trust_remote_code: bool = False
    seed: int = 0
    mixed_precision: Precision = "no"

    def __post_init__(self) -> None:
        for baseline in self.baselines:
            _choice("--baselines", baseline, get_args(Baseline))
        _between("--seed", self.seed, 0, 2**31 - 1)


@dataclass(frozen=True)
class RunConfig:
    """Everything that changes the result. Two runs of equal hash give the same dataset."""

    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    barycenter: BarycenterConfig = field(default_factory=BarycenterConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    relabel: RelabelConfig = field(default_factory=RelabelConfig)
    label_views: LabelViewsConfig = field(default_factory=LabelViewsConfig)
    evaluate: StudentConfig = field(default_factory=StudentConfig)
    seed: int = 0
    mixed_precision: Precision = "no"

    def __post_init__(self) -> None:
        _between("--ipc", self.barycenter.ipc, 1, MOST_IPC)
        _between("--seed", self.seed, 0, 2**31 - 1)
        _check(
            "views" not in self.evaluate.labels or self.label_views.count > 0,
            "--labels views needs stored views; give their number with --label-views",
        )
        _choice("--mixed-precision", self.mixed_precision, get_args(Precision))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> RunConfig:
        """The settings that :meth:`to_dict` wrote, also as JSON and by anyone.

        What is missing has its default; ``teacher.trust_remote_code`` is never taken over. Raises
        OptionError on a name, type or value that is not allowed.
        """
        config = from_json(cls, values)
        teacher = dataclasses.replace(config.teacher, trust_remote_code=False)
        return dataclasses.replace(config, teacher=teacher)

    def changed(self) -> dict[str, Any]:
        """Settings that differ from their defaults, as ``{"section.name": value}``."""
        return {
            key: value
            for key, value in flat(self.to_dict()).items()
            if value != flat(RunConfig().to_dict())[key]
        }


@dataclass(frozen=True)
class RuntimeConfig:
    """What a user may change without changing the result."""

    device: Device = "auto"
    num_workers: int = 0
    quiet: bool = False
    track: Tracker | None = None
    streaming: bool = False

    def __post_init__(self) -> None:
        _choice("--device", self.device, get_args(Device))
        _between("--num-workers", self.num_workers, 0, 256)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"section.name": value}``, tuples as lists."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            result.update(flat(value, f"{prefix}{key}."))
        else:
            result[prefix + key] = list(value) if isinstance(value, tuple) else value
    return result


def stable_hash(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
