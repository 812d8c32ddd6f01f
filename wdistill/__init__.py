"""Dataset distillation by Wasserstein barycenters (WMDD, arXiv 2311.18531)."""

__version__ = "0.1.0"
