"""A teacher learns from real images, can be stopped at any epoch, and is not believed blindly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.runs import embedded_table, small_source
from torch import Tensor
from transformers import ViTConfig

from wdistill.config import DataConfig, TeacherConfig
from wdistill.data.dataset import load_data
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.data.splits import ImageSplit
from wdistill.errors import NumericalError, WeakTeacherError
from wdistill.networks.architectures import ConvNetConfig
from wdistill.networks.backbones import Backbone, load_backbone, weights_sha256
from wdistill.networks.checkpoints.source import BackboneSource, find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.teacher import training_key
from wdistill.networks.training import (
    Checkpoint,
    check_not_weak,
    measure_accuracy,
    one_cycle,
    recipe_for,
    train_teacher,
)

SIZE = 28
NAMES = ("t-shirt", "trouser", "pullover")
PIXELS = Preprocessing(SIZE, SIZE, (0.3, 0.3, 0.3), (0.35, 0.35, 0.35))
CPU = torch.device("cpu")


def real_split(split: str, per_class: int) -> ImageSplit:
    """The first real images of the first three classes."""
    table = embedded_table(split, per_class, len(NAMES))
    rows = datasets.Dataset(datasets.table.InMemoryTable(table))
    rows = rows.cast_column("image", datasets.Image(decode=False))
    labels = table["label"].to_numpy().astype(np.int64)
    return ImageSplit(labels, rows, np.arange(len(labels)), split, "image")


@pytest.fixture(scope="module")
def train_split() -> ImageSplit:
    return real_split("train", 20)


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def source(name: str) -> BackboneSource:
    if name == "little":  # without batch statistics
        config = ConvNetConfig(width=16, depth=2, image_size=SIZE)
        return BackboneSource(name, config, None, False, None, False)
    return find_backbone(name, resolution=SIZE)


def fresh(name: str = "little", seed: int = 0) -> Backbone:
    return load_backbone(source(name), NAMES, PIXELS, seed)


class Stopping(PixelStore):
    """Real pixels, until epoch ``epoch`` (from 1) has had its first batch."""

    def __init__(self, split: ImageSplit, epoch: int) -> None:
        super().__init__(split, PIXELS)
        self.left = epoch

    def batches(self, rows: Sequence[int] | Tensor, batch_size: int) -> Iterator[Tensor]:
        self.left -= 1
        for pixels in super().batches(rows, batch_size):
            yield pixels
            if self.left == 0:
                raise KeyboardInterrupt


class Recorder:
    """Calls ``train_teacher`` on one dataset with short settings."""

    def __init__(self, split: ImageSplit, accelerator: Accelerator, folder: Path) -> None:
        self.split, self.accelerator, self.path = split, accelerator, folder / "epoch.safetensors"

    def __call__(
        self,
        backbone: Backbone,
        store: PixelStore | None = None,
        key: str = "key",
        path: Path | None = None,
        **settings: Any,
    ) -> str:
        config = TeacherConfig(**{"epochs": 3, "batch_size": 20, **settings})
        store = store or PixelStore(self.split, PIXELS)
        seed = 7
        checkpoint = Checkpoint(path or self.path, key)
        train_teacher(backbone, store, config, seed, self.accelerator, checkpoint)
        return weights_sha256(backbone.model)


@pytest.fixture
def train(train_split: ImageSplit, accelerator: Accelerator, tmp_path: Path) -> Recorder:
    return Recorder(train_split, accelerator, tmp_path)


# --- the schedule -------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 99, 1000])
def test_the_rate_rises_to_one_and_falls_towards_zero(steps: int) -> None:
    rates = np.array([one_cycle(step, steps) for step in range(steps)])
    assert rates.max() == 1
    assert (rates > 0).all()
    peak = int(rates.argmax())
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) <= 0).all()
    if steps >= 10:
        assert peak == pytest.approx(0.2 * steps, abs=1.5)
        assert rates[-1] <= 1.5 / (0.8 * steps)
        assert rates[0] <= 1.5 / (0.2 * steps)


def test_the_rate_is_linear_on_both_sides() -> None:
    rates = np.array([one_cycle(step, 100) for step in range(100)])
    np.testing.assert_allclose(rates[:20], np.arange(1, 21) / 20)
    np.testing.assert_allclose(rates[20:], np.arange(80, 0, -1) / 80)


@pytest.mark.parametrize(
    ("name", "optimizer"), [("resnet18", "SGD"), ("resnet10-w16", "SGD"), ("convnet", "AdamW")]
)
def test_networks_with_batch_statistics_learn_with_momentum(name: str, optimizer: str) -> None:
    backbone = fresh(name)
    tuned = recipe_for(replace(backbone, origin="fine_tuned"), 128)
    scratch = recipe_for(backbone, 128)
    assert scratch.optimizer == tuned.optimizer == optimizer
    assert tuned.lr < scratch.lr


@pytest.mark.parametrize("name", ["resnet10-w16", "convnet"])
def test_four_times_the_images_per_step_double_the_rate(name: str) -> None:
    little, large = (recipe_for(fresh(name), size) for size in (32, 128))
    assert large.lr == pytest.approx(2 * little.lr)
    assert large.weight_decay == little.weight_decay


@pytest.mark.parametrize(
    ("images", "size"), [(5, 5), (4_818, 32), (20_000, 32), (20_001, 128), (1_281_167, 128)]
)
def test_small_datasets_have_small_batches(images: int, size: int) -> None:
    assert TeacherConfig().batch(images) == size
    assert TeacherConfig(batch_size=50).batch(images) == min(50, images)


def test_every_part_of_the_recipe_is_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a run does not go on with a teacher of another recipe."""
    source = DataConfig(dataset=str(small_source(tmp_path)))
    data = load_data(source, seed=0, ipc=1)

    def key(**settings: Any) -> str:
        return training_key(data, fresh(), TeacherConfig(**settings), 0, "no")

    by_size = TeacherConfig().batch(len(data.train))
    assert key(batch_size=by_size) == key()
    keys = {key(), key(batch_size=by_size - 1), key(epochs=11)}
    for name in ("WARM_UP", "TRAIN_CROP_MIN"):
        monkeypatch.setattr(f"wdistill.networks.teacher.{name}", 0.123)
        keys.add(key())
    assert len(keys) == 5


# --- learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet10-w16", "little"])
def test_a_few_epochs_on_real_images_beat_chance(
    train: Recorder, accelerator: Accelerator, name: str
) -> None:
    test = PixelStore(real_split("test", 30), PIXELS)
    backbone = fresh(name)
    before = measure_accuracy(network_of(backbone), test, accelerator)
    backbone.model.requires_grad_(True)
    train(backbone, PixelStore(real_split("train", 40), PIXELS), epochs=6)
    after = measure_accuracy(network_of(backbone), test, accelerator)
    assert before < 0.6
    assert after > 0.6  # chance is a third
    assert not backbone.model.training


def network_of(backbone: Backbone) -> FeatureNetwork:
    return FeatureNetwork(backbone.model, PIXELS, CPU)


def test_accuracy_is_the_share_of_right_answers(
    accelerator: Accelerator, train_split: ImageSplit
) -> None:
    store, backbone = PixelStore(train_split, PIXELS), fresh()
    images = (store.get(range(len(store))).float() / 255 - 0.3) / 0.35
    with torch.no_grad():
        right = backbone.model(images).logits.argmax(1) == store.labels
    expected = int(right.sum()) / len(store)
    assert 0 < expected < 1
    for batch_size in (7, 256):
        measured = measure_accuracy(network_of(backbone), store, accelerator, batch_size)
        assert measured == pytest.approx(expected)


def test_training_depends_on_its_seed_alone(train: Recorder, tmp_path: Path) -> None:
    first = train(fresh(), epochs=1, path=tmp_path / "a")
    torch.manual_seed(123)
    assert train(fresh(), epochs=1, path=tmp_path / "b") == first
    assert train(fresh(seed=1), epochs=1, path=tmp_path / "c") != first


def test_pixels_kept_in_memory_train_the_same_network(train: Recorder, tmp_path: Path) -> None:
    kept = PixelStore(train.split, PIXELS)
    kept.get(range(len(kept)))
    first = train(fresh(), kept, epochs=1, path=tmp_path / "a")
    assert train(fresh(), epochs=1, path=tmp_path / "b") == first


def test_a_batch_may_be_larger_than_the_dataset(train: Recorder) -> None:
    backbone = fresh()
    before = weights_sha256(backbone.model)
    assert train(backbone, epochs=1, batch_size=1000) != before
    assert all(torch.isfinite(p).all() for p in backbone.model.parameters())


def test_no_epochs_change_nothing(train: Recorder) -> None:
    backbone = fresh()
    before = weights_sha256(backbone.model)
    assert train(backbone, epochs=0) == before


@pytest.mark.parametrize("epoch", [None, 2])
def test_dropout_is_seeded(train: Recorder, tmp_path: Path, epoch: int | None) -> None:
    """Also in a training that was stopped."""
    config = ViTConfig(
        hidden_size=16, image_size=SIZE, patch_size=14, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=24, hidden_dropout_prob=0.5,
    )  # fmt: skip
    vit = BackboneSource("vit", config, None, False, None, False)
    whole = train(load_backbone(vit, NAMES, PIXELS, 0), path=tmp_path / "whole")
    if epoch is not None:
        with pytest.raises(KeyboardInterrupt):
            train(load_backbone(vit, NAMES, PIXELS, 0), Stopping(train.split, epoch))
    torch.manual_seed(123)
    assert train(load_backbone(vit, NAMES, PIXELS, 0)) == whole


# --- stopping and going on ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet10-w16", "little"])
@pytest.mark.parametrize("epoch", [2, 3])
def test_a_stopped_training_goes_on_to_the_same_weights(
    train: Recorder, tmp_path: Path, name: str, epoch: int
) -> None:
    """Bit by bit: weights, batch statistics, the optimizer's memory, order and crops."""
    whole = train(fresh(name), path=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(fresh(name), Stopping(train.split, epoch))
    assert train.path.exists()
    torch.manual_seed(55)
    once_more = Stopping(train.split, 3 - epoch + 2)  # one epoch more than are left
    assert train(fresh(name), once_more) == whole
    assert once_more.left == 1  # it did not begin anew


def test_a_training_stopped_in_its_first_epoch_begins_anew(train: Recorder, tmp_path: Path) -> None:
    whole = train(fresh(), path=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), Stopping(train.split, 1))
    assert not train.path.exists()
    assert train(fresh()) == whole


def test_a_finished_training_is_not_repeated(train: Recorder) -> None:
    whole = train(fresh())
    assert train(fresh(), Stopping(train.split, 1)) == whole


def test_another_trainings_checkpoint_is_ignored(train: Recorder, tmp_path: Path) -> None:
    whole = train(fresh(), path=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(fresh(seed=9), Stopping(train.split, 2), key="another")
    assert train.path.exists()
    assert train(fresh(), key="key") == whole


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_a_damaged_checkpoint_is_ignored(train: Recorder, tmp_path: Path, damage: str) -> None:
    whole = train(fresh(), epochs=2, path=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), Stopping(train.split, 2), epochs=2)
    data = bytearray(train.path.read_bytes())
    if damage == "flipped":
        data[-1000] ^= 1
    train.path.write_bytes({"cut": data[:-10], "flipped": data, "text": b"hello"}[damage])
    assert train(fresh(), epochs=2) == whole


# --- doubt --------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_training(train: Recorder) -> None:
    backbone = fresh()
    backbone.model.classifier.weight.data[0, 0] = float("nan")
    with pytest.raises(NumericalError, match=r"not finite in epoch 1; choose another network"):
        train(backbone)
    assert not train.path.exists()  # nothing worth going on from


def balanced(split: ImageSplit, counts: Sequence[int]) -> PixelStore:
    """A store of which only the labels matter."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return PixelStore(replace(split, labels=labels, rows=np.zeros_like(labels)), PIXELS)


@pytest.mark.parametrize(("per_class", "accuracy"), [(20, 0.2), (20, 0.12), (1000, 0.14)])
def test_near_chance_stops_the_run(
    train_split: ImageSplit, per_class: int, accuracy: float
) -> None:
    store = balanced(train_split, [per_class] * 10)
    with pytest.raises(WeakTeacherError, match=r"accuracy 1\d\.0%|accuracy 20\.0%") as caught:
        check_not_weak(accuracy, store, fresh())
    assert "chance is 10.0%" in str(caught.value)
    assert str(caught.value).endswith("`teacher.allow_weak=True` goes on")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("per_class", "accuracy"), [(20, 0.22), (20, 0.5), (1000, 0.16)])
def test_better_than_chance_goes_on(
    train_split: ImageSplit, per_class: int, accuracy: float
) -> None:
    check_not_weak(accuracy, balanced(train_split, [per_class] * 10), fresh())


def test_chance_is_the_share_of_the_largest_class(train_split: ImageSplit) -> None:
    """Answering with the most frequent class is no skill."""
    store = balanced(train_split, [900, 50, 50])
    with pytest.raises(WeakTeacherError, match=r"chance is 90\.0%"):
        check_not_weak(0.9, store, fresh())
    check_not_weak(0.96, store, fresh())


@pytest.mark.parametrize(
    ("origin", "cause"),
    [
        ("as_is", "its classes match by name, so the resolution or the normalisation"),
        ("fine_tuned", "it was fine-tuned too briefly, or the labels are noise"),
        ("from_scratch", "it was trained too briefly or on too few images"),
    ],
)
def test_the_likely_cause_is_named(train_split: ImageSplit, origin: Any, cause: str) -> None:
    backbone = replace(fresh(), origin=origin)
    with pytest.raises(WeakTeacherError, match=cause) as caught:
        check_not_weak(0.3, balanced(train_split, [50] * 3), backbone)
    text = str(caught.value)
    assert "'little'" in text
    assert ("28 px" in text) == (origin == "as_is")
    assert ("teacher.epochs" in text) == (origin != "as_is")
