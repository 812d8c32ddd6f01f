"""Stored views are what the teacher saw and said, as closely as the bytes allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.labels import (
    CLASSES,
    CPU,
    SIZE,
    example_views,
    pictures,
    teacher,
    with_views,
)
from PIL import Image
from torch.nn import functional as F

from wdistill.artifact.parquet import read_label_views, write_label_views
from wdistill.config import LabelViewsConfig
from wdistill.core.seeds import stream
from wdistill.data.pixels import to_float
from wdistill.errors import NumericalError, OptionError, RunFolderError
from wdistill.labels.codec import encode, fit
from wdistill.labels.rounding import rounded
from wdistill.labels.views import (
    LabelViews,
    ViewedImages,
    ViewRecipe,
    all_logits,
    join,
    label_views,
    reindex,
    render,
    replay,
)


def same(one: LabelViews, other: LabelViews) -> bool:
    return all(torch.equal(vars(one)[name], vars(other)[name]) for name in vars(one))


# --- what the teacher saw -----------------------------------------------------------------------


def test_a_row_replays_to_the_image_whose_logits_it_holds() -> None:
    views, images = example_views(), to_float(pictures(), CPU)
    seen = render(images[views.image], images[views.partner], views)
    with torch.no_grad():
        logits = teacher()(seen, moments=False).logits
    torch.testing.assert_close(
        all_logits(views, CLASSES), logits - logits.mean(1, keepdim=True), atol=1e-4, rtol=1e-4
    )


def test_rendering_agrees_with_cropping_by_interpolation() -> None:
    """An oracle that knows neither resampling matrices nor masks: crops on the pixel grid."""
    size, images = 32, torch.rand(2, 3, 32, 32, generator=stream(0, "render"))
    views = LabelViews(
        image=torch.tensor([0]), partner=torch.tensor([1]), view=torch.tensor([0]),
        crop=torch.tensor([[8, 4, 16, 24]]) / size, flip=torch.tensor([True]),
        mix=torch.tensor([[5, 10, 20, 31]]), logits=torch.zeros(1, 0),
        classes=torch.zeros(1, 0).long(), rest=torch.zeros(1),
    )  # fmt: skip
    cut = images[:, :, 8:24, 4:28]
    cut = F.interpolate(cut, (size, size), mode="bilinear", align_corners=False).flip(3)
    expected = cut[:1].clone()
    expected[:, :, 5:20, 10:31] = cut[1:, :, 5:20, 10:31]
    actual = render(images[:1], images[1:], views)
    # At the border of a crop the pixel beyond it counts in one and not in the other.
    torch.testing.assert_close(
        actual[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], atol=1e-5, rtol=0
    )


def test_fewer_views_are_the_first_of_more() -> None:
    assert same(example_views(2), example_views(5).first(2))


def test_images_labelled_apart_are_labelled_alike() -> None:
    rows = (torch.tensor([0, 1]), torch.tensor([2, 3, 4, 5]))
    parts = [
        label_views(teacher(), pictures(), ViewRecipe(LabelViewsConfig(4), seed=3), mine)
        for mine in rows
    ]
    together = join(parts)
    assert torch.equal(together.partner, example_views(4).partner)
    torch.testing.assert_close(together.logits, example_views(4).logits)


def test_no_image_is_its_own_partner_and_views_differ() -> None:
    views = example_views(12)
    assert (views.image != views.partner).all()
    assert len(views.crop.unique(dim=0)) == 12
    assert views.count == 12
    assert len(views) == 72


def test_a_teacher_that_is_not_finite_is_reported() -> None:
    network = teacher()
    network.model.head.bias.data[0] = float("nan")
    with pytest.raises(NumericalError, match="not finite"):
        label_views(network, pictures(), ViewRecipe(LabelViewsConfig(1)))


# --- fewer bytes --------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_what_is_left_out_keeps_its_probability(temperature: float) -> None:
    config = LabelViewsConfig(3, topk=2)
    views = label_views(teacher(), pictures(), ViewRecipe(config, temperature, seed=3))
    whole = (all_logits(example_views(3), CLASSES) / temperature).softmax(1)
    probabilities = (all_logits(views, CLASSES) / temperature).softmax(1)
    best = whole.topk(2)
    torch.testing.assert_close(probabilities.gather(1, best.indices), best.values)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(probabilities)))
    assert torch.equal(probabilities.argmax(1), whole.argmax(1))


def test_a_budget_keeps_as_many_views_as_fit() -> None:
    views = rounded(example_views(40), 4, CLASSES, 1.0)
    size = len(encode(views, CLASSES))
    selection, bytes_kept = fit(views, CLASSES, size - 300)
    assert bytes_kept <= size - 300
    assert 1 < selection.count < 40
    assert same(selection, views.first(selection.count))
    everything, whole = fit(views, CLASSES, None)
    assert (everything.count, whole) == (40, size)


def test_a_budget_below_one_view_is_refused_in_one_line() -> None:
    with pytest.raises(OptionError, match=r"`label_views.budget` is 9 B, but one view .* takes"):
        fit(example_views(2), CLASSES, 9)


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("topk", [None, 2])
def test_written_views_are_read_back(topk: int | None, tmp_path: Path) -> None:
    views = rounded(example_views(4, topk), 8, CLASSES, 1.0)
    write_label_views(tmp_path, views, CLASSES)
    actual = read_label_views(tmp_path, 6, CLASSES, SIZE)
    assert actual is not None
    assert same(actual, views)
    write_label_views(tmp_path, None, CLASSES)
    assert read_label_views(tmp_path, 6, CLASSES, SIZE) is None


def test_a_published_view_can_be_replayed_without_our_code(tmp_path: Path) -> None:
    """Loaded by `datasets`, cropped by Pillow: the teacher says what is stored."""
    _, network = with_views(tmp_path)
    images = datasets.load_dataset(str(tmp_path), split="train")
    views = datasets.load_dataset(str(tmp_path), "ipc4_soft_labels", split="train")
    assert len(views) == 6 * len(images)

    def cut(row: dict[str, Any], image: Image.Image) -> np.ndarray:
        top, left, height, width = (28 * share for share in row["crop"])
        box = (left, top, left + width, top + height)
        seen = image.resize((28, 28), Image.Resampling.BILINEAR, box=box)
        seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if row["flip"] else seen
        return np.asarray(seen, dtype=np.float32) / 255

    errors, scale = [], []
    for row in views:
        shown = cut(row, images[row["image"]]["image"])
        top, left, bottom, right = row["mix"]
        other = cut(row, images[row["partner"]]["image"])
        shown[top:bottom, left:right] = other[top:bottom, left:right]
        with torch.no_grad():
            x = torch.from_numpy(shown).permute(2, 0, 1)[None]
            logits = network(x, moments=False).logits[0]
        stored = torch.tensor(row["logits"])
        errors.append(((logits / 20).softmax(0) - (stored / 20).softmax(0)).abs().max())
        scale.append((logits / 20).softmax(0).std())
    assert float(torch.stack(errors).mean() / torch.stack(scale).mean()) < 0.1


def test_the_card_names_both_configurations(tmp_path: Path) -> None:
    with_views(tmp_path)
    names = datasets.get_dataset_config_names(str(tmp_path))
    assert sorted(names) == ["ipc4", "ipc4_soft_labels"]
    card = (tmp_path / "README.md").read_text()
    assert 'load_dataset("you/this-dataset", "ipc4_soft_labels", split="train")' in card
    assert "6 views" in card


def spoilt(folder: Path, **changes: Any) -> None:
    views = example_views(2)
    broken = LabelViews(**{**vars(views), **changes})
    write_label_views(folder, broken, CLASSES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": torch.full((12,), 6)}, "does not exist"),
        ({"partner": torch.full((12,), -1)}, "does not exist"),
        ({"mix": torch.full((12, 4), SIZE + 1)}, "does not exist"),
        ({"logits": torch.full((12, CLASSES), float("nan"))}, "not finite"),
        ({"crop": torch.full((12, 4), 0.6)}, "not inside"),
        ({"crop": torch.full((12, 4), -0.1)}, "not inside"),
        ({"mix": torch.tensor([[4, 0, 2, 1]]).expand(12, 4)}, "swapped"),
    ],
)
def test_hostile_views_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    spoilt(tmp_path, **changes)
    with pytest.raises(RunFolderError, match=words):
        read_label_views(tmp_path, 6, CLASSES, SIZE)


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    write_label_views(tmp_path, example_views(2), CLASSES)
    path = next(tmp_path.glob("soft_labels/*"))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["flip"]), path)
    with pytest.raises(RunFolderError, match="not those of label views"):
        read_label_views(tmp_path, 6, CLASSES, SIZE)
    info = json.loads(table.schema.metadata[b"huggingface"])
    info["info"]["features"]["logits"]["length"] = 10**9
    meta = {b"huggingface": json.dumps(info).encode()}
    pq.write_table(table.replace_schema_metadata(meta), path)
    with pytest.raises(RunFolderError, match="logits a row"):
        read_label_views(tmp_path, 6, CLASSES, SIZE)


# --- students -----------------------------------------------------------------------------------


def test_replay_shows_every_row_once_before_any_again() -> None:
    views, images = example_views(3), pictures()
    weights = torch.ones(6)
    batches = replay(ViewedImages(views, images, weights, CLASSES), 20.0, 4, stream(0, "replay"))
    seen = torch.cat([next(batches)[1] for _ in range(5)])  # 18 rows in batches of 3 or 4
    expected = (all_logits(views, CLASSES) / 20).softmax(1)
    order = [row.tolist() for row in seen]
    assert sorted(order) == sorted(row.tolist() for row in expected)


def test_a_mixed_view_weighs_what_its_parts_weigh() -> None:
    views, images = example_views(4), pictures()
    weights = torch.tensor([0.5, 1.5, 1.0, 1.0, 0.2, 1.8])
    batches = replay(ViewedImages(views, images, weights, CLASSES), 20.0, 24, stream(0, "replay"))
    _, targets, shares = next(batches)
    expected = (all_logits(views, CLASSES) / 20).softmax(1)
    for target, share in zip(targets, shares, strict=True):
        row = int((expected - target).abs().sum(1).argmin())
        box = views.mix[row]
        pasted = float((box[2] - box[0]) * (box[3] - box[1])) / SIZE**2
        own, other = weights[views.image[row]], weights[views.partner[row]]
        assert float(share) == pytest.approx(float((1 - pasted) * own + pasted * other), abs=1e-5)


def test_views_follow_a_permuted_order_of_images_and_classes() -> None:
    views = example_views(2)
    order, names = np.array([3, 0, 1, 5, 4, 2]), np.array([2, 0, 1, 5, 3, 4])
    actual = reindex(views, order, names)
    assert torch.equal(torch.from_numpy(order)[actual.image], views.image)
    assert torch.equal(torch.from_numpy(order)[actual.partner], views.partner)
    torch.testing.assert_close(all_logits(actual, CLASSES)[:, names], all_logits(views, CLASSES))
