"""Whatever the label views hold, their file gives back."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from wdistill.artifact.parquet import read_label_views, write_label_views
from wdistill.labels.codec import encode, fit
from wdistill.labels.rounding import rounded
from wdistill.labels.views import LabelViews

SIZE = 8


@st.composite
def label_views(draw: st.DrawFn) -> tuple[LabelViews, int, int]:
    """Views of any number of images and classes, of which any number of logits is kept."""
    images, classes, count = (draw(st.integers(1, most)) for most in (4, 6, 3))
    topk = draw(st.integers(1, classes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def number(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    rows = images * count
    corners = torch.randint(SIZE + 1, (rows, 2, 2), generator=generator).sort(1).values
    order = number(rows, classes).argsort(1)
    whole = topk == classes
    views = LabelViews(
        image=torch.arange(images).repeat(count),
        partner=torch.randint(images, (rows,), generator=generator),
        view=torch.arange(count).repeat_interleave(images),
        crop=torch.cat([0.5 * number(rows, 2), 0.1 + 0.4 * number(rows, 2)], 1),
        flip=number(rows) < 0.5,
        mix=corners.flatten(1),
        logits=draw(st.sampled_from([1e-3, 1.0, 1e4])) * (number(rows, topk) - 0.5),
        classes=torch.arange(classes).expand(rows, classes) if whole else order[:, :topk],
        rest=torch.zeros(rows) if whole else number(rows),
    )
    levels = draw(st.none() | st.integers(1, 9))
    return (views if levels is None else rounded(views, levels, classes, 1.0)), images, classes


@given(label_views())
def test_what_is_written_is_read_back(case: tuple[LabelViews, int, int]) -> None:
    views, images, classes = case
    with tempfile.TemporaryDirectory() as folder:
        size = write_label_views(Path(folder), views, classes)
        (file,) = Path(folder).rglob("*.parquet")
        assert file.stat().st_size == size
        found = read_label_views(Path(folder), images, classes, SIZE)
    assert found is not None
    for field in fields(LabelViews):
        assert torch.equal(getattr(found, field.name), getattr(views, field.name)), field.name


@given(label_views())
def test_equal_views_are_equal_bytes(case: tuple[LabelViews, int, int]) -> None:
    views, _, classes = case
    copy = LabelViews(**{name: value.clone() for name, value in vars(views).items()})
    assert encode(views, classes) == encode(copy, classes)


@given(label_views(), st.floats(0, 1))
def test_a_budget_is_kept(case: tuple[LabelViews, int, int], share: float) -> None:
    views, images, classes = case
    one, every = (len(encode(views.first(n), classes)) for n in (1, views.count))
    budget = round(one + share * max(0, every - one))
    fitting, size = fit(views, classes, budget)
    assert size == len(encode(fitting, classes)) <= budget
    assert len(fitting) == images * fitting.count
