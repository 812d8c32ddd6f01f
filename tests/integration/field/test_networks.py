"""Networks as the world has them: each works, or one true line says why not."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.families import NOT_ENOUGH, SETTINGS, SIDE, tiny_family
from helpers.hub_server import HubServer, hub_env, run_python
from safetensors.torch import load_file, save_file
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoModelForImageClassification,
    DeiTForImageClassificationWithTeacher,
    PerceiverForImageClassificationConvProcessing,
    PerceiverForImageClassificationFourier,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
)

from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.backbones import Backbone, load_backbone
from wdistill.networks.checkpoints.source import STUDENTS, find_backbone
from wdistill.networks.preprocessing import preprocessing_for, working_resolution
from wdistill.networks.teacher import NO_NORMALISATION, check_accepts, check_new_network

CLASSES = ("red", "green", "blue")


def opened(folder: Path | str, resolution: int | None = SIDE) -> Backbone:
    """A backbone as a run opens it: found, loaded and tried on a black image."""
    source = find_backbone(str(folder), resolution=SIDE)
    side = working_resolution(source, resolution, 40)
    preprocessing = preprocessing_for(source, side, NO_NORMALISATION)
    backbone = load_backbone(source, CLASSES, preprocessing, 0)
    check_accepts(backbone)
    return backbone


def outputs(backbone: Backbone) -> tuple[int, ...]:
    side = backbone.preprocessing.resolution
    with torch.no_grad():
        logits = backbone.model.eval()(torch.rand(2, 3, side, side)).logits
    assert bool(logits.isfinite().all())
    return tuple(logits.shape)


def refusal(folder: Path | str, **how: Any) -> str:
    with pytest.raises(BackboneError) as caught:
        opened(folder, **how)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def edit(folder: Path, **changes: Any) -> None:
    """``config.json`` with other values; None takes one out."""
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    kept = {key: value for key, value in values.items() if value is not None}
    path.write_text(json.dumps(kept))


# --- every family -------------------------------------------------------------------------------


def test_every_family_of_transformers_is_tried() -> None:
    families = {config.model_type for config in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING}
    own = {"timm_wrapper", "wdistill_resnet", "wdistill_convnet"}
    assert families - own <= SETTINGS.keys()


@pytest.mark.parametrize("family", [name for name in SETTINGS if name not in NOT_ENOUGH])
def test_a_family_gives_an_output_for_each_class(tmp_path: Path, family: str) -> None:
    """With the weights of seven classes, and as a bare configuration without ``architectures``."""
    torch.manual_seed(0)
    model = AutoModelForImageClassification.from_config(tiny_family(family, num_labels=7))
    model.save_pretrained(tmp_path / "net")
    backbone = opened(tmp_path / "net")
    assert (backbone.origin, outputs(backbone)) == ("fine_tuned", (2, 3))
    (tmp_path / "net" / "model.safetensors").unlink()
    edit(tmp_path / "net", architectures=None, return_dict=False)
    backbone = opened(tmp_path / "net")
    assert (backbone.origin, outputs(backbone)) == ("from_scratch", (2, 3))
    assert backbone.model.config.id2label == dict(enumerate(CLASSES))


@pytest.mark.parametrize("family", NOT_ENOUGH)
def test_a_family_that_cannot_work_says_so_by_name(tmp_path: Path, family: str) -> None:
    tmp_path.joinpath("config.json").write_text(json.dumps({"model_type": family}))
    if family != "dinat":
        tiny_family(family).save_pretrained(tmp_path)
    assert NOT_ENOUGH[family] in refusal(tmp_path)
    source_of = {"resolution": SIDE, "setting": STUDENTS}
    if family != "dinat":
        with pytest.raises(BackboneError, match=f"`evaluate.students` .* {NOT_ENOUGH[family]}"):
            find_backbone(str(tmp_path), **source_of)


def test_timm_that_is_not_installed_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    values = {"architecture": "resnet18", "num_classes": 1000, "pretrained_cfg": {"tag": "a1"}}
    tmp_path.joinpath("config.json").write_text(json.dumps(values))
    assert "needs the package 'timm'; pip install timm" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (DeiTForImageClassificationWithTeacher, {"family": "deit"}),
        (PerceiverForImageClassificationFourier, {"family": "perceiver", "d_model": 261}),
        (PerceiverForImageClassificationConvProcessing, {"family": "perceiver", "d_model": 322}),
    ],
)
def test_the_other_classes_of_a_family(tmp_path: Path, kind: Any, settings: dict[str, Any]) -> None:
    config = tiny_family(settings.pop("family"), num_labels=7)
    for name, value in settings.items():
        setattr(config, name, value)
    kind(config).save_pretrained(tmp_path)
    backbone = opened(tmp_path)
    assert type(backbone.model) is kind
    assert outputs(backbone) == (2, 3)


@pytest.mark.parametrize("family", ["clip", "siglip", "metaclip_2", "hiera", "vit", "pvt", "swin"])
def test_students_take_the_size_of_the_images(tmp_path: Path, family: str) -> None:
    """Whether it stands in ``image_size``, in a list or in ``vision_config``."""
    tiny_family(family, num_labels=7).save_pretrained(tmp_path)
    source = find_backbone(str(tmp_path), resolution=SIDE, setting=STUDENTS)
    check_new_network(source, CLASSES, Preprocessing(2 * SIDE, 0, *NO_NORMALISATION))


def test_a_student_that_cannot_take_the_size_says_so(tmp_path: Path) -> None:
    tiny_family("mobilevitv2").save_pretrained(tmp_path)
    source = find_backbone(str(tmp_path), resolution=32, setting=STUDENTS)
    with pytest.raises(BackboneError, match=r"^`evaluate.students` .* does not take .* 32 px: "):
        check_new_network(source, CLASSES, Preprocessing(32, 0, *NO_NORMALISATION))


# --- odd configurations and weights -------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven classes without names, 8 to 16 channels."""
    folder = tmp_path_factory.mktemp("networks") / "net"
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=7
    )
    ResNetForImageClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(network: Path, tmp_path: Path) -> Path:
    shutil.copytree(network, tmp_path / "net")
    return tmp_path / "net"


RGB = {"0": "red", "1": "green", "2": "blue"}


@pytest.mark.parametrize(
    "changes",
    [
        {"id2label": RGB, "label2id": {"red": "0", "green": "1", "blue": "2"}},
        {"id2label": {"0": "red", "5": "green", "9": "blue"}},
        {"id2label": RGB, "num_labels": 7},
        {"id2label": None, "label2id": None, "num_labels": 3},
        {"id2label": None, "label2id": None},
        {"problem_type": "multi_label_classification"},
        {"return_dict": False},
        {"architectures": None},
    ],
)
def test_names_that_do_not_fit_the_weights_get_a_new_head(
    copy: Path, changes: dict[str, Any]
) -> None:
    edit(copy, **changes)
    backbone = opened(copy)
    assert (backbone.origin, outputs(backbone)) == ("fine_tuned", (2, 3))
    old = load_file(copy / "model.safetensors")
    new = backbone.model.state_dict()
    body = [name for name in old if not name.startswith("classifier")]
    assert all(torch.equal(old[name], new[name]) for name in body)


def test_names_that_are_lists_get_a_new_head_or_are_refused(copy: Path) -> None:
    """Some versions of transformers refuse such a configuration by the name of the field."""
    edit(copy, id2label={"0": ["red"], "1": ["green"], "2": ["blue"]}, label2id={})
    message, backbone = "id2label", None
    try:
        backbone = opened(copy)
    except BackboneError as error:
        message = str(error)
    assert "id2label" in message
    assert "\n" not in message
    assert backbone is None or (backbone.origin, outputs(backbone)) == ("fine_tuned", (2, 3))


def test_gaps_between_the_numbers_of_named_classes_are_no_match(copy: Path) -> None:
    """Three outputs, and names of the classes 0, 5 and 9: which is which, nobody knows."""
    weights = load_file(copy / "model.safetensors")
    cut = {n: v[:3].clone() if n.startswith("classifier") else v for n, v in weights.items()}
    save_file(cut, copy / "model.safetensors", {"format": "pt"})
    edit(copy, id2label=RGB)
    assert opened(copy).origin == "as_is"
    edit(copy, id2label={"0": "red", "5": "green", "9": "blue"})
    assert opened(copy).origin == "fine_tuned"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_channels": 1}, "takes images of 1 channel, and those here have 3"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised weights (gptq)"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "(bitsandbytes)"),
        ({"model_type": "my_new_net"}, "does not recognize this architecture"),
        ({"model_type": None, "architectures": None}, "`model_type`"),
        (
            {"model_type": "mine", "auto_map": {"AutoConfig": "conf.Mine"}},
            "pass `teacher.trust_remote_code=True`",
        ),
        ({"hidden_sizes": [8, 32]}, "another architecture than its config.json describes"),
        ({"hidden_sizes": "many"}, ""),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_its_cause(
    copy: Path, changes: dict[str, Any], message: str
) -> None:
    edit(copy, **changes)
    assert message in refusal(copy)


def test_sizes_that_are_not_square_are_refused(tmp_path: Path) -> None:
    ViTConfig(image_size=[32, 64]).save_pretrained(tmp_path)
    assert "takes images of 32 x 64 px, and those here are square" in refusal(tmp_path)


def test_a_size_in_a_list_is_the_size_of_the_run(tmp_path: Path) -> None:
    settings = {**SETTINGS["vit"], "image_size": [48, 48]}
    ViTConfig(**settings).save_pretrained(tmp_path)
    assert opened(tmp_path, resolution=None).preprocessing.resolution == 48


def _alone(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"{}")

    return change


def _nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "convolution.weight" in name)
    weights[name][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _prefixed(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    named = {f"module.{name}": value for name, value in weights.items()}
    save_file(named, folder / "model.safetensors", {"format": "pt"})


def _pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    (folder / "model.safetensors").write_text(text)


def _below(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model.safetensors").rename(folder / "model" / "model.safetensors")


def _trainers(folder: Path) -> None:
    (folder / "checkpoint-500").mkdir()
    for path in [*folder.glob("*.json"), *folder.glob("*.safetensors")]:
        path.rename(folder / "checkpoint-500" / path.name)


def _adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (_alone(name), f"only weights of another framework ({name})")
            for name in ("tf_model.h5", "flax_model.msgpack", "model.gguf", "onnx/model.onnx")
        ),
        *(
            (_alone(name), f"only pickled weights ({name})")
            for name in (
                "pytorch_model.bin", "model.pt", "model.pth", "model.ckpt",
                "pytorch_model.bin.index.json",
            )
        ),
        (_nan, "1 of its "),
        (_nan, "values that are not finite numbers (resnet.embedder.embedder.convolution.weight)"),
        (_prefixed, "another architecture than its config.json describes"),
        (_pointer, "model.safetensors is a pointer of Git LFS"),
        (_below, "in a folder of its own (model/model.safetensors)"),
        (_trainers, "its folder checkpoint-500 has one"),
        (_adapter, "is a PEFT adapter"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_read_are_refused_by_name(
    copy: Path, change: Callable[[Path], None], message: str
) -> None:
    change(copy)
    assert message in refusal(copy)


def test_what_a_trainer_leaves_beside_a_configuration_are_no_weights(copy: Path) -> None:
    _alone("training_args.bin")(copy)
    assert opened(copy).origin == "from_scratch"


def test_weights_do_not_matter_in_a_student(copy: Path) -> None:
    _alone("tf_model.h5")(copy)
    source = find_backbone(str(copy), resolution=SIDE, setting=STUDENTS)
    check_new_network(source, CLASSES, Preprocessing(SIDE, 0, *NO_NORMALISATION))


def test_a_file_in_place_of_its_folder(network: Path) -> None:
    assert "is a file; give the folder" in refusal(network / "model.safetensors")


def test_parts_of_the_body_that_start_at_random_are_counted(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = load_file(copy / "model.safetensors")
    lost = [name for name in weights if "encoder.stages.1" in name and name.endswith("weight")]
    kept = {name: value for name, value in weights.items() if name not in lost}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    with caplog.at_level(logging.INFO, "wdistill"):
        assert opened(copy).origin == "fine_tuned"
    assert f"teacher: {len(lost)} tensors of {copy} are not among its weights" in caplog.text


ON_THE_HUB = {  # the file beside config.json, and what is said of the repository
    "model.safetensors": "ok fine_tuned",
    "pytorch_model.bin": "'me/net-1' has only pickled weights, which are never read, and the",
    "tf_model.h5": "only weights of another framework (tf_model.h5)",
    "onnx/model.onnx": "only weights of another framework (onnx/model.onnx)",
    "README.md": "ok from_scratch",
}
TRY = """
import sys
from wdistill.errors import BackboneError
from wdistill.networks.backbones import load_backbone
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.data.pixels import Preprocessing

for name in sys.argv[1:]:
    try:
        source = find_backbone(name, resolution=32)
        pixels = Preprocessing(32, 0, (0.0,) * 3, (1.0,) * 3)
        print("ok", load_backbone(source, ("red", "green", "blue"), pixels, 0).origin)
    except BackboneError as error:
        print(error)
"""


@pytest.mark.slow
def test_repositories_of_the_hub_are_told_apart_by_their_files(
    network: Path, tmp_path: Path
) -> None:
    config = (network / "config.json").read_bytes()
    weights = (network / "model.safetensors").read_bytes()
    with HubServer() as hub:
        for index, file in enumerate(ON_THE_HUB):
            hub.create_repo("model", f"me/net-{index}")
            content = weights if file == "model.safetensors" else b"---\nlicense: mit\n---\n"
            files = {"config.json": config, file: content}
            hub.commit_files("model", f"me/net-{index}", files)
        hub.create_repo("model", "me/none")
        hub.commit_files("model", "me/none", {"model.safetensors": weights})
        names = [*(f"me/net-{index}" for index in range(len(ON_THE_HUB))), "me/none"]
        code = TRY.replace("sys.argv[1:]", repr(names))
        done = run_python(code, hub_env(hub, tmp_path / "home", None))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(names)
    for line, expected in zip(lines, [*ON_THE_HUB.values(), "config.json"], strict=True):
        assert expected in line
