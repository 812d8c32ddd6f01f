"""Honest numbers: which images, labels and weights a student sees, and how it is scored."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from helpers.runs import embedded_table
from sklearn.metrics import accuracy_score

from wdistill.artifact.candidate import candidate, mean_one
from wdistill.artifact.distilled_set import DistilledSet
from wdistill.config import RelabelConfig, StudentConfig
from wdistill.core.devices import open_accelerator
from wdistill.data.content.coding import Coding
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.data.splits import ImageSplit
from wdistill.evaluation.metrics import score_network
from wdistill.evaluation.sets.baselines import random_rows
from wdistill.evaluation.students import (
    Job,
    Jobs,
    Outcome,
    StudentSetting,
    in_proportion,
    job_key,
    jobs,
    read_outcome,
    run_job,
    run_jobs,
    training_set,
)
from wdistill.evaluation.training import recipe_for
from wdistill.networks.architectures import ConvNetConfig
from wdistill.networks.backbones import new_network, weights_sha256
from wdistill.networks.checkpoints.source import BackboneSource
from wdistill.networks.features import FeatureNetwork

SIZE, IPC, PER_CLASS = 28, 3, 100
NAMES = ("t-shirt", "trouser", "pullover")
PIXELS = Preprocessing(SIZE, SIZE, (0.3, 0.3, 0.3), (0.35, 0.35, 0.35))
CPU = torch.device("cpu")
SOURCE = BackboneSource(
    "little", ConvNetConfig(width=8, depth=2, image_size=SIZE), None, False, None, False
)
QUICK = StudentConfig(epochs=2, seeds=2, batch_size=4)


@pytest.fixture(scope="module")
def store() -> PixelStore:
    """Real images of three classes, in mixed order."""
    table = embedded_table("train", PER_CLASS, len(NAMES))
    rows = datasets.Dataset(datasets.table.InMemoryTable(table))
    rows = rows.cast_column("image", datasets.Image(decode=False))
    labels = table["label"].to_numpy().astype(np.int64)
    split = ImageSplit(labels, rows, np.arange(len(labels)), "train", "image")
    result = PixelStore(split, PIXELS)
    return result


def network(seed: int = 0) -> FeatureNetwork:
    return FeatureNetwork(new_network(SOURCE, NAMES, SIZE, seed), PIXELS, CPU)


@pytest.fixture(scope="module")
def setting(store: PixelStore, tmp_path_factory: pytest.TempPathFactory) -> StudentSetting:
    draw = np.random.default_rng(0)
    count = IPC * len(NAMES)
    weights = draw.uniform(0.1, 1, (len(NAMES), IPC))
    distilled = DistilledSet(
        images=draw.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
        labels=np.repeat(np.arange(len(NAMES)), IPC),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32).reshape(-1),
        soft_labels=draw.dirichlet(np.ones(len(NAMES)), count).astype(np.float32),
        class_names=NAMES,
    )
    judged = candidate(distilled)
    scratch, relabel = tmp_path_factory.mktemp("scratch"), RelabelConfig(views=2)
    recipe = recipe_for(QUICK, count)
    given = network()
    return StudentSetting(
        lambda: judged, NAMES, store, store, given, recipe, relabel, 5, CPU, scratch, giver=given
    )


# --- random real images -------------------------------------------------------------------------

UNEVEN = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 0, 2, 2, 0, 1, 1, 1, 2, 0, 0])


@pytest.mark.parametrize("ipc", [1, 2, 5])
@pytest.mark.parametrize("draw", [0, 1, 2])
def test_random_rows_are_ipc_different_images_of_each_class(ipc: int, draw: int) -> None:
    rows = random_rows(UNEVEN, [ipc] * 3, 0, draw)
    assert UNEVEN[rows].tolist() == [0] * ipc + [1] * ipc + [2] * ipc
    assert len(set(rows.tolist())) == len(rows)


def test_random_rows_are_drawn_anew_for_each_student(store: PixelStore) -> None:
    draws = [tuple(random_rows(store.labels, [10] * 3, 0, draw).tolist()) for draw in range(5)]
    assert len(set(draws)) == 5
    again = [tuple(random_rows(store.labels, [10] * 3, 0, draw).tolist()) for draw in range(5)]
    assert draws == again
    assert tuple(random_rows(store.labels, [10] * 3, 1, 0).tolist()) not in draws


def test_random_rows_of_a_class_do_not_depend_on_the_others(store: PixelStore) -> None:
    wide = random_rows(store.labels, [10] * 3, 0, 0)[:10]
    assert torch.equal(random_rows(store.labels, [10], 0, 0), wide)
    assert torch.equal(random_rows(store.labels, [4], 0, 0), wide[:4])


def test_every_image_has_the_same_chance() -> None:
    """500 draws of 2 of 6 images: each is drawn 167 times, give or take 10.5."""
    counts = torch.zeros(len(UNEVEN))
    for draw in range(500):
        counts[random_rows(UNEVEN, [2] * 3, 3, draw)] += 1
    for label in range(3):
        own = counts[label == UNEVEN]
        expected = 1000 / len(own)
        assert (own - expected).abs().max() < 4.5 * expected**0.5


def test_real_images_go_through_the_files_of_the_set(setting: StudentSetting) -> None:
    """Random ones and those chosen by a rule; the full data are as they are."""
    coding, rows = Coding("webp", 10), torch.tensor([0, 5, 120, 130, 210, 290])
    chosen = {"nearest": (rows, torch.ones(6))}
    plain, coded = (replace(setting, chosen=chosen, coding=c) for c in (Coding(), coding))
    for images in ("random", "nearest"):
        job = Job("little", images, "hard", 2, 0)  # type: ignore[arg-type]
        before, after = (training_set(given, job).images for given in (plain, coded))
        assert isinstance(before, torch.Tensor)
        assert isinstance(after, torch.Tensor)
        assert not torch.equal(before, after)
        assert torch.equal(coding.seen(before), after)
    full = training_set(coded, Job("little", "full", "hard", 100, 0))
    assert full.images is setting.train


# --- jobs ---------------------------------------------------------------------------------------


def test_every_combination_is_one_job() -> None:
    found = jobs(StudentConfig(seeds=3, labels=("hard", "soft")), ["resnet18", "user/net"], IPC)
    expected = itertools.product(
        ("resnet18", "user/net"), ("distilled", "random"), ("hard", "soft"), range(3)
    )
    assert sorted((j.student, j.images, j.labels, j.seed) for j in found) == sorted(expected)
    assert len({job.name for job in found}) == len(found) == 24


@pytest.mark.parametrize("student", ["user/net", "../up/there", "/abs/folder", "a b:c*?"])
def test_a_jobs_name_is_a_file_name(student: str) -> None:
    name = Job(student, "random", "soft", 10, 1).name
    assert name.endswith("-random-10-soft-1")
    assert not set(name) & set('/\\:*?" ')


# --- what a student sees ------------------------------------------------------------------------


def test_distilled_images_are_those_of_the_artifact(setting: StudentSetting) -> None:
    for labels in ("hard", "soft"):
        data = training_set(setting, Job("s", "distilled", labels, IPC, 0))
        assert data.images.dtype == torch.uint8
        assert torch.equal(data.images, setting.candidate().pixels)
        assert data.soft == (labels == "soft")


def test_weights_have_mean_one_in_each_class(setting: StudentSetting) -> None:
    classes = setting.candidate().labels
    for labels in ("hard", "soft"):
        weights = training_set(setting, Job("s", "distilled", labels, IPC, 0)).weights
        assert weights.dtype == torch.float32
        for label in range(len(NAMES)):
            assert float(weights[classes == label].mean()) == pytest.approx(1, rel=1e-5)
        assert torch.equal(weights, setting.candidate().weights)
        random_weights = training_set(setting, Job("s", "random", labels, IPC, 0)).weights
        assert torch.equal(random_weights, torch.ones(IPC * len(NAMES)))


@pytest.mark.parametrize("images", ["distilled", "random"])
def test_hard_labels_are_the_images_classes(setting: StudentSetting, images: Any) -> None:
    data = training_set(setting, Job("s", images, "hard", IPC, 1))
    assert data.targets.tolist() == [0] * IPC + [1] * IPC + [2] * IPC


@pytest.mark.parametrize("images", ["distilled", "random"])
def test_soft_labels_sum_to_one(setting: StudentSetting, images: Any) -> None:
    targets = training_set(setting, Job("s", images, "soft", IPC, 1)).targets
    assert (targets >= 0).all()
    torch.testing.assert_close(targets.sum(1), torch.ones(IPC * len(NAMES)))
    assert ((targets > 0) & (targets < 1)).any()
    if images == "distilled":
        assert torch.equal(targets, setting.candidate().soft)


def test_random_images_are_real_and_the_same_for_both_kinds_of_labels(
    setting: StudentSetting,
) -> None:
    hard, soft = (training_set(setting, Job("s", "random", k, IPC, 1)) for k in ("hard", "soft"))
    rows = random_rows(setting.train.labels, [IPC] * len(NAMES), setting.seed, 1)
    assert torch.equal(hard.images, setting.train.get(rows))
    assert torch.equal(soft.images, hard.images)
    other = training_set(setting, Job("s", "random", "hard", IPC, 0))
    assert not torch.equal(other.images, hard.images)


def test_random_images_are_as_unequal_as_the_set_and_every_class_counts_the_same(
    setting: StudentSetting,
) -> None:
    counts = (1, 2, 6)
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    shares = mean_one(1 / torch.tensor(counts)[labels].float(), labels)
    own = replace(setting.candidate(), labels=labels, weights=shares)
    uneven = replace(setting, counts=counts, candidate=lambda: own)
    given = training_set(uneven, Job("s", "random", "hard", IPC, 1))
    assert torch.bincount(given.targets).tolist() == list(counts)
    torch.testing.assert_close(torch.bincount(given.targets, given.weights), torch.full((3,), 3.0))
    equal = replace(own, weights=torch.ones(9))
    plain = replace(uneven, candidate=lambda: equal)
    assert torch.equal(
        training_set(plain, Job("s", "random", "hard", IPC, 1)).weights, torch.ones(9)
    )
    twice = training_set(uneven, Job("s", "random", "hard", 2 * IPC, 1))
    assert torch.bincount(twice.targets).tolist() == [2, 4, 12]


@pytest.mark.parametrize(
    ("counts", "ipc", "scaled"),
    [
        ((5, 10, 15), 10, [5, 10, 15]),
        ((5, 10, 15), 5, [2, 5, 8]),
        ((1, 20, 9), 1, [1, 2, 1]),
        ((0, 3, 3), 2, [0, 3, 3]),
    ],
)
def test_numbers_in_proportion(counts: tuple[int, ...], ipc: int, scaled: list[int]) -> None:
    assert in_proportion(counts, ipc) == scaled


def test_all_students_of_a_seed_see_the_same_random_images(setting: StudentSetting) -> None:
    a, b = (training_set(setting, Job(student, "random", "soft", IPC, 1)) for student in ("a", "b"))
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.targets, b.targets)


def test_the_teacher_labels_random_images(setting: StudentSetting) -> None:
    """Soft labels of a teacher that is sure of one class are that class."""
    sure = network(0)
    sure.model.classifier.weight.data.zero_()
    sure.model.classifier.bias.data.copy_(torch.tensor([0.0, 50.0, 0.0]))
    told = replace(setting, giver=sure)
    targets = training_set(told, Job("s", "random", "soft", IPC, 0)).targets
    torch.testing.assert_close(targets, torch.tensor([0.0, 1.0, 0.0]).expand(9, 3))


# --- training and testing -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_accuracy_is_scikit_learns(store: PixelStore, seed: int) -> None:
    """On 300 images, which are more than one batch."""
    net = network(seed)
    images = (store.get(range(len(store))).float() / 255 - 0.3) / 0.35
    with torch.no_grad():
        predicted = net.model(images).logits.argmax(1)
    assert len(set(predicted.tolist())) > 1
    expected = accuracy_score(store.labels.numpy(), predicted.numpy())
    assert score_network(net, store).top1 == pytest.approx(expected, abs=1e-12)


def test_a_network_that_answers_one_class_is_right_where_it_occurs(store: PixelStore) -> None:
    net = network()
    net.model.classifier.weight.data.zero_()
    for label in range(len(NAMES)):
        net.model.classifier.bias.data.zero_()[label] = 1
        assert score_network(net, store).top1 == pytest.approx(1 / 3)


@pytest.mark.parametrize("images", ["distilled", "random"])
@pytest.mark.parametrize("labels", ["hard", "soft", "teacher"])
def test_a_job_gives_the_same_score_each_time(
    setting: StudentSetting, images: Any, labels: Any
) -> None:
    job = Job("little", images, labels, IPC, 1)
    first = run_job(setting, job, SOURCE)
    torch.manual_seed(77)
    second = run_job(setting, job, SOURCE)
    assert first.model_copy(update={"seconds": second.seconds}) == second
    assert first.job == job
    assert 0 <= first.top1 <= 1
    assert first.seconds >= 0


def test_students_of_real_labels_learn_and_leave_the_teacher_alone(setting: StudentSetting) -> None:
    teacher = weights_sha256(setting.network.model)
    config = StudentConfig(steps=80, seeds=1, batch_size=16, lr=3e-3)
    more = replace(setting, recipe=recipe_for(config, 9))
    top1 = run_job(more, Job("little", "random", "hard", 10, 0), SOURCE).top1
    assert top1 > 0.6  # chance is a third
    assert weights_sha256(setting.network.model) == teacher


# --- what is stored -----------------------------------------------------------------------------


def test_the_key_of_an_outcome_changes_with_its_optimiser_and_not_with_the_version(
    setting: StudentSetting,
) -> None:
    """Another key would lose the students that were trained before there was a second optimiser."""
    job = Job("little", "random", "hard", IPC, 0)
    sgd = replace(setting, recipe=recipe_for(QUICK, IPC * len(NAMES), optimizer="sgd"))
    own, recipe, *rest = job_key(setting, job, SOURCE)
    assert job.name == "little-7bf848-random-3-hard-0"
    assert own == {
        "student": "little", "images": "random", "labels": "hard", "ipc": IPC, "seed": 0,
        "augment": True,
    }  # fmt: skip
    assert recipe == {
        "optimizer": "AdamW", "lr": 0.001, "weight_decay": 0.01, "momentum": None,
        "schedule": "cosine", "drops": (), "factor": None, "restarts": False, "steps": 6,
        "batch_size": 4, "loss": "cross-entropy", "class_weight": None, "temperature": 1.0,
        "augmentation": "crops", "flips": True, "cutmix": 1.0, "crop_min": 0.4, "average": None,
    }  # fmt: skip
    assert job_key(sgd, job, SOURCE)[0] == own
    assert job_key(sgd, job, SOURCE)[1] != recipe
    assert job_key(sgd, job, SOURCE)[2:] == rest


def test_an_outcome_is_stored_under_its_key_and_read_again(
    setting: StudentSetting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Jobs(tmp_path, open_accelerator("no", "cpu"), quiet=True)
    job = Job("little", "distilled", "hard", IPC, 0)
    (first,) = run_jobs(place, setting, [job], {job: "a"}, {"little": SOURCE})
    with monkeypatch.context() as patched:
        patched.setattr("wdistill.evaluation.students.outcomes.run_job", None)  # nothing is trained
        assert run_jobs(place, setting, [job], {job: "a"}, {"little": SOURCE}) == [first]
    run_jobs(place, setting, [job], {job: "b"}, {"little": SOURCE})
    assert read_outcome(place.path(job, "a")) == first, "another key leaves it alone"
    place.path(job, "a").write_text('{"job": 1}')
    assert read_outcome(place.path(job, "a")) is None
    (again,) = run_jobs(place, setting, [job], {job: "a"}, {"little": SOURCE})
    assert isinstance(again, Outcome)
    assert again.top1 == first.top1
