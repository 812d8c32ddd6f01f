"""wdistill as one of several processes: [--apart DIR] [--fail RANK] arguments of wdistill.

--apart: each process works in DIR/<rank>, as on nodes without a common file system; --fail: that
process cannot write what it has distilled.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from wdistill.cli import main as cli
from wdistill.errors import RunFolderError
from wdistill.pipeline.stages import synthesis as stages


def main(arguments: list[str]) -> None:
    rank = os.environ["RANK"]
    if arguments[0] == "--apart":
        folder = Path(arguments[1]) / rank
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        arguments = arguments[2:]
    if arguments[0] == "--fail":
        if arguments[1] == rank:
            stages.synthesise = _refuse
        arguments = arguments[2:]
    sys.argv = ["wdistill", *arguments]
    cli.main()


def _refuse(*_: object) -> NoReturn:
    raise RunFolderError("cannot write")


if __name__ == "__main__":
    main(sys.argv[1:])
