"""Any image classifier by name: its weights are its own, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.backbones import (
    IDENTITY,
    NAMES,
    PIXELS,
    SIZE,
    checkpoint,
    found,
    head_names,
    inputs,
    load,
    logits,
    same_state,
    tiny_config,
)
from helpers.hub_server import HubServer, hub_env, run_python
from torch.nn import functional as F
from transformers import (
    BertConfig,
)

from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.backbones import (
    SMALL_SIDE,
    Reduced,
    load_backbone,
    new_network,
    small_convnet,
)
from wdistill.networks.checkpoints.classes import match_classes
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.teacher import check_accepts, save_checkpoint

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
    assert text.startswith(f"`teacher.backbone` {str(name)!r} ")
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
    assert "has no config.json, which says what network" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["a/b/c", "no such network", "resnet-18/"])
def test_what_cannot_be_a_hub_id_is_no_backbone(name: str) -> None:
    text = refusal(name)
    assert "neither a Hub id, nor a local folder, nor a built-in" in text
    assert "resnet18, resnet10-w16, convnet" in text


def test_the_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"^`evaluate.students` 'a/b/c' is neither"):
        find_backbone("a/b/c", resolution=SIZE, setting="evaluate.students")


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
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
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
    with pytest.raises(BackboneError, match=r"does not take images of 48 px: .*`data.resolution`"):
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


# --- a small ConvNet ----------------------------------------------------------------------------

GREYISH = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def test_a_small_convnet_sees_small_images_as_they_are() -> None:
    assert not isinstance(small_convnet(NAMES, 32, 0), Reduced)
    assert not isinstance(small_convnet(NAMES, SMALL_SIDE, 0), Reduced)


def test_of_larger_images_a_small_convnet_sees_the_means_of_their_pixels() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 128, 128)
    member = FeatureNetwork(
        small_convnet(NAMES, 128, 3), Preprocessing(128, 0, *GREYISH), torch.device("cpu")
    )
    source = find_backbone("convnet-w64", resolution=64)
    small = FeatureNetwork(
        new_network(source, NAMES, 64, 3), Preprocessing(64, 0, *GREYISH), torch.device("cpu")
    )
    torch.testing.assert_close(member.logits(images), small.logits(F.avg_pool2d(images, 2)))
    assert member.num_classes == len(NAMES)


def test_means_over_any_side_are_those_of_adaptive_pooling() -> None:
    images = torch.rand(2, 3, 100, 100, generator=torch.Generator().manual_seed(0))
    member = small_convnet(NAMES, 100, 3)
    assert isinstance(member, Reduced)
    smaller = member.means @ images @ member.means.T
    torch.testing.assert_close(smaller, F.adaptive_avg_pool2d(images, SMALL_SIDE))
    assert not any("means" in name for name in member.state_dict())
