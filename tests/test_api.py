"""What `import wdistill` offers: these names, documented, and nothing heavy until one is used."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import wdistill
from wdistill.pipeline.api import calls

NAMES = {
    "BackboneError", "DataError", "EvaluateConfig", "HubError", "MemoryLimitError",
    "NumericalError", "OptionError", "ProcessError", "RunConfig", "RunFolderError",
    "RuntimeConfig", "WdistillError", "WeakTeacherError", "__version__", "barycenter", "compare",
    "distill", "estimate", "evaluate", "load", "push", "reproduce",
}  # fmt: skip
FUNCTIONS = (
    "barycenter",
    "compare",
    "distill",
    "estimate",
    "evaluate",
    "load",
    "push",
    "reproduce",
)


def test_exported_names() -> None:
    assert set(wdistill.__all__) == NAMES
    assert all(hasattr(wdistill, name) for name in NAMES)
    assert dir(wdistill) == sorted(wdistill.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'distil'"):
        wdistill.distil  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_is_documented_and_typed(name: str) -> None:
    function = getattr(wdistill, name)
    text = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    assert "\nReturns:\n" in text
    assert "\nRaises:\n" in text
    for parameter in signature.parameters.values():
        assert f"{parameter.name}: " in text, parameter
        assert parameter.annotation is not inspect.Parameter.empty
    assert signature.return_annotation is not inspect.Signature.empty
    assert len(signature.parameters) <= 6


def test_images_per_class_win_over_any_number_of_images_in_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[wdistill.RunConfig] = []
    monkeypatch.setattr(calls.pipeline, "estimate_run", lambda config, _: seen.append(config))
    for values in ({"budget": 30_000}, {"barycenter": {"images": 50}}, {"barycenter": {"ipc": 3}}):
        wdistill.estimate(ipc=4, config=wdistill.RunConfig.from_dict(values))
    assert [config.changed() for config in seen] == [{"barycenter.ipc": 4}] * 3


def test_all_errors_are_wdistill_errors() -> None:
    errors = [getattr(wdistill, name) for name in NAMES if name.endswith("Error")]
    assert all(issubclass(error, wdistill.WdistillError) for error in errors)
    assert set(wdistill.WdistillError.__subclasses__()) <= set(errors)


def test_the_import_brings_nothing_heavy() -> None:
    code = (
        "import sys, wdistill; wdistill.RunConfig(); print(*{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "datasets", "numpy", "huggingface_hub", "pydantic", "yaml"}
    assert not heavy & set(done.stdout.split())
