"""Honest evaluation: distilled against real images, same recipe, seeds and optimiser steps."""

from wdistill.evaluation.students.jobs import (
    STORED,
    Images,
    Job,
    StudentSetting,
    in_proportion,
    jobs,
)
from wdistill.evaluation.students.outcomes import (
    Jobs,
    Outcome,
    job_key,
    read_outcome,
    run_job,
    run_jobs,
)
from wdistill.evaluation.students.shown import training_set

__all__ = [
    "STORED",
    "Images",
    "Job",
    "Jobs",
    "Outcome",
    "StudentSetting",
    "in_proportion",
    "job_key",
    "jobs",
    "read_outcome",
    "run_job",
    "run_jobs",
    "training_set",
]
