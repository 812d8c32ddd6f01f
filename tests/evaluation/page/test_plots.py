"""The plots show the numbers of the report, in the places and words that people read."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from helpers.reports import IPC, NAMES, equivalent, projection, report, report_row
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wdistill.artifact.report import Equivalent, Panel, panels, row_of
from wdistill.evaluation.page.class_plots import class_gains, confusion
from wdistill.evaluation.page.class_plots import projection as projection_plot
from wdistill.evaluation.page.html import svg
from wdistill.evaluation.page.plot_style import COLOURS, MARKS, TEN, count, plain
from wdistill.evaluation.page.plots import (
    accuracy_by_bits,
    accuracy_by_ipc,
    has_curve,
    learning_curves,
)
from wdistill.evaluation.wording import signed

PUBLISHED = ("MTT", "IDC", "FreD", "SPEED", "DDiF", "TM-RUO")
STUDENT = "resnet10-w16"
HARD = Panel(STUDENT, "hard", "AdamW")


def axes_of(figure: Figure | None) -> Axes:
    assert figure is not None
    (axes,) = figure.axes
    return axes


def line_of(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return list(line.get_xdata()), list(line.get_ydata())


def points_of(axes: Axes) -> dict[str, tuple[float, float]]:
    """Where each error bar stands, by its name in the legend."""
    found = {str(bars.get_label()): bars.lines[0] for bars in axes.containers}
    return {name: (line.get_xdata()[0], line.get_ydata()[0]) for name, line in found.items()}


def words(figure: Figure) -> list[str]:
    """All letters of a figure, after they have been laid out."""
    figure.canvas.draw()
    drawn = [text.get_text() for text in axes_of(figure).texts]
    drawn += [tick.get_text() for tick in axes_of(figure).get_xticklabels()]
    drawn += [tick.get_text() for tick in axes_of(figure).get_yticklabels()]
    return drawn + [text.get_text() for box in figure.legends for text in box.get_texts()]


def test_panels_are_in_the_order_of_the_report() -> None:
    soft = Panel(STUDENT, "soft", "AdamW")
    assert panels(report(labels=("soft", "hard"))) == [soft, HARD]
    sgd = [report_row("distilled", kind, optimizer="SGD") for kind in ("soft", "hard")]
    both = report(labels=("soft", "hard"))
    both = both.model_copy(update={"rows": (*both.rows, *sgd)})
    with_sgd = [each._replace(optimizer="SGD") for each in (soft, HARD)]
    assert panels(both) == [soft, with_sgd[0], HARD, with_sgd[1]]


def test_accuracies_stand_at_their_number_of_images() -> None:
    shown = report()
    figure = accuracy_by_ipc(shown, *HARD)
    axes = axes_of(figure)
    rows = [row for row in shown.rows if row.labels == "hard"]
    random = sorted((r for r in rows if r.images == "random"), key=lambda row: row.ipc)
    at, heights = line_of(axes, "random real")
    assert at == [1, 5, 10, 20, 50]
    assert heights == pytest.approx([100 * row.top1_mean for row in random])
    band = axes.collections[0].get_paths()[0].get_extents()
    assert band.y0 == pytest.approx(min(100 * (r.top1_mean - r.top1_std) for r in random))
    points = points_of(axes)
    for name, images in (("distilled", "distilled"), ("nearest real", "nearest")):
        row = row_of(rows, images)
        assert row is not None
        assert points[name] == pytest.approx((IPC, 100 * row.top1_mean))
    full = next(row for row in rows if row.images == "full")
    assert line_of(axes, "all real images")[1] == pytest.approx([100 * full.top1_mean] * 2)
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[1] < 100, "all real images would squeeze the curve"
    assert {"≈ 23 random", "1,000 per class", "1", "10", "50"} <= set(words(figure))


@pytest.mark.parametrize(
    ("worth", "said", "direction"),
    [
        (equivalent(ipc=4.2, low=3.1, high=5.0), "≈ 4.2 random", -1),
        (equivalent(ipc=50, low=None, high=None, bound="at_least"), "≥ 50 random", 1),
        (equivalent(ipc=1, low=None, high=None, bound="at_most"), "≤ 1 random", -1),
    ],
)
def test_an_arrow_leads_to_the_worth(worth: Equivalent, said: str, direction: int) -> None:
    axes = axes_of(accuracy_by_ipc(report(equivalents=[worth]), *HARD))
    arrows = [text for text in axes.texts if getattr(text, "arrow_patch", None)]
    assert said in [text.get_text() for text in axes.texts]
    (arrow,) = arrows
    assert np.sign(arrow.xy[0] - arrow.xyann[0]) == direction
    assert arrow.xy[0] == worth.ipc


def test_without_a_worth_there_is_no_arrow() -> None:
    axes = axes_of(accuracy_by_ipc(report(equivalents=[]), *HARD))
    assert [text.get_text() for text in axes.texts] == ["1,000 per class"]


def test_a_worth_that_would_mislead_has_no_arrow() -> None:
    axes = axes_of(accuracy_by_ipc(report(n=1), *HARD))
    assert [text.get_text() for text in axes.texts] == ["1,000 per class"]


def test_sets_stand_at_their_bits_per_class() -> None:
    shown = report()
    figure = accuracy_by_bits(shown, STUDENT, "AdamW")
    axes = axes_of(figure)
    distilled = [row for row in shown.rows if row.images == "distilled"]
    bars = [c.lines[0] for c in axes.containers if c.get_label() == "distilled"]
    found = [(line.get_xdata()[0], line.get_ydata()[0]) for line in bars]
    places = [8 * row.bytes / len(NAMES) for row in distilled]
    assert found == [
        (place, pytest.approx(100 * row.top1_mean))
        for place, row in zip(places, distilled, strict=True)
    ]
    assert len({line.get_marker() for line in bars}) == 2, "labels are told apart by their mark"
    assert {"10,000", "hard labels", "stored soft labels"} <= set(words(figure))
    assert not [text for text in words(figure) if text in PUBLISHED]


def test_published_accuracies_stand_beside_those_of_the_same_data_only() -> None:
    same = report()
    ten = same.source.model_copy(update={"classes": tuple("abcdefghij")})
    cifar = same.against.model_copy(update={"id": "cifar10", "eval_images": 10_000})
    shown = same.model_copy(update={"against": cifar, "source": ten, "resolution": 32})
    figure = accuracy_by_bits(shown, STUDENT, "AdamW")
    assert set(words(figure)) >= set(PUBLISHED)
    lines = [line for line in axes_of(figure).lines if line.get_marker() == "x"]
    points = {point for line in lines for point in zip(*line.get_data(), strict=True)}
    assert (98e3, 66.5) in points  # DDiF
    low, high = axes_of(figure).get_ylim()
    assert all(low < top1 < high for _, top1 in points)
    assert has_curve(shown)
    few = ten.model_copy(update={"classes": tuple("abc")})
    train = cifar.model_copy(update={"eval_images": 1000})
    for key, value in (("resolution", 64), ("source", few), ("against", train)):
        other = accuracy_by_bits(shown.model_copy(update={key: value}), STUDENT, "AdamW")
        assert not [text for text in words(other) if text in PUBLISHED]


def test_gains_are_sorted_differences() -> None:
    shown = report()
    rows = [row for row in shown.rows if row.labels == "hard"]
    distilled, rival = row_of(rows, "distilled"), row_of(rows, "random")
    assert distilled is not None
    assert rival is not None
    assert rival.ipc == IPC
    axes = axes_of(class_gains(shown, *HARD))
    drawn = np.asarray(axes.collections[1].get_offsets())
    gains = {
        name: 100 * (ours - theirs)
        for name, ours, theirs in zip(NAMES, distilled.per_class, rival.per_class, strict=True)
    }
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == sorted(gains, key=lambda name: gains[name])
    assert drawn[:, 0] == pytest.approx([gains[name] for name in names])


def test_many_classes_show_the_best_and_the_worst() -> None:
    names = tuple(f"class {c}" for c in range(64))
    ours = report_row("distilled", names=names, per_class=[c / 64 for c in range(64)])
    theirs = report_row("random", names=names, per_class=[0.5] * 64)
    figure = class_gains(report(names, rows=[ours, theirs]), *HARD)
    assert figure is not None
    shown = words(figure)
    assert "34 more between" in shown
    expected = {f"class {c}" for c in (*range(15), *range(49, 64))}
    assert {word for word in shown if word.startswith("class ")} == expected


def test_learning_curves_are_those_of_equal_numbers() -> None:
    shown = report()
    axes = axes_of(learning_curves(shown, *HARD))
    rows = [row for row in shown.rows if row.labels == "hard"]
    for label, images in (("distilled", "distilled"), ("random real", "random")):
        row = row_of(rows, images)
        assert row is not None
        assert line_of(axes, label) == (list(row.curve.step), list(row.curve.loss))
    assert len(axes.lines) == 5


def test_confusion_is_in_percent_of_the_true_class() -> None:
    row = report_row("distilled", names=("a", "b"), confusion=[[30, 10], [0, 20]])
    figure = confusion(report(("a", "b"), rows=[row]), *HARD)
    assert {"75", "25", "100"} == {text.get_text() for text in axes_of(figure).texts}
    mesh = np.asarray(axes_of(figure).collections[0].get_array()).reshape(2, 2)
    assert mesh.tolist() == [[0.75, 0.25], [0, 1]]


@pytest.mark.parametrize("classes", [20, 21])
def test_confusion_stops_where_it_cannot_be_read(classes: int) -> None:
    names = tuple(f"class {c}" for c in range(classes))
    assert (confusion(report(names), *HARD) is None) == (classes > 20)


def test_projection_colours_by_class() -> None:
    shown = report()
    figure = projection_plot(shown)
    axes = axes_of(figure)
    *_, atoms, distilled = axes.collections
    given = np.asarray(shown.projection.distilled)
    assert np.asarray(distilled.get_offsets()) == pytest.approx(given[:, :2])
    assert len(np.unique(distilled.get_facecolor(), axis=0)) == len(NAMES)
    assert len(atoms.get_offsets()) == len(shown.projection.atoms)
    assert figure is not None
    assert set(NAMES) <= set(words(figure))


def test_a_projection_of_many_classes_names_ten() -> None:
    names = tuple(f"class {c}" for c in range(41))
    figure = projection_plot(report(names))
    assert figure is not None
    shown = [word for word in words(figure) if word.startswith("class ")]
    assert shown == [f"class {c}" for c in (0, 4, 9, 13, 18, 22, 27, 31, 36, 40)]
    grey = axes_of(figure).collections[0].get_offsets()
    assert len(grey) == 31 * 80


def test_a_projection_without_atoms() -> None:
    figure = projection_plot(report(projection=projection(3).model_copy(update={"atoms": ()})))
    assert figure is not None
    assert "atom" not in words(figure)
    assert projection_plot(report(projection=None)) is None


def test_what_is_missing_gives_no_picture() -> None:
    bare = report_row("distilled", per_class=[], confusion=None, curve={"step": [], "loss": []})
    shown = report(rows=[bare])
    assert class_gains(shown, *HARD) is None
    assert confusion(shown, *HARD) is None
    assert learning_curves(shown, *HARD) is None
    assert class_gains(report(rows=[report_row("distilled")]), *HARD) is None


def test_names_are_letters_and_not_mathematics() -> None:
    name = r"$\frac{</text><script>alert(1)</script>#1b1d21"
    shown = report((name, "a$b$", *NAMES[2:]))
    for figure in (class_gains(shown, *HARD), confusion(shown, *HARD), projection_plot(shown)):
        assert figure is not None
        drawn = svg(figure, "name", name)
        assert "<script" not in drawn
        assert ">a$b$<" in drawn
        assert r"$\frac{&lt;/text&gt;" in drawn


def test_ink_follows_the_page_and_ids_are_its_own() -> None:
    figure = accuracy_by_ipc(report(), *HARD)
    one, two = svg(figure, "one", "x"), svg(figure, "two", "x")
    assert one == svg(accuracy_by_ipc(report(), *HARD), "one", "x"), "the same every time"
    assert "fill: var(--ink)" in one
    assert COLOURS["distilled"] in one
    ids = [{part.split('"')[0] for part in drawn.split(' id="')[1:]} for drawn in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]


# Machado, Oliveira and Fernandes (2009): linear RGB as seen without one kind of cone
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def seen(colour: str, deficiency: str) -> np.ndarray:
    """CIE L*a*b* of a colour."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.asarray(to_xyz) @ linear / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("deficiency", list(DEFICIENCIES))
def test_colours_are_apart_for_all_eyes(deficiency: str) -> None:
    for colours, least in ((list(COLOURS.values()), 15), (TEN, 9)):
        pairs = itertools.combinations([seen(colour, deficiency) for colour in colours], 2)
        assert min(np.linalg.norm(a - b) for a, b in pairs) > least
    assert len(set(MARKS.values())) == len(COLOURS)


def test_numbers_as_people_write_them() -> None:
    given = (0.25, 1.0, 2.5, 9.96, 23.4, 1000, 1_250_000)
    assert [count(value) for value in given] == [
        "0.2", "1", "2.5", "10", "23", "1,000", "1.25 million",
    ]  # fmt: skip
    assert [signed(value) for value in (1.23, -0.4, 0.04, -0.04)] == ["+1.2", "−0.4", "0.0", "0.0"]
    assert plain("a\n\u202eb   c" + "d" * 50, 12) == "a b cdddddd…"


def test_letters_that_only_the_browser_has_are_no_warning() -> None:
    renamed = [row.model_copy(update={"student": "\u732b"}) for row in report().rows]
    found = report(rows=renamed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = svg(accuracy_by_ipc(found, "\u732b", "hard", "AdamW"), "cats", "cats")
    assert "\u732b" in drawn
