"""The options of `wdistill run`, each with its default and the source of it, and their meaning."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from wdistill.config import (
    BarycenterConfig,
    DataConfig,
    Labels,
    LabelViewsConfig,
    RunConfig,
    RuntimeConfig,
    StudentConfig,
    SynthesisConfig,
    TeacherConfig,
    Tracker,
)

F = TypeVar("F", bound=Callable[..., Any])


class ByteSize(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    """A number of bytes, with or without a unit: 15000, 15kB, 2MB, 1.5GB."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", str(value).strip().lower())
        if not found:
            self.fail(f"{value!r} is no number of bytes such as 15kB or 2MB", param, ctx)
        return round(float(found[1]) * 1000.0 ** " kmg".index(found[2] or " "))


DEFAULTS = RunConfig()
MACHINE_OPTIONS = (  # of `wdistill evaluate` and `wdistill reproduce` as well
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="Where to compute. auto: CUDA, then MPS, then CPU. [source: Accelerate]",
    ),
    click.option(
        "--num-workers",
        type=int,
        default=0,
        show_default=True,
        help="Processes that decode images. [source: PyTorch's DataLoader]",
    ),
    click.option(
        "--num-processes",
        type=click.IntRange(1, 1024),
        default=1,
        show_default=True,
        help="Processes that share the work on this machine, each on a GPU of its own where there "
        "are some; several machines: `accelerate launch -m wdistill ...`.",
    ),
    click.option(
        "--trust-remote-code",
        is_flag=True,
        help="Run code that a network's repository brings. [default: no, as in transformers]",
    ),
)
RUNTIME_OPTIONS = (  # of `wdistill evaluate` as well
    click.option(
        "--seed",
        type=int,
        default=DEFAULTS.seed,
        show_default=True,
        help="Of everything random. [source: convention]",
    ),
    click.option(
        "--mixed-precision",
        type=click.Choice(["no", "bf16"]),
        default=DEFAULTS.mixed_precision,
        show_default=True,
        help="bf16 forward passes in training and synthesis. [source: Accelerate]",
    ),
    *MACHINE_OPTIONS,
)
OPTIONS = (
    click.option(
        "--dataset",
        metavar="ID|PATH",
        help="Hub dataset id, image folder, parquet file or folder, or save_to_disk folder. "
        "[default: the Fashion-MNIST subset in the package]",
    ),
    click.option(
        "--backbone",
        metavar="ID|PATH|NAME",
        default=DEFAULTS.teacher.backbone,
        show_default=True,
        help="Image classifier whose features are used: Hub id, local folder (trained from "
        "scratch if it has no weights), or built-in: resnet18, resnet10-w16, convnet, "
        "convnet-w64, vit. The default is this tool's choice for two CPU cores.",
    ),
    click.option(
        "--backbone-revision",
        metavar="REV",
        help="Branch, tag or commit of a Hub backbone, ignored for others. [default: main]",
    ),
    click.option(
        "--ipc",
        type=int,
        default=DEFAULTS.barycenter.ipc,
        show_default=True,
        help="Images per class, 1 to 100. [source: the field's middle setting]",
    ),
    click.option(
        "--output",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Run folder; the same command resumes it. [default: runs/<dataset>-ipc<n>]",
    ),
    click.option(
        "--track",
        type=click.Choice(get_args(Tracker)),
        help="Where losses and accuracies can be followed. [default: nowhere]",
    ),
    click.option(
        "--config-name", metavar="NAME", help="Configuration of a Hub dataset. [default: its own]"
    ),
    click.option(
        "--revision", metavar="REV", help="Branch, tag or commit of a Hub dataset. [default: main]"
    ),
    click.option("--image-column", metavar="NAME", help="[default: the only image column]"),
    click.option("--label-column", metavar="NAME", help="[default: the only label column]"),
    click.option(
        "--group-column",
        metavar="NAME",
        help="Column of a domain, client, sex, ...: the barycenter is then that of the groups of "
        "each class. [default: one measure per class, as in the paper]",
    ),
    click.option("--train-split", metavar="NAME", help="[default: train]"),
    click.option(
        "--eval-split",
        metavar="NAME",
        help="[default: validation, valid, val or test; else a seeded 10% of train]",
    ),
    click.option(
        "--resolution",
        type=int,
        metavar="PIXELS",
        help="Side of the square images. [default: the image processor's; without one the "
        "images' own up to 64, else 224]",
    ),
    click.option(
        "--skip-broken",
        is_flag=True,
        help="Leave out images that cannot be decoded, and count them. [default: stop, our choice]",
    ),
    click.option(
        "--streaming",
        is_flag=True,
        help="Do not store the dataset: read it from the Hub once, and keep of each image what the "
        "backbone sees. [default: no, as in datasets]",
    ),
    click.option(
        "--teacher-epochs",
        type=int,
        default=DEFAULTS.teacher.epochs,
        show_default=True,
        help="Epochs of training where the backbone's classes are not the dataset's. "
        "[source: own choice; official 50]",
    ),
    click.option(
        "--allow-weak-teacher",
        is_flag=True,
        help="Go on with a teacher near chance. [default: stop, our choice]",
    ),
    click.option(
        "--weights",
        type=click.Choice(["uniform", "free"]),
        default=DEFAULTS.barycenter.weights,
        show_default=True,
        help="Masses of the atoms: equal, or optimised too, for a lower W2. [source: paper; own "
        "measurement agrees]",
    ),
    click.option(
        "--group-weights",
        type=click.Choice(["equal", "proportional"]),
        default=DEFAULTS.barycenter.group_weights,
        show_default=True,
        help="What each group of --group-column counts: the same, or by its number of images. "
        "[source: Cuturi and Doucet 2014]",
    ),
    click.option(
        "--init",
        type=click.Choice(["real", "mean", "noise"]),
        default=DEFAULTS.synthesis.init,
        show_default=True,
        help="Start from the real image nearest to each atom (our choice), the mean of the real "
        "images that the atom stands for, or noise with the real images' spectrum (official: "
        "plain noise).",
    ),
    click.option(
        "--iterations",
        type=int,
        default=DEFAULTS.synthesis.iterations,
        show_default=True,
        help="Synthesis steps. [source: own measurement; official 2000 from noise]",
    ),
    click.option(
        "--bn-weight",
        type=float,
        default=DEFAULTS.synthesis.bn_weight,
        show_default=True,
        help="Weight of the norm-layer statistics. [source: official for ImageNette]",
    ),
    click.option(
        "--feature-spaces",
        multiple=True,
        metavar="NAME[:COUNT]",
        default=DEFAULTS.synthesis.feature_spaces,
        show_default=True,
        help="Networks beside the backbone in which the images are matched as well: Hub id, folder "
        "or built-in, randomly initialised if it has no weights; repeatable; none is the paper's "
        "method. [source: own measurement]",
    ),
    click.option(
        "--label-views",
        type=int,
        default=DEFAULTS.label_views.count,
        show_default=True,
        help="Views of each image whose labels are published too, so that students need no "
        "teacher; 0 for none. [source: own choice; official one per epoch]",
    ),
    click.option(
        "--label-topk",
        type=int,
        metavar="K",
        help="Logits kept of each view, the largest; the others become one. Fewer views cost less "
        "accuracy. [default: all]",
    ),
    click.option(
        "--label-budget",
        type=ByteSize(),
        metavar="BYTES",
        help="As many of the views as fit into so many bytes, such as 15kB or 2MB. "
        "[default: no limit]",
    ),
    click.option(
        "--student",
        "students",
        multiple=True,
        metavar="ID|PATH|NAME",
        help="Architecture to evaluate with, from random weights; repeatable. "
        "[default: the backbone's, our choice]",
    ),
    click.option(
        "--labels",
        type=click.Choice(get_args(Labels)),
        multiple=True,
        default=DEFAULTS.evaluate.labels,
        show_default=True,
        help="Labels that students see: classes, the published soft labels, those of the published "
        "views (--label-views), or the teacher's answer to every batch; repeatable. "
        "[source: own choice; official teacher]",
    ),
    click.option(
        "--eval-epochs",
        type=int,
        metavar="INTEGER",
        help="Epochs of each student. [default: 100 up to 500 images, 30 above, our choice; "
        "official 300]",
    ),
    click.option(
        "--eval-seeds",
        type=int,
        default=DEFAULTS.evaluate.seeds,
        show_default=True,
        help="Students per row of the results. [source: own choice, the fewest that show a spread]",
    ),
    click.option(
        "--no-evaluate", is_flag=True, help="Skip the students. [default: evaluate, our choice]"
    ),
    click.option(
        "--push-to",
        metavar="REPO_ID",
        help="Push the finished set to this dataset repository; your right to write there is "
        "checked first. [default: no push]",
    ),
    *RUNTIME_OPTIONS,
)


def run_options(command: F) -> F:
    """Decorate ``command`` with OPTIONS, which its help shows in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def machine_options(command: F) -> F:
    """Decorate ``command`` with MACHINE_OPTIONS alone: those that do not change the result."""
    for option in reversed(MACHINE_OPTIONS):
        command = option(command)
    return command


def settings(options: dict[str, Any]) -> tuple[RunConfig, RuntimeConfig]:
    """What the given options say, validated. Raises OptionError."""
    data = DataConfig(
        dataset=options["dataset"],
        config_name=options["config_name"],
        revision=options["revision"],
        image_column=options["image_column"],
        label_column=options["label_column"],
        group_column=options["group_column"],
        train_split=options["train_split"],
        eval_split=options["eval_split"],
        resolution=options["resolution"],
        skip_broken=options["skip_broken"],
    )
    teacher = TeacherConfig(
        backbone=options["backbone"],
        backbone_revision=options["backbone_revision"],
        epochs=options["teacher_epochs"],
        allow_weak=options["allow_weak_teacher"],
        trust_remote_code=options["trust_remote_code"],
    )
    evaluate = StudentConfig(
        enabled=not options["no_evaluate"],
        students=tuple(dict.fromkeys(options["students"])),
        labels=tuple(dict.fromkeys(options["labels"])),
        epochs=options["eval_epochs"],
        seeds=options["eval_seeds"],
    )
    config = RunConfig(
        data=data,
        teacher=teacher,
        barycenter=BarycenterConfig(
            ipc=options["ipc"],
            weights=options["weights"],
            group_weights=options["group_weights"],
        ),
        synthesis=SynthesisConfig(
            init=options["init"],
            iterations=options["iterations"],
            bn_weight=options["bn_weight"],
            feature_spaces=tuple(dict.fromkeys(options["feature_spaces"])),
        ),
        label_views=LabelViewsConfig(
            count=options["label_views"],
            topk=options["label_topk"],
            budget=options["label_budget"],
        ),
        evaluate=evaluate,
        seed=options["seed"],
        mixed_precision=options["mixed_precision"],
    )
    return config, runtime_settings(options)


def runtime_settings(options: dict[str, Any]) -> RuntimeConfig:
    return RuntimeConfig(
        options["device"],
        options["num_workers"],
        options["quiet"],
        options.get("track"),
        options.get("streaming", False),
    )
