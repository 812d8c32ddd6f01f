"""Any image classifier by name: its classes and weights are its own, or refused."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backbone_helpers import (
    IDENTITY,
    NAMES,
    SIZE,
    assert_same_input,
    collage,
    found,
    tiny_config,
)
from hub_server import HubServer, hub_env, run_python
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    BertConfig,
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
)

from wdistill.architecture import architecture
from wdistill.backbone import (
    Backbone,
    find_backbone,
    load_backbone,
    match_classes,
    new_network,
    weights_sha256,
)
from wdistill.errors import BackboneError
from wdistill.features import classification_heads
from wdistill.networks import built_in_config
from wdistill.pixels import Preprocessing
from wdistill.processors import preprocessing_for, working_resolution
from wdistill.seeds import stream
from wdistill.teacher import check_accepts, save_checkpoint

PIXELS = Preprocessing(SIZE, 0, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def inputs(count: int = 12, size: int = SIZE) -> Tensor:
    return torch.randn(count, 3, size, size, generator=stream(0, "inputs"))


def lively(model: PreTrainedModel, size: int = SIZE) -> PreTrainedModel:
    """Batch statistics that are not the initial ones, and logits that differ between inputs."""
    with torch.no_grad():
        model.train()(inputs(size=size) * 2 + 1)
        model.eval()
        for head in classification_heads(model):
            features = []
            handle = head.register_forward_pre_hook(lambda _, args, to=features: to.append(args[0]))
            model(inputs(size=size))
            handle.remove()
            x = features[0]
            head.weight.div_(x.std() * 0.02)
            head.bias.copy_(-(head.weight @ x.mean(0)))
    return model


def checkpoint(
    folder: Path, kind: str = "resnet", names: tuple[str, ...] = NAMES
) -> PreTrainedModel:
    torch.manual_seed(3)
    model = lively(AutoModelForImageClassification.from_config(tiny_config(kind, names)))
    model.save_pretrained(folder)
    return model


def load(folder: Path, names: tuple[str, ...], seed: int = 0) -> Backbone:
    return load_backbone(found(folder), names, PIXELS, seed)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x).logits


def head_names(model: PreTrainedModel) -> set[str]:
    heads = classification_heads(model)
    return {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if any(module is head for head in heads)
        for part in ("weight", "bias")
    }


def same_state(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(value, y[name]) for name, value in x.items())


# --- classes by name ----------------------------------------------------------------------------


def match(theirs: tuple[str, ...], ours: tuple[str, ...]) -> list[int] | None:
    return match_classes(dict(enumerate(theirs)), ours)


def test_the_same_classes_in_the_same_order_stay() -> None:
    assert match(NAMES, NAMES) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_classes_in_another_order_are_found_by_name(seed: int) -> None:
    permutation = np.random.default_rng(seed).permutation(5)
    ours = tuple(NAMES[i] for i in permutation)
    assert match(NAMES, ours) == permutation.tolist()


def test_case_underscores_and_spacing_do_not_count() -> None:
    theirs = ("Ankle_boot", "T-shirt/top", "  great  white shark ", "STRASSE")
    ours = ("straße", "Great_White_Shark", "ankle boot", "t-shirt/top")
    assert match(theirs, ours) == [3, 2, 0, 1]


@pytest.mark.parametrize(
    "ours",
    [
        ("boot", "coat", "dress", "shirt", "hat"),
        ("boot", "coat", "dress", "shirt"),
        (*NAMES, "hat"),
        ("boot", "boot", "dress", "shirt", "bag"),
        ("boots", "coat", "dress", "shirt", "bag"),
        ("0", "1", "2", "3", "4"),
    ],
    ids=["another name", "fewer", "more", "twice", "prefix", "numbers"],
)
def test_other_classes_do_not_match(ours: tuple[str, ...]) -> None:
    assert match(NAMES, ours) is None


CRANES = ("tench", "crane", "limpkin", "crane", "goldfish")  # a bird, and a machine


@pytest.mark.parametrize("second", ["crane", "crane2", "crane bird", "Crane_(machine)"])
def test_a_repeated_name_is_settled_by_position(second: str) -> None:
    ours = ("tench", "crane", "limpkin", second, "goldfish")
    assert match(CRANES, ours) == [0, 1, 2, 3, 4]


def test_both_cranes_may_have_another_name() -> None:
    ours = ("tench", "crane bird", "limpkin", "crane2", "goldfish")
    assert match(CRANES, ours) == [0, 1, 2, 3, 4]


def test_order_is_repaired_beside_repeated_names() -> None:
    ours = ("goldfish", "crane", "tench", "crane2", "limpkin")
    assert match(CRANES, ours) == [4, 1, 0, 3, 2]


def test_a_repeated_name_elsewhere_is_not_guessed() -> None:
    """Which crane is which cannot be known once they have moved."""
    assert match(CRANES, ("crane", "tench", "limpkin", "crane2", "goldfish")) is None


# --- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_checkpoint_for_the_datasets_classes_is_used_as_it_is(tmp_path: Path, kind: str) -> None:
    model = checkpoint(tmp_path, kind)
    backbone = load(tmp_path, NAMES)
    assert backbone.origin == "as_is"
    assert same_state(backbone.model, model)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_another_class_order_predicts_the_same_names(tmp_path: Path, kind: str) -> None:
    model = checkpoint(tmp_path, kind)
    ours = ("Dress", "bag", "boot", "SHIRT", "coat")
    backbone = load(tmp_path, ours)
    before, after = logits(model, inputs(64)), logits(backbone.model, inputs(64))
    names = [model.config.id2label[i].lower() for i in before.argmax(1).tolist()]
    assert len(set(names)) >= 3  # else the same names would say little
    assert [ours[i].lower() for i in after.argmax(1).tolist()] == names
    assert backbone.model.config.id2label == dict(enumerate(ours))
    assert backbone.model.config.label2id == {name: i for i, name in enumerate(ours)}
    assert backbone.origin == "as_is"
    columns = [NAMES.index(name.lower()) for name in ours]
    torch.testing.assert_close(after, before[:, columns], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
@pytest.mark.parametrize("ours", [("a", "b", "c", "d", "e"), ("a", "b", "c")])
def test_other_classes_get_a_new_head_alone(
    tmp_path: Path, kind: str, ours: tuple[str, ...]
) -> None:
    model = checkpoint(tmp_path, kind)
    backbone = load(tmp_path, ours)
    assert backbone.origin == "fine_tuned"
    assert logits(backbone.model, inputs()).shape == (12, len(ours))
    assert list(backbone.model.config.id2label.values()) == list(ours)
    old, new = model.state_dict(), backbone.model.state_dict()
    heads = head_names(model)
    assert heads == head_names(backbone.model)
    assert heads
    for name, value in new.items():
        if name not in heads:
            assert torch.equal(value, old[name]), name
        else:
            assert value.shape != old[name].shape or not torch.equal(value, old[name]), name
            assert value.abs().max() > 0


def test_a_new_head_depends_on_the_seed_alone(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    ours = ("a", "b", "c", "d", "e")
    first = load(tmp_path, ours, seed=1).model
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert same_state(load(tmp_path, ours, seed=1).model, first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same_state(load(tmp_path, ours, seed=2).model, first)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_folder_with_a_configuration_alone_is_trained_from_scratch(
    tmp_path: Path, kind: str
) -> None:
    tiny_config(kind).save_pretrained(tmp_path)
    source = found(tmp_path)
    backbone = load_backbone(source, NAMES, PIXELS, 5)
    assert backbone.origin == "from_scratch"
    assert same_state(backbone.model, new_network(source, NAMES, SIZE, 5))


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_new_network_has_no_weight_of_the_checkpoint(tmp_path: Path, kind: str) -> None:
    trained = checkpoint(tmp_path, kind).state_dict()
    first, second = (new_network(found(tmp_path), NAMES, SIZE, seed) for seed in (0, 1))
    weights = [n for n, p in first.named_parameters() if p.dim() > 1 and p.abs().max() > 0]
    assert len(weights) > 5
    for name in weights:
        assert not torch.equal(first.state_dict()[name], trained[name]), name
        assert not torch.equal(first.state_dict()[name], second.state_dict()[name]), name
    torch.manual_seed(99)
    assert same_state(first, new_network(found(tmp_path), NAMES, SIZE, 0))


def test_a_new_network_takes_the_resolution_and_classes_of_the_run(tmp_path: Path) -> None:
    checkpoint(tmp_path, "vit")
    source = found(tmp_path)
    model = new_network(source, ("a", "b"), 48, 0)
    assert logits(model, inputs(3, 48)).shape == (3, 2)
    assert source.config.image_size == SIZE  # the source still describes the checkpoint
    assert list(source.config.id2label.values()) == list(NAMES)


# --- refusals -----------------------------------------------------------------------------------


def refusal(name: Path | str) -> str:
    with pytest.raises(BackboneError) as caught:
        found(name)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"--backbone {str(name)!r} ")
    return text


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert "pickled weights" in refusal(tmp_path)
    assert "save_pretrained" in refusal(tmp_path)


def test_pickled_weights_beside_safetensors_are_not_read(tmp_path: Path) -> None:
    model = checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not a pickle")
    assert same_state(load(tmp_path, NAMES).model, model)


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    BertConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    assert "'bert' network, which has no image-classification form" in refusal(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    assert "cannot be read as a Hugging Face model folder" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["a/b/c", "no such network", "resnet-18/"])
def test_what_cannot_be_a_hub_id_is_no_backbone(name: str) -> None:
    text = refusal(name)
    assert "neither a Hub id, nor a local folder, nor a built-in" in text
    assert "resnet18, resnet10-w16, convnet" in text


def test_the_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"^--student 'a/b/c' is neither"):
        find_backbone("a/b/c", resolution=SIZE, option="--student")


def test_a_revision_is_resolved_on_the_hub_and_ignored_elsewhere(tmp_path: Path) -> None:
    """What is recorded is the commit, whatever --backbone-revision named."""
    with HubServer() as hub:
        hub.create_repo("model", "lab/net")
        commits = []
        for kind in ("resnet", "vit"):
            tiny_config(kind).save_pretrained(tmp_path / kind)
            files = {"config.json": (tmp_path / kind / "config.json").read_bytes()}
            commits.append(hub.commit_files("model", "lab/net", files))
        code = f"""
from wdistill.backbone import find_backbone
for revision in (None, "main", "{commits[0]}"):
    source = find_backbone("lab/net", resolution=32, revision=revision)
    print(source.config.model_type, source.revision)
"""
        done = run_python(code, hub_env(hub, tmp_path / "home", None))
    assert done.returncode == 0, done.stderr
    old, new = f"resnet {commits[0]}", f"vit {commits[1]}"
    assert done.stdout.splitlines() == [new, new, old]
    for name in (str(tmp_path / "vit"), "convnet"):
        assert find_backbone(name, resolution=SIZE, revision="v9").revision is None


def test_a_size_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, "vit")
    larger = Preprocessing(48, 0, *IDENTITY)
    backbone = load_backbone(found(tmp_path), NAMES, larger, 0)
    with pytest.raises(BackboneError, match=r"does not take images of 48 px: .*--resolution"):
        check_accepts(backbone)
    good = load(tmp_path, NAMES)
    check_accepts(good)
    assert all(p.requires_grad for p in good.model.parameters())  # it may be trained next


def test_a_saved_convnet_is_bound_to_its_size(tmp_path: Path) -> None:
    source = find_backbone("convnet", resolution=16)
    saved = load_backbone(source, NAMES, Preprocessing(16, 0, *IDENTITY), 0)
    save_checkpoint(saved, tmp_path / "net")
    backbone = load_backbone(found(tmp_path / "net"), NAMES, PIXELS, 0)
    with pytest.raises(BackboneError, match="does not take images of 32 px"):
        check_accepts(backbone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("ours", [NAMES, ("a", "b")])
def test_weights_of_another_precision_are_read_as_float32(
    tmp_path: Path, dtype: torch.dtype, ours: tuple[str, ...]
) -> None:
    checkpoint(tmp_path).to(dtype).save_pretrained(tmp_path)
    backbone = load(tmp_path, ours)
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
    check_accepts(backbone)


@pytest.mark.parametrize("labels", [{0: 7, 1: 8}, {1: "7", 2: "8"}])
def test_unusual_labels_of_a_checkpoint_do_no_harm(labels: dict[int, Any]) -> None:
    expected = [0, 1] if 0 in labels else None
    assert match_classes(labels, ("7", "8")) == expected


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="cannot be loaded") as caught:
        load(tmp_path, NAMES)
    assert "\n" not in str(caught.value)


def test_a_damaged_image_processor_is_refused(tmp_path: Path) -> None:
    """Other normalisation than the checkpoint's would spoil the features unseen."""
    checkpoint(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": ')
    refusal(tmp_path)


def test_a_checkpoint_without_a_head_is_not_used_as_it_is(tmp_path: Path) -> None:
    checkpoint(tmp_path, "vit").base_model.save_pretrained(tmp_path)
    tiny_config("vit").save_pretrained(tmp_path)
    assert load(tmp_path, NAMES).origin == "fine_tuned"
    torch.manual_seed(8)
    assert same_state(load(tmp_path, NAMES).model, load(tmp_path, NAMES).model)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, "resnet")
    tiny_config("vit").save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="weights are those of another architecture"):
        load(tmp_path, NAMES)


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


def test_saving_replaces_an_older_checkpoint(tmp_path: Path) -> None:
    save_built_in(tmp_path / "net", "convnet")
    (tmp_path / "net" / "leftover.bin").write_bytes(b"old")
    backbone = save_built_in(tmp_path / "net", "small-resnet")
    assert same_state(load(tmp_path / "net", NAMES).model, backbone.model)
    assert not (tmp_path / "net" / "leftover.bin").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["net"]


ELSEWHERE = """
import sys
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


def test_transformers_alone_reads_a_saved_teacher(tmp_path: Path) -> None:
    expected = {}
    for name in SAVED:
        backbone = save_built_in(tmp_path / name, name)
        x = inputs(size=backbone.preprocessing.resolution)
        save_file({"x": x}, f"{tmp_path / name}.in")
        expected[name] = logits(backbone.model, x)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *(str(tmp_path / name) for name in SAVED)],
        env=os.environ
        | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
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
