"""`wdistill ARGUMENTS` on the pretended device: LIMIT JSON ARGUMENTS...; LIMIT: of its memory, in
bytes; JSON: the file of what was seen there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from helpers.pretend import install, pretended


def main(limit: str, report: str, *arguments: str) -> None:
    install()
    from wdistill.cli import main as cli

    sys.argv = ["wdistill", *arguments]
    code = 0
    with pretended(int(limit)) as seen:
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    seen_as_text = {
        "kernels": sum(seen.kernels.values()),
        "operations": sorted(seen.kernels),
        "waits": {" at ".join(place): count for place, count in seen.waits.items()},
        "memory": dict(seen.memory),
    }
    Path(report).write_text(json.dumps(seen_as_text))
    sys.stdout.flush()
    os._exit(code)  # PyTorch ends badly with tensors of a backend in Python


if __name__ == "__main__":
    main(*sys.argv[1:])
