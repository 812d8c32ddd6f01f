"""How far a run is, as a bar on a terminal and as readable lines in a file."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.runs import QUICK, one_thread, small_source

from wdistill.core import log
from wdistill.core.log import LOG_FILE, Progress, log_to_folder, log_to_stdout

MAIN = SimpleNamespace(is_main_process=True, process_index=0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that stands still unless a test moves it."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(log.time, "monotonic", lambda: now.seconds)
    return now


def count(clock: SimpleNamespace, steps: int, seconds: float, **settings: object) -> None:
    with Progress("teacher", steps, "step", **settings) as progress:  # type: ignore[arg-type]
        for _ in range(progress.n, steps):
            clock.seconds += seconds
            progress.update()


def test_in_a_file_there_is_a_line_now_and_then(
    clock: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with log_to_stdout(), log_to_folder(tmp_path, MAIN):
        count(clock, steps=1000, seconds=0.2)
    heard = capsys.readouterr()
    assert heard.err == ""
    assert heard.out.splitlines() == [
        "teacher: 5%, 50 of 1,000 step, 5.0 step/s, 3 min 10 s left",
        "teacher: 35%, 350 of 1,000 step, 5.0 step/s, 2 min 10 s left",
        "teacher: 65%, 650 of 1,000 step, 5.0 step/s, 1 min 10 s left",
        "teacher: 95%, 950 of 1,000 step, 5.0 step/s, 10 s left",
        "teacher: 100%, 1,000 of 1,000 step, 5.0 step/s",
    ]
    log_lines = (tmp_path / LOG_FILE).read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in log_lines] == heard.out.splitlines()


def test_on_a_terminal_there_is_a_bar_and_the_log_has_the_lines(
    clock: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with log_to_stdout(), log_to_folder(tmp_path, MAIN):
        count(clock, steps=20, seconds=1.0)
    heard = capsys.readouterr()
    assert heard.out == ""
    assert "teacher: 100%" in heard.err
    assert heard.err.endswith("\n")
    assert len((tmp_path / LOG_FILE).read_text().splitlines()) == 2


def test_quiet_shows_and_logs_nothing(
    clock: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with log_to_stdout(), log_to_folder(tmp_path, MAIN):
        count(clock, steps=100, seconds=1.0, quiet=True)
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / LOG_FILE).read_text() == ""


def test_what_is_soon_done_is_not_worth_a_line(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    count(clock, steps=9, seconds=1.0)
    assert caplog.messages == []


def test_the_rate_is_of_this_start_alone(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    count(clock, steps=100, seconds=10.0, done=98)
    assert caplog.messages == [
        "teacher: 99%, 99 of 100 step, 10.0 s/step, 10 s left",
        "teacher: 100%, 100 of 100 step, 10.0 s/step",
    ]


def test_without_a_total_the_line_counts(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Progress("streaming train", None, "img") as progress:
        clock.seconds += 20
        progress.describe("512 at once")
        progress.update(3000)
    assert caplog.messages == ["streaming train: 3,000 img, 150.0 img/s, 512 at once"] * 2


def test_what_failed_has_no_last_line_and_no_open_bar(
    clock: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress("teacher", 10, "step")
    clock.seconds += 60
    with suppress(ValueError), progress:
        raise ValueError("of it")
    assert caplog.messages == []
    assert capsys.readouterr().err.endswith("\n")  # the error stands on a line of its own


@pytest.mark.slow
def test_a_run_into_a_file_has_lines_and_no_carriage_return(tmp_path: Path) -> None:
    run, output = tmp_path / "run", tmp_path / "job.log"
    often = "from wdistill.core import log; log.FIRST_LINE = log.LINE_INTERVAL = 0.2; "
    command = [sys.executable, "-c", f"{often}from wdistill.cli.main import main; main()"]
    source = str(small_source(tmp_path / "source", 20))
    arguments = ["run", "--dataset", source, "--output", str(run), *QUICK, "--no-evaluate"]
    with output.open("wb") as file:
        done = subprocess.run(
            [*command, *arguments, "--allow-weak-teacher"],
            env=one_thread(), stdout=file, stderr=subprocess.STDOUT, timeout=300, check=False,
        )  # fmt: skip
    said = output.read_bytes()
    assert done.returncode == 0, said
    for data in (said, (run / LOG_FILE).read_bytes()):
        assert b"\r" not in data
        log_lines = re.findall(
            r"synthesis: +\d+%, .* of 120 img, [\d.]+ (?:img/s|s/img), .* left", data.decode()
        )
        assert 1 <= len(log_lines) < 60
