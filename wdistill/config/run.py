"""Every setting once: its default and where that comes from, what is allowed, its help, its flag.

The settings are frozen, validated and hashable. Command-line options, `wdistill config` and the
reading of files are made from the fields. Sources: paper, Liu et al., arXiv 2311.18531v3; official,
defaults of the authors' code for that paper; own, our choice, measured where the README says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from wdistill.core.settings import (
    NOT_NEGATIVE,
    POSITIVE,
    Device,
    Option,
    Precision,
    Range,
    Settings,
    Tracker,
    between,
    command_words,
    flat,
    section,
    setting,
    validated,
)
from wdistill.errors import OptionError

Weights = Literal["uniform", "free"]
Init = Literal["real", "mean", "noise"]
Labels = Literal["hard", "soft", "views", "teacher"]
Baseline = Literal["random", "nearest", "herding", "k-centre", "easy", "tiles", "noise", "full"]
Space = Literal["auto", "pixels", "normalised"]
RecipeName = Literal["default", "classic", "idc", "wmdd", "edc"]
Giver = Literal["auto", "teacher", "committee", "none"]
Optimizer = Literal["adamw", "sgd"]
GroupWeights = Literal["equal", "proportional"]
ImageFormat = Literal["png", "webp"]
Allocation = Literal["uniform", "w2"]

FORMAT_VERSION = 2  # of run folders and published sets
PLACEHOLDER_REPO = "you/this-dataset"  # in a card's examples, until a push knows the name
LARGE_SET = 500
WEBP_QUALITY = 60  # where nothing else is said
LEAST_EPOCHS = 30  # of students of large sets
LARGE_DATASET = 20_000  # images
SGD_LR = 0.05
MOST_IPC = 1000  # of a run; sets of others may have more
SMALLEST_CROP = 0.01  # share of the image's area
VIEWS = 40
MOST_LOGITS = 50_000_000
BUILT_IN = ("resnet18", "resnet10-w16", "convnet", "convnet-w64", "vit")

FIXED = (  # by a paper's recipe
    "batch_size",
    "optimizers",
    "lr",
    "weight_decay",
    "temperature",
    "crop_min",
)
RATES: dict[Optimizer, tuple[float, float]] = {  # learning rate and weight decay
    "adamw": (0.001, 0.01),
    "sgd": (SGD_LR, 5e-4),
}

CROP = between(SMALLEST_CROP, 1)


@dataclass(frozen=True)
class DataConfig(Settings):
    """Which images, which labels. ``None`` means: infer."""

    section = "data"
    dataset: str | None = setting(
        None,
        "Hub dataset id, image folder, parquet file or folder, or save_to_disk folder. [default: "
        "the Fashion-MNIST subset in the package]",
        "--dataset",
        metavar="ID|PATH",
    )
    config_name: str | None = setting(
        None, "Configuration of a Hub dataset. [default: its own]", "--config-name", metavar="NAME"
    )
    revision: str | None = setting(
        None, "Branch, tag or commit of a Hub dataset. [default: main]", "--revision", metavar="REV"
    )
    image_column: str | None = setting(
        None,
        "Column of the images. [default: the only image column]",
        "--image-column",
        metavar="NAME",
    )
    label_column: str | None = setting(
        None,
        "Column of the labels. [default: the only label column]",
        "--label-column",
        metavar="NAME",
    )
    group_column: str | None = setting(
        None,
        "Column of a domain, client, sex, ...: the barycenter is then that of the groups of each "
        "class. [default: one measure per class, as in the paper]",
        "--group-column",
        metavar="NAME",
    )
    train_split: str | None = setting(
        None, "Split that is distilled. [default: train]", "--train-split", metavar="NAME"
    )
    eval_split: str | None = setting(
        None,
        "Split that tests teacher and students. [default: validation (valid, val, dev) or test "
        "(eval); else a seeded 10% of train]",
        "--eval-split",
        metavar="NAME",
    )
    resolution: int | None = setting(
        None,
        "Side of the square images. [default: the image processor's; without one the images' own "
        "up to 64, else 224]",
        "--resolution",
        allowed=between(8, 1024, " of pixels"),
        metavar="PIXELS",
    )
    skip_broken: bool = setting(
        False,
        "Leave out images that cannot be decoded, and count them. [default: stop, our choice]",
        "--skip-broken",
    )


@dataclass(frozen=True)
class TeacherConfig(Settings):
    """The network whose features define the transport."""

    section = "teacher"
    backbone: str = setting(
        "resnet10-w16",
        "Image classifier whose features are used: Hub id, local folder (trained from scratch if "
        "it has no weights), or built-in: resnet18, resnet10-w16, convnet, convnet-w64, vit. "
        "[source: own choice, 92% on Fashion-MNIST in minutes on two CPU cores]",
        "--backbone",
        metavar="ID|PATH|NAME",
    )
    backbone_revision: str | None = setting(
        None,
        "Branch, tag or commit of a Hub backbone, ignored for others. [default: main]",
        "--backbone-revision",
        metavar="REV",
    )
    epochs: int = setting(
        10,
        "Epochs of training where the backbone's classes are not the dataset's. [source: own "
        "choice; official 50]",
        "--teacher-epochs",
        allowed=between(0, 10_000),
    )
    batch_size: int | None = setting(
        None,
        f"Images per step of that training. [default: 32 up to {LARGE_DATASET:,} images, 128 "
        "above, our measurement in tests/benchmarks/README.md#teacher]",
        allowed=between(1, 100_000),
    )
    allow_weak: bool = setting(
        False,
        "Go on with a teacher near chance. [default: stop, our choice]",
        "--allow-weak-teacher",
    )
    trust_remote_code: bool = setting(
        False,
        "Run code that a network's repository brings. [default: no, as in transformers]",
        "--trust-remote-code",
    )

    def batch(self, images: int) -> int:
        """Images per step of the training on a dataset of ``images``."""
        return min(self.batch_size or (32 if images <= LARGE_DATASET else 128), images)


@dataclass(frozen=True)
class BarycenterConfig(Settings):
    """Atoms and weights per class (paper, section 3.2)."""

    section = "barycenter"
    ipc: int = setting(
        10,
        f"Images per class, 1 to {MOST_IPC}. [source: the field's middle setting]",
        "--ipc",
        allowed=Range(f"a number from 1 to {MOST_IPC}", 1, math.inf),
    )
    images: int | None = setting(
        None,
        "Images in all, in place of a number for each class. [default: by the number per class]",
        "--images",
        allowed=Range("a number of images from 1", 1, 1e9),
        metavar="N",
    )
    allocation: Allocation = setting(
        "uniform",
        "How the images are shared out: the same number for each class, or more for classes "
        "whose W2 one more image lowers most. [source: the field's]",
        "--allocation",
        allowed=get_args(Allocation),
    )
    weights: Weights = setting(
        "uniform",
        "Masses of the atoms: equal, or optimised too, for a lower W2. [source: paper; own "
        "measurement agrees]",
        "--weights",
        allowed=get_args(Weights),
    )
    group_weights: GroupWeights = setting(
        "equal",
        "What each group of the group column counts: the same, or by its number of images. "
        "[source: Cuturi and Doucet 2014, their unweighted mean]",
        "--group-weights",
        allowed=get_args(GroupWeights),
    )
    restarts: int = setting(
        8,
        "Starts of k-means++ per class; there are more of them below 80 atoms. [source: own "
        "choice]",
        allowed=between(1, 10_000),
    )
    max_iterations: int = setting(
        100,
        "Iterations of k-means at most. [source: own choice; it converges long before]",
        allowed=between(1, 100_000),
    )

    def total(self, classes: int) -> int:
        """Images of all classes together."""
        return self.ipc * classes if self.images is None else self.images

    def mean(self, classes: int) -> int:
        """Images per class: of each, or on average, rounded."""
        return max(1, round(self.total(classes) / classes))

    def check(self, counts: Sequence[int]) -> None:
        """Raise OptionError unless the images can be shared out over classes of which so many real
        images are there.
        """
        classes, total = len(counts), self.total(len(counts))
        each, rest = divmod(total, classes)
        if each == 0:
            raise OptionError(
                f"`barycenter.images` is {total}, fewer than the {classes} classes; give {classes} "
                "or more"
            )
        if each > MOST_IPC:
            raise OptionError(
                f"`barycenter.images` is {total}, {each} for each class; give up to "
                f"{MOST_IPC * classes}"
            )
        if self.allocation == "uniform" and rest:
            raise OptionError(
                f"`barycenter.images` is {total}, which {classes} classes cannot share equally; "
                f"give {each * classes} or {(each + 1) * classes}, or `barycenter.allocation=w2`"
            )
        if self.allocation == "w2" and total > sum(counts):
            raise OptionError(
                f"{total} images are more than the {sum(counts)} real ones; lower "
                f"`barycenter.{'ipc' if self.images is None else 'images'}`"
            )


@dataclass(frozen=True)
class SynthesisConfig(Settings):
    """Pixels towards atoms and statistics (paper, section 3.3) in one or more feature spaces."""

    section = "synthesis"
    init: Init = setting(
        "real",
        "Start from the real image nearest to each atom, the mean of the real images that the "
        "atom stands for, or noise with the real images' spectrum. [source: own choice; official "
        "plain noise]",
        "--init",
        allowed=get_args(Init),
    )
    iterations: int = setting(
        300,
        "Synthesis steps. [source: own measurement; official 2000 from noise]",
        "--iterations",
        allowed=between(0, 100_000),
    )
    lr: float = setting(
        0.05,
        "Step size in units of the real images' deviation, frequency by frequency. [source: own "
        "measurement]",
        allowed=POSITIVE,
    )
    feature_weight: float = setting(
        0.05,
        "Weight of the distance to the atoms, in units of the class's variance. [source: own "
        "measurement]",
        allowed=NOT_NEGATIVE,
    )
    bn_weight: float = setting(
        10.0,
        "Weight of the norm-layer statistics. [source: official for ImageNette]",
        "--bn-weight",
        allowed=NOT_NEGATIVE,
    )
    ce_weight: float = setting(
        1.0,
        "Weight of the teacher's cross-entropy. [source: own measurement]",
        allowed=NOT_NEGATIVE,
    )
    feature_spaces: tuple[str, ...] = setting(
        ("convnet-w64:12",),
        "Networks beside the backbone in which the images are matched as well: Hub id, folder or "
        "built-in, randomly initialised if it has no weights; repeatable; none is the paper's "
        "method. [source: own measurement]",
        "--feature-spaces",
        metavar="NAME[:COUNT]",
    )
    space_weight: float = setting(
        0.1,
        "Length of these networks' gradient, as a share of the teacher's. [source: own "
        "measurement]",
        allowed=NOT_NEGATIVE,
    )
    space_mean_weight: float = setting(
        10.0,
        "Weight of the class mean in these networks, beside 1 of the single images. [source: own "
        "measurement]",
        allowed=NOT_NEGATIVE,
    )
    crop_min: float = setting(
        0.4,
        "Smallest share of the area that a random crop shows. [source: own measurement]",
        allowed=CROP,
    )
    whole_share: float = setting(
        0.5,
        "Share of the steps that see whole images instead of crops. [source: own measurement; "
        "official 0]",
        allowed=between(0, 1),
    )
    images_per_step: int = setting(
        100,
        "Images that are made together; groups of whole classes fill it. [source: official batch "
        "size]",
        allowed=between(1, 100_000),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pool()

    def pool(self) -> tuple[tuple[str, int], ...]:
        """(network, how many of it) for each of ``feature_spaces``; ``none`` means no pool."""
        networks = []
        for text in self.feature_spaces:
            name, colon, count = text.rpartition(":")
            if not (colon and count.isdecimal()):
                name, count = text, "1"
            if not name or not 1 <= int(count) <= 100:
                raise OptionError(
                    f"`synthesis.feature_spaces` is {text!r}; give a network, NETWORK:COUNT with a "
                    "count from 1 to 100, or none"
                )
            networks.append((name, int(count)))
        if ("none", 1) not in networks:
            return tuple(networks)
        if len(networks) > 1:
            raise OptionError(
                "`synthesis.feature_spaces=none` excludes others; leave out one or the other"
            )
        return ()


@dataclass(frozen=True)
class CodingConfig(Settings):
    """The files that images are published in."""

    section = "coding"
    image_format: ImageFormat = setting(
        "webp",
        "Format of the published images: WebP, or PNG, which is larger. [source: own measurement]",
        "--image-format",
        allowed=get_args(ImageFormat),
    )
    image_quality: str | None = setting(
        None,
        "Quality of WebP images: from 1 to 100, lossless, or auto for the coarsest that costs "
        f"short students no accuracy. [default: {WEBP_QUALITY}, own measurement]",
        "--image-quality",
        metavar="auto|lossless|1..100",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        quality = self.image_quality
        if quality in (None, "auto", "lossless"):
            return
        if not (quality.isascii() and quality.isdigit() and 1 <= int(quality) <= 100):
            raise OptionError(
                f"`coding.image_quality` is {quality!r}; give auto, lossless or a number from 1 "
                "to 100"
            )
        if self.image_format == "png":
            raise OptionError(
                f"`coding.image_quality` is {quality}, but PNG has no quality; leave it out or "
                "choose `coding.image_format=webp`"
            )


@dataclass(frozen=True)
class RelabelConfig(Settings):
    """Soft labels: the giver's mean logits over augmented views, as probabilities."""

    section = "relabel"
    views: int = setting(
        16,
        "Views of each image that the giver's answer is averaged over. [source: own choice]",
        allowed=between(1, 100_000),
    )
    crop_min: float = setting(
        0.4,
        "Smallest share of the area that a random crop shows. [source: own choice, as in "
        "synthesis]",
        allowed=CROP,
    )
    giver: Giver = setting(
        "auto",
        "Who labels the images: the teacher; a committee, which is the teacher and a small ConvNet "
        "that is trained briefly; none, for hard labels alone; or auto, the one from which short "
        "students learn most. [source: own measurement; official the teacher]",
        "--label-giver",
        allowed=get_args(Giver),
    )
    committee_steps: int = setting(
        400,
        "Steps of training of the committee's ConvNet. [source: own measurement]",
        allowed=between(1, 10**6),
    )


@dataclass(frozen=True)
class LabelViewsConfig(Settings):
    """The giver's logits for single views of each image, stored beside the soft labels."""

    section = "label_views"
    count: int | None = setting(
        None,
        "Views of each image whose labels are published too, so that students need no teacher; 0 "
        f"for none. [default: {VIEWS}, our measurement, or fewer where that would be more than 50 "
        "million logits; official one per epoch]",
        "--label-views",
        allowed=between(0, 1000),
        metavar="N",
    )
    topk: int | None = setting(
        None,
        "Logits kept of each view, the largest; the others become one. Fewer views cost less "
        "accuracy. [default: all, as FKD does]",
        "--label-topk",
        allowed=Range("a number of logits from 1", 1, 1e9),
        metavar="K",
    )
    levels: int = setting(
        8,
        "Values that a stored logit can have; fewer cost accuracy. [source: own measurement]",
        allowed=between(1, 256),
    )
    crop_min: float = setting(
        0.4,
        "Smallest share of the area that a random crop shows. [source: own choice, as students "
        "see the images]",
        allowed=CROP,
    )
    budget: int | None = setting(
        None,
        "As many of the views as fit into so many bytes, such as 15kB or 2MB. [default: no limit "
        "where their number is given, else as many bytes as the images take, our choice]",
        "--label-budget",
        allowed=Range("a number of bytes from 1", 1, 1e18),
        metavar="BYTES",
    )

    def number(self, images: int, classes: int) -> int:
        """Views of each of so many images, as far as the budget does not limit them."""
        if self.count is not None:
            return self.count
        return max(1, min(VIEWS, MOST_LOGITS // (images * min(classes, self.topk or classes))))


@dataclass(frozen=True)
class StudentConfig(Settings):
    """How students are trained (paper, section 4.1, and the official validation recipe)."""

    section = "evaluate"
    enabled: bool = setting(
        True,
        "Students at the end of the run; the flag skips them. [default: train them, our choice]",
        "--no-evaluate",
    )
    students: tuple[str, ...] = setting(
        (),
        "Architecture to train, from random weights: Hub id, local folder or built-in; "
        "repeatable. [default: the teacher's, our choice; of a set of others resnet10-w16]",
        "--student",
        metavar="ID|PATH|NAME",
    )
    labels: tuple[Labels, ...] = setting(
        (),
        "Labels that students see: hard, the classes; soft, the one published label of each "
        "image; views, those of single views; teacher, the teacher's answer to every batch. "
        "Repeatable. [default: the best that is published, and hard: what a user of the files "
        "alone can do; official teacher]",
        "--labels",
        allowed=get_args(Labels),
    )
    epochs: int | None = setting(
        None,
        "Epochs of each student; other sets of images get as many optimiser steps. [default: 100 "
        f"up to {LARGE_SET} images, then fewer for as many steps, but not fewer than "
        f"{LEAST_EPOCHS}, our choice; official 300]",
        "--eval-epochs",
        allowed=between(1, 100_000),
    )
    steps: int | None = setting(
        None, "Optimiser steps, instead of epochs. [default: by epochs]", allowed=between(1, 10**7)
    )
    seeds: int = setting(
        2,
        "Students per row of the results. [source: own choice, the fewest that show a spread]",
        "--eval-seeds",
        allowed=between(1, 100),
    )
    batch_size: int | None = setting(
        None,
        "Images per step. [default: 32, or 128 for sets so large that they are seen "
        f"{LEAST_EPOCHS} times, our choice; official 64]",
        allowed=between(1, 100_000),
    )
    optimizers: tuple[Optimizer, ...] = setting(
        ("adamw",),
        "Optimiser of students: adamw, or sgd (momentum 0.9). Repeatable: of both, each trains all "
        "students, and the report says whether a gain under one survives the other. [source: "
        "official AdamW]",
        allowed=get_args(Optimizer),
    )
    lr: float | None = setting(
        None,
        f"Learning rate, with cosine decay; of one optimiser only. [default: 0.001 of AdamW, "
        f"official; {SGD_LR} of SGD, our measurement in tests/benchmarks/README.md#optimisers]",
        allowed=POSITIVE,
    )
    weight_decay: float | None = setting(
        None,
        "Weight decay; of one optimiser only. [default: 0.01 of AdamW, official; 0.0005 of SGD, "
        "as DatasetCondensation]",
        allowed=NOT_NEGATIVE,
    )
    temperature: float = setting(
        1.0,
        "Of labels that networks give. [source: own measurement; official 20]",
        allowed=POSITIVE,
    )
    crop_min: float = setting(
        0.4,
        "Smallest share of the area that a random crop shows. [source: own choice; official 0.08 "
        "at 224 px]",
        allowed=CROP,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.steps is not None:
            raise OptionError(
                "`evaluate.epochs` and `evaluate.steps` are both given; leave one of them out"
            )
        if not self.optimizers:
            raise OptionError("`evaluate.optimizers` is empty; give adamw, sgd or both")
        if len(set(self.optimizers)) > 1:
            for name in ("lr", "weight_decay"):
                if getattr(self, name) is not None:
                    raise OptionError(
                        f"`evaluate.{name}` is of one optimiser, but `evaluate.optimizers` names "
                        "two; leave out one or the other"
                    )

    def with_labels(self, *published: Labels) -> StudentConfig:
        """The same with its kinds of labels; where they are left open, the ``published`` ones."""
        return self if self.labels else dataclasses.replace(self, labels=published)

    def rates(self, optimizer: Optimizer) -> tuple[float, float]:
        """(learning rate, weight decay)."""
        lr, decay = RATES[optimizer]
        return self.lr or lr, decay if self.weight_decay is None else self.weight_decay

    def budget(self, images: int) -> tuple[int, int]:
        """(optimiser steps, batch size) for a set of ``images``.

        A student of a larger set sees no fewer images than one of a smaller set, within rounding.
        """
        epochs = max(LEAST_EPOCHS, math.ceil(100 * LARGE_SET / max(images, LARGE_SET)))
        size = min(self.batch_size or (32 if epochs > LEAST_EPOCHS else 128), images)
        return self.steps or (self.epochs or epochs) * math.ceil(images / size), size


_SEED = Option("Of everything random. [source: convention]", "--seed", between(0, 2**31 - 1))
_BUDGET = Option(
    "In place of --ipc: as many images (as WebP) and labels as fit into so many bytes of files, "
    "such as 120kB; short students choose how to spend them. [default: no limit]",
    "--budget",
    Range("a number of bytes from 1", 1, 1e18),
    "BYTES",
)
_PRECISION = Option(
    "bf16 forward passes in training and synthesis. [source: Accelerate]",
    "--mixed-precision",
    get_args(Precision),
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
    seed: int = field(default=0, metadata={"option": _SEED})
    mixed_precision: Precision = field(default="no", metadata={"option": _PRECISION})

    def __post_init__(self) -> None:
        super().__post_init__()
        Option("", allowed=between(1, MOST_IPC)).check("barycenter.ipc", self.barycenter.ipc)
        if self.budget is not None and self.coding.image_format == "png":
            raise OptionError(
                "`budget` is spent on WebP images, but `coding.image_format` is png; leave it out"
            )
        if self.barycenter.images is not None and self.budget is not None:
            raise OptionError(
                "`barycenter.images` and `budget` are both given; leave one of them out"
            )
        if "views" in self.evaluate.labels and self.label_views.count == 0:
            raise OptionError(
                "`evaluate.labels=views` needs stored views; give their number with "
                "`label_views.count`"
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
class EvaluateConfig(Settings):
    """What is compared with what: a set, real images, students."""

    source: str
    columns: DataConfig = field(
        default_factory=DataConfig,
        metadata=section(
            train_split=Option(
                "Of SOURCE. [default: train, or the only one]", "--split", metavar="NAME"
            ),
            image_column=Option(
                "Of SOURCE. [default: the only one]", "--image-column", metavar="NAME"
            ),
            label_column=Option(
                "Of SOURCE. [default: the only one]", "--label-column", metavar="NAME"
            ),
        ),
    )
    against: DataConfig = field(
        default_factory=DataConfig,
        metadata=section(
            dataset=Option(
                "Real dataset. [default: the one that SOURCE was made from]",
                "--against",
                metavar="ID|PATH",
            ),
            config_name=Option(
                "Configuration of the real dataset. [default: its own]",
                "--config-name",
                metavar="NAME",
            ),
            revision=Option(
                "Branch, tag or commit of the real dataset. [default: main]",
                "--revision",
                metavar="REV",
            ),
            train_split=Option(
                "Of the real dataset. [default: train]", "--train-split", metavar="NAME"
            ),
            eval_split=Option(
                "Of the real dataset. [default: validation (valid, val, dev) or test (eval)]",
                "--eval-split",
                metavar="NAME",
            ),
            resolution=Option(
                "Side of the square images. [default: the set's own; for a set of others, the "
                "teacher's, or the real images' up to 64, else 224]",
                "--resolution",
                metavar="PIXELS",
            ),
            image_column="",
            label_column="",
        ),
    )
    teacher: str | None = setting(
        None,
        "Network that knows the classes, for soft labels of real images, labels of the teacher, "
        "nearest, herding and k-centre. [default: the run's own]",
        "--teacher",
        metavar="ID|PATH",
    )
    space: Space = setting(
        "auto",
        "What the values in a .pt or .npz file of SOURCE are: pixels, or normalised by mean and "
        "deviation of the real dataset; auto tells by their range. [source: own choice]",
        "--space",
        allowed=get_args(Space),
    )
    tiles: int | None = setting(
        None,
        "Tiles on a side of each image in a .pt or .npz file of SOURCE, which are decoded as IDC "
        "does. [default: as names of its folder say (factor2), else 1]",
        "--tiles",
        allowed=between(1, 32),
        metavar="N",
    )
    recipe: RecipeName = setting(
        "default",
        "How students are trained: default, or the complete protocol of a paper, so that numbers "
        "can stand beside published ones; `wdistill recipes` describes them. Only epochs or steps, "
        "seeds, students and labels can be changed in those. [source: own choice, the recipe of "
        "`wdistill run`]",
        "--recipe",
        allowed=get_args(RecipeName),
    )
    evaluate: StudentConfig = field(
        default_factory=StudentConfig,
        metadata=section(
            students=Option(
                "Architecture to train, from random weights: Hub id, local folder or built-in; "
                "repeatable. [default: the recipe's; of default the set's own teacher's, or "
                "resnet10-w16]",
                "--student",
                metavar="ID|PATH|NAME",
            ),
            labels=Option(
                "Labels that students see: hard, the classes; soft, the one published label of "
                "each image; views, those of single views; teacher, the teacher's answer to every "
                "batch. Repeatable. [default: the recipe's; of default hard]",
                "--labels",
                get_args(Labels),
            ),
            seeds="--seeds",
            epochs="--epochs",
            steps="--steps",
            batch_size="--batch-size",
            optimizers="--optimizer",
            lr="--lr",
            weight_decay="--weight-decay",
            temperature="--temperature",
            crop_min="",
        ),
    )
    baselines: tuple[Baseline, ...] = setting(
        ("random",),
        "Real images to compare with: random (a new draw per seed), nearest (to the atoms of the "
        "barycenter), herding, k-centre (k-means in the teacher's features), easy (for an early "
        "network), tiles (four easy images in one), full, or none; and noise, images without "
        "content with the labels of the set. [source: own choice, what every real dataset has]",
        "--baselines",
        allowed=get_args(Baseline),
        metavar="NAME,...",
    )
    augmentation_robust: bool = setting(
        False,
        "Train without augmentation too, for DD-Ranking's augmentation-robust score. [default: "
        "no, our choice]",
        "--augmentation-robust",
    )
    trust_remote_code: bool = setting(
        False,
        "Run code that a network's repository brings. [default: no, as in transformers]",
        "--trust-remote-code",
    )
    seed: int = field(default=0, metadata={"option": _SEED})
    mixed_precision: Precision = field(default="no", metadata={"option": _PRECISION})

    def __post_init__(self) -> None:
        super().__post_init__()
        default = StudentConfig()
        changed = [n for n in FIXED if getattr(self.evaluate, n) != getattr(default, n)]
        self.check_recipe(*changed)

    def check_recipe(self, *names: str) -> None:
        """Raise OptionError if the recipe fixes one of the settings ``names`` of students."""
        for name in names:
            if self.recipe != "default" and name in FIXED:
                raise OptionError(
                    f"`evaluate.{name}` cannot be changed in recipe {self.recipe}, which fixes it; "
                    "leave it out, or choose `recipe=default`"
                )

    def command(self) -> str:
        """`wdistill evaluate` with these settings; those without a flag are left to a file."""
        return command_words(["evaluate", self.source], self, EvaluateConfig(self.source))


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
        "Threads that decode images. [default: the cores, shared by the processes of this machine, "
        "at most 16]",
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
