"""Dataset distillation by Wasserstein barycenters (WMDD, arXiv 2311.18531)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wdistill.loading import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """PyTorch is imported when it is needed: the command line imports this package too."""
    if name == "load":
        from wdistill.loading import load  # noqa: PLC0415

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
