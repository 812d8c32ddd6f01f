"""A budget of bytes is kept, used, and spent as short students learn most."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from helpers.runs import run_wdistill

from wdistill.artifact.candidate import Candidate, candidate
from wdistill.artifact.distilled_set import read_distilled
from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import Manifest, read_manifest
from wdistill.config import WARM, RunConfig
from wdistill.data.content.coding import Coding
from wdistill.errors import OptionError
from wdistill.evaluation.metrics import nearest_real
from wdistill.pipeline.choices import budget as stage
from wdistill.pipeline.choices import images, trials
from wdistill.pipeline.choices.prices import finest_coding
from wdistill.pipeline.choices.short import ShortStudents
from wdistill.pipeline.stages import labels as label_stages

TINY = (
    "--iterations", "2", "--feature-spaces", "none", "--no-evaluate", "--allow-weak-teacher",
    "--resolution", "16",
)  # fmt: skip


@pytest.fixture(scope="module")
def teacher(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    done = run_wdistill(
        "run", "--dataset", source, *TINY, "--ipc", "1", "--label-giver", "teacher",
        "--teacher-epochs", "3", "--output", folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "teacher"


def command(source: Path, teacher: Path, *more: str | Path) -> list[str | Path]:
    return ["run", "--dataset", source, "--backbone", teacher, *TINY, *more]


def files(run: Path) -> list[Path]:
    return sorted(one_set(run).rglob("*.parquet"))


def kept(run: Path, budget: int) -> Manifest:
    """The manifest of a set that keeps its budget and uses it."""
    sizes = [path.stat().st_size for path in files(run)]
    assert 0.9 * budget <= sum(sizes) <= budget
    manifest = read_manifest(one_set(run))
    assert manifest.budget is not None
    assert manifest.budget.bytes == budget
    assert manifest.bits_per_class == round(8 * sum(sizes) / 10)
    return manifest


def judged(
    monkeypatch: pytest.MonkeyPatch, best: dict[str, Any], warm: float = 0.0
) -> list[tuple[int, Any]]:
    """Short students that like one way to spend best; what they were asked. warm: what they gain
    from a higher temperature.
    """
    asked: list[tuple[int, Any]] = []

    def of(self: ShortStudents, candidate: Any, images: int, inputs: Sequence[Any]) -> np.ndarray:
        config = self.run.config
        spent = {"quality": config.coding.image_quality, "views": config.label_views.count}
        asked.append((self.config.steps or 0, spent))
        gain = warm * (self.config.temperature == WARM)
        return np.full((2, 1), (0.9 if spent == best else 0.5) + gain)

    monkeypatch.setattr(ShortStudents, "scores", of)
    return asked


@pytest.mark.parametrize(
    ("quality", "warm"), [("20", 0.01), pytest.param("60", -0.01, marks=pytest.mark.slow)]
)
def test_the_best_spending_is_made_and_fills_its_budget(
    quality: str, warm: float,
    source: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked = judged(monkeypatch, {"quality": quality, "views": 10}, warm)
    options = ("--budget", "15kB", "--label-giver", "teacher", "--output", tmp_path / "run")
    done = run_wdistill(*command(source, teacher, *options))
    assert done.returncode == 0, done.stderr
    manifest = kept(tmp_path / "run", 15_000)
    assert (manifest.coding.format, manifest.coding.quality) == ("webp", int(quality))
    assert manifest.label_views is not None
    assert manifest.label_views.views >= 10  # and what synthesis has left of the room
    steps = [number for number, _ in asked]
    counts = [steps.count(number) for number in stage.STEPS]
    assert counts[0] == len(stage.QUALITIES) * len(stage.VIEWS)
    # At last, the best at another temperature, real images that are chosen and distilled ones.
    assert counts[1:] == [3, 2 + 1 + 2]
    foretold = 2 * (6 + 3 + 2) + 5 * 2, 2 * (6 * 150 + 3 * 300 + 2 * 600) + 5 * 2 * 600
    assert stage.students_of_choice(manifest.config) == foretold  # of two kinds; two seeds at last
    assert manifest.budget is not None
    assert [trial.images for trial in manifest.budget.tried[-3:]] == [
        "random",
        "chosen",
        "distilled",
    ]
    assert (manifest.budget.images, manifest.untouched) == ("distilled", False)
    assert manifest.temperature == manifest.label_views.temperature == (4 if warm > 0 else 1)
    assert [trial.temperature for trial in manifest.budget.tried[-3:]] == [4] + 2 * [
        manifest.temperature
    ]
    assert f"{manifest.ipc} images per class, WebP of quality {quality}, 10 views" in done.stdout
    set_folder = one_set(tmp_path / "run")
    rows = datasets.load_dataset(
        "parquet", data_files=str(set_folder / "data" / "*.parquet"), split="train",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    assert len(rows) == 10 * manifest.ipc
    card = (tmp_path / "run/publish/README.md").read_text()
    assert "They were made to fit into 15.0 kB." in card
    assert "| 20 | 10 (T = 4) | 600 |" in card or warm < 0
    assert "to save bytes, the soft label of each image is its class" in card


def test_short_students_of_a_budget_train_as_long_as_the_run_says() -> None:
    config = RunConfig(budget=30_000)
    for steps, expected in [(None, (150, 300, 600)), (400, (150, 300, 600)),
                            (1200, (300, 600, 1200)), (9000, (500, 1000, 2000))]:  # fmt: skip
        longer = replace(config, evaluate=replace(config.evaluate, steps=steps))
        assert stage.rounds(longer) == expected


@pytest.mark.parametrize("most", [0, pytest.param(100, marks=pytest.mark.slow)])
def test_real_images_are_published_where_they_do_better(
    most: int, source: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Because short students say so, or because there are too many to change them."""
    seen: list[torch.Tensor] = []

    def scores(
        self: ShortStudents, candidate: Callable[[], Candidate], images: int, inputs: Sequence[Any]
    ) -> np.ndarray:
        seen.append(candidate().pixels)
        assert len(seen[-1]) == images
        return np.full((2, 2), 0.5 if len(seen) == 3 else 0.4)

    monkeypatch.setattr(ShortStudents, "scores", scores)
    monkeypatch.setattr(images, "MOST_SYNTHESISED", most)
    monkeypatch.setattr(stage, "STEPS", (2,))
    options = ("--budget", "15kB", "--label-giver", "teacher", "--label-views", "4")
    given = ("--image-format", "webp", "--image-quality", "lossless")
    done = run_wdistill(*command(source, teacher, *options, *given, "--output", tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    manifest = kept(tmp_path / "run", 15_000)
    assert manifest.budget is not None
    assert (manifest.budget.images, manifest.untouched) == ("chosen", True)
    assert max(map(max, manifest.distances.nearest_real_rmse)) == 0  # each is a real image
    card = (tmp_path / "run/publish/README.md").read_text()
    if most:
        assert torch.equal(seen[2], candidate(read_distilled(one_set(tmp_path / "run"))).pixels)
        assert "stays as it is, because short students learned more from such images" in card
    else:
        assert len(seen) == 2
        assert "because there are so many images that distilling them takes long" in card
    assert "No human labelled these images" not in card


def key_of(monkeypatch: pytest.MonkeyPatch, **sections: dict[str, Any]) -> Any:
    """Under what the outcomes of short students of such settings are kept."""
    asked: list[Any] = []

    def of(self: ShortStudents, candidate: Any, images: int, inputs: Sequence[Any]) -> np.ndarray:
        asked.extend(inputs)
        return np.zeros((2, 1))

    monkeypatch.setattr(ShortStudents, "scores", of)
    monkeypatch.setattr(trials, "budget_giver", lambda *_: SimpleNamespace(key="giver"))
    monkeypatch.setattr(trials, "views_of", lambda *_: object())
    sections = {**sections, "label_views": {"count": 3, **sections.get("label_views", {})}}
    run: Any = SimpleNamespace(config=RunConfig.from_dict({"budget": 15_000, **sections}))
    pixels, labels = torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.arange(2)
    given = Candidate(pixels, labels, torch.ones(2), None)
    none: Any = None
    trials.shown(run, none, given, "images").trial(2, 1, "random")
    return asked


def test_students_of_other_labels_or_shares_are_trained_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = key_of(monkeypatch)
    for name, value in {"count": 4, "topk": 2, "levels": 4, "crop_min": 0.5}.items():
        assert key_of(monkeypatch, label_views={name: value}) != before, name
    assert key_of(monkeypatch, barycenter={"allocation": "w2"}) != before
    assert key_of(monkeypatch) == before
    hard = key_of(monkeypatch, label_views={"count": 0})
    assert hard == key_of(monkeypatch, label_views={"count": 0, "levels": 4}) != before


def test_hard_labels_leave_their_bytes_to_the_images(
    source: Path, teacher: Path, tmp_path: Path
) -> None:
    """And what the card says of their distance is true of the files that this makes of them."""
    options = ("--budget", "25kB", "--label-giver", "none", "--label-views", "4")
    real: list[np.ndarray] = []

    def noted(pixels: torch.Tensor, batches: Iterable[torch.Tensor], device: torch.device) -> Any:
        every = torch.cat(list(batches))
        real.append(every.flatten(1).numpy() / 255)
        return nearest_real(pixels, [every], device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "STEPS", (2,))
        patch.setattr(label_stages, "nearest_real", noted)
        done = run_wdistill(*command(source, teacher, *options, "--output", tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    manifest = kept(tmp_path / "run", 25_000)
    assert manifest.label_views is None
    planned = {trial.quality for trial in manifest.budget.tried} if manifest.budget else set()
    assert manifest.coding.quality not in planned
    distilled, nearest = read_distilled(one_set(tmp_path / "run")), []
    pixels = distilled.images.transpose(0, 3, 1, 2).reshape(len(distilled), -1) / 255
    for label in range(10):
        each = pixels[distilled.labels == label][:, None] - real[label][None]
        nearest.append(np.sqrt((each**2).mean(2)).min(1))
    for found, expected in zip(manifest.distances.nearest_real_rmse, nearest, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_students_are_not_trained_again_and_the_set_can_be_reproduced(
    source: Path, teacher: Path, tmp_path: Path
) -> None:
    options = ("--budget", "30kB", "--label-giver", "teacher", "--output", tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "STEPS", (2, 3, 4))
        first = run_wdistill(*command(source, teacher, *options))
        assert first.returncode == 0, first.stderr
        before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("work/budget/*.json")}
        assert len(before) == 2 * (6 + 3 + 2 + 1) + 2 * 4  # two seeds of the last two
        published = [path.read_bytes() for path in files(tmp_path / "run")]
        with pytest.MonkeyPatch.context() as nothing_to_label:
            nothing_to_label.setattr(trials, "views_of", None)
            again = run_wdistill(*command(source, teacher, *options))
        made = run_wdistill(
            "reproduce", tmp_path / "run", "--dataset", source, "--backbone", teacher,
            "--output", tmp_path / "made",
        )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "bit-identical: " in made.stdout
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert [path.read_bytes() for path in files(tmp_path / "run")] == published
    kept(tmp_path / "run", 30_000)


def test_a_budget_that_is_too_small_names_one_that_is_not(
    source: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "STEPS", (2,))
    options = ("--label-giver", "teacher", "--output")
    done = run_wdistill(*command(source, teacher, "--budget", "2kB", *options, tmp_path / "small"))
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    found = re.search(r"one image per class takes ([\d.]+) kB with its labels", line)
    assert found, line
    assert line.startswith("Error: --budget is 2.0 kB, but one image per class takes")
    enough = f"{float(found[1]) + 0.1}kB"  # what is shown is rounded
    done = run_wdistill(*command(source, teacher, "--budget", enough, *options, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert read_manifest(one_set(tmp_path / "run")).ipc == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--budget", "30kB", "--ipc", "3"), "--ipc and --budget are both given"),
        (("--budget", "30kB", "--shard", "1/2"), "--budget is spent on all classes together"),
        (("--budget", "much"), "is no number of bytes such as 15kB"),
    ],
)
def test_what_cannot_be_is_refused(
    options: tuple[str, ...], said: str, source: Path, teacher: Path, tmp_path: Path
) -> None:
    done = run_wdistill(*command(source, teacher, *options, "--output", tmp_path / "run"))
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert said in line
    assert not (tmp_path / "run").exists()


def test_the_finest_quality_that_fits() -> None:
    assert finest_coding(lambda quality: 10 * quality, 455) == Coding("webp", 45)
    assert finest_coding(lambda quality: 1, 455) == Coding("webp", 100)
    with pytest.raises(OptionError, match="they take 500 B at the lowest quality"):
        finest_coding(lambda quality: 500, 455)


@pytest.mark.slow
def test_two_processes_spend_as_one(source: Path, teacher: Path, tmp_path: Path) -> None:
    for name, more in (("one", ()), ("two", ("--num-processes", "2"))):
        options = ("--budget", "15kB", "--label-giver", "teacher", "--label-views", "4", *more)
        done = run_wdistill(*command(source, teacher, *options, "--output", tmp_path / name))
        assert done.returncode == 0, done.stderr
        kept(tmp_path / name, 15_000)
    one, two = ([path.read_bytes() for path in files(tmp_path / name)] for name in ("one", "two"))
    assert one == two
