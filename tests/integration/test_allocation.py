"""A whole run whose classes have unequal numbers of images."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.runs import embedded_table, parquet_bytes, run_wdistill

import wdistill
from wdistill.artifact.candidate import candidate
from wdistill.artifact.distilled_set import read_report
from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import Manifest, read_manifest
from wdistill.artifact.reading import open_published
from wdistill.config import RunConfig
from wdistill.pipeline.choices.budget import rough
from wdistill.pipeline.choices.short import ShortStudents

pytestmark = pytest.mark.slow

IMAGES = 33
RARE = 3  # a class with few real images
OPTIONS = (
    "--images", f"{IMAGES}", "--allocation", "w2", "--iterations", "4", "--teacher-epochs", "3",
    "--feature-spaces", "convnet-w64:2", "--label-giver", "teacher", "--label-views", "2",
    "--eval-epochs", "2", "--eval-seeds", "1", "--labels", "hard", "--labels", "views",
    "--allow-weak-teacher",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes, of which the last has RARE images."""
    folder = tmp_path_factory.mktemp("source")
    table = embedded_table("train", 40)
    rare = np.flatnonzero(table["label"].to_numpy() == 9)[RARE:]
    pq.write_table(
        table.take(pa.array(np.delete(np.arange(len(table)), rare))), folder / "train.parquet"
    )
    pq.write_table(embedded_table("test", 20), folder / "test.parquet")
    return folder


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run's folder and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = run_wdistill("run", "--dataset", source, *OPTIONS, "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr + done.stdout


def manifest_of(run: Path) -> Manifest:
    return read_manifest(one_set(run))


def test_the_set_has_all_images_and_says_how_many_of_each_class(run: tuple[Path, str]) -> None:
    folder, said = run
    manifest = manifest_of(folder)
    assert manifest.counts is not None
    assert sum(manifest.counts) == manifest.images == IMAGES
    assert manifest.ipc == round(IMAGES / 10)
    assert len(set(manifest.counts)) > 1
    assert min(manifest.counts) >= 1
    assert manifest.counts[9] <= RARE
    assert tuple(map(len, manifest.distances.nearest_real_rmse)) == manifest.counts
    told = next(line for line in said.splitlines() if "by their gain in W2" in line)
    for name, count in zip(manifest.classes, manifest.counts, strict=True):
        assert f"{name} {count}" in told


def test_a_stranger_reads_the_numbers_with_load_dataset_alone(run: tuple[Path, str]) -> None:
    manifest = manifest_of(run[0])
    rows = datasets.load_dataset(str(run[0] / "publish"), split="train")
    counts = np.bincount(rows["label"], minlength=10)
    assert tuple(counts) == manifest.counts
    sums = np.bincount(rows["label"], weights=rows["weight"], minlength=10)
    assert sums == pytest.approx(np.ones(10), abs=1e-5)


def test_the_card_names_them(run: tuple[Path, str]) -> None:
    manifest = manifest_of(run[0])
    card = (run[0] / "publish/README.md").read_text()
    least, most = min(manifest.per_class), max(manifest.per_class)
    assert f"{IMAGES} synthetic images, {least} to {most} for each of 10 classes" in card
    assert "3 images per class on average" in card
    shirt = manifest.classes.index("Shirt")
    assert f"| Shirt | {manifest.per_class[shirt]} |" in card


def test_random_real_images_come_in_the_same_numbers(run: tuple[Path, str]) -> None:
    """Their bytes are those of as many images, and each kind of labels has its row."""
    report = read_report(one_set(run[0]))
    assert report is not None
    assert report.source.ipc is None
    rows = {(row.images, row.labels): row for row in report.rows}
    assert set(rows) == {(i, k) for i in ("distilled", "random") for k in ("hard", "views")}
    assert {row.ipc for row in report.rows} == {round(IMAGES / 10)}


def test_loaded_for_training_every_class_counts_the_same(run: tuple[Path, str]) -> None:
    """Each of two views of an image weighs as image and partner do, so on average as in the set."""
    loaded = wdistill.load(one_set(run[0]))
    assert (len(loaded), loaded.views) == (2 * IMAGES, 2)
    published = open_published(run[0])
    given = candidate(published.distilled)
    sums = torch.bincount(given.labels, given.weights)
    torch.testing.assert_close(sums, torch.full((10,), IMAGES / 10), rtol=1e-5, atol=0)
    assert sum(float(item["weight"]) for item in loaded) == pytest.approx(2 * IMAGES, rel=1e-4)


def resumed(run: Path, source: Path, folder: Path, kept: Sequence[str]) -> Path:
    """The same run from a folder in which only the work ``kept`` is left, as after a kill."""
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "publish")
    for path in (folder / "work").iterdir():
        if path.is_file() and not path.name.startswith(tuple(kept)):
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    done = run_wdistill("run", "--dataset", source, *OPTIONS, "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("kept", [("teacher",), ("teacher", "allocation", "transport-00001")])
def test_a_killed_run_gives_the_same_files(
    kept: Sequence[str], run: tuple[Path, str], source: Path, tmp_path: Path
) -> None:
    again = resumed(run[0], source, tmp_path / "again", kept)
    assert parquet_bytes(again) == parquet_bytes(run[0])
    assert manifest_of(again).counts == manifest_of(run[0]).counts


def test_two_processes_make_what_one_does(
    run: tuple[Path, str], source: Path, tmp_path: Path
) -> None:
    teacher, folders = run[0] / "teacher", []
    for name, more in (("one", ()), ("two", ("--num-processes", "2"))):
        options = (*OPTIONS, "--backbone", teacher, *more, "--output", tmp_path / name)
        done = run_wdistill("run", "--dataset", source, *options)
        assert done.returncode == 0, done.stderr
        folders.append(tmp_path / name)
    assert parquet_bytes(folders[0]) == parquet_bytes(folders[1])


def test_it_can_be_reproduced_and_evaluated(
    run: tuple[Path, str], source: Path, tmp_path: Path
) -> None:
    done = run_wdistill(
        "reproduce", run[0], "--dataset", source, "--output", tmp_path / "reproduced"
    )
    assert done.returncode == 0, done.stderr
    assert parquet_bytes(tmp_path / "reproduced") == parquet_bytes(run[0])
    done = run_wdistill(
        "evaluate", run[0], "--against", source, "--epochs", "2", "--seeds", "1",
        "--baselines", "random,nearest,herding", "--output", tmp_path / "report",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_budget_is_shared_out(
    run: tuple[Path, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShortStudents, "scores", lambda *_: np.full((2, 1), 0.5))
    done = run_wdistill(
        "run", "--dataset", source, "--budget", "20kB", "--allocation", "w2", "--iterations", "2",
        "--backbone", run[0] / "teacher", "--feature-spaces", "none", "--label-giver", "teacher",
        "--label-views", "4", "--no-evaluate", "--output", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = manifest_of(tmp_path / "run")
    assert manifest.counts is not None
    assert sum(manifest.counts) == manifest.images == 10 * manifest.ipc
    sizes = [path.stat().st_size for path in one_set(tmp_path / "run").rglob("*.parquet")]
    assert 18_000 <= sum(sizes) <= 20_000


def test_a_budget_is_not_bound_by_the_rarest_class(
    run: tuple[Path, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal numbers, and all images of the class that has fewer; the bytes are used."""
    monkeypatch.setattr(ShortStudents, "scores", lambda *_: np.full((2, 1), 0.5))
    folder, budget = tmp_path / "run", 25_000
    command = (
        "run", "--dataset", source, "--budget", f"{budget}B", "--iterations", "2", "--backbone",
        run[0] / "teacher", "--feature-spaces", "none", "--label-giver", "none", "--no-evaluate",
        "--output", folder,
    )  # fmt: skip
    done = run_wdistill(*command)
    assert done.returncode == 0, done.stderr
    manifest = manifest_of(folder)
    assert manifest.counts is not None
    (most,) = set(manifest.counts[:9])
    assert manifest.counts[9] == RARE < most
    assert manifest.ipc == round((9 * most + RARE) / 10)
    sizes = [path.stat().st_size for path in one_set(folder).rglob("*.parquet")]
    assert 0.9 * budget <= sum(sizes) <= budget
    told = (
        f"images per class: {most}, where there are as many real ones; all of "
        f"{manifest.classes[9]} {RARE}"
    )
    assert told in done.stderr + done.stdout
    card = (folder / "publish/README.md").read_text()
    assert f"{RARE} to {most} for each of 10 classes" in card
    assert "Classes get equal numbers of images; those with fewer real images have one for" in card
    rows = datasets.load_dataset(str(folder / "publish"), split="train")
    assert tuple(np.bincount(rows["label"], minlength=10)) == manifest.counts
    sums = np.bincount(rows["label"], weights=rows["weight"], minlength=10)
    assert sums == pytest.approx(np.ones(10), abs=1e-5)

    published = parquet_bytes(folder)
    made = one_set(folder)
    assert made.name == f"ipc{manifest.ipc}-{budget}B"
    made.rename(made.with_name(f"ipc{manifest.ipc}"))  # as an earlier version called it
    again = run_wdistill(*command)
    assert again.returncode == 0, again.stderr
    assert [path.name for path in made.parent.iterdir() if path.is_dir()] == [made.name]
    assert parquet_bytes(folder) == published


def test_an_estimate_of_a_budget_counts_the_images_that_there_are() -> None:
    sample = torch.randint(0, 256, (8, 3, 28, 28), dtype=torch.uint8)
    counts = [40] * 9 + [RARE]
    large = rough(RunConfig(budget=10**9), sample, counts)
    assert (large.barycenter.total(10), large.least_ipc) == (sum(counts), 1)
    small = rough(RunConfig(budget=40_000), sample, counts)
    assert RARE * 10 < small.barycenter.total(10) < sum(counts)
    equal = rough(RunConfig(budget=40_000), sample, [40] * 10).barycenter
    assert (equal.images, equal.allocation) == (None, "uniform")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--images", "33"),
            "--images is 33, which 10 classes cannot share equally; give 30 or 40, or "
            "--allocation w2",
        ),
        (("--images", "9"), "--images is 9, fewer than the 10 classes; give 10 or more"),
        (("--images", "40"), "are 4 for each class; lower it to 30 or less, or choose"),
        (("--images", "400", "--allocation", "w2"), "400 images are more than the 363 real ones"),
        (("--images", "30", "--ipc", "3"), "--ipc and --images are both given"),
        (("--images", "30", "--budget", "30kB"), "--images and --budget are both given"),
        (("--ipc", "2", "--allocation", "w2", "--shard", "1/2"), "over all classes"),
    ],
)
def test_what_cannot_be_is_refused(
    options: tuple[str, ...], said: str, source: Path, tmp_path: Path
) -> None:
    done = run_wdistill("run", "--dataset", source, *options, "--output", tmp_path / "run")
    assert done.returncode in (1, 2)
    (line,) = done.stderr.strip().splitlines()
    assert said in line
    assert not (tmp_path / "run").exists()
