"""The house: which rooms there are, in which order, and that imports go downward."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import wdistill

PACKAGE = Path(wdistill.__file__).parent
ROOMS = (
    "core", "config", "data", "networks", "transport", "synthesis", "labels", "artifact",
    "evaluation", "publishing", "pipeline", "cli",
)  # fmt: skip
ORDER = ("errors", "_version", *ROOMS, "__init__", "__main__")
MOST_MODULES = 8


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The rooms that a module imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "wdistill":
            names = [f"wdistill.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("wdistill."))


def test_the_house_has_these_rooms_and_no_others() -> None:
    found = {room(path) for path in modules()}
    assert found == set(ORDER)
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    own = ORDER.index(room(path))
    assert [name for name in imported(path) if ORDER.index(name) > own] == []


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in modules()}
    for folder in folders:
        own = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert folder == PACKAGE or len(own) <= MOST_MODULES, folder


def test_contributing_states_the_order() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    places = [text.index(f"`{name}/`") for name in ROOMS]
    assert places == sorted(places)


# --- the tests mirror it ------------------------------------------------------------------------

TESTS = PACKAGE.parent / "tests"
OF_ALL_ROOMS = ("test_rooms.py", "test_private.py")
BESIDE = ("benchmarks", "helpers", "integration")  # folders of tests that are no rooms


def test_each_test_file_is_named_after_a_module() -> None:
    """``test_MODULE.py``, or ``test_MODULE_aspect.py`` beside it, in the folder of that room."""
    for path in TESTS.rglob("test_*.py"):
        room, words = path.relative_to(TESTS).parent, path.stem.split("_")[1:]
        if (room.parts[:1] and room.parts[0] in BESIDE) or path.name in OF_ALL_ROOMS:
            continue
        names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
        modules = {module.stem for module in (PACKAGE / room).rglob("*")}
        assert modules & set(names), path


IMPORT = re.compile(r"^ *from wdistill\.([a-z_.]+) import", re.MULTILINE)


def test_code_in_strings_names_modules_that_exist() -> None:
    """What is run in processes of its own is no import that a type checker sees."""
    for path in TESTS.rglob("*.py"):
        for name in IMPORT.findall(path.read_text()):
            module = PACKAGE.joinpath(*name.split("."))
            assert module.is_dir() or module.with_suffix(".py").is_file(), f"{path}: {name}"
