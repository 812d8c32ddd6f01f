"""Students of few steps on held-out training images: what choices of a run are made by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdistill.artifact.candidate import Candidate
from wdistill.config import StudentConfig
from wdistill.core.seeds import stream
from wdistill.core.settings import stable_hash
from wdistill.evaluation.students import Jobs, StudentSetting, job_key, jobs, run_jobs
from wdistill.evaluation.training import recipe_for
from wdistill.networks.checkpoints.source import STUDENTS, find_backbone
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher

KINDS = ("convnet-w64", "resnet10-w16")  # of students that judge
HELD_OUT = 2000  # training images that they are tested on, at most


@dataclass(frozen=True)
class ShortStudents:
    """Students that judge what a run could publish. No student that is tested has seen one of the
    test images, which are a seeded sample of the training images; the set was made from these and
    others.

    Attributes:
        config: Steps, batch size and seeds.
        name: Of the folder of their outcomes, and of the sample.
    """

    run: Run
    teacher: Teacher
    config: StudentConfig
    name: str

    def scores(
        self, candidate: Callable[[], Candidate], images: int, inputs: Sequence[Any]
    ) -> NDArray[np.float64]:
        """(kinds, seeds) accuracies of students of a set.

        All processes must call it; they share the students.

        Args:
            candidate: The set; not asked for where there is nothing left to train.
            images: How many it has.
            inputs: What it depends on, in any form that JSON has; outcomes of the same inputs are
                not computed again.
        """
        run, train = self.run, self.teacher.train
        order = torch.randperm(len(train), generator=stream(run.config.seed, self.name))
        setting = StudentSetting(
            candidate=cache(candidate),
            class_names=run.data.class_names,
            train=train,
            test=train.take(order[:HELD_OUT].sort().values),
            network=None,
            recipe=recipe_for(self.config, images),
            relabel=run.config.relabel,
            seed=run.config.seed,
            device=run.accelerator.device,
            scratch=run.work,
            autocast=run.autocast,
            graphs=run.graphs,
        )
        resolution = train.preprocessing.resolution
        sources = {k: find_backbone(k, resolution=resolution, setting=STUDENTS) for k in KINDS}
        every = jobs(self.config, KINDS, run.ipc, ("distilled",))
        given = [*inputs, len(setting.test), run.config.mixed_precision]
        keys = {
            job: stable_hash([given, job_key(setting, job, sources[job.student])]) for job in every
        }
        place = Jobs(run.work / self.name, run.accelerator, run.quiet)
        outcomes = run_jobs(place, setting, every, keys, sources)
        return np.array([outcome.top1 for outcome in outcomes]).reshape(len(KINDS), -1)
