"""Students as jobs: each trained once, by whichever process it belongs to, and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm.auto import tqdm

from wdistill.artifact import read_json, write_json
from wdistill.backbone import BackboneSource
from wdistill.errors import RunFolderError
from wdistill.evaluate import Contest, Job, run_job

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
    accelerator = place.accelerator
    mine = every[accelerator.process_index :: accelerator.num_processes]
    missing = [job for job in mine if _outcome(_path(place, job, keys[job]), keys[job]) is None]
    silent = place.quiet or not missing or not accelerator.is_main_process
    steps, _ = contest.config.budget(len(contest.candidate.labels))
    with tqdm(total=len(missing) * steps, desc="students", unit="step", disable=silent) as bar:
        for job in missing:
            outcome = run_job(contest, job, sources[job.student], bar.update)
            write_json(_path(place, job, keys[job]), {"key": keys[job], "outcome": outcome})
    accelerator.wait_for_everyone()
    found = [_outcome(_path(place, job, keys[job]), keys[job]) for job in every]
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
