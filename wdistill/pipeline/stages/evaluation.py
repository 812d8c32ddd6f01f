"""The students at the end of a run."""

from __future__ import annotations

from typing import Any

from wdistill.artifact.distilled_set import DistilledSet, candidate
from wdistill.config import stable_hash
from wdistill.core.text import displayed
from wdistill.evaluation import students as evaluate
from wdistill.evaluation.results import summarise
from wdistill.evaluation.students import Jobs, job_key, run_jobs
from wdistill.labels.views import LabelViews
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Networks, Teacher


def evaluation_stage(
    run: Run,
    teacher: Teacher,
    networks: Networks,
    key: str,
    views_key: str,
    distilled: DistilledSet,
    stored: LabelViews | None,
) -> dict[str, Any] | None:
    """Train and test the students, each job once; None if they are not wanted. Only those that see
    label views depend on ``views_key``.
    """
    config = run.config.evaluate
    if not config.enabled:
        return None
    sources = networks.students
    judged = candidate(distilled, stored)
    fixed = config.fixed(len(judged.labels))
    setting = evaluate.StudentSetting(
        judged, distilled.class_names, teacher.train, teacher.test, teacher.network, fixed,
        run.config.relabel, run.config.seed, run.accelerator.device, run.work,
        run.autocast,
    )  # fmt: skip
    teacher.test.preload()
    every = evaluate.jobs(config, list(sources), run.config.barycenter.ipc)

    def depends(job: evaluate.Job) -> str:
        own = [views_key] if job.labels == "views" else []
        return stable_hash([key, job_key(setting, job, sources[job.student]), *own])

    keys = {job: depends(job) for job in every}
    place = Jobs(run.work / "evaluate", run.accelerator, run.quiet)
    outcomes = run_jobs(place, setting, every, keys, sources)
    names = displayed(sources)
    return summarise(
        [{**outcome, "student": names[outcome["student"]]} for outcome in outcomes],
        fixed,
        len(judged.labels),
        teacher.accuracy,
        len(teacher.test),
    )
