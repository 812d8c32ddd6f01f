"""What a run says, once for all its processes, and in ``run.log``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator

from wdistill.errors import RunFolderError

LOG_FILE = "run.log"
TIME = "%Y-%m-%dT%H:%M:%S"


@contextmanager
def logged(
    folder: Path, accelerator: Accelerator, echo: Callable[[str], None]
) -> Iterator[Callable[[str], None]]:
    """A function that says something, in the main process alone, and adds it to the log.

    Warnings are added too; those of other processes go to stderr with the process's number. Raises
    RunFolderError if the log cannot be written.
    """
    main, warned = accelerator.is_main_process, logging.getLogger("py.warnings")
    handlers = [_to_stderr("" if main else f"process {accelerator.process_index + 1}: ")]
    if main:
        handlers.append(_to_file(folder / LOG_FILE))

    def say(text: str) -> None:
        if main:
            echo(text)
            handlers[1].handle(logging.makeLogRecord({"msg": text}))

    for handler in handlers:
        warned.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield say
    finally:
        logging.captureWarnings(False)
        for handler in handlers:
            warned.removeHandler(handler)
            handler.close()


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
