"""What is compared with what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from wdistill.config.common import PRECISION, SEED
from wdistill.config.data import DataConfig
from wdistill.config.students import Labels, StudentConfig
from wdistill.core.settings import (
    Option,
    Precision,
    Settings,
    between,
    command_words,
    section,
    setting,
)
from wdistill.errors import OptionError

Baseline = Literal["random", "nearest", "herding", "k-centre", "easy", "tiles", "noise", "full"]
Space = Literal["auto", "pixels", "normalised"]
RecipeName = Literal["default", "classic", "idc", "wmdd", "edc"]

FIXED = (  # by a paper's recipe
    "batch_size",
    "optimizers",
    "lr",
    "weight_decay",
    "temperature",
    "crop_min",
)


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
    seed: int = field(default=0, metadata={"option": SEED})
    mixed_precision: Precision = field(default="no", metadata={"option": PRECISION})

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
