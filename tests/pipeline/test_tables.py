"""What a run says and where it writes: whatever its dataset and classes are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wdistill.config import BarycenterConfig, DataConfig, RunConfig, SynthesisConfig
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
