"""Dataset distillation by Wasserstein barycenters (WMDD, arXiv 2311.18531).

import wdistill

run = wdistill.distill("cifar10", backbone="resnet18", ipc=10)
wdistill.push(run.folder, "you/cifar10-wdistill-ipc10")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wdistill._version import __version__
from wdistill.config import EvaluateConfig, RunConfig, RuntimeConfig
from wdistill.errors import (
    BackboneError,
    DataError,
    HubError,
    MemoryLimitError,
    NumericalError,
    OptionError,
    ProcessError,
    RunFolderError,
    WdistillError,
    WeakTeacherError,
)

if TYPE_CHECKING:
    from wdistill.artifact.torch_dataset import load
    from wdistill.pipeline.api.calls import compare, distill, estimate, evaluate, push, reproduce
    from wdistill.transport.barycenter import barycenter

__all__ = [
    "BackboneError",
    "DataError",
    "EvaluateConfig",
    "HubError",
    "MemoryLimitError",
    "NumericalError",
    "OptionError",
    "ProcessError",
    "RunConfig",
    "RunFolderError",
    "RuntimeConfig",
    "WdistillError",
    "WeakTeacherError",
    "__version__",
    "barycenter",
    "compare",
    "distill",
    "estimate",
    "evaluate",
    "load",
    "push",
    "reproduce",
]

_PLACES = {
    "barycenter": "wdistill.transport.barycenter",
    "load": "wdistill.artifact.torch_dataset",
    **dict.fromkeys(
        ("compare", "distill", "estimate", "evaluate", "push", "reproduce"),
        "wdistill.pipeline.api.calls",
    ),
}


def __getattr__(name: str) -> Any:
    """PyTorch is imported when it is needed: the command line imports this package too."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
