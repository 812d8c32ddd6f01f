"""The options of `wdistill evaluate`, and their meaning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from wdistill.cli.options import RUNTIME_OPTIONS, runtime_settings
from wdistill.config import (
    Baseline,
    DataConfig,
    EvaluateConfig,
    Labels,
    RuntimeConfig,
    StudentConfig,
)
from wdistill.errors import OptionError

F = TypeVar("F", bound=Callable[..., Any])
EVALUATE = StudentConfig()


def _read_config(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Settings of a YAML or JSON file become defaults; what the command line says wins."""
    if path is None:
        return
    import yaml

    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"--config {str(path)!r} is not YAML or JSON: {error}") from error
    if not isinstance(values, dict):
        raise OptionError(
            f"--config {str(path)!r} holds no settings; write one 'option: value' a line"
        )
    options = {
        option.lstrip("-").replace("-", "_"): parameter
        for parameter in context.command.params
        for option in parameter.opts
    }
    found = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in options or name == "config":
            allowed = ", ".join(sorted(options.keys() - {"config", "source", "help"}))
            raise OptionError(f"--config {str(path)!r} sets {key!r}; choose from {allowed}")
        found[str(options[name].name)] = _as_given(options[name], value)
    context.default_map = {**(context.default_map or {}), **found}


def _as_given(parameter: click.Parameter, value: Any) -> Any:
    """One value of a repeatable option as a list of it, a list of names as the text they make."""
    if getattr(parameter, "multiple", False) and not isinstance(value, list | None):
        return [value]
    if parameter.name == "baselines" and isinstance(value, list):
        return ",".join(map(str, value))
    return value


OPTIONS = (
    click.option(
        "--config",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        metavar="FILE",
        help="YAML or JSON with these options' names and values; the command line wins.",
    ),
    click.option(
        "--student",
        "students",
        multiple=True,
        metavar="ID|PATH|NAME",
        help="Architecture to train, from random weights: Hub id, local folder or built-in "
        "(resnet18, resnet10-w16, convnet, convnet-w64, vit); repeatable. "
        "[default: the teacher's if built in, else resnet10-w16]",
    ),
    click.option(
        "--labels",
        type=click.Choice(get_args(Labels)),
        multiple=True,
        default=("hard",),
        show_default=True,
        help="Labels that students see: hard, the classes; soft, the one stored label of each "
        "image; views, the stored ones of single views (of sets made with --label-views); teacher, "
        "the teacher's answer to every batch. Repeatable. [source: own choice, what every set has]",
    ),
    click.option(
        "--baselines",
        default="random",
        show_default=True,
        metavar="NAME,...",
        help="Real images to compare with: random (a new draw per seed), nearest (to the atoms of "
        "the barycenter), herding, full, or none.",
    ),
    click.option(
        "--against",
        metavar="ID|PATH",
        help="Real dataset. [default: the one that SOURCE was made from]",
    ),
    click.option("--config-name", metavar="NAME", help="Configuration of --against."),
    click.option("--revision", metavar="REV", help="Branch, tag or commit of --against."),
    click.option("--train-split", metavar="NAME", help="Of --against. [default: train]"),
    click.option(
        "--eval-split",
        metavar="NAME",
        help="Of --against. [default: validation, valid, val or test]",
    ),
    click.option("--split", metavar="NAME", help="Of SOURCE. [default: train, or the only one]"),
    click.option("--image-column", metavar="NAME", help="Of SOURCE. [default: the only one]"),
    click.option("--label-column", metavar="NAME", help="Of SOURCE. [default: the only one]"),
    click.option(
        "--resolution",
        type=int,
        metavar="PIXELS",
        help="Side of the square images. [default: the set's own; for a set of others, the "
        "teacher's, or the real images' up to 64, else 224]",
    ),
    click.option(
        "--teacher",
        metavar="ID|PATH",
        help="Network that knows the classes, for soft labels of real images, --labels teacher, "
        "nearest and herding. [default: the run's own]",
    ),
    click.option(
        "--seeds",
        type=int,
        default=EVALUATE.seeds,
        show_default=True,
        help="Students per row. [source: own choice, the fewest that show a spread]",
    ),
    click.option(
        "--epochs",
        type=int,
        help="Epochs over SOURCE; other sets of images get as many optimiser steps. "
        "[default: 100 up to 500 images, 30 above, our choice; official 300]",
    ),
    click.option("--steps", type=int, help="Optimiser steps, instead of --epochs."),
    click.option(
        "--batch-size", type=int, help="[default: 32 up to 500 images, 128 above; official 64]"
    ),
    click.option(
        "--lr",
        type=float,
        default=EVALUATE.lr,
        show_default=True,
        help="Of AdamW, with cosine decay. [source: official]",
    ),
    click.option(
        "--weight-decay",
        type=float,
        default=EVALUATE.weight_decay,
        show_default=True,
        help="[source: official]",
    ),
    click.option(
        "--temperature",
        type=float,
        default=EVALUATE.temperature,
        show_default=True,
        help="Of soft labels and of the teacher. [source: official]",
    ),
    click.option(
        "--augmentation-robust",
        is_flag=True,
        help="Train without augmentation too, for DD-Ranking's augmentation-robust score.",
    ),
    click.option(
        "--output",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="[default: report/ in a run folder, else reports/<name>]",
    ),
    *RUNTIME_OPTIONS,
)


def judge_options(command: F) -> F:
    """Decorate ``command`` with OPTIONS, which its help shows in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def judge_settings(source: str, options: dict[str, Any]) -> tuple[EvaluateConfig, RuntimeConfig]:
    """What the given options say, validated. Raises OptionError."""
    if options["epochs"] is not None and options["steps"] is not None:
        raise OptionError("--epochs and --steps are both given; leave one of them out")
    config = EvaluateConfig(
        source=source,
        columns=DataConfig(
            image_column=options["image_column"],
            label_column=options["label_column"],
            train_split=options["split"],
        ),
        against=DataConfig(
            dataset=options["against"],
            config_name=options["config_name"],
            revision=options["revision"],
            train_split=options["train_split"],
            eval_split=options["eval_split"],
            resolution=options["resolution"],
        ),
        teacher=options["teacher"],
        evaluate=_recipe(options),
        baselines=_baselines(options["baselines"]),
        augmentation_robust=options["augmentation_robust"],
        trust_remote_code=options["trust_remote_code"],
        seed=options["seed"],
        mixed_precision=options["mixed_precision"],
    )
    return config, runtime_settings(options)


def _recipe(options: dict[str, Any]) -> StudentConfig:
    names = ("seeds", "epochs", "steps", "batch_size", "lr", "weight_decay", "temperature")
    try:
        return StudentConfig(
            students=tuple(options["students"]),
            labels=tuple(dict.fromkeys(options["labels"])),
            **{name: options[name] for name in names},
        )
    except OptionError as error:  # the same settings have longer names in `wdistill run`
        raise OptionError(str(error).replace("--eval-", "--")) from error


def _baselines(text: str) -> tuple[Baseline, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    allowed = get_args(Baseline)
    for name in names:
        if name not in (*allowed, "none"):
            raise OptionError(
                f"--baselines is {text!r}; give names from {', '.join(allowed)}, or none"
            )
    return tuple(name for name in dict.fromkeys(names) if name != "none")  # type: ignore[misc]
