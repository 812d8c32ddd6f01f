"""What a run logs: to people by one process alone, and to ``run.log``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from tqdm.auto import tqdm

from wdistill.errors import RunFolderError

LOG_FILE = "run.log"
TIME = "%Y-%m-%dT%H:%M:%S"
PACKAGE = "wdistill"


@contextmanager
def logged(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """While it is open, the main process's log is added to ``folder``'s ``run.log``.

    The other processes log warnings and errors alone. Python's warnings are added to the log; those
    of other processes go to stderr with the process's number.

    Raises:
        RunFolderError: The log cannot be written.
    """
    main, warned = accelerator.is_main_process, logging.getLogger("py.warnings")
    prefix = "" if main else f"process {accelerator.process_index + 1}: "
    file = [_to_file(folder / LOG_FILE)] if main else []
    logging.captureWarnings(True)
    try:
        with (
            _handled(warned, [_to_stderr(prefix), *file], warned.level),
            _handled(logging.getLogger(PACKAGE), file, logging.INFO if main else logging.WARNING),
        ):
            yield
    finally:
        logging.captureWarnings(False)


@contextmanager
def printed() -> Iterator[None]:
    """While it is open, what the package logs is printed to stdout, as plain lines."""
    with _handled(logging.getLogger(PACKAGE), [_ToStdout()], logging.INFO):
        yield


@contextmanager
def _handled(logger: logging.Logger, handlers: list[logging.Handler], level: int) -> Iterator[None]:
    before = logger.level
    logger.setLevel(level)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class _ToStdout(logging.Handler):
    """Between the bars on a terminal. A closed pipe is an error, as for any other output."""

    def emit(self, record: logging.LogRecord) -> None:
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
