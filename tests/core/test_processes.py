"""Pieces of work in three real processes, with one folder and with a folder each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import one_thread

SCRIPT = Path(__file__).with_name("work_script.py")


@pytest.fixture(scope="module", params=["common", "apart"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each process saw, see work_script.py."""
    root = tmp_path_factory.mktemp("work")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    done = subprocess.run(
        [sys.executable, *launch, str(SCRIPT), str(root), request.param],
        env=one_thread(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads((root / f"seen-{rank}.json").read_text()) for rank in range(3)]


def test_every_missing_piece_is_done_once(seen: list[Any]) -> None:
    assert [s["processes"] for s in seen] == [3, 3, 3]
    done = sorted(index for s in seen for index in s["first"])
    assert done == [index for index in range(12) if index != 3]  # 4 was damaged


def test_a_slow_process_does_not_hold_the_others(seen: list[Any]) -> None:
    assert len(seen[0]["first"]) < 11 / 3


def test_every_process_ends_up_with_the_same_files(seen: list[Any]) -> None:
    assert seen[0]["kept"] == seen[1]["kept"] == seen[2]["kept"]
    assert seen[0]["kept"][3] == "3 of before"
    makers = [int(text.split()[2].rstrip(".")) for i, text in enumerate(seen[0]["kept"]) if i != 3]
    pieces = [index for index in range(12) if index != 3]
    assert all(index in seen[maker]["first"] for index, maker in zip(pieces, makers, strict=True))


def test_nothing_is_done_twice(seen: list[Any]) -> None:
    assert [s["again"] for s in seen] == [[], [], []]


def test_what_has_become_outdated_is_done_again(seen: list[Any]) -> None:
    for time in range(2):
        assert sorted(index for s in seen for index in s["anew"][time]) == list(range(12))


def test_the_main_process_decides(seen: list[Any]) -> None:
    assert [s["agreed"] for s in seen] == [7.5] * 3
    assert all(s["texts"] == {"mine": "of the main process", "sub/a": "a"} for s in seen)
