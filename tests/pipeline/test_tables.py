"""What a run says and where it writes: whatever its dataset and classes are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from wdistill.cli.runs import run
from wdistill.config import BarycenterConfig, DataConfig, RunConfig, SynthesisConfig
from wdistill.core.units import Shard
from wdistill.pipeline.api.calls import distill
from wdistill.pipeline.run_folder import default_output
from wdistill.pipeline.tables import transport_table


def test_class_names_cannot_steer_the_terminal() -> None:
    names = ("\x1b[2Jcat\nowned: 100 %", "\u202edog")
    lines = transport_table(names, np.ones((2, 2))).split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert lines[1].startswith("[2Jcat owned: 100 %")


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("me/my.set_1", "my.set_1-ipc1"),
        ("/data/my pictures (new)", "my-pictures-new-ipc1"),
        ("birds/*.parquet", "birds-ipc1"),
        ("/data/birds/*/train-[0-9]*.parquet", "birds-ipc1"),
        ("*.parquet", "dataset-ipc1"),
        ("..", "dataset-ipc1"),
        ("birds/train.parquet", "train-ipc1"),
    ],
)
def test_the_output_folder_is_a_plain_name(dataset: str, name: str) -> None:
    config = RunConfig(data=DataConfig(dataset=dataset), barycenter=BarycenterConfig(ipc=1))
    assert default_output(config) == Path("runs") / name
    for_convnets = replace(config, synthesis=SynthesisConfig(aim="convnet"))
    assert default_output(for_convnets) == Path("runs") / f"{name}-convnet"


@pytest.mark.parametrize(
    ("settings", "shard", "endings"),
    [
        ({}, None, ["-ipc10"]),
        ({"barycenter": {"images": 100, "allocation": "w2"}}, None, ["-100images", "-w2"]),
        ({"budget": 37_500, "synthesis": {"aim": "convnet"}}, None, ["-37500B", "-convnet"]),
        ({}, Shard(1, 4), ["-ipc10", "-shard-1-of-4"]),
    ],
)
def test_help_and_guide_know_how_the_output_folder_is_called(
    settings: dict[str, Any], shard: Shard | None, endings: list[str]
) -> None:
    config = RunConfig.from_dict({"data": {"dataset": "cifar10"}, **settings})
    assert default_output(config, shard) == Path("runs") / f"cifar10{''.join(endings)}"
    (option,) = (each for each in run.params if each.name == "output")
    assert isinstance(option, click.Option)
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    (said,) = (line for line in guide.splitlines() if "The folder of a run is" in line)
    for text in (option.help, distill.__doc__, said):
        assert text
        assert all(ending in text for ending in endings)
