"""A published set in other people's hands: streaming, `transformers`' Trainer, the card's code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from helpers.examples import NAMES, distilled_set, manifest, write_set
from helpers.labels import teacher
from torch.nn.functional import kl_div
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

from wdistill.config import LabelViewsConfig
from wdistill.labels.rounding import rounded
from wdistill.labels.views import (
    LabelViews,
    ViewRecipe,
    all_logits,
    label_views,
    render,
    view_weights,
)
from wdistill.publishing.card.card import PLACEHOLDER_REPO, render_card

VIEWS = 6


def publish(folder: Path, topk: int | None) -> LabelViews:
    """A published folder, card included, whose views keep ``topk`` logits."""
    images = distilled_set()
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2)
    config = LabelViewsConfig(VIEWS, topk, levels=64)
    every = label_views(teacher(28, len(NAMES)), pixels, ViewRecipe(config, seed=1))
    views = rounded(every, config.levels, len(NAMES), 20.0)
    stored = {"views": VIEWS, "topk": topk or len(NAMES), "levels": 64, "temperature": 20.0}
    write_set(folder / "ipc4", images, manifest(label_views=stored), views)
    (folder / "README.md").write_text(render_card(folder))
    return views


@pytest.fixture(scope="module", params=[None, 2], ids=["all logits", "two logits"])
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, LabelViews]:
    folder = tmp_path_factory.mktemp("published")
    return folder, publish(folder, request.param)


# --- streaming ----------------------------------------------------------------------------------


def test_the_images_stream(published: tuple[Path, LabelViews]) -> None:
    stream = datasets.load_dataset(str(published[0]), split="train", streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    assert stream.features["label"].names == list(NAMES)
    rows, ours = list(stream), distilled_set()
    assert np.array_equal(np.stack([np.asarray(row["image"]) for row in rows]), ours.images)
    assert [row["label"] for row in rows] == ours.labels.tolist()
    assert np.array_equal(np.float32([row["soft_label"] for row in rows]), ours.soft_labels)
    assert np.array_equal(np.float32([row["weight"] for row in rows]), ours.weights)


def test_the_label_views_stream(published: tuple[Path, LabelViews]) -> None:
    folder, views = published
    stream = datasets.load_dataset(str(folder), "ipc4_soft_labels", split="train", streaming=True)
    rows = list(stream)
    assert len(rows) == len(views) == VIEWS * 12
    for name in ("image", "partner", "view", "flip", "mix", "crop", "logits"):
        assert torch.equal(torch.tensor([row[name] for row in rows]), getattr(views, name))
    assert ("classes" in rows[0]) == (views.logits.shape[1] < len(NAMES))


# --- Trainer ------------------------------------------------------------------------------------


def test_the_trainer_of_transformers_trains_on_it(
    published: tuple[Path, LabelViews], tmp_path: Path
) -> None:
    """The loop of their image-classification example: columns, transform, collate, Trainer."""
    data = datasets.load_dataset(str(published[0]), split="train")
    names = data.features["label"].names

    def transform(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        pixels = [np.array(image.convert("RGB")) for image in batch["image"]]
        batch["pixel_values"] = [torch.from_numpy(p).permute(2, 0, 1) / 127.5 - 1 for p in pixels]
        return batch

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {
            "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
            "labels": torch.tensor([row["label"] for row in rows]),
        }

    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
        id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=20, per_device_train_batch_size=6, learning_rate=1e-2,
        logging_steps=1, remove_unused_columns=False, report_to="none", save_strategy="no",
        use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=ResNetForImageClassification(config), args=arguments,
        train_dataset=data.with_transform(transform), data_collator=collate,
    )  # fmt: skip
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


# --- the card's code ----------------------------------------------------------------------------


@pytest.fixture
def card_code(published: tuple[Path, LabelViews]) -> list[str]:
    """The Python blocks of the card: load it, train on label views."""
    folder, _ = published
    card = (folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(blocks) == 2
    return [block.replace(PLACEHOLDER_REPO, str(folder)) for block in blocks]


def fewer(code: str, steps: int) -> str:
    short, count = re.subn(r"\[:\d{3,}\]:", f"[:{steps}]:", code)
    assert count == 1
    return short


@pytest.fixture
def trained(card_code: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The names that the card's code leaves, and its model as it was before."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    untrained: dict[str, Any] = {}
    names: dict[str, Any] = {}
    for steps, found in ((0, untrained), (100, names)):
        torch.manual_seed(0)
        exec(fewer(card_code[1], steps), found)
    names["before"] = untrained["model"]
    return names


def test_the_first_block_loads_both_configurations(card_code: list[str]) -> None:
    names: dict[str, Any] = {}
    exec(card_code[0], names)
    assert len(names["data"]) == 12
    assert len(names["views"]) == VIEWS * 12


def test_the_cards_code_shows_the_student_what_the_teacher_saw(
    published: tuple[Path, LabelViews], trained: dict[str, Any]
) -> None:
    part = published[1].rows(trained["row"])
    images = torch.from_numpy(distilled_set().images).permute(0, 3, 1, 2).float() / 255
    own, other = images[part.image], images[part.partner]
    shown = torch.where(trained["box"], trained["other"], trained["own"])
    shown = shown * trained["std"] + trained["mean"]
    torch.testing.assert_close(shown, render(own, other, part), atol=1e-4, rtol=0)


def test_the_cards_code_uses_the_stored_logits_and_weights(
    published: tuple[Path, LabelViews], trained: dict[str, Any]
) -> None:
    part = published[1].rows(trained["row"])
    wanted = (all_logits(part, len(NAMES)) / trained["T"]).softmax(1)
    torch.testing.assert_close(trained["wanted"], wanted)
    weights = torch.from_numpy(distilled_set().weights) * 12 / 3  # of mean 1
    torch.testing.assert_close(trained["heavy"], view_weights(part, weights, 28))


def apart(
    published: tuple[Path, LabelViews], trained: dict[str, Any], model: torch.nn.Module
) -> float:
    """How far the model is from the teacher on all views: KL at the card's temperature."""
    views, images = published[1], distilled_set().images
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    seen = render(pixels[views.image], pixels[views.partner], views)
    with torch.no_grad():
        logits = model.eval()((seen - trained["mean"]) / trained["std"]).logits
    given = (logits / trained["T"]).log_softmax(1)
    wanted = (all_logits(views, len(NAMES)) / trained["T"]).log_softmax(1)
    return float(kl_div(given, wanted, log_target=True, reduction="batchmean"))


def test_the_cards_code_trains(published: tuple[Path, LabelViews], trained: dict[str, Any]) -> None:
    after, before = (apart(published, trained, trained[name]) for name in ("model", "before"))
    assert after < 0.2 * before
