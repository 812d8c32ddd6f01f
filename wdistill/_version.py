"""The version of the package: the only place that holds the number."""

__version__ = "0.1.0"
