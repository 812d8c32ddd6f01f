"""How much work a run is: what each stage does how often, and what can be done at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from wdistill.config import BarycenterConfig, Labels, RunConfig
from wdistill.evaluation import students as evaluate
from wdistill.networks.teacher import STATISTICS_SAMPLE
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages.synthesis import SPECTRUM_SAMPLE
from wdistill.pipeline.teacher import Networks
from wdistill.synthesis.targets import SPACE_SAMPLE

Counts = Mapping[str, float]  # of pieces of work, by the names of what is timed
Regime = Literal["plain", "online", "replayed"]  # of a student's labels: each has its own step
REGIMES: tuple[Regime, ...] = get_args(Regime)


@dataclass(frozen=True)
class StageWork:
    """everyone: what each process does; shared: what all divide evenly; parts: what goes whole to
    one process, the i-th of them to process i mod P.
    """

    everyone: Counts
    shared: Counts
    parts: tuple[Counts, ...]

    def seconds(self, rates: Counts, processes: int) -> float:
        """The time until the busiest of ``processes`` is done; rates: seconds of each piece."""
        parts = [_cost(part, rates) for part in self.parts]
        busiest = max((sum(parts[i::processes]) for i in range(processes)), default=0.0)
        return _cost(self.everyone, rates) + _cost(self.shared, rates) / processes + busiest

    def total(self) -> Counts:
        """What one process does alone."""
        return _sum([self.everyone, self.shared, *self.parts])


@dataclass(frozen=True)
class Workload:
    """stages: by the names under which `wdistill.json` has their seconds; training_steps: 0 where
    the teacher is used as it is; training_batch: images of such a step; student_batch: mean number
    of images in a step of a student on the distilled set.
    """

    stages: Mapping[str, StageWork]
    training_steps: int
    training_batch: int
    student_steps: int
    student_batch: int
    students: int

    def total(self) -> Counts:
        return _sum([stage.total() for stage in self.stages.values()])


def _cost(counts: Counts, rates: Counts) -> float:
    return sum(count * rates[name] for name, count in counts.items() if count)


def _sum(parts: Sequence[Counts]) -> Counts:
    names = dict.fromkeys(name for part in parts for name in part)
    total = {name: sum(part.get(name, 0.0) for part in parts) for name in names}
    return {name: count for name, count in total.items() if count}


def workload(run: Run, networks: Networks, trained: bool) -> Workload:
    """Of a run from its beginning; trained: whether the teacher has to be trained."""
    config = run.config.teacher
    batch = min(config.batch_size, len(run.data.train))
    training_steps = config.epochs * max(1, len(run.data.train) // batch) if trained else 0
    images = run.config.barycenter.ipc * len(run.data.class_names)
    student_steps, student_batch = run.config.evaluate.budget(images)
    every = _jobs(run.config, networks)
    return Workload(
        {
            "teacher": _teacher(run, networks, training_steps, batch),
            "transport": _transport(run, networks),
            "synthesis": _synthesis(run, networks),
            "relabel": _relabel(run, networks),
            "evaluate": _evaluation(run, networks, every, student_steps),
        },
        training_steps,
        batch,
        student_steps if every else 0,
        round(images / math.ceil(images / student_batch)),
        len(every),
    )


def decoded_again(images: int, networks: Networks) -> bool:
    """No image is."""
    return False


def _teacher(run: Run, networks: Networks, steps: int, batch: int) -> StageWork:
    train, test = len(run.data.train), len(run.data.eval)
    sample = min(STATISTICS_SAMPLE, train) if networks.backbone.processor is None else 0
    once = sum(count for count in (train, test) if not decoded_again(count, networks))
    again = steps * batch if decoded_again(train, networks) else 0
    again += test if decoded_again(test, networks) else 0
    everyone = {"network": 2.0 if steps else 1.0, "statistics": sample, "decode": sample + once}
    return StageWork(everyone, {"training step": steps, "test": test, "decode": again}, ())


def class_sizes(run: Run) -> list[int]:
    """Training images of each class."""
    counts = np.bincount(run.data.train.labels, minlength=len(run.data.class_names))
    return [int(count) for count in counts]


def plan_entries(images: int, config: BarycenterConfig) -> int:
    """Nonzero entries of the plan between the atoms of a class and its images.

    With equal weights the atoms cut at most n - gcd(N, n) images in two.
    """
    cut = config.ipc - math.gcd(images, config.ipc) if config.weights == "uniform" else 0
    return images + cut


def _transport(run: Run, networks: Networks) -> StageWork:
    sizes, again = class_sizes(run), decoded_again(len(run.data.train), networks)
    counts = [sum(sizes[label] for label in unit.classes) for unit in run.units]
    parts = [{"survey": n, "barycenter": n, "decode": n if again else 0} for n in counts]
    return StageWork({}, {}, tuple(parts))


def _synthesis(run: Run, networks: Networks) -> StageWork:
    config, sizes = run.config.barycenter, class_sizes(run)
    again = decoded_again(len(run.data.train), networks)
    sample = min(SPECTRUM_SAMPLE, len(run.data.train))
    pool = {f"network {source.name}": count for source, count in networks.pool}
    turns, init = _turns(run.config.synthesis.iterations, networks), run.config.synthesis.init
    parts = []
    for unit in run.units:
        plans = [plan_entries(sizes[label], config) for label in unit.classes]
        drawn = sum(_sampled(entries, config.ipc) for entries in plans)
        started = sum(plans) if init == "mean" else 0
        images = config.ipc * len(unit.classes)
        spaces = {f"space {source.name}": count * drawn for source, count in networks.pool}
        held = started or images * (init == "real") + drawn * bool(pool)
        parts.append(
            {
                "mean": started,
                **spaces,
                **{name: steps * images for name, steps in turns.items()},
                "decode": held if again else 0,
            }
        )
    everyone = {"spectrum": sample, "decode": sample if again else 0, **pool}
    return StageWork(everyone, {}, tuple(parts))


def _sampled(entries: int, ipc: int) -> int:
    """Entries that ``Plan.sample`` keeps where the atoms weigh about the same."""
    return min(entries, ipc * max(4, math.ceil(SPACE_SAMPLE / ipc)))


def _turns(iterations: int, networks: Networks) -> dict[str, int]:
    """Steps of synthesis by the network that takes its turn beside the teacher."""
    total, first = sum(count for _, count in networks.pool), 0
    if not total:
        return {"synthesis": iterations}
    turns: dict[str, int] = {}
    for source, count in networks.pool:
        own = sum(len(range(first + i, iterations, total)) for i in range(count))
        turns[f"synthesis {source.name}"] = own
        first += count
    return turns


def _relabel(run: Run, networks: Networks) -> StageWork:
    sizes, ipc = class_sizes(run), run.config.barycenter.ipc
    again = decoded_again(len(run.data.train), networks)
    wanted, stored = run.config.relabel.views, run.config.label_views
    parts = []
    for unit in run.units:
        real, images = sum(sizes[label] for label in unit.classes), ipc * len(unit.classes)
        own = {"soft label": wanted * images, "distance": real, "view": stored.count * images}
        parts.append({**own, "decode": real if again else 0})
    rows = stored.count * ipc * len(sizes)
    # To fit a budget they are encoded about three times.
    encoded = {"encoded view": rows * (1 if stored.budget is None else 3)}
    return StageWork(encoded, {}, tuple(parts))


def _jobs(config: RunConfig, networks: Networks) -> list[evaluate.Job]:
    if not config.evaluate.enabled:
        return []
    return evaluate.jobs(config.evaluate, list(networks.students), config.barycenter.ipc)


def _regime(labels: Labels) -> Regime:
    if labels == "views":
        return "replayed"
    return "online" if labels == "teacher" else "plain"


def _evaluation(
    run: Run, networks: Networks, every: Sequence[evaluate.Job], steps: int
) -> StageWork:
    images = run.config.barycenter.ipc * len(run.data.class_names)
    test = len(run.data.eval)
    parts = []
    for job in every:
        real = job.images != "distilled"
        decoded = test if decoded_again(test, networks) else 0
        decoded += images if real and decoded_again(len(run.data.train), networks) else 0
        parts.append(
            {
                f"student {job.student}": 1.0,
                f"step {job.student} {_regime(job.labels)}": steps,
                f"test {job.student}": test,
                "soft label": run.config.relabel.views * images * (real and job.labels == "soft"),
                "view": run.config.label_views.count * images * (real and job.labels == "views"),
                "decode": decoded,
            }
        )
    return StageWork({}, {}, tuple(parts))
