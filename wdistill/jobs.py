"""Students as jobs: each trained once, by whichever process takes it, and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from wdistill.artifact import read_json, write_json
from wdistill.backbone import BackboneSource
from wdistill.errors import RunFolderError
from wdistill.evaluate import Contest, Job, run_job
from wdistill.work import Work, share_out

SHARED = ("seeds", "students", "labels", "enabled")  # settings that no single job depends on


@dataclass(frozen=True)
class Jobs:
    """Where outcomes are kept, and who works on them. shared: where those of the full data are,
    which many sets are compared with.
    """

    folder: Path
    accelerator: Accelerator
    quiet: bool
    shared: Path | None = None


def job_key(contest: Contest, job: Job, source: BackboneSource) -> list[Any]:
    """What a job's outcome depends on, beside the images."""
    recipe = {name: value for name, value in vars(contest.config).items() if name not in SHARED}
    return [vars(job), recipe, source.config.to_json_string(), contest.seed]


def run_jobs(
    place: Jobs,
    contest: Contest,
    every: Sequence[Job],
    keys: Mapping[Job, str],
    sources: Mapping[str, BackboneSource],
) -> list[dict[str, Any]]:
    """The outcomes of ``every`` job, in order; those known under their key are not run again."""
    paths = [_path(place, job, keys[job]) for job in every]
    steps, _ = contest.config.budget(len(contest.candidate.labels))

    def known(index: int) -> dict[str, Any] | None:
        return _outcome(paths[index], keys[every[index]])

    def compute(index: int, advance: Callable[[int], object]) -> None:
        job = every[index]
        outcome = run_job(contest, job, sources[job.student], lambda: advance(1))
        write_json(paths[index], {"key": keys[job], "outcome": outcome})

    pieces = Work(
        name="students",
        paths=paths,
        valid=lambda index: known(index) is not None,
        compute=compute,
        ticks=lambda _: steps,
        tick_name="step",
    )
    share_out(pieces, place.accelerator, place.quiet)
    found = [known(index) for index in range(len(every))]
    return [outcome for outcome in found if outcome is not None]


def _path(place: Jobs, job: Job, key: str) -> Path:
    if job.images == "full" and place.shared is not None:
        return place.shared / f"{job.name}-{key}.json"
    return place.folder / f"{job.name}.json"


def _outcome(path: Path, key: str) -> dict[str, Any] | None:
    try:
        record = read_json(path)
    except (FileNotFoundError, RunFolderError):
        return None
    outcome: dict[str, Any] | None = record.get("outcome") if record.get("key") == key else None
    return outcome
