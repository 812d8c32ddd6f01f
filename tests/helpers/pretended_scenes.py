"""The commands that together send every tensor of a run to the pretended device, each small."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from helpers.runs import embedded_table, small_source

VIT = Path(__file__).parents[1] / "benchmarks" / "vit-mini"
TINTS = ((255, 96, 64), (64, 255, 128), (96, 128, 255))
UNTRAINED = (
    "--ipc", "2", "--iterations", "4", "--teacher-epochs", "1", "--allow-weak-teacher",
)  # fmt: skip
TINY = (
    *UNTRAINED,
    "--eval-epochs",
    "3",
    "--eval-seeds",
    "1",
    "--feature-spaces",
    "convnet-w64:1",
)
SHORT = ("--seeds", "1", "--steps", "3", "--student", "convnet-w64")
Command = Sequence[str | Path]


def tinted_source(folder: Path, per_class: int, classes: int) -> Path:
    """Images of the embedded subset, each class in a colour; as many for the test."""
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        table = embedded_table(split, per_class, classes)
        rows = table.to_pylist()
        for row in rows:
            tint, file = TINTS[row["label"] % len(TINTS)], io.BytesIO()
            with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
                bands = [image.point([v * t // 255 for v in range(256)]) for t in tint]
            Image.merge("RGB", bands).save(file, "PNG")
            row["image"] = {"bytes": file.getvalue(), "path": None}
        pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / f"{split}.parquet")
    return folder


def scenes(folder: Path) -> Mapping[str, Command]:
    """In the order in which they are to run; those before the last few make what those need."""
    grey, tinted = folder / "grey", folder / "tinted"
    few = folder / "few.yaml"
    if not grey.exists():
        small_source(grey, 20, 6)  # in four groups, two of them of two classes
        tinted_source(tinted, 8, 3)
        few.write_text("{relabel: {committee_steps: 3, views: 2}, synthesis: {state_steps: 2}}")
    few_steps = (*TINY, "--iterations", "2", "--eval-epochs", "1")
    return {
        "run": (
            "run", "--config", few, "--dataset", grey, *TINY, "--backbone", "resnet10-w16",
            "--label-giver", "teacher", "--label-views", "2", "--output", folder / "run",
        ),
        "vit": (
            "run", "--config", few, "--dataset", tinted, *TINY,
            "--backbone", VIT, "--resolution", "32",
            "--mixed-precision", "bf16", "--label-giver", "committee", "--label-views", "2",
            "--image-format", "webp", "--image-quality", "20", "--student", "resnet10-w16",
            "--output", folder / "vit",
        ),
        "choices": (
            "run", "--config", few, "--dataset", tinted, *TINY,
            "--backbone", "resnet10-w16", "--init", "mean",
            "--label-giver", "auto", "--label-views", "2", "--weights", "free",
            "--output", folder / "choices",
        ),
        "convnets": (
            "run", "--config", few, "--dataset", tinted, *UNTRAINED, "--backbone", "resnet10-w16",
            "--for", "convnet", "--label-giver", "none", "--label-views", "0", "--no-evaluate",
            "--output", folder / "convnets",
        ),
        "evaluate": (
            "evaluate", folder / "run", *SHORT, "--labels", "hard", "--labels", "teacher",
            "--labels", "views", "--baselines", "random,nearest,easy,full",
            "--output", folder / "report",
        ),
        "recipe": (
            "evaluate", folder / "run", "--recipe", "idc", "--steps", "3", "--seeds", "1",
            "--student", "convnet-w64", "--baselines", "none", "--output", folder / "idc",
        ),
        "several": (
            "evaluate", folder / "run", folder / "grey", "--against", grey, *SHORT,
            "--labels", "hard", "--baselines", "random", "--output", folder / "several",
        ),
        "estimate": (
            "estimate", "--dataset", tinted, *few_steps, "--backbone", "resnet10-w16",
            "--label-giver", "none", "--no-evaluate",
        ),
        "reproduce": (
            "reproduce", folder / "run", "--dataset", grey, "--output", folder / "again",
        ),
    }  # fmt: skip
