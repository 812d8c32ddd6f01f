"""A folder belongs to one run, is used by one process at a time, and is not given away."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from wdistill.config import (
    BarycenterConfig,
    DataConfig,
    RunConfig,
    StudentConfig,
    SynthesisConfig,
    TeacherConfig,
)
from wdistill.core.files import locked
from wdistill.core.text import displayed, without_folders
from wdistill.errors import RunFolderError
from wdistill.pipeline.run_folder import claim, identity

CONFIG = RunConfig(barycenter=BarycenterConfig(ipc=10))
DATA = "a" * 64


def begun(folder: Path, config: RunConfig = CONFIG, data: str = DATA) -> Path:
    """A run that has finished a part of its transport."""
    folder.mkdir(exist_ok=True)
    claim(folder, config, data)
    (folder / "work").mkdir()
    (folder / "work" / "transport-00000.safetensors").write_bytes(b"atoms")
    return folder


def refusal(folder: Path, config: RunConfig, data: str = DATA) -> str:
    before = snapshot(folder)
    with pytest.raises(RunFolderError) as caught:
        claim(folder, config, data)
    text = str(caught.value)
    assert "\n" not in text
    assert repr(str(folder)) in text
    assert text.endswith("choose another `output`")
    assert snapshot(folder) == before  # nothing was touched
    return text


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- whose folder it is -------------------------------------------------------------------------


def test_an_empty_folder_is_claimed_and_recognised(tmp_path: Path) -> None:
    claim(tmp_path, CONFIG, DATA)
    first = snapshot(tmp_path)
    assert len(first) == 1
    claim(tmp_path, CONFIG, DATA)
    assert snapshot(tmp_path) == first
    begun(tmp_path)
    claim(tmp_path, RunConfig(barycenter=BarycenterConfig(ipc=10)), DATA)


OTHER_SETTINGS = [
    (replace(CONFIG, barycenter=BarycenterConfig(ipc=5)), "barycenter.ipc was 10 and is now 5"),
    (replace(CONFIG, seed=3), "seed was 0 and is now 3"),
    (
        replace(CONFIG, teacher=TeacherConfig(backbone="convnet")),
        "teacher.backbone was 'resnet10-w16' and is now 'convnet'",
    ),
    (
        replace(CONFIG, synthesis=SynthesisConfig(init="noise")),
        "synthesis.init was 'real' and is now 'noise'",
    ),
    (
        replace(CONFIG, data=DataConfig(dataset="cifar10", resolution=32)),
        "data.dataset was None and is now 'cifar10', data.resolution was None and is now 32",
    ),
    (replace(CONFIG, mixed_precision="bf16"), "mixed_precision was 'no' and is now 'bf16'"),
]


@pytest.mark.parametrize(("config", "change"), OTHER_SETTINGS)
def test_a_run_with_other_settings_is_refused(
    tmp_path: Path, config: RunConfig, change: str
) -> None:
    assert f"holds another run: {change}; choose" in refusal(begun(tmp_path), config)


def test_a_run_on_other_images_is_refused(tmp_path: Path) -> None:
    text = refusal(begun(tmp_path), CONFIG, "b" * 64)
    assert f"data.fingerprint was {DATA!r} and is now {'b' * 64!r}" in text


def test_many_differences_are_counted(tmp_path: Path) -> None:
    other = replace(
        CONFIG,
        seed=1,
        barycenter=BarycenterConfig(ipc=3, weights="free"),
        synthesis=SynthesisConfig(iterations=7, lr=0.5),
    )
    text = refusal(begun(tmp_path), other)
    assert text.count(" was ") == 3
    assert " and 2 more; " in text


@pytest.mark.parametrize(("config", "change"), OTHER_SETTINGS)
def test_a_run_that_has_only_a_teacher_gives_way(
    tmp_path: Path, config: RunConfig, change: str
) -> None:
    claim(tmp_path, CONFIG, DATA)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "teacher.json").write_text("{}")
    claim(tmp_path, config, DATA)
    (tmp_path / "work" / "transport-00000.safetensors").write_bytes(b"atoms")
    claim(tmp_path, config, DATA)
    backwards = refusal(tmp_path, CONFIG)
    setting = change.split(" was ", maxsplit=1)[0]
    assert setting in backwards


def test_a_run_from_before_a_setting_existed_goes_on_with_its_default(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    mark = folder / "run.json"
    earlier = json.loads(mark.read_text())
    del earlier["synthesis.aim"], earlier["synthesis.state_steps"]
    mark.write_text(json.dumps(earlier))
    claim(folder, CONFIG, DATA)
    other = replace(CONFIG, synthesis=SynthesisConfig(aim="convnet"))
    assert "synthesis.aim was 'any' and is now 'convnet'" in refusal(folder, other)


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, evaluate=StudentConfig(epochs=7)),
        replace(CONFIG, evaluate=StudentConfig(enabled=False, students=("resnet18",), seeds=9)),
        replace(CONFIG, teacher=TeacherConfig(allow_weak=True, trust_remote_code=True)),
    ],
    ids=["epochs", "students", "permissions"],
)
def test_how_it_is_evaluated_does_not_make_another_run(tmp_path: Path, other: RunConfig) -> None:
    folder = begun(tmp_path)
    before = snapshot(folder)
    claim(folder, other, DATA)
    assert snapshot(folder) == before
    assert identity(other, DATA) == identity(CONFIG, DATA)


def test_the_identity_survives_json() -> None:
    """Else a run would not recognise itself."""
    kept = identity(CONFIG, DATA)
    assert json.loads(json.dumps(kept)) == kept
    assert kept["barycenter.ipc"] == 10
    assert kept["data.fingerprint"] == DATA


@pytest.mark.parametrize("name", ["thesis.tex", ".git", "work"])
def test_a_folder_of_other_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").write_text("mine")
    assert f"is not empty and is not a run (it holds {name!r})" in refusal(tmp_path, CONFIG)


def test_the_lock_is_no_stranger(tmp_path: Path) -> None:
    with locked(tmp_path / "deep" / "run") as _:
        claim(tmp_path / "deep" / "run", CONFIG, DATA)
    claim(tmp_path / "deep" / "run", CONFIG, DATA)


def test_a_damaged_mark_is_one_line(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    (folder / "run.json").write_text('{"seed": ')
    with pytest.raises(RunFolderError, match=r"run\.json' is damaged .* delete it"):
        claim(folder, CONFIG, DATA)


def test_a_run_json_of_another_tool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[1, 2]")
    with pytest.raises(RunFolderError, match="choose another `output`"):
        claim(tmp_path, CONFIG, DATA)


# --- one run at a time --------------------------------------------------------------------------

BUSY = r"another run is working in '.*'; wait for it, or choose another `output`"


def hold(folder: Path) -> None:
    with locked(folder):
        pass


def test_a_second_run_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunFolderError, match=BUSY):
        hold(tmp_path)
    hold(tmp_path)


def test_runs_in_other_folders_do_not_disturb(tmp_path: Path) -> None:
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        assert (tmp_path / "a").is_dir()
        assert (tmp_path / "b").is_dir()


def test_an_error_within_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    hold(tmp_path)


def _attempt(folder: Path, pipe: Connection) -> None:
    """Another process: try, report, and hold on until told otherwise."""
    try:
        with locked(folder):
            pipe.send("held")
            pipe.recv()
    except RunFolderError as error:
        pipe.send(str(error))


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    """Start ``_attempt`` in another process; returns (process, what it said, pipe)."""
    context = multiprocessing.get_context("fork")
    started = []

    def start(folder: Path) -> tuple[Any, str, Connection]:
        ours, theirs = context.Pipe()
        process = context.Process(target=_attempt, args=(folder, theirs))
        process.start()
        started.append(process)
        assert ours.poll(30)
        return process, ours.recv(), ours

    yield start
    for process in started:
        process.kill()
        process.join()


def test_another_process_is_refused(tmp_path: Path, elsewhere: Any) -> None:
    with locked(tmp_path):
        _, said, _ = elsewhere(tmp_path)
        assert said.startswith("another run is working in ")
    _, said, pipe = elsewhere(tmp_path)
    assert said == "held"
    with pytest.raises(RunFolderError, match=BUSY):
        hold(tmp_path)
    pipe.send("enough")


def test_a_killed_run_leaves_no_lock(tmp_path: Path, elsewhere: Any) -> None:
    process, said, _ = elsewhere(tmp_path)
    assert said == "held"
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    hold(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for target in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunFolderError, match=r"^cannot write to '.*' \(.+\); choose") as caught:
            hold(target)
        assert repr(str(target)) in str(caught.value)
        assert "None" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "not a folder"


# --- what may be published ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "published"),
    [
        ("/home/someone/data/birds", "birds"),
        ("/home/someone/data/birds/", "birds"),
        ("~/models/net", "net"),
        ("./runs/birds-ipc10", "birds-ipc10"),
        ("../../secret/birds.parquet", "birds.parquet"),
        ("--output=/home/someone/birds", "--output=birds"),
        ("secret/birds/*.parquet", "*.parquet"),
    ],
)
def test_paths_are_cut_to_their_last_part(value: str, published: str) -> None:
    assert without_folders(value) == published


@pytest.mark.parametrize(
    "value",
    [
        "microsoft/resnet-18",
        "imagenet-1k",
        "resnet10-w16",
        "train[:10%]",
        "real",
        "",
        "--backbone=user/net",
        300 * "a",
        "/",
    ],
)
def test_names_stay(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert without_folders(value) == value


def test_a_relative_path_is_known_by_its_existence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert without_folders("private/birds") == "private/birds"  # it may be a Hub id
    (tmp_path / "private" / "birds").mkdir(parents=True)
    assert without_folders("private/birds") == "birds"
    assert without_folders("private") == "private"


def test_settings_of_every_shape_are_cleaned(tmp_path: Path) -> None:
    private = str(tmp_path / "net")
    value = {
        "teacher": {"backbone": private, "epochs": 3},
        "students": (private, "resnet18"),
        "rest": [None, 1.5, True, {"deep": [private]}],
    }
    assert without_folders(value) == {
        "teacher": {"backbone": "net", "epochs": 3},
        "students": ("net", "resnet18"),
        "rest": [None, 1.5, True, {"deep": ["net"]}],
    }
    assert str(tmp_path) not in json.dumps(without_folders(value))


def test_equal_names_of_folders_are_told_apart(tmp_path: Path) -> None:
    one, other = (str(tmp_path / parent / "net") for parent in ("sa", "sb"))
    found = displayed([one, "vit", other, one])
    assert found == {one: "net", "vit": "vit", other: "net (2)"}
