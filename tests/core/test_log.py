"""What a run says is kept, and its numbers can be followed."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.runs import QUICK, run_wdistill, small_source
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wdistill.core import devices
from wdistill.core.devices import open_accelerator
from wdistill.core.log import LOG_FILE, log_to_folder, log_to_stdout
from wdistill.errors import OptionError

logger = logging.getLogger("wdistill.pipeline.run")


def process(rank: int) -> SimpleNamespace:
    return SimpleNamespace(is_main_process=rank == 0, process_index=rank)


def test_what_is_said_is_kept_with_the_time(tmp_path: Path) -> None:
    for text in ("first", "second"):  # a run that goes on goes on in the same file
        with log_to_folder(tmp_path, process(0)):
            logger.info(text)
        logger.info("between two runs")
    lines = (tmp_path / LOG_FILE).read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["first", "second"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d ", line) for line in lines)


def test_other_processes_say_nothing_but_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with log_to_stdout(), log_to_folder(tmp_path, process(2)):
        logger.info("nothing")
        warnings.warn("of a library", stacklevel=1)
    assert not (tmp_path / LOG_FILE).exists()
    heard = capsys.readouterr()
    assert heard.out == ""
    assert re.match(r"process 3: .*UserWarning: of a library", heard.err)


def test_what_is_said_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with log_to_stdout():
        logger.info("transport: 5% of it")
    logger.info("afterwards")
    assert capsys.readouterr().out == "transport: 5% of it\n"


def test_the_settings_of_logging_are_as_before(tmp_path: Path) -> None:
    package, warned = logging.getLogger("wdistill"), logging.getLogger("py.warnings")
    before = [(one.level, list(one.handlers)) for one in (package, warned)]
    shown = warnings.showwarning
    with pytest.raises(ValueError, match="of a run"), log_to_folder(tmp_path, process(0)):
        raise ValueError("of a run")
    assert [(one.level, one.handlers) for one in (package, warned)] == before
    assert warnings.showwarning is shown


def test_warnings_are_kept_too(tmp_path: Path) -> None:
    with log_to_folder(tmp_path, process(0)):
        warnings.warn("of a library", stacklevel=1)
    assert "UserWarning: of a library" in (tmp_path / LOG_FILE).read_text()


@pytest.mark.slow
def test_numbers_can_be_followed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    source = small_source(tmp_path / "source", 20)
    done = run_wdistill(
        "run", "--dataset", source, "--output", run, *QUICK, "--allow-weak-teacher",
        "--track", "tensorboard",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    actual = EventAccumulator(str(run / "tracking" / "wdistill")).Reload()
    names = actual.Tags()["scalars"]
    assert [event.step for event in actual.Scalars("teacher/loss")] == [1, 2, 3]
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
    with pytest.raises(
        OptionError, match=r"`runtime.track=trackio` needs the package .trackio.; `pip ins"
    ):
        open_accelerator("no", "cpu", "trackio")
