"""The transport stage: the same files however many cores there are, and after an interruption."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wdistill.config import BarycenterConfig, DataConfig, RunConfig, SynthesisConfig
from wdistill.core.devices import open_accelerator
from wdistill.core.files import read_tensors
from wdistill.data.dataset import load_data
from wdistill.data.pixels import Decoding, PixelStore, Preprocessing
from wdistill.errors import NumericalError
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages import transport as stage

CLASSES, IMAGES = 5, 40
PIXELS = Preprocessing(16, 16, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def teacher() -> Any:
    data = load_data(DataConfig(), 0, 1)
    store = PixelStore(data.train, PIXELS)
    rows = [(store.labels == label).nonzero()[:IMAGES, 0] for label in range(CLASSES)]
    store = store.take(torch.cat(rows))
    model = new_network(find_backbone("convnet-w64", resolution=16), data.class_names, 16, 0)
    return SimpleNamespace(
        data=replace(data, class_names=data.class_names[:CLASSES]),
        images=store, network=FeatureNetwork(model, PIXELS, torch.device("cpu")), key="key",
        class_rows=lambda label: (store.labels == label).nonzero()[:, 0],
    )  # fmt: skip


def files(teacher: Any, folder: Path) -> dict[str, str]:
    """What the stage leaves in ``folder``: units of one or two classes of three images each."""
    config = RunConfig(
        barycenter=BarycenterConfig(ipc=3), synthesis=SynthesisConfig(images_per_step=6)
    )
    accelerator = open_accelerator("no", "cpu")
    run = Run(config, teacher.data, folder, accelerator, Decoding(), quiet=True)
    run.work.mkdir(parents=True, exist_ok=True)
    stage.transport_stage(run, teacher)
    return {path.name: digest(path) for path in run.work.iterdir()}


def digest(path: Path) -> str:
    """Of key and tensors; safetensors writes the entries of its header in any order."""
    tensors, metadata = read_tensors(path)
    parts = [name.encode() + tensor.numpy().tobytes() for name, tensor in sorted(tensors.items())]
    return sha256(metadata["key"].encode() + b"".join(parts)).hexdigest()


@pytest.fixture(scope="module")
def expected(teacher: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "own_cores", lambda _: 1)
        found = files(teacher, tmp_path_factory.mktemp("one"))
    assert len(found) > 2
    return found


@pytest.mark.parametrize("cores", [2, 8])
def test_files_do_not_depend_on_the_number_of_cores(
    cores: int, teacher: Any, expected: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stage, "own_cores", lambda _: cores)
    assert files(teacher, tmp_path) == expected


@pytest.mark.parametrize("error", [NumericalError("features are not finite"), KeyboardInterrupt()])
def test_an_error_of_a_thread_is_told_and_the_next_start_goes_on(
    error: BaseException, teacher: Any, expected: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The fourth class fails; what was finished before is not computed again."""
    monkeypatch.setattr(stage, "own_cores", lambda _: 2)
    solve, solved = stage.class_barycenter, []

    def failing(features: Any, *others: Any) -> Any:
        solved.append(features.sum())
        if len(solved) == 4:
            raise error
        return solve(features, *others)

    monkeypatch.setattr(stage, "class_barycenter", failing)
    with pytest.raises(type(error)):
        files(teacher, tmp_path)
    assert len(solved) <= CLASSES
    done = len(list((tmp_path / "work").iterdir()))
    solved[:] = [None] * 4
    assert files(teacher, tmp_path) == expected
    assert done < len(expected)
