"""Finished work is used again only where nothing that it depends on has changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wdistill.config import FORMAT_VERSION, DataConfig, RunConfig, RuntimeConfig
from wdistill.core.settings import flat, stable_hash, validated
from wdistill.core.units import Stage, StageOutput
from wdistill.data.content.coding import Coding
from wdistill.data.dataset import ImageData, load_data
from wdistill.data.pixels import Decoding, PixelStore
from wdistill.networks import teacher as network_teacher
from wdistill.networks.backbones import load_backbone, weights_sha256
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.preprocessing import preprocessing_for
from wdistill.networks.teacher import NO_NORMALISATION, features_key
from wdistill.pipeline.choices.givers import Giver
from wdistill.pipeline.run_folder import Run, identity
from wdistill.pipeline.stages import files, labels, synthesis, transport
from wdistill.pipeline.teacher import Teacher

STAGES = ("transport", "synthesis", "files", "nearest", "soft", "views")
BASE = RunConfig.from_dict(
    {
        "label_views": {"count": 3},
        "teacher": {"backbone": "convnet-w64"},
        "coding": {"image_format": "webp", "image_quality": "60"},
    }
)
OTHER: dict[str, Any] = {  # another value of each setting that a stage after the teacher depends on
    "barycenter.ipc": 3,
    "barycenter.images": 50,
    "barycenter.weights": "free",
    "barycenter.group_weights": "proportional",
    "barycenter.restarts": 9,
    "barycenter.max_iterations": 99,
    "synthesis.aim": "convnet",
    "synthesis.state_steps": 321,
    "synthesis.init": "mean",
    "synthesis.iterations": 299,
    "synthesis.lr": 0.06,
    "synthesis.feature_weight": 0.06,
    "synthesis.bn_weight": 9.0,
    "synthesis.ce_weight": 0.9,
    "synthesis.feature_spaces": ["convnet-w64:11"],
    "synthesis.space_weight": 0.2,
    "synthesis.space_mean_weight": 9.0,
    "synthesis.crop_min": 0.5,
    "synthesis.whole_share": 0.6,
    "synthesis.images_per_step": 99,
    "coding.image_quality": "20",
    "relabel.views": 15,
    "relabel.crop_min": 0.5,
    "label_views.count": 4,
    "label_views.topk": 5,
    "label_views.levels": 5,
    "label_views.crop_min": 0.5,
    "mixed_precision": "bf16",
    "seed": 1,
}
FIRST = {  # the first stage that is computed again; those after it depend on it
    "barycenter": "transport", "synthesis": "synthesis", "coding": "synthesis",
    "relabel": "soft",
    "label_views": "views", "mixed_precision": "synthesis", "seed": "transport",
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data(DataConfig(), 0, 1)


@pytest.fixture(scope="module")
def ready(data: ImageData) -> Teacher:
    return known(data)


def known(data: ImageData, draw: int = 0, seed: int = 0) -> Teacher:
    """A teacher as :func:`teacher.prepare_teacher` describes it, without a network that is used."""
    source = find_backbone(BASE.teacher.backbone, resolution=28)
    pixels = preprocessing_for(source, 28, NO_NORMALISATION)
    backbone = load_backbone(source, data.class_names, pixels, draw)
    key = features_key(data, backbone, weights_sha256(backbone.model), seed)
    store = PixelStore(data.train, pixels)
    network = SimpleNamespace(device=torch.device("cpu"))
    return Teacher(network, store, store, store, 0.9, None, key)  # type: ignore[arg-type]


def keys(
    config: RunConfig, data: ImageData, ready: Teacher, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The key under which each stage keeps its units; none is computed."""
    found: dict[str, str] = {}

    def remember(self: Run, stage: Stage[Any], *_: Any) -> StageOutput[Any]:
        found[stage.name.partition("-")[0]] = stage.key
        return StageOutput(stage.key, [])

    views = SimpleNamespace(count=1, logits=torch.zeros(1, 10))
    monkeypatch.setattr(Run, "compute", remember)
    for name, given in {
        "join": lambda _: None, "rounded": lambda *_: None, "fit": lambda *_: (views, 1),
        "_pack": lambda *_: [],
    }.items():  # fmt: skip
        monkeypatch.setattr(labels, name, given)
    alone = SimpleNamespace(num_processes=1, is_main_process=True, process_index=0)
    run = Run(config, data, Path("run"), alone, Decoding(), True)  # type: ignore[arg-type]
    pool = [SimpleNamespace(key=f"{name}:{n}") for name, n in config.synthesis.pool()]
    barycenters = transport.transport_stage(run, ready)
    coding = Coding.of(config.coding) or Coding()
    images = synthesis.synthesis_stage(run, ready, pool, barycenters, coding)  # type: ignore[arg-type]
    files.files_stage(run, images, coding, grey=False)
    pixels = torch.zeros(20, 3, 1, 1, dtype=torch.uint8)
    decoded = labels.Decoded(pixels, 1, stable_hash([images.key, *coding.key]))
    labels.nearest_stage(run, ready, decoded.key, lambda unit: pixels[run.unit_rows(unit)])
    giver = Giver("teacher", ready.network, ready.key)
    labels.soft_stage(run, giver, decoded)
    labels.views_stage(run, giver, decoded)
    return found


def changed(name: str, value: Any) -> RunConfig:
    values = BASE.to_dict()
    section, _, field = name.rpartition(".")
    (values[section] if section else values)[field] = value
    return validated(RunConfig, values)


@pytest.mark.parametrize("name", sorted(OTHER))
def test_a_setting_renews_the_stages_that_depend_on_it_and_no_other(
    name: str, data: ImageData, ready: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(BASE, data, ready, monkeypatch)
    now = keys(changed(name, OTHER[name]), data, ready, monkeypatch)
    renewed = {stage for stage in STAGES if now[stage] != before[stage]}
    first = FIRST[name.split(".", maxsplit=1)[0]]
    expected = set(STAGES[STAGES.index(first) :]) - ({"views"} if first == "soft" else set())
    assert renewed == expected


def test_every_setting_is_accounted_for() -> None:
    """A new setting makes this fail until it is in OTHER, or among those that other tests cover."""
    elsewhere = (
        "data.", "teacher.", "evaluate.", "label_views.budget", "coding.image_format",
        "relabel.giver", "relabel.committee_steps", "budget", "barycenter.allocation",
    )  # fmt: skip
    settings = {name for name in flat(BASE.to_dict()) if not name.startswith(elsewhere)}
    assert settings == set(OTHER)


@pytest.mark.parametrize("name", ["fingerprint", "weights", "hold-out", "format", "groups"])
def test_data_teacher_and_format_renew_everything(
    name: str, data: ImageData, ready: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(BASE, data, ready, monkeypatch)
    other = ready
    if name == "fingerprint":
        other = known(replace(data, source=replace(data.source, fingerprint="another")))
    if name == "weights":
        other = known(data, draw=1)
    if name == "hold-out":
        held = replace(data, eval_is_holdout=True)
        assert known(held).key != known(held, seed=1).key  # drawn with the seed
        other = known(held)
    if name == "format":
        monkeypatch.setattr(network_teacher, "FORMAT_VERSION", FORMAT_VERSION + 1)
        other = known(data)
    if name == "groups":
        groups = torch.arange(len(data.train)).remainder(2).numpy()
        data = replace(data, train=replace(data.train, groups=groups))
        other = known(data)
    now = keys(BASE, data, other, monkeypatch)
    assert all(now[stage] != before[stage] for stage in STAGES)


@pytest.mark.parametrize(
    "name", [n for n in flat(BASE.to_dict()) if n.startswith(("data.", "teacher."))]
)
def test_data_and_teacher_settings_make_another_run(name: str) -> None:
    """They are refused by the folder of a run that has begun, unless they change nothing."""
    values = flat(BASE.to_dict())
    kind = type(values[name])
    if name in ("data.resolution", "teacher.batch_size"):
        kind = int
    other = changed(name, {bool: True, int: 11}.get(kind, "other"))
    same = identity(other, "f") == identity(BASE, "f")
    assert same == (name in ("teacher.allow_weak", "teacher.trust_remote_code"))


def test_machine_settings_are_no_part_of_a_run() -> None:
    assert not set(RuntimeConfig.__dataclass_fields__) & set(flat(BASE.to_dict()))
