"""A set under another name is never found with the manifest of its earlier name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wdistill.artifact.layout import set_folders
from wdistill.config import RunConfig
from wdistill.pipeline.stages import finish


def test_a_set_that_is_renamed_has_no_manifest_until_it_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the run is killed before the new name or after it."""
    root = tmp_path / "publish"
    (root / "ipc3-9B").mkdir(parents=True)
    (root / "ipc3-9B" / "wdistill.json").touch()
    run: Any = SimpleNamespace(folder=tmp_path, config=RunConfig(), budget=9, ipc=2)
    seen: list[list[Path]] = []
    rename = Path.rename

    def noted(self: Path, target: Path) -> Path:
        seen.append(set_folders(root))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", noted)
    assert finish._set_folder(run) == root / "ipc2-9B"
    assert [path.name for path in root.iterdir()] == ["ipc2-9B"]
    assert [*seen, set_folders(root)] == [[], []]
