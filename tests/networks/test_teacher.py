"""A trained teacher is an ordinary checkpoint, which its weights and its architecture identify."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.backbones import (
    IDENTITY,
    NAMES,
    assert_same_input,
    collage,
    found,
    inputs,
    lively,
    load,
    logits,
    same_state,
    tiny_config,
)
from helpers.environment import environment
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from wdistill.data.pixels import Preprocessing
from wdistill.networks.architectures import built_in_config
from wdistill.networks.backbones import Backbone, load_backbone, weights_sha256
from wdistill.networks.checkpoints.description import architecture
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import classification_heads
from wdistill.networks.preprocessing import preprocessing_for, working_resolution
from wdistill.networks.teacher import save_checkpoint

# --- the identity of weights --------------------------------------------------------------------


def tiny_model(kind: str = "resnet") -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForImageClassification.from_config(tiny_config(kind))


def test_every_weight_and_statistic_enters_the_hash() -> None:
    model = tiny_model()
    known = {weights_sha256(model)}
    for name, value in model.state_dict().items():
        flat = value.view(-1)
        old = flat[-1].clone()
        flat[-1] += 1
        digest = weights_sha256(model)
        assert digest not in known, name
        known.add(digest)
        flat[-1] = old
    assert weights_sha256(model) in known


def test_the_smallest_change_changes_the_hash() -> None:
    model = tiny_model()
    before = weights_sha256(model)
    weight = classification_heads(model)[0].weight.data
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(torch.inf))
    assert weights_sha256(model) != before
    assert weights_sha256(copy.deepcopy(model).double()) != weights_sha256(model)


def test_order_layout_and_mode_do_not_enter_the_hash() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    one = nn.ModuleDict({"a": first, "b": second})
    other = nn.ModuleDict({"b": second, "a": first})
    swapped = nn.ModuleDict({"a": second, "b": first})
    assert weights_sha256(one) == weights_sha256(other) != weights_sha256(swapped)
    model = tiny_model()
    before = weights_sha256(model)
    again = copy.deepcopy(model).to(memory_format=torch.channels_last).train()
    assert weights_sha256(again.requires_grad_(False)) == before
    assert weights_sha256(model) == before


def test_bfloat16_and_empty_states_have_a_hash() -> None:
    model = tiny_model()
    assert weights_sha256(model.bfloat16()) != weights_sha256(tiny_model())
    assert weights_sha256(nn.ReLU()) == weights_sha256(nn.Identity())


# --- a trained teacher is an ordinary checkpoint ------------------------------------------------

SAVED = {  # built-in network, resolution, side before the crop
    "convnet": ("convnet", 28, 28),
    "small-resnet": ("resnet10-w16", 28, 0),
    "large-resnet": ("resnet10-w16", 96, 110),
}


def save_built_in(folder: Path, name: str) -> Backbone:
    network, size, resize = SAVED[name]
    preprocessing = Preprocessing(size, resize, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), resample=3)
    source = find_backbone(network, resolution=size)
    backbone = load_backbone(source, NAMES, preprocessing, 4)
    lively(backbone.model, size)
    save_checkpoint(backbone, folder)
    return backbone


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_teacher_is_a_backbone_as_it_is(tmp_path: Path, name: str) -> None:
    backbone = save_built_in(tmp_path / "net", name)
    size = backbone.preprocessing.resolution
    source = found(tmp_path / "net")
    assert working_resolution(source, None, 500) == size
    preprocessing = preprocessing_for(source, size, IDENTITY)
    assert preprocessing == backbone.preprocessing
    again = load_backbone(source, NAMES, preprocessing, 9)
    assert again.origin == "as_is"
    x = inputs(size=size)
    assert torch.equal(logits(again.model, x), logits(backbone.model, x))
    assert weights_sha256(again.model) == weights_sha256(backbone.model)


@pytest.mark.parametrize("name", SAVED)
def test_the_saved_processor_prepares_images_as_the_teacher_saw_them(
    tmp_path: Path, name: str
) -> None:
    backbone = save_built_in(tmp_path / "net", name)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "net")
    assert_same_input(backbone.preprocessing, processor, collage(6, 3))


def test_a_square_before_the_crop_is_saved_as_one(tmp_path: Path) -> None:
    backbone = save_built_in(tmp_path / "net", "convnet")
    warped = replace(backbone.preprocessing, resize=36, warp=True)
    save_checkpoint(replace(backbone, preprocessing=warped), tmp_path / "net")
    assert preprocessing_for(found(tmp_path / "net"), 28, IDENTITY) == warped
    processor = AutoImageProcessor.from_pretrained(tmp_path / "net")
    assert_same_input(warped, processor, collage(6, 3))


def test_saving_replaces_an_older_checkpoint(tmp_path: Path) -> None:
    save_built_in(tmp_path / "net", "convnet")
    (tmp_path / "net" / "leftover.bin").write_bytes(b"old")
    backbone = save_built_in(tmp_path / "net", "small-resnet")
    assert same_state(load(tmp_path / "net", NAMES).model, backbone.model)
    assert not (tmp_path / "net" / "leftover.bin").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["net"]


ELSEWHERE = """
import sys
from dataclasses import replace
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "wdistill":
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageClassification

for folder in map(Path, sys.argv[1:]):
    model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        x = load_file(f"{folder}.in")["x"]
        save_file({"logits": model(x).logits}, f"{folder}.out")
    print([model.config.id2label[i] for i in range(model.config.num_labels)])
assert not any(name.split(".")[0] == "wdistill" for name in sys.modules)
"""


@pytest.mark.slow
def test_transformers_alone_reads_a_saved_teacher(tmp_path: Path) -> None:
    expected = {}
    for name in SAVED:
        backbone = save_built_in(tmp_path / name, name)
        x = inputs(size=backbone.preprocessing.resolution)
        save_file({"x": x}, f"{tmp_path / name}.in")
        expected[name] = logits(backbone.model, x)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *(str(tmp_path / name) for name in SAVED)],
        env=environment(HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [str(list(NAMES))] * len(SAVED)
    for name, values in expected.items():
        torch.testing.assert_close(load_file(f"{tmp_path / name}.out")["logits"], values)


def test_a_saved_teacher_holds_no_path_and_no_pickle(tmp_path: Path) -> None:
    save_built_in(tmp_path / "net", "small-resnet")
    files = {path.name for path in (tmp_path / "net").iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= files
    assert not any(name.endswith((".bin", ".pt", ".pkl", ".pth")) for name in files)
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert str(tmp_path) not in json.dumps(config)
    for reference in config["auto_map"].values():  # the code that transformers alone needs
        assert reference.split(".")[0] + ".py" in files
    assert config["id2label"] == {str(i): name for i, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet10-w16", "resnet, 16-32-64-128 channels, 1 block a stage"),
        ("convnet", "convnet, 128 channels, 3 blocks"),
        ("vit", "vit, 192 channels, 6 layers"),
    ],
)
def test_an_architecture_in_words(name: str, told: str) -> None:
    assert architecture(built_in_config(name, 32)) == told


def test_an_architecture_of_odd_settings() -> None:
    stages = ResNetConfig(hidden_sizes=[8, 16], depths=[1, 2])
    assert architecture(stages) == "resnet, 8-16 channels, 1-2 blocks a stage"
    assert architecture(PretrainedConfig(hidden_size="<b>", depths=[])) == "network"
