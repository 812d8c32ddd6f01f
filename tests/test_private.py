"""No private name of another library is used: such names go away without notice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wdistill

PACKAGE = Path(wdistill.__file__).parent
DOCUMENTED = {"os._exit"}
BY_NAME = {"getattr", "setattr", "hasattr", "delattr"}


def private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__")


def own_names(tree: ast.AST) -> set[str]:
    """What the module itself defines or assigns."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        ):
            names.add(node.attr)
    return names


def uses(source: str) -> Iterator[str]:
    """Private attributes that the module does not define itself, and imports of private names."""
    tree = ast.parse(source)
    own = own_names(tree)
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.expr | ast.stmt) else ""
        if isinstance(node, ast.Attribute):
            if private(node.attr) and node.attr not in own and text not in DOCUMENTED:
                yield text
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME:
            names = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
            if any(private(name) and name not in own for name in names):
                yield text
        elif isinstance(node, ast.Import):
            if any(private(part) for alias in node.names for part in alias.name.split(".")):
                yield text
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] != "wdistill":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            if any(private(name) for name in names):
                yield text


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_private_name_of_another_library_is_used(path: Path) -> None:
    assert list(uses(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\nisinstance(x, torch.nn.modules.batchnorm._NormBase)",
        "from tqdm import tqdm\nfor bar in tqdm._instances: bar.close()",
        "def f(model):\n    return model._model_mapping",
        "class Own(Base):\n    def f(self):\n        return self._inherited",
        "x._planted = 1",
        "getattr(module, '_instances', ())",
        "import datasets._internal",
        "from datasets import _internal",
        "from datasets._internal import name",
    ],
)
def test_what_is_looked_for_is_found(source: str) -> None:
    assert list(uses(source)) != []


@pytest.mark.parametrize(
    "source",
    [
        "class Own:\n    def f(self):\n        self._cache = 1\n        other._cache = 2",
        "class Own:\n    _field: int = 0\n    def _g(self): return self._field\n    h = o._g",
        "import os\nos._exit(1)",
        "x.__class__.__name__",
    ],
)
def test_what_a_module_defines_itself_is_its_own(source: str) -> None:
    assert list(uses(source)) == []
