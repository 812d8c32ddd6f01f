"""From real images to a stranger's student: run, push over HTTP, `load_dataset`, train.

CIFAR-10 where it lies beside the repository (``../shared/data/cifar10``), else the embedded
Fashion-MNIST, which is real too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import student
from helpers.hub_server import ROOT, HubServer, hub_env
from helpers.pushes import TOKEN, add_users
from helpers.runs import run_wdistill, small_source

CIFAR = ROOT.parent / "shared" / "data" / "cifar10"
TRAIN, TEST, IPC = 500, 200, 10  # images of a class
SET = "alice/distilled"


def real_source(folder: Path) -> Path:
    if not (CIFAR / "train.parquet").exists():
        return small_source(folder, TRAIN)
    folder.mkdir()
    for split, count in (("train", TRAIN), ("test", TEST)):
        table = pq.read_table(CIFAR / f"{split}.parquet").rename_columns(["image", "label"])
        labels = table["label"].to_numpy()
        rows = np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)])
        data = datasets.Dataset(table.take(np.sort(rows)))
        features = {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)}
        data.cast(datasets.Features(features)).to_parquet(folder / f"{split}.parquet")
    return folder


@pytest.mark.slow
def test_a_strangers_student_learns_more_than_from_random_real_images(tmp_path: Path) -> None:
    source, run = real_source(tmp_path / "real"), tmp_path / "run"
    with HubServer() as hub:
        add_users(hub)
        env = hub_env(hub, tmp_path / "home", TOKEN)
        done = run_wdistill(
            "run", "--dataset", source, "--ipc", str(IPC), "--teacher-epochs", "15",
            "--iterations", "100", "--no-evaluate", "--output", run, "-q", env=env, timeout=1800,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        pushed = run_wdistill("push", run, SET, env=env)
        assert pushed.returncode == 0, pushed.stderr
        assert hub.sent("POST", f"{SET}/commit/main")
        trained = subprocess.run(
            [sys.executable, student.__file__, SET, str(source)],
            env=env, cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False,
        )  # fmt: skip
        assert trained.returncode == 0, trained.stderr[-3000:]
    found = json.loads(trained.stdout.splitlines()[-1])
    print(found)
    assert found["images"] == 10 * IPC
    assert not found["wdistill"]
    assert found["random"] > 0.15  # of ten classes
    assert found["distilled"] > found["random"] + 0.02
