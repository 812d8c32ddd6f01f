"""Errors that a user can act on.

    WdistillError
    ├── OptionError      an option or a combination of options is not allowed      (exit code 2)
    ├── DataError        the dataset cannot be read or used
    ├── BackboneError    the backbone or student cannot be read or used
    ├── WeakTeacherError the teacher is near chance, distilling it would be wasted work
    ├── RunFolderError   the output folder holds something else, is damaged or cannot be written
    ├── HubError         the Hub refused, or cannot be reached
    ├── ProcessError     one of several processes was killed
    │   └── PeerError    another process has failed or ended; that one says why
    ├── NumericalError   a loss or a statistic is not finite
    └── MemoryLimitError one image alone does not fit into the device's memory

Each message is one line: what was given, what is allowed, what to do.
"""

from __future__ import annotations


class WdistillError(Exception):
    """Base of all errors that are the input's fault, not the program's."""

    exit_code = 1


class OptionError(WdistillError):
    """An option, or a combination of options, is not allowed."""

    exit_code = 2


class DataError(WdistillError):
    """The dataset cannot be read or used."""


class BackboneError(WdistillError):
    """The backbone or a student cannot be read or used."""


class WeakTeacherError(BackboneError):
    """The teacher's accuracy is near chance."""


class RunFolderError(WdistillError):
    """The output folder holds something else, is damaged or cannot be written."""


class HubError(WdistillError):
    """The Hub refused a request or cannot be reached."""


class ProcessError(WdistillError):
    """One of several processes was killed."""


class PeerError(ProcessError):
    """Another process of this job has failed or ended; that one says why, if it was ``told``."""

    exit_code = 76  # [own] by which the launcher tells it from a cause

    def __init__(
        self, cause: str = "another process of this job has ended", told: bool = True
    ) -> None:
        self.told = told
        super().__init__(f"{cause}; what was finished is kept, run the same command again")


class NumericalError(WdistillError):
    """A loss or a statistic is not finite."""


class MemoryLimitError(WdistillError):
    """One image alone does not fit into the device's memory."""
