"""What each of several processes does in test_work.py; arguments: folder, whether each has its own.

Every process writes what it saw to <folder>/seen-<rank>.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator

from wdistill.core.processes import Work, main_process_value, share_file, share_folder, share_out

SLOW = 0.3  # seconds that process 0 takes for a piece


def main(root: Path, apart: bool) -> None:
    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    folder = root / str(rank) if apart else root / "common"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.txt" for index in range(12)]
    if rank == 1 or not apart:  # found in one place, and one of them damaged
        paths[3].write_text("3 of before")
        paths[4].write_text("damaged")
    accelerator.wait_for_everyone()

    def compute(index: int, advance: Callable[[int], object]) -> None:
        time.sleep(SLOW if rank == 0 else 0.01)
        advance(1)
        paths[index].write_text(f"{index} by {rank}" + "." * 100_000)

    def valid(index: int) -> bool:
        return paths[index].exists() and paths[index].read_text().startswith(f"{index} ")

    work = Work("pieces", paths, valid, compute, lambda _: 1, "piece")
    first = share_out(work, accelerator, quiet=True)
    kept = [path.read_text() for path in paths]
    again = share_out(work, accelerator, quiet=True)
    anew = []
    for _ in range(2):
        accelerator.wait_for_everyone()
        for index, path in enumerate(paths):
            path.write_text(f"outdated {index}")
        accelerator.wait_for_everyone()
        anew.append(share_out(work, accelerator, quiet=True))
    if rank == 0:
        (folder / "mine").write_text("of the main process")
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("a")
    if rank == 2 and apart:
        (folder / "stale").write_text("of another start")
    for name in ("mine", "stale"):
        share_file(folder / name, accelerator)
    share_folder(folder / "sub", accelerator)
    names = ("mine", "stale", "sub/a")
    texts = {n: (folder / n).read_text() for n in names if (folder / n).exists()}
    seen = {
        "processes": accelerator.num_processes, "first": first, "again": again, "anew": anew,
        "kept": kept,
        "texts": texts,
        "agreed": main_process_value(7.5 if rank == 0 else float("nan"), accelerator),
    }  # fmt: skip
    (root / f"seen-{rank}.json").write_text(json.dumps(seen))
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(Path(sys.argv[1]), sys.argv[2] == "apart")
