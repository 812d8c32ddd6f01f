"""Logging of a run, to the terminal and to ``run.log``, and progress bars."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqdm.auto import tqdm

from wdistill.core.text import human_seconds
from wdistill.errors import RunFolderError

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

LOG_FILE = "run.log"
TIME = "%Y-%m-%dT%H:%M:%S"
PACKAGE = "wdistill"
FIRST_LINE = 10.0  # seconds until progress is logged for the first time
LINE_INTERVAL = 60.0  # seconds between two lines on progress


@contextmanager
def log_to_folder(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Within the context, append the main process's log to ``run.log`` in ``folder``.

    The other processes log only warnings and errors. Python's warnings go to the log as well; those
    of the other processes go to stderr, prefixed with the number of the process.

    Raises:
        RunFolderError: The log cannot be written.
    """
    main, warnings_logger = accelerator.is_main_process, logging.getLogger("py.warnings")
    prefix = "" if main else f"process {accelerator.process_index + 1}: "
    file = [_to_file(folder / LOG_FILE)] if main else []
    logging.captureWarnings(True)
    try:
        with (
            _with_handlers(warnings_logger, [_to_stderr(prefix), *file], warnings_logger.level),
            _with_handlers(
                logging.getLogger(PACKAGE), file, logging.INFO if main else logging.WARNING
            ),
        ):
            yield
    finally:
        logging.captureWarnings(False)


@contextmanager
def log_to_stdout() -> Iterator[None]:
    """Within the context, print what the package logs to stdout, as plain lines."""
    with _with_handlers(logging.getLogger(PACKAGE), [_ToStdout()], logging.INFO):
        yield


@contextmanager
def without_log() -> Iterator[None]:
    """Within the context, disable all logging."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)


@contextmanager
def _with_handlers(
    logger: logging.Logger, handlers: list[logging.Handler], level: int
) -> Iterator[None]:
    previous_level = logger.level
    logger.setLevel(level)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(previous_level)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def bars_shown() -> bool:
    """Whether a progress bar can be drawn: on a terminal and in a notebook, not in a file."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class Progress:
    """Progress of a loop: a bar where one can be drawn, and a line in the log now and then.

    Args:
        name: The name of the task.
        total: Number of units; None if unknown.
        unit: What is counted, such as ``step``.
        done: Units that an earlier start of the run completed.
        quiet: Show and log nothing.
    """

    def __init__(
        self, name: str, total: int | None, unit: str, done: int = 0, quiet: bool = False
    ) -> None:
        self.name, self.total, self.unit, self.quiet = name, total, unit, quiet
        self.first = self.n = done
        self.note = ""
        self.began = time.monotonic()
        self.due = self.began + FIRST_LINE
        self.bar = tqdm(
            total=total, initial=done, desc=name, unit=unit, unit_scale=True,
            disable=quiet or not bars_shown(),
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        if kind is None and time.monotonic() >= self.began + FIRST_LINE:
            self._log()

    def update(self, units: int = 1) -> None:
        """Advance by ``units``."""
        self.n += units
        self.bar.update(units)
        if time.monotonic() >= self.due:
            self._log()

    def describe(self, note: str) -> None:
        """Show ``note`` next to the progress."""
        self.note = note
        self.bar.set_postfix_str(note)

    def _log(self) -> None:
        self.due = time.monotonic() + LINE_INTERVAL
        if not self.quiet:
            logger.info(self._line(time.monotonic() - self.began), extra={"progress": True})

    def _line(self, seconds: float) -> str:
        parts = [f"{self.n:,} {self.unit}"]
        if self.total is not None:
            share = self.n / max(self.total, 1)
            parts = [f"{share:.0%}, {self.n:,} of {self.total:,} {self.unit}"]
        if self.n > self.first:
            per_unit = seconds / (self.n - self.first)
            seconds_text = f"{per_unit:,.1f} s/{self.unit}"
            parts.append(seconds_text if per_unit > 1 else f"{1 / per_unit:,.1f} {self.unit}/s")
            if self.total is not None and self.n < self.total:
                parts.append(f"{human_seconds((self.total - self.n) * per_unit)} left")
        return f"{self.name}: {', '.join([*parts, *filter(None, [self.note])])}"


class _ToStdout(logging.Handler):
    """Writes lines between progress bars. A closed pipe is an error, as for any other output."""

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "progress") and bars_shown():
            return
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def _to_stderr(prefix: str) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    return handler


def _to_file(path: Path) -> logging.Handler:
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"cannot write {str(path)!r}: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", TIME))
    return handler
