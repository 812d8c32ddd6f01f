"""A set made again is compared number by number, and what may explain a difference is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.examples import NAMES, distilled_set, manifest
from helpers.reports import run_report

from wdistill.artifact.reading import PublishedSet
from wdistill.labels.views import LabelViews, view_shapes
from wdistill.pipeline.reproduction.differences import Change, Gap, compare
from wdistill.pipeline.tables import verdict


def stored_views(count: int = 2, topk: int = 2) -> LabelViews:
    """Views of the example's twelve images, with the ``topk`` largest of three logits."""
    rows = [view_shapes(12, 28, number, 0.4, seed=0) for number in range(count)]
    parts = {name: torch.cat([getattr(row, name) for row in rows]) for name in vars(rows[0])}
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(12 * count, 3))).float()
    best = logits.topk(topk)
    return LabelViews(**{**parts, "logits": best.values, "classes": best.indices})


def published(views: LabelViews | None = None, **changes: Any) -> PublishedSet:
    return PublishedSet(Path("x"), distilled_set(), views, manifest(**changes), run_report())


def test_the_same_set_is_identical_whatever_made_it() -> None:
    found = compare(published(stored_views()), published(stored_views(), device="cuda (H100)"))
    assert found.identical
    assert found.same_images == found.images == 12
    assert found.changes == (Change("device", "cpu (2 threads)", "cuda (H100)"),)
    text = verdict(found)
    assert text.startswith("bit-identical: 12 images, their labels, weights, soft labels, label")
    assert "the same in all 4 rows" in text
    assert "device: cuda (H100), was cpu (2 threads)" in text
    assert "may explain" not in text


def test_one_pixel_is_a_difference_and_its_size_is_told() -> None:
    was = published()
    images = was.distilled.images.copy()
    images[3, 0, 0, 0] = images[3, 0, 0, 0] ^ 64
    found = compare(was, replace(was, distilled=replace(was.distilled, images=images)))
    assert not found.identical
    assert found.same_images == 11
    assert found.pixels == Gap(64.0, 64 / images.size)
    assert found.weights == found.soft_labels == Gap(0.0, 0.0)
    text = verdict(found)
    assert "not identical: 11 of 12 images are the same" in text
    assert "64 at most" in text
    assert "do not explain it" in text


@pytest.mark.parametrize("name", ["weights", "soft_labels", "labels"])
def test_any_array_can_differ(name: str) -> None:
    was = published()
    values = getattr(was.distilled, name).copy()
    values[0] = values[1] if name == "weights" else values[-1]
    found = compare(was, replace(was, distilled=replace(was.distilled, **{name: values})))
    assert not found.identical
    assert found.same_images == 12
    if name == "labels":
        assert found.other == ("the labels are not the same",)
    else:
        gap = getattr(found, name)
        assert gap.largest == pytest.approx(abs(values - getattr(was.distilled, name)).max())


def test_logits_are_compared_by_class_also_where_other_classes_are_kept() -> None:
    views = stored_views()
    other = views.classes.clone()
    other[0] = views.classes[0].flip(0)  # the same two values, of swapped classes
    found = compare(published(views), published(replace(views, classes=other)))
    assert not found.identical
    assert found.views is not None
    assert found.views.largest == pytest.approx(float(views.logits[0, 0] - views.logits[0, 1]))


def test_views_that_cannot_be_compared_are_told_in_words() -> None:
    assert compare(published(stored_views(2)), published(stored_views(1))).other == (
        "each image has 1 label views, and had 2",
    )
    assert compare(published(), published(stored_views(1))).other == (
        "each image has 1 label views, and had 0",
    )
    views = stored_views()
    found = compare(published(views), published(replace(views, mix=views.mix.flip(0))))
    assert found.other == ("the label views are other crops or mixes",)
    assert found.views is None


def test_sets_of_other_shapes_have_no_pixel_difference() -> None:
    was = published()
    for other, words in (
        (distilled_set(ipc=3), "there are 9 images, and there were 12"),
        (distilled_set(size=(32, 32)), "images have 32 x 32 pixels, and had 28 x 28"),
        (distilled_set(names=NAMES[::-1]), "the classes or their order are not the same"),
    ):
        found = compare(was, replace(was, distilled=other))
        assert found.other == (words,)
        assert (found.identical, found.same_images, found.pixels) == (False, 0, None)
        assert words in verdict(found)


def test_accuracies_are_compared_row_by_row() -> None:
    was = published()
    found = compare(was, replace(was, report=run_report(distilled_soft=(0.7145, 0.0, 2))))
    moved = [row for row in found.accuracies if row.was != row.now]
    assert [row.name for row in moved] == ["resnet10-w16, soft, distilled, 4 images per class"]
    assert "distilled, 4 images per class: 71.5%, was 73.5% (-2.0)" in verdict(found)
    assert compare(was, replace(was, report=None)).accuracies == ()


def test_versions_threads_and_the_teacher_are_named() -> None:
    versions = {"python": "3.11.7", "torch": "2.14.0", "numpy": "2.0"}
    changes = {"processes": 2, "threads": 1, "teacher__weights_sha256": "cd" * 32}
    was, now = published(), published(versions=versions, **changes)
    found = compare(was, now)
    assert found.changes == (
        Change("torch", "2.13.0", "2.14.0"), Change("numpy", "not recorded", "2.0"),
        Change("processes", "1", "2"), Change("threads", "2", "1"),
    )  # fmt: skip
    text = verdict(replace(found, identical=False))
    assert "torch: 2.14.0, was 2.13.0" in text
    assert "what may explain it: torch, numpy, processes, threads" in text
    assert "the teacher has other weights" in text


def test_what_a_stranger_wrote_cannot_steer_the_terminal() -> None:
    was = published(versions__torch="2.0\x1b[2J\r")
    assert "\x1b" not in verdict(compare(was, published()))
    assert "\r" not in verdict(compare(was, published()))
