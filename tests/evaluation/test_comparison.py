"""The atoms that `wdistill evaluate` compares with: those of the run, groups and all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from helpers.runs import embedded_table, run_wdistill, small_source, with_copies

from wdistill.config import DataConfig, EvaluateConfig, RuntimeConfig, StudentConfig
from wdistill.core.devices import open_accelerator
from wdistill.core.files import read_tensors
from wdistill.core.units import class_units
from wdistill.data.pixels import Decoding
from wdistill.errors import DataError
from wdistill.evaluation.comparison import Comparison, baseline_rows
from wdistill.evaluation.opening import open_comparison
from wdistill.transport.plan import Atoms, TransportUnit

CLASSES = 10


def bench_of(source: Path, teacher: Path | None = None, against: Path | None = None) -> Comparison:
    config = EvaluateConfig(
        str(source),
        against=DataConfig(None if against is None else str(against)),
        teacher=None if teacher is None else str(teacher),
        evaluate=StudentConfig(students=("convnet-w64",), labels=("hard",)),
        baselines=("random",) if teacher is None and against is not None else ("nearest",),
    )
    return open_comparison(
        config, RuntimeConfig("cpu", quiet=True), open_accelerator("no", "cpu"), Decoding()
    )


def with_groups(source: Path, folder: Path) -> Path:
    """The same images in two groups: how much cloth they show."""
    folder.mkdir()
    for path in source.glob("*.parquet"):
        table = pq.read_table(path)
        sizes = np.array([len(cell["bytes"]) for cell in table["image"].to_pylist()])
        group = pa.array(np.where(sizes > np.quantile(sizes, 0.8), "full", "sparse"))
        pq.write_table(table.append_column("cloth", group), folder / path.name)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with groups, and a run of it whose teacher the others share."""
    home = tmp_path_factory.mktemp("runs")
    with_groups(with_copies(small_source(home / "real", per_class=40)), home / "grouped")
    finished_run(home, "first", "--teacher-epochs", "3")
    return home


def finished_run(home: Path, name: str, *options: str | Path) -> Path:
    if not (home / name).exists():
        done = run_wdistill(
            "run", "--dataset", home / "grouped", "--label-column", "label", "--ipc", "2",
            "--iterations", "2", "--feature-spaces", "none", "--no-evaluate", *options,
            "--label-giver", "teacher", "--label-views", "0",
            "--output", home / name,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return home / name


@pytest.fixture(scope="module")
def run_with(home: Path) -> Callable[..., Path]:
    teacher = home / "first" / "teacher"
    return lambda *options: finished_run(
        home,
        "-".join(str(each).replace("/", "") for each in options) or "plain",
        "--backbone",
        teacher,
        *options,
    )


OPTIONS = [
    (),
    ("--group-column", "cloth"),
    ("--group-column", "cloth", "--group-weights", "proportional", "--weights", "uniform"),
]


def stored(run: Path) -> list[Atoms]:
    tensors = {}
    for unit in class_units(CLASSES, 2, 100):
        tensors |= read_tensors(run / "work" / f"transport-{unit.index:05d}.safetensors")[0]
    classes = TransportUnit.from_tensors(tensors).classes
    return [classes[label].atoms for label in range(CLASSES)]


def assert_same(comparison: Comparison, run: Path) -> None:
    """Rows of a run are those of all images, also where copies were left out."""
    assert len(comparison.train.whole) - len(comparison.train) == comparison.real.shared == 3
    for ours, theirs in zip(comparison.transport, stored(run), strict=True):
        assert torch.allclose(ours.positions, theirs.positions, atol=1e-4)
        assert torch.allclose(ours.weights, theirs.weights, atol=1e-6)
        assert comparison.train.rows[ours.nearest].tolist() == theirs.nearest.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_the_atoms_of_a_run_are_read(
    options: tuple[str, ...], run_with: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with(*options)
    comparison = bench_of(run)
    with monkeypatch.context() as patched:
        patched.setattr(
            "wdistill.evaluation.comparison.class_barycenter", None
        )  # nothing is computed
        assert_same(comparison, run)
        rows, weights = baseline_rows(comparison)["nearest"]
    assert comparison.train.labels[rows].tolist() == np.repeat(np.arange(CLASSES), 2).tolist()
    assert weights.view(CLASSES, 2).mean(1).tolist() == pytest.approx([1.0] * CLASSES)


@pytest.mark.slow
def test_the_atoms_of_a_run_with_other_units_are_read(
    run_with: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of images per step, which only a file sets, decides which classes a unit has."""
    settings = tmp_path / "settings.yaml"
    settings.write_text("synthesis:\n  images_per_step: 4\n")
    run = run_with("--config", settings)
    assert len(list((run / "work").glob("transport-*.safetensors"))) == 5
    comparison = bench_of(run)
    monkeypatch.setattr("wdistill.evaluation.comparison.class_barycenter", None)
    assert [len(atoms.nearest) for atoms in comparison.transport] == [2] * CLASSES


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_without_its_work_folder_the_same_atoms_are_computed(
    options: tuple[str, ...], run_with: Callable[..., Path], tmp_path: Path
) -> None:
    run = run_with(*options)
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("work"))
    assert_same(bench_of(tmp_path / "run"), run)


@pytest.mark.slow
def test_groups_make_other_atoms(run_with: Callable[..., Path]) -> None:
    plain, grouped = stored(run_with()), stored(run_with(*OPTIONS[1]))
    same = [
        torch.allclose(ours.positions, theirs.positions, atol=0.01)
        for ours, theirs in zip(plain, grouped, strict=True)
    ]
    assert sum(same) < CLASSES / 2  # of some classes all images are in one group


@pytest.mark.slow
def test_atoms_of_another_teacher_are_not_taken(home: Path, run_with: Callable[..., Path]) -> None:
    run = run_with()
    other = finished_run(home, "other", "--seed", "1", "--teacher-epochs", "3")
    actual = bench_of(run, other / "teacher").transport
    assert not torch.allclose(actual[0].positions, stored(run)[0].positions, atol=0.1)


@pytest.mark.slow
def test_a_set_of_more_images_than_a_run_may_have(home: Path, tmp_path: Path) -> None:
    """As many atoms as images, of each class its own number."""
    real = small_source(tmp_path / "real", per_class=150)
    table = embedded_table("train", 110, 2)
    more = embedded_table("train", 103)
    rest = more.filter(pc.greater_equal(more["label"], 2))
    pq.write_table(pa.concat_tables([table, rest]), tmp_path / "set.parquet")
    comparison = bench_of(tmp_path / "set.parquet", home / "first" / "teacher", real)
    assert [len(actual.nearest) for actual in comparison.transport] == [110, 110] + [103] * 8


def test_each_class_needs_as_many_real_images_as_the_set_has(tmp_path: Path) -> None:
    real = small_source(tmp_path / "real", per_class=12)
    table = embedded_table("train", 14, 1)
    more = embedded_table("train", 5)
    rest = more.filter(pc.greater_equal(more["label"], 1))
    pq.write_table(pa.concat_tables([table, rest]), tmp_path / "set.parquet")
    with pytest.raises(DataError, match="has 12 real images, fewer than the 14 of the set"):
        bench_of(tmp_path / "set.parquet", None, real)
