"""Estimates: the work they count is the work a run does, and it adds up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from helpers.runs import QUICK, parquet_bytes, small_source

from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import read_manifest
from wdistill.cli.main import cli
from wdistill.config import (
    BarycenterConfig,
    DataConfig,
    LabelViewsConfig,
    RunConfig,
    RuntimeConfig,
    StudentConfig,
    SynthesisConfig,
    TeacherConfig,
)
from wdistill.core.devices import open_accelerator
from wdistill.core.text import human_seconds
from wdistill.data.dataset import load_data
from wdistill.data.pixels import Decoding
from wdistill.evaluation import students as evaluate
from wdistill.evaluation.training import Training
from wdistill.networks import training
from wdistill.pipeline import run as pipeline
from wdistill.pipeline.estimation.calibration import Scene, measure, open_scene
from wdistill.pipeline.estimation.estimate import PROCESSES, estimate
from wdistill.pipeline.estimation.pieces import pieces
from wdistill.pipeline.estimation.sizes import sizes, unseen_activations
from wdistill.pipeline.estimation.workload import StageWork, Workload, workload
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages import labels as label_stages
from wdistill.pipeline.stages import synthesis as synthesis_stages
from wdistill.pipeline.stages import transport as transport_stages
from wdistill.pipeline.tables import estimate_table
from wdistill.pipeline.teacher import Networks, find_networks
from wdistill.synthesis import targets
from wdistill.transport import survey

PER_CLASS, TEST = 22, 200  # training images of a class, test images of all ten


def tiny(source: Path) -> RunConfig:
    """A ragged last group (2 + 3 + 2 + 3 classes), two feature spaces in turn, all kinds of
    labels.
    """
    return RunConfig(
        data=DataConfig(dataset=str(source)),
        teacher=TeacherConfig(epochs=2, batch_size=50, allow_weak=True),
        barycenter=BarycenterConfig(ipc=3),
        synthesis=SynthesisConfig(
            iterations=5, images_per_step=9, feature_spaces=("convnet-w64:2",)
        ),
        label_views=LabelViewsConfig(count=2),
        evaluate=StudentConfig(epochs=2, labels=("hard", "soft", "views", "teacher"), seeds=1),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_source(tmp_path_factory.mktemp("source"), PER_CLASS)


@pytest.fixture(scope="module")
def opened(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Networks]:
    config = tiny(source)
    data = load_data(config.data, config.seed, config.barycenter.ipc)
    folder = tmp_path_factory.mktemp("runs") / "run"
    run = Run(config, data, folder, open_accelerator("no", "cpu"), Decoding(), True)
    return run, find_networks(config, data)


@pytest.fixture(scope="module")
def work(opened: tuple[Run, Networks]) -> Workload:
    return workload(*opened, trained=True)


@pytest.fixture(scope="module")
def scene(opened: tuple[Run, Networks]) -> Scene:
    return open_scene(*opened)


@pytest.fixture(scope="module")
def seen(opened: tuple[Run, Networks]) -> Counter[str]:
    """What the run, which says nothing, did in its folder."""
    with pytest.MonkeyPatch.context() as patch:
        return watched_run(opened[0].config, opened[0].folder, patch)


class Tally:
    """Counts what passes through functions of the stages, which do what they did."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.seen = patch, Counter[str]()

    def watch(self, module: Any, name: str, told: Callable[..., dict[str, int]]) -> None:
        original = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.seen.update(told(*args, **kwargs))
            return original(*args, **kwargs)

        self.patch.setattr(module, name, watched)


def watched_run(config: RunConfig, folder: Path, patch: pytest.MonkeyPatch) -> Counter[str]:
    """What a real run of ``config`` does, by the names of a workload."""
    tally, name = Tally(patch), "resnet10-w16"

    def surveyed(_: Any, batches: Any, shares: Any) -> dict[str, int]:
        return {"classes": 1, "survey": len(shares)}

    def aimed(network: Any, store: Any, plan: Any) -> dict[str, int]:
        return {"space convnet-w64": len(plan.rows)}

    def moved(objective: Any, aims: Any, start: torch.Tensor, *_: Any) -> dict[str, int]:
        images = start.shape[0] * start.shape[1]
        return {"synthesis convnet-w64": config.synthesis.iterations * images, "groups": 1}

    def taught(model: Any, data: Any, _: Any, training: Training, *__: Any) -> dict[str, int]:
        kind = "online" if data.teacher else "replayed" if data.views else "plain"
        return {f"step {name} {kind}": training.recipe.steps, f"student {name}": 1}

    def labelled(_: Any, pixels: Any, relabel: Any, __: Any) -> dict[str, int]:
        return {"soft label": len(pixels) * relabel.views}

    def viewed(_: Any, pixels: Any, recipe: Any, rows: Any = None, *__: Any) -> dict[str, int]:
        return {"view": recipe.config.count * len(pixels if rows is None else rows)}

    tally.watch(training, "one_cycle", lambda step, steps: {"training step": 1})
    tally.watch(survey, "survey_class", surveyed)
    tally.watch(
        transport_stages, "class_barycenter", lambda points, *_: {"barycenter": len(points)}
    )
    tally.watch(targets, "space_target", aimed)
    tally.watch(synthesis_stages, "synthesise", moved)
    tally.watch(label_stages, "soft_labels", labelled)
    tally.watch(evaluate, "soft_labels", labelled)
    tally.watch(label_stages, "label_views", viewed)
    tally.watch(evaluate, "label_views", viewed)
    tally.watch(evaluate, "train_student", taught)
    tally.watch(evaluate, "score_network", lambda _, store: {f"test {name}": len(store)})
    pipeline.run(config, RuntimeConfig("cpu", quiet=True), folder, "wdistill run")
    return tally.seen


def test_the_work_is_what_a_run_does(
    work: Workload, opened: tuple[Run, Networks], seen: Counter[str]
) -> None:
    (run, _), seen, told = opened, seen.copy(), work.total()
    assert seen.pop("classes") == len(run.data.class_names)
    assert seen.pop("groups") == len(run.units) == len(work.stages["synthesis"].parts) == 4
    assert seen.pop("student resnet10-w16") == work.students == 8
    sampled = seen.pop("space convnet-w64")
    assert 2 * 10 * PER_CLASS <= sampled <= told["space convnet-w64"]
    assert seen == {name: told[name] for name in seen}
    assert told["survey"] == told["distance"] == 10 * PER_CLASS
    assert told["decode"] == 10 * PER_CLASS * 2 + TEST  # for the pixels' statistics too
    assert told["test"] == TEST
    assert work.training_steps == 2 * (10 * PER_CLASS // 50)
    assert work.stages.keys() == read_manifest(one_set(run.folder)).seconds.keys()


def test_steps_of_synthesis_are_shared_out_among_the_spaces(
    opened: tuple[Run, Networks],
) -> None:
    """Five steps of three networks in turn: a b b a b."""
    run, networks = opened
    (convnet, _), images = networks.pool[0], 3 * 10
    other = networks.backbone
    several = Networks(networks.backbone, networks.students, ((other, 1), (convnet, 2)), 28)
    told = workload(run, several, trained=False).total()
    assert told[f"synthesis {other.name}"] == 2 * images
    assert told[f"synthesis {convnet.name}"] == 3 * images
    assert "training step" not in told
    alone = workload(run, Networks(other, networks.students, (), 28), trained=False).total()
    assert alone["synthesis"] == 5 * images


def test_the_busiest_process_decides() -> None:
    """Five parts of 1, 2, 3, 4 and 5 seconds, dealt out in turn."""
    stage = StageWork({"a": 2.0}, {"b": 12.0}, tuple({"c": float(n)} for n in (1, 2, 3, 4, 5)))
    rates = {"a": 1.0, "b": 0.5, "c": 1.0}
    assert stage.seconds(rates, 1) == 2 + 6 + 15
    assert stage.seconds(rates, 2) == 2 + 3 + (1 + 3 + 5)
    assert stage.seconds(rates, 4) == 2 + 1.5 + (1 + 5)
    assert stage.seconds(rates, 8) == 2 + 0.75 + 5
    equal = StageWork({}, {}, ({"c": 1.0},) * 7)
    assert [equal.seconds(rates, n) for n in (1, 2, 3, 7, 9)] == [7, 4, 3, 1, 1]
    assert StageWork({}, {}, ()).seconds({}, 3) == 0


def test_what_takes_longest_is_measured_most_often() -> None:
    calls = Counter[str]()

    def piece(name: str, seconds: list[float]) -> Callable[[], tuple[float, float]]:
        def do() -> tuple[float, float]:
            calls[name] += 1
            return 2.0, seconds[min(calls[name], len(seconds)) - 1]

        return do

    # The first is a warm-up, whatever it took.
    of = {"long": piece("long", [90, 10, 20, 30]), "short": piece("short", [1])}
    calls.clear()
    limited = {"long": 1.0, "short": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        clock = iter(range(10**6))
        patch.setattr(
            "wdistill.pipeline.estimation.calibration.time.perf_counter", lambda: 0.25 * next(clock)
        )
        rates = measure(of, limited)
    assert rates == {"long": 10.0, "short": 0.5}
    assert calls["long"] > calls["short"] >= 2


def test_each_piece_can_be_measured(scene: Scene, work: Workload) -> None:
    found = pieces(scene, work)
    assert found.keys() == work.total().keys()
    for name, do in found.items():
        items, seconds = do()
        assert items > 0, name
        assert seconds > 0, name


def test_an_estimate_adds_up_and_touches_nothing(
    opened: tuple[Run, Networks], tmp_path: Path
) -> None:
    run, networks = opened
    folder = tmp_path / "other"
    elsewhere = Run(run.config, run.data, folder, run.accelerator, Decoding(), True)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = estimate(elsewhere, networks)
    assert torch.equal(torch.get_rng_state(), state)
    assert not folder.exists()
    assert (found.classes, found.images, found.units) == (10, 30, 4)
    assert tuple(found.seconds) == PROCESSES
    alone = found.seconds[1]
    assert list(alone) == ["teacher", "transport", "synthesis", "relabel", "evaluate"]
    assert all(seconds > 0 for seconds in alone.values())
    for fewer, more in pairwise(PROCESSES):
        assert all(found.seconds[more][name] <= found.seconds[fewer][name] for name in alone)
    assert found.seconds[4]["transport"] > found.seconds[1]["transport"] / 4  # groups are ragged
    assert found.seconds[8]["transport"] == found.seconds[4]["transport"]  # there are four
    assert found.memory > 10**8
    text = estimate_table(found)
    for shown in ("8 processes", "8 steps of training", "30 of 5 steps each, in 4 groups"):
        assert shown in text
    assert all(name in text for name in (*alone, "total"))


@pytest.mark.usefixtures("seen")
def test_bytes_are_near_those_of_the_run(scene: Scene, work: Workload) -> None:
    found, folder = sizes(scene, work), scene.run.folder

    def bytes_in(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert 0.7 < found.run / bytes_in(folder) < 1.4
    assert 0.7 < found.published / bytes_in(folder / "publish") < 1.4
    assert 0.5 < found.label_views / bytes_in(one_set(folder) / "soft_labels") < 2


def test_a_network_too_large_for_whole_steps_needs_more_memory(
    scene: Scene, work: Workload
) -> None:
    """With so slow a network, pieces have four images; the run's training steps have fifty."""
    assert unseen_activations(replace(scene, per_image=1e-6), work) == 0
    slow = replace(scene, per_image=100.0)
    each = unseen_activations(slow, work) / (50 - 4)
    side, channels = 28, 16
    assert each > 4 * channels * side**2  # at least the first layer's output, in float32
    assert each < 100 * 4 * channels * side**2


@pytest.mark.usefixtures("seen")
def test_a_run_that_was_told_its_estimate_is_the_same(
    opened: tuple[Run, Networks], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, _ = opened
    for again in (False, True):
        caplog.clear()
        pipeline.run(run.config, RuntimeConfig("cpu"), tmp_path, "wdistill run")
        estimates = [text for text in caplog.messages if text.startswith("estimate: 10 classes")]
        assert len(estimates) == (0 if again else 1)  # what is begun is not estimated
    assert parquet_bytes(tmp_path) == parquet_bytes(run.folder)
    views = "soft_labels/train-00000-of-00001.parquet"
    sets = [one_set(folder) for folder in (tmp_path, run.folder)]
    assert len({(folder / views).read_bytes() for folder in sets}) == 1
    reports = [json.loads((folder / "report.json").read_text())["rows"] for folder in sets]
    assert [row["top1"] for row in reports[0]] == [row["top1"] for row in reports[1]]


def test_the_command_prints_the_table_and_writes_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["estimate", "--dataset", str(source), *QUICK])
    assert done.exit_code == 0, done.output
    assert "estimate: 10 classes, 220 training and 200 test images at 28 px" in done.output
    assert "distilled images: 20 of 6 steps each, in 4 groups" in done.output
    assert "total" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (9.96, "10.0 s"), (59.4, "59 s"), (61, "1 min 01 s"),
        (3599.6, "1 h 00 min"), (7290, "2 h 02 min"),
    ],
)  # fmt: skip
def test_times_in_words(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text
