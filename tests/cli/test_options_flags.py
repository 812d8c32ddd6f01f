"""Only the command line speaks of flags: elsewhere errors name settings as Python does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import wdistill
from wdistill.config import EvaluateConfig, RunConfig, RuntimeConfig
from wdistill.core.settings import options_of

PACKAGE = Path(wdistill.__file__).parent
FLAG = re.compile(r"(?<![\w(-])--[a-z]")
NAMED = re.compile(r"`([a-z]+\.\w+)(?:=\w+)?`")
SETTINGS = [*sorted((PACKAGE / "config").rglob("*.py")), PACKAGE / "core/settings.py"]  # flags
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if not {"cli", "embedded"} & set(path.parts) and path not in SETTINGS
)


def texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_flag_is_named_outside_the_command_line(path: Path) -> None:
    assert [text for text in texts(path) if FLAG.search(text)] == []


def test_every_setting_that_an_error_names_is_one() -> None:
    settings = {name for kind in (RunConfig, EvaluateConfig) for name, _, _ in options_of(kind)}
    settings |= {f"runtime.{name}" for name, _, _ in options_of(RuntimeConfig)}
    named = {
        match
        for path in [*MODULES, *SETTINGS]
        for text in texts(path)
        for match in NAMED.findall(text)
        if match.split(".")[0] in {name.split(".")[0] for name in settings}
    }
    assert named <= settings
    assert len(named) > 20
