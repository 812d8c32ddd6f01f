"""Which images, which labels."""

from __future__ import annotations

from dataclasses import dataclass

from wdistill.core.settings import Settings, between, setting


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
