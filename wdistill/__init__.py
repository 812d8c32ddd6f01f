"""Dataset distillation by Wasserstein barycenters (WMDD, arXiv 2311.18531)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wdistill._version import __version__

if TYPE_CHECKING:
    from wdistill.artifact.torch_dataset import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """PyTorch is imported when it is needed: the command line imports this package too."""
    if name == "load":
        from wdistill.artifact.torch_dataset import load  # noqa: PLC0415

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
