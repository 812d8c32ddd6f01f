"""A published set opens from any of its folders; a foreign or damaged one gets one true line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.examples import NAMES, SCHEMAS, distilled_set, manifest, manifest_json, write_set
from helpers.labels import with_views
from helpers.reports import run_report
from helpers.runs import small_source
from jsonschema import Draft202012Validator

import wdistill
from wdistill.artifact.layout import MANIFEST_FILE, publish_folder
from wdistill.artifact.reading import (
    check_data,
    open_published,
    read_published,
    remote,
    split_name,
)
from wdistill.config import (
    BarycenterConfig,
    DataConfig,
    LabelViewsConfig,
    RelabelConfig,
    RunConfig,
    RuntimeConfig,
    StudentConfig,
    SynthesisConfig,
    TeacherConfig,
)
from wdistill.core.files import write_json
from wdistill.data.dataset import load_data
from wdistill.errors import DataError, RunFolderError
from wdistill.pipeline.api.result import DistilledRun

ARRAYS = ("images", "labels", "weights", "soft_labels")


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> DistilledRun:
    """A finished run of all stages, with the fewest steps of each."""
    folder = tmp_path_factory.mktemp("reading")
    config = RunConfig(
        data=DataConfig(dataset=str(small_source(folder / "source", 10))),
        teacher=TeacherConfig(epochs=1, batch_size=50, allow_weak=True),
        barycenter=BarycenterConfig(ipc=2),
        synthesis=SynthesisConfig(iterations=1, feature_spaces=()),
        relabel=RelabelConfig(giver="teacher"),
        label_views=LabelViewsConfig(count=1),
        evaluate=StudentConfig(epochs=None, steps=2, labels=("views",), seeds=1),
    )
    runtime = RuntimeConfig(device="cpu", quiet=True)
    return wdistill.distill(config=config, output=folder / "run", runtime=runtime)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The folder of one set with a report and without label views."""
    folder = tmp_path / "run" / "publish" / "ipc4"
    write_set(folder, distilled_set(), manifest())
    run_report().write(folder / "report.json")
    return folder


@pytest.mark.parametrize("level", [0, 1, 2], ids=["set", "publish folder", "run folder"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_set_is_opened_from_each_of_its_folders(
    published: Path, level: int, kind: Callable[[Path], str | Path]
) -> None:
    folder = [published, *published.parents][level]
    opened = open_published(kind(folder))
    expected = distilled_set()
    assert opened.folder == published
    assert opened.distilled.class_names == NAMES
    for name in ARRAYS:
        assert np.array_equal(getattr(opened.distilled, name), getattr(expected, name)), name
    assert opened.manifest.teacher == manifest().teacher
    assert opened.report == run_report()
    assert opened.views is None


def test_a_set_without_report_has_none(published: Path) -> None:
    (published / "report.json").unlink()
    assert read_published(published).report is None


def test_label_views_are_read_with_their_set(tmp_path: Path) -> None:
    views, _ = with_views(tmp_path)
    opened = open_published(tmp_path)
    assert opened.views is not None
    assert opened.manifest.label_views is not None
    assert opened.views.count == opened.manifest.label_views.views == views.count
    assert np.array_equal(opened.views.logits, views.logits)


def test_of_several_sets_one_has_to_be_named(published: Path) -> None:
    root = published.parent
    write_set(root / "ipc2", distilled_set(ipc=2), manifest(ipc=2))
    with pytest.raises(RunFolderError, match="holds 2 sets; give one of them") as caught:
        open_published(root)
    assert str(root / "ipc2") in str(caught.value)
    assert len(open_published(root / "ipc2").distilled) == 6


@pytest.mark.parametrize("source", [Path("nowhere/at-all"), "./nowhere", "/nowhere/at/all"])
def test_a_path_that_does_not_exist_is_not_sought_on_the_hub(source: str | Path) -> None:
    with pytest.raises(RunFolderError, match="does not exist; give a run"):
        open_published(source)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _rewrite(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def _manifest(**changes: Any) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        written = json.loads((folder / MANIFEST_FILE).read_text())["bytes"]
        write_json(folder / MANIFEST_FILE, manifest_json(**changes) | {"bytes": written})

    return damage


def _truncate(folder: Path) -> None:
    (shard,) = (folder / "data").glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:1000])


VIEWS = {"views": 2, "topk": 3, "levels": 16, "temperature": 20.0}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_empty, f"has no ipc*/{MANIFEST_FILE}; give the output folder of a finished"),
        (_rewrite(MANIFEST_FILE, "{"), "wdistill.json' is damaged"),
        (_rewrite(MANIFEST_FILE, "[]"), "wdistill.json"),
        (_rewrite(MANIFEST_FILE, '{"model": "another tool"}'), "wdistill.json"),
        (_rewrite("report.json", "not JSON"), "report.json' is damaged"),
        (_truncate, "bytes of parquet, but"),
        (lambda folder: shutil.rmtree(folder / "data"), "data"),
        (_manifest(resolution=32), f"its images and its {MANIFEST_FILE} disagree"),
        (_manifest(names=("a", "b", "c")), f"its images and its {MANIFEST_FILE} disagree"),
        (_manifest(label_views=VIEWS), f"its label views and its {MANIFEST_FILE} disagree"),
    ],
)
def test_a_foreign_or_damaged_set_gets_one_line_that_names_it(
    damage: Callable[[Path], object], message: str, published: Path
) -> None:
    damage(published)
    with pytest.raises(RunFolderError) as caught:
        open_published(published)
    assert message in str(caught.value)
    assert str(published) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("you/set", ("you/set", None)),
        ("you/set/ipc10", ("you/set", "ipc10")),
        ("you/set/ipc10-convnet", ("you/set", "ipc10-convnet")),
        ("you/set/ipc10-w2-37500B-convnet", ("you/set", "ipc10-w2-37500B-convnet")),
        ("you/set/other", ("you/set/other", None)),
        ("set/ipc10", ("set/ipc10", None)),
        ("cifar10", ("cifar10", None)),
    ],
)
def test_the_name_of_a_set_follows_the_id_of_its_dataset(
    name: str, parts: tuple[str, str | None]
) -> None:
    assert split_name(name) == parts


def test_a_recorded_name_means_the_hub_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert remote("you/net", "teacher") == "you/net"
    for name in ("/home/you/net", "../net", "you/net/more", "a b"):
        with pytest.raises(RunFolderError, match=f"the teacher of {MANIFEST_FILE}: ") as caught:
            remote(name, "teacher")
        assert "\n" not in str(caught.value)
    (tmp_path / "you" / "net").mkdir(parents=True)
    with pytest.raises(RunFolderError, match="there is a folder of that name here") as caught:
        remote("you/net", "teacher", "teacher.backbone")
    assert "`teacher.backbone`" in str(caught.value)


def test_a_finished_run_is_opened_and_its_source_recognised(tiny_run: DistilledRun) -> None:
    opened = open_published(tiny_run.folder)
    assert opened.folder == tiny_run.set_folder
    assert len(opened.distilled) == 20
    assert opened.views is not None
    assert opened.report == tiny_run.report
    source = tiny_run.folder.parent / "source"
    data = load_data(DataConfig(dataset=str(source)), 0, 2)
    check_data(data, opened.manifest.source)
    other = replace(data, source=replace(data.source, fingerprint="f" * 64))
    with pytest.raises(DataError, match="is not the data that this set was made from") as caught:
        check_data(other, opened.manifest.source, "; try another")
    assert "has 100 training images and had 100; try another" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "schema"), [(MANIFEST_FILE, "manifest"), ("report.json", "report")]
)
def test_the_files_of_a_run_fit_the_published_schemas(
    name: str, schema: str, tiny_run: DistilledRun
) -> None:
    stored = json.loads((SCHEMAS / f"{schema}.schema.json").read_text())
    Draft202012Validator.check_schema(stored)
    validator = Draft202012Validator(stored)
    content = json.loads((publish_folder(tiny_run.folder) / "ipc2" / name).read_text())
    assert [error.message for error in validator.iter_errors(content)] == []
    for field in stored["required"]:
        lacking = {key: value for key, value in content.items() if key != field}
        assert not validator.is_valid(lacking), f"{field} is required"
    assert not validator.is_valid(content | {"format_version": "one"})
