"""Whatever Accelerate's variables say, a teacher is trained the same; keys have what matters."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.backbones import SIZE
from helpers.examples import manifest
from helpers.runs import small_source

from wdistill.artifact.manifest import Manifest
from wdistill.config import DataConfig, RunConfig, TeacherConfig
from wdistill.core.devices import open_accelerator
from wdistill.data.dataset import ImageData, load_data
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.errors import RunFolderError
from wdistill.networks.backbones import load_backbone, weights_sha256
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.teacher import training_key
from wdistill.networks.training import Checkpoint, train_teacher
from wdistill.pipeline.run_folder import claim

PIXELS = Preprocessing(SIZE, SIZE, (0.3, 0.3, 0.3), (0.35, 0.35, 0.35))
TEACHER = TeacherConfig(epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    source = small_source(tmp_path_factory.mktemp("source"))
    return load_data(DataConfig(dataset=str(source)), seed=0, ipc=1)


def trained(data: ImageData, folder: Path) -> str:
    """The hash of the weights that a little training ends with."""
    backbone = load_backbone(find_backbone("convnet", resolution=SIZE), data.class_names, PIXELS, 0)
    rows = data.train.take(range(24))
    checkpoint = Checkpoint(folder / "epoch.safetensors", "key")
    accelerator = open_accelerator("no", "cpu")
    train_teacher(backbone, PixelStore(rows, PIXELS), TEACHER, 0, accelerator, checkpoint)
    return weights_sha256(backbone.model)


@pytest.fixture(scope="module")
def expected(data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> str:
    return trained(data, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "variable",
    [
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4",
        "ACCELERATE_DYNAMO_BACKEND=EAGER",
        "ACCELERATE_MIXED_PRECISION=bf16",
        "ACCELERATE_MIXED_PRECISION=fp8",
        "ACCELERATE_FP8_BACKEND=TE",
        "ACCELERATE_USE_DEEPSPEED=true",
        "ACCELERATE_USE_FSDP=true",
        "ACCELERATE_TORCH_DEVICE=cuda",
        "ACCELERATE_DEBUG_MODE=perhaps",
        "LOCAL_RANK=-1",
    ],
)
def test_the_teacher_is_the_same(
    variable: str, data: ImageData, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable.split("="))
    assert trained(data, tmp_path) == expected


@pytest.mark.parametrize("content", [": not yaml [", "distributed_type: DEEPSPEED\nuse_cpu: no\n"])
def test_the_configuration_of_accelerate_is_not_read(
    content: str, data: ImageData, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "accelerate"
    home.mkdir()
    (home / "default_config.yaml").write_text(content)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert trained(data, tmp_path) == expected


def test_less_precise_float32_is_part_of_the_keys_and_recorded(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(find_backbone("convnet", resolution=SIZE), data.class_names, PIXELS, 0)
    claim(tmp_path, RunConfig(), "print")
    (tmp_path / "publish").mkdir()
    key = training_key(data, backbone, TEACHER, 0, "no")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert training_key(data, backbone, TEACHER, 0, "no") != key
    with pytest.raises(
        RunFolderError, match=r"environment\.NVIDIA_TF32_OVERRIDE was None and is now"
    ):
        claim(tmp_path, RunConfig(), "print")


def test_the_manifest_keeps_variables(tmp_path: Path) -> None:
    recorded = manifest(environment={"NVIDIA_TF32_OVERRIDE": "1"})
    recorded.write(tmp_path / "wdistill.json")
    assert Manifest.read(tmp_path / "wdistill.json").environment == {"NVIDIA_TF32_OVERRIDE": "1"}
    assert manifest().environment == {}
