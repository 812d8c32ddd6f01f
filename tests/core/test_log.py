"""What a run says is kept, and its numbers can be followed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.runs import QUICK, run_wdistill, small_source
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wdistill.core import devices
from wdistill.core.devices import open_accelerator
from wdistill.core.log import LOG_FILE, logged
from wdistill.errors import OptionError


def process(rank: int) -> SimpleNamespace:
    return SimpleNamespace(is_main_process=rank == 0, process_index=rank)


def test_what_is_said_is_kept_with_the_time(tmp_path: Path) -> None:
    heard: list[str] = []
    for text in ("first", "second"):  # a run that goes on goes on in the same file
        with logged(tmp_path, process(0), heard.append) as say:
            say(text)
    assert heard == ["first", "second"]
    lines = (tmp_path / LOG_FILE).read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == heard
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d ", line) for line in lines)


def test_other_processes_say_nothing_but_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[str] = []
    with logged(tmp_path, process(2), heard.append) as say:
        say("nothing")
        warnings.warn("of a library", stacklevel=1)
    assert heard == []
    assert not (tmp_path / LOG_FILE).exists()
    assert re.match(r"process 3: .*UserWarning: of a library", capsys.readouterr().err)


def test_warnings_are_kept_too(tmp_path: Path) -> None:
    with logged(tmp_path, process(0), lambda _: None):
        warnings.warn("of a library", stacklevel=1)
    assert "UserWarning: of a library" in (tmp_path / LOG_FILE).read_text()


def test_numbers_can_be_followed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    source = small_source(tmp_path / "source", 20)
    done = run_wdistill(
        "run", "--dataset", source, "--output", run, *QUICK, "--allow-weak-teacher",
        "--track", "tensorboard",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = EventAccumulator(str(run / "tracking" / "wdistill")).Reload()
    names = found.Tags()["scalars"]
    assert [event.step for event in found.Scalars("teacher/loss")] == [1, 2, 3]
    assert {"teacher/accuracy", "transport/w2", "synthesis/teacher: features"} <= set(names)
    assert {n for n in names if n.startswith("students/")} == {
        f"students/resnet10-w16/{labels}/{images}"
        for labels in ("hard", "soft") for images in ("distilled", "random")
    }  # fmt: skip
    said = (run / LOG_FILE).read_text()
    for stage in ("teacher", "transport", "synthesis", "relabel", "evaluate"):
        assert len(re.findall(rf" {stage}: finished after [\d.]+ s", said)) >= 1


def test_a_tracker_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda _: None)
    with pytest.raises(OptionError, match="--track trackio needs the package 'trackio'; `pip ins"):
        open_accelerator("no", "cpu", "trackio")
