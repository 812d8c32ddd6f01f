"""A file of a published set is read strictly, and what is wrong with it is told in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from wdistill.artifact.records.model import Count, FileRecord, FrozenMap, Number, Record
from wdistill.config import FORMAT_VERSION, SynthesisConfig
from wdistill.errors import RunFolderError


class Part(Record):
    share: Number
    count: Count


class File(FileRecord):
    parts: tuple[Part, ...]
    seconds: FrozenMap[str, Number]
    kind: Literal["run", "dataset"]
    note: str | None
    synthesis: SynthesisConfig


CONTENT: dict[str, Any] = {
    "format_version": FORMAT_VERSION,
    "parts": [{"share": 0.5, "count": 3}, {"share": 1, "count": 0}],
    "seconds": {"teacher": 61.5},
    "kind": "run",
    "note": None,
    "synthesis": {"iterations": 7, "feature_spaces": ["convnet-w64:2"]},
}


def test_a_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    file = File.parse(CONTENT, tmp_path / "x.json")
    assert file.parts[1] == Part(share=1.0, count=0)
    assert file.synthesis == SynthesisConfig(iterations=7, feature_spaces=("convnet-w64:2",))
    file.write(tmp_path / "x.json")
    assert File.read(tmp_path / "x.json") == file
    assert json.loads((tmp_path / "x.json").read_text())["seconds"] == {"teacher": 61.5}


def test_nothing_in_it_can_be_changed(tmp_path: Path) -> None:
    file = File.parse(CONTENT, tmp_path / "x.json")
    with pytest.raises(ValidationError, match="frozen"):
        file.parts[0].count = 4
    with pytest.raises(TypeError, match="does not support item assignment"):
        file.seconds["teacher"] = 0.0  # type: ignore[index]


def test_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    later = CONTENT | {"colour": "blue", "parts": [{"share": 0.5, "count": 3, "size": 9}]}
    assert File.parse(later, tmp_path).parts == (Part(share=0.5, count=3),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "upgrade wdistill to read it"),
        ({"format_version": FORMAT_VERSION - 1}, "which this version of wdistill does not read"),
        ({"format_version": "1"}, "format_version is str instead of a whole number"),
        ({"parts": [{"share": "0.5", "count": 3}]}, "parts.0.share is str instead of a number"),
        ({"parts": [{"share": 0.5, "count": 2.5}]}, "count is float instead of a whole number"),
        ({"parts": [{"share": 0.5, "count": True}]}, "count is bool instead of a whole number"),
        ({"parts": [{"share": 0.5, "count": -1}]}, "count is not a number of a sensible size"),
        ({"parts": [{"share": 1e30, "count": 1}]}, "share is not a number of a sensible size"),
        ({"parts": [{"share": 0.5}]}, "parts.0.count is missing"),
        ({"parts": {}}, "parts is dict instead of a list"),
        ({"seconds": {"teacher": None}}, "seconds.teacher is null instead of a number"),
        ({"kind": "walk"}, "kind is 'walk'; choose one of 'run' or 'dataset'"),
        ({"note": 3}, "note is int instead of text"),
        ({"synthesis": {"iterations": "7"}}, "synthesis.iterations is str instead of a whole num"),
        ({"synthesis": {"iterations": -7}}, "iterations is -7; give a number from 0 to 100000"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(CONTENT | change))
    with pytest.raises(RunFolderError) as caught:
        File.read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_version_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="format_version is missing; write it again"):
        File.parse({k: v for k, v in CONTENT.items() if k != "format_version"}, tmp_path)
    with pytest.raises(RunFolderError, match="it is list instead of a mapping"):
        File.parse([], tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "secret.json").write_text(json.dumps(CONTENT))
    (tmp_path / "set/x.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(RunFolderError, match="link that leads out"):
        File.read(tmp_path / "set/x.json")


def test_a_file_is_read_without_torch() -> None:
    code = "import sys, wdistill.artifact.records.model; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
