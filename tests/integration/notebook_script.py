"""The cells of a notebook: FOLDER REPO_ID. Each assertion is what its reader relies on."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import transformers
from accelerate.state import is_initialized

import wdistill
from wdistill.config import (
    BarycenterConfig,
    LabelViewsConfig,
    RelabelConfig,
    StudentConfig,
    SynthesisConfig,
    TeacherConfig,
)

SETTINGS = wdistill.RunConfig(
    teacher=TeacherConfig(epochs=0, allow_weak=True),
    barycenter=BarycenterConfig(ipc=1),
    synthesis=SynthesisConfig(iterations=4, feature_spaces=("none",)),
    relabel=RelabelConfig(giver="teacher"),
    label_views=LabelViewsConfig(count=0),
    evaluate=StudentConfig(labels=("hard",), steps=2, seeds=1),
)
STUDENTS = wdistill.EvaluateConfig(
    "", evaluate=StudentConfig(labels=("hard",), steps=2, seeds=1), baselines=()
)
QUIET = wdistill.RuntimeConfig(device="cpu", quiet=True)


def of_the_process() -> dict[str, object]:
    """What a call has to leave as it was."""
    loggers = {name: logging.getLogger(name) for name in ("", "wdistill", "py.warnings")}
    return {
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "handlers": {name: list(logger.handlers) for name, logger in loggers.items()},
        "levels": {name: logger.level for name, logger in loggers.items()},
        "showwarning": warnings.showwarning,
        "filters": list(warnings.filters),
        "hooks": [sys.excepthook, sys.unraisablehook],
        "accelerate": is_initialized(),
        "transformers": transformers.logging.get_verbosity(),
        "bars": datasets.are_progress_bars_disabled(),
    }


def unchanged(before: dict[str, object]) -> None:
    now = of_the_process()
    assert {name: now[name] for name in now if now[name] != before[name]} == {}, before


def refused(*arguments: object, **keywords: object) -> str:
    with pytest.raises(wdistill.WdistillError, match=r"\A.+\Z") as caught:
        wdistill.distill(*arguments, **keywords)  # type: ignore[arg-type]
    return str(caught.value)


def interrupt_soon(folder: Path) -> None:
    """Ctrl-C, once the run is at work."""
    while not (folder / "run.json").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def main(folder: Path, repo_id: str) -> None:
    wdistill.distill  # noqa: B018 (an import may change what a call may not)
    before = of_the_process()

    stopped = folder / "run"
    threading.Thread(target=interrupt_soon, args=[stopped]).start()
    with pytest.raises(KeyboardInterrupt):
        wdistill.distill(output=stopped, config=SETTINGS, runtime=QUIET)
    unchanged(before)

    run = wdistill.distill(output=stopped, config=SETTINGS, runtime=QUIET)  # the kernel lives
    unchanged(before)
    assert (run.manifest.ipc, run.manifest.images, run.preview.mode) == (1, 10, "RGB")
    shown = run._repr_html_()
    assert "data:image/png;base64," in shown
    assert "<pre>10 distilled images in " in shown
    assert run.report is not None
    assert "<pre>" in run.report._repr_html_()
    assert str(run.report) in str(run)

    report = wdistill.evaluate(run.folder, students=["convnet-w64"], config=STUDENTS, runtime=QUIET)
    assert [row.student for row in report.rows] == ["convnet-w64"]
    bf16 = replace(SETTINGS, mixed_precision="bf16")  # another state of Accelerate, same process
    other = wdistill.estimate(config=bf16, runtime=QUIET)
    assert "<pre>" in other._repr_html_()
    again = wdistill.reproduce(run.folder, output=folder / "again", runtime=QUIET)
    assert "<pre>" in again._repr_html_()
    unchanged(before)

    assert wdistill.push(run.folder, repo_id).changed
    images = wdistill.load(repo_id)
    assert len(images) == len(run.images()) == 10
    assert refused(ipc=0) == "`barycenter.ipc` is 0; give a number from 1 to 1000"
    wrong = refused(folder / "none.parquet", output=folder / "none")
    assert "none.parquet' does not exist; give " in wrong
    unchanged(before)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
