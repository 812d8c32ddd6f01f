"""Settings are refused by name, compared, and hashed the same way everywhere."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from helpers.environment import environment

from wdistill.config import (
    BarycenterConfig,
    CodingConfig,
    DataConfig,
    EvaluateConfig,
    LabelViewsConfig,
    Optimizer,
    RelabelConfig,
    RunConfig,
    RuntimeConfig,
    StudentConfig,
    SynthesisConfig,
    TeacherConfig,
)
from wdistill.core.settings import Settings, flat, options_of, stable_hash, validated
from wdistill.errors import OptionError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "name", "setting", "allowed", "bad"),
    [
        (DataConfig, "resolution", "data.resolution", "from 8 to 1024", (0, 7, 1025, -1)),
        (TeacherConfig, "epochs", "teacher.epochs", "from 0 to 10000", (-1, 10_001)),
        (BarycenterConfig, "ipc", "barycenter.ipc", "from 1 to 100", (0, -1)),
        (BarycenterConfig, "weights", "barycenter.weights", "uniform, free", ("equal", "", "Free")),
        (SynthesisConfig, "init", "synthesis.init", "real, mean, noise", ("median", "Real")),
        (SynthesisConfig, "iterations", "synthesis.iterations", "from 0 to 100000", (-1, 100_001)),
        (SynthesisConfig, "bn_weight", "synthesis.bn_weight", "not negative", (-0.1, INF, NAN)),
        (StudentConfig, "epochs", "evaluate.epochs", "from 1 to 100000", (0, 100_001)),
        (StudentConfig, "seeds", "evaluate.seeds", "from 1 to 100", (0, 101)),
        (RunConfig, "seed", "seed", "from 0 to 2147483647", (-1, 2**31)),
        (RunConfig, "mixed_precision", "mixed_precision", "no, bf16", ("fp16", "")),
        (RuntimeConfig, "device", "runtime.device", "auto, cpu, cuda, mps", ("gpu", "cuda:0")),
        (RuntimeConfig, "num_workers", "runtime.num_workers", "from 1 to 256", (0, 257)),
    ],
)
def test_values_out_of_bounds_are_refused_by_name(
    kind: type, name: str, setting: str, allowed: str, bad: tuple[Any, ...]
) -> None:
    for value in bad:
        with pytest.raises(OptionError) as caught:
            kind(**{name: value})
        message = str(caught.value)
        given = repr(value) if isinstance(value, str) else str(value)
        assert message.startswith(f"`{setting}` is {given}; ")
        assert allowed in message
        assert "\n" not in message
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("kind", "name", "good"),
    [
        (DataConfig, "resolution", (None, 8, 1024)),
        (TeacherConfig, "epochs", (0, 10_000)),
        (BarycenterConfig, "ipc", (1, 100)),
        (BarycenterConfig, "weights", ("uniform", "free")),
        (SynthesisConfig, "init", ("real", "noise")),
        (SynthesisConfig, "iterations", (0, 100_000)),
        (SynthesisConfig, "bn_weight", (0, 0.0, 1e6)),
        (StudentConfig, "epochs", (1, 100_000)),
        (StudentConfig, "seeds", (1, 100)),
        (RunConfig, "seed", (0, 2**31 - 1)),
        (RunConfig, "mixed_precision", ("no", "bf16")),
        (RuntimeConfig, "device", ("auto", "cpu", "cuda", "mps")),
        (RuntimeConfig, "num_workers", (1, 256)),
    ],
)
def test_values_at_the_bounds_are_accepted(kind: type, name: str, good: tuple[Any, ...]) -> None:
    for value in good:
        assert getattr(kind(**{name: value}), name) == value


def test_settings_are_checked_also_when_replaced() -> None:
    with pytest.raises(OptionError, match=r"`barycenter.ipc` is 0"):
        dataclasses.replace(BarycenterConfig(), ipc=0)


def test_a_run_has_fewer_images_per_class_than_a_set_that_is_judged_may_have() -> None:
    many = BarycenterConfig(ipc=1001)
    with pytest.raises(OptionError, match=r"`barycenter.ipc` is 1001; .* from 1 to 1000"):
        RunConfig(barycenter=many)


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BarycenterConfig().ipc = 3  # type: ignore[misc]


def test_nothing_changed() -> None:
    assert RunConfig().changed() == {}
    assert RunConfig(barycenter=BarycenterConfig(ipc=10), seed=0).changed() == {}


def test_only_what_differs_from_the_defaults_is_listed() -> None:
    config = RunConfig(
        data=DataConfig(dataset="cifar10"),
        barycenter=BarycenterConfig(ipc=50, weights="free"),
        evaluate=StudentConfig(students=("convnet", "resnet18"), epochs=250),
        seed=3,
    )
    assert config.changed() == {
        "data.dataset": "cifar10",
        "barycenter.ipc": 50,
        "barycenter.weights": "free",
        "evaluate.students": ["convnet", "resnet18"],
        "evaluate.epochs": 250,
        "seed": 3,
    }


def test_flat_settings_name_every_field_once() -> None:
    settings = flat(RunConfig().to_dict())
    sections = (
        DataConfig, TeacherConfig, BarycenterConfig, SynthesisConfig, CodingConfig,
        RelabelConfig, LabelViewsConfig, StudentConfig,
    )  # fmt: skip
    assert len(settings) == sum(len(dataclasses.fields(s)) for s in sections) + 3
    assert settings["barycenter.ipc"] == 10
    assert json.loads(json.dumps(settings)) == settings  # plain JSON, lists and all


# --- the hash -----------------------------------------------------------------------------------


def test_hash_does_not_depend_on_the_order_of_keys() -> None:
    one = {"a": 1, "b": {"c": [1, 2], "d": None}}
    other = {"b": {"d": None, "c": (1, 2)}, "a": 1}
    assert stable_hash(one) == stable_hash(other)
    assert stable_hash([1, 2]) != stable_hash([2, 1])


@pytest.mark.parametrize(
    "change",
    [
        {"data": DataConfig(revision="abc")},
        {"teacher": TeacherConfig(epochs=11)},
        {"barycenter": BarycenterConfig(weights="free")},
        {"synthesis": SynthesisConfig(lr=0.031)},
        {"relabel": RelabelConfig(views=17)},
        {"evaluate": StudentConfig(students=("convnet",))},
        {"seed": 1},
        {"mixed_precision": "bf16"},
    ],
)
def test_any_setting_changes_the_hash(change: dict[str, Any]) -> None:
    changed = RunConfig(**change)
    assert stable_hash(changed.to_dict()) != stable_hash(RunConfig().to_dict())
    assert stable_hash(changed.to_dict()) == stable_hash(RunConfig(**change).to_dict())


def test_hash_survives_json() -> None:
    """A manifest that was written and read again has the hash of the settings themselves."""
    settings = RunConfig(evaluate=StudentConfig(students=("convnet",))).to_dict()
    assert stable_hash(json.loads(json.dumps(settings))) == stable_hash(settings)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_hash_is_the_same_in_another_process(hash_seed: str) -> None:
    code = (
        "from wdistill.config import *; from wdistill.core.settings import stable_hash; "
        "print(stable_hash(RunConfig(seed=5, data=DataConfig(dataset='é/ü')).to_dict()))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(PYTHONHASHSEED=hash_seed),
        capture_output=True,
        text=True,
        check=True,
    )
    config = RunConfig(seed=5, data=DataConfig(dataset="é/ü"))
    assert other.stdout.strip() == stable_hash(config.to_dict())
    assert len(other.stdout.strip()) == 16


# --- from JSON ----------------------------------------------------------------------------------


def test_settings_survive_json() -> None:
    config = RunConfig(
        data=DataConfig(dataset="cifar10", resolution=32, skip_broken=True),
        synthesis=SynthesisConfig(feature_spaces=("convnet", "lab/net:3"), bn_weight=2.5),
        evaluate=StudentConfig(students=("convnet",), epochs=None, steps=70),
        seed=4,
        mixed_precision="bf16",
    )
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_settings_that_are_missing_are_the_defaults() -> None:
    assert RunConfig.from_dict({}) == RunConfig()
    assert RunConfig.from_dict({"synthesis": {"lr": 1}}).synthesis == SynthesisConfig(lr=1.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "what was read is []; give settings by name"),
        ({"data": 3}, "`data` is 3; give settings by name"),
        ({"evaluate": {"labels": ["hard", None]}}, "`evaluate.labels` is None; choose one of hard"),
        ({"evaluate": {"labels": ["best"]}}, "`evaluate.labels` is 'best'; choose one of hard"),
        ({"evaluate": {"labels": "hard"}}, "`evaluate.labels` is 'hard'; give a list"),
        ({"barycenter": {"ipc": 2.0}}, "`barycenter.ipc` is 2.0; give a whole number"),
        ({"barycenter": {"ipc": 0}}, "`barycenter.ipc` is 0; give a number from 1 to 1000"),
        ({"data": {"skip_broken": 1}}, "`data.skip_broken` is 1; give true or false"),
        ({"data": {"train_split": "a\nb"}}, "`data.train_split` has control characters"),
        ({"data": {"revision": 7}}, "`data.revision` is 7; give text"),
        ({"synthesis": {"lr": INF}}, "`synthesis.lr` is inf; give a finite number"),
        ({"synthesis": {"crop_min": 0}}, "`synthesis.crop_min` is 0.0; give a number from"),
        ({"relabel": {"views": -1}}, "`relabel.views` is -1"),
        ({"relabel": {"__class__": 1}}, "`relabel.__class__` is no setting of wdistill"),
        ({"relabel": {"a\nb": 1}}, "'relabel.a\\nb' is no setting of wdistill"),
    ],
)
def test_what_is_no_setting_is_refused_by_name(values: Any, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        RunConfig.from_dict(values)
    assert str(caught.value).startswith(words)
    assert str(caught.value).isprintable()


def test_trust_in_code_is_not_read() -> None:
    assert RunConfig.from_dict({"teacher": {"trust_remote_code": True}}) == RunConfig()


# --- each option once ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RunConfig, EvaluateConfig, RuntimeConfig])
def test_every_setting_has_help_and_says_where_its_default_comes_from(kind: type[Settings]) -> None:
    options = list(options_of(kind))
    assert options
    for name, _, described in options:
        assert re.search(r"\[(source|default): .+\]$", described.help), name
    flags = [described.flag for _, _, described in options if described.flag]
    assert len(flags) == len(set(flags))


def test_every_setting_of_a_run_can_be_named() -> None:
    assert {name for name, _, _ in options_of(RunConfig)} == flat(RunConfig().to_dict()).keys()


def test_a_part_of_a_section_keeps_the_defaults_of_where_it_stands() -> None:
    """Which labels the students of `evaluate` see is left to the recipe."""
    config = validated(EvaluateConfig, {"source": "a", "evaluate": {"seeds": 3}})
    assert config == EvaluateConfig("a", evaluate=StudentConfig(seeds=3))


def test_the_command_of_settings_makes_them_again() -> None:
    config = RunConfig(
        data=DataConfig(dataset="my data", skip_broken=True),
        barycenter=BarycenterConfig(ipc=3),
        evaluate=StudentConfig(enabled=False, students=("convnet", "resnet18")),
    )
    assert config.command() == (
        "wdistill run --dataset 'my data' --skip-broken --ipc 3 --no-evaluate --student convnet "
        "--student resnet18"
    )
    unnamed = RunConfig(synthesis=SynthesisConfig(lr=0.1))
    assert unnamed.command() == "wdistill run --config settings.yaml"


def test_students_of_larger_sets_see_no_fewer_images() -> None:
    def seen(images: int) -> int:
        steps, size = StudentConfig().budget(images)
        return steps * size

    for images in (499, 500, 501, 512, 600, 1000, 1500, 1666, 1667, 5000):
        assert seen(images) >= 0.97 * seen(min(images, 500))  # 100 epochs of 500 images
        assert seen(images) >= 30 * images
    assert StudentConfig().budget(500) == (1600, 32)
    assert StudentConfig().budget(10_000) == (30 * 79, 128)


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_one_rate_is_not_of_two_optimisers(name: str) -> None:
    both: tuple[Optimizer, ...] = ("adamw", "sgd")
    with pytest.raises(OptionError, match=f"`evaluate.{name}` is of one optimiser"):
        StudentConfig(optimizers=both, **{name: 0.5})
    alone = StudentConfig(optimizers=("sgd",), **{name: 0.5})
    assert 0.5 in alone.rates("sgd")
    assert StudentConfig(optimizers=both).rates("sgd") == StudentConfig().rates("sgd")
    assert StudentConfig(weight_decay=0.0).rates("adamw") == (0.001, 0.0)


def test_students_need_an_optimiser() -> None:
    with pytest.raises(OptionError, match=r"`evaluate\.optimizers` is empty"):
        StudentConfig(optimizers=())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"barycenter": BarycenterConfig(3), "budget": 9}, "`barycenter.ipc` and `budget`"),
        ({"barycenter": BarycenterConfig(3, 30)}, "`barycenter.ipc` and `barycenter.images`"),
        ({"barycenter": BarycenterConfig(images=3), "budget": 9}, "`barycenter.images` and `bud"),
    ],
)
def test_one_number_of_images_says_it_all(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=f"{words}.* are both given; leave one of them out"):
        RunConfig(**settings)


def test_a_budget_is_not_spent_on_png() -> None:
    with pytest.raises(OptionError, match="`budget` is spent on WebP images"):
        RunConfig(coding=CodingConfig("png"), budget=10_000)
