"""Any image classifier by name: a Hub id, a local folder, or a built-in architecture."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from torch import nn
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForImageClassification,
    ImageProcessingMixin,
    PretrainedConfig,
    PreTrainedModel,
)

from wdistill.config import BUILT_IN
from wdistill.core.text import displayed
from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.architectures import built_in_config
from wdistill.networks.features import classification_heads

Origin = Literal["as_is", "fine_tuned", "from_scratch"]


@dataclass(frozen=True)
class Backbone:
    """A classifier for the dataset's classes.

    Attributes:
        name: As the user wrote it.
        model: Its outputs are the dataset's classes in their order.
        preprocessing: How an image becomes its input.
        origin: ``as_is`` (the checkpoint's classes are the dataset's), ``fine_tuned`` (new head,
            still to be trained) or ``from_scratch`` (random weights, still to be trained).
        revision: The commit on the Hub; None if it is not from there.
    """

    name: str
    model: PreTrainedModel
    preprocessing: Preprocessing
    origin: Origin
    revision: str | None


@dataclass(frozen=True)
class BackboneSource:
    """What the name of a network refers to, before any weight is loaded."""

    name: str
    config: PretrainedConfig
    processor: dict[str, Any] | None
    has_weights: bool
    revision: str | None
    trust_remote_code: bool


def find_backbone(
    name: str,
    *,
    resolution: int,
    revision: str | None = None,
    trust_remote_code: bool = False,
    setting: str = "teacher.backbone",
) -> BackboneSource:
    """Configuration and image processor of ``name``. Raises BackboneError if there is none."""
    if name in BUILT_IN:
        config = built_in_config(name, resolution)
        return BackboneSource(name, config, None, False, None, trust_remote_code)
    local = Path(name).expanduser().is_dir()
    sha = None if local else _hub_sha(name, revision, setting)
    load = {"revision": sha, "trust_remote_code": trust_remote_code}
    path = str(Path(name).expanduser()) if local else name
    try:
        config = AutoConfig.from_pretrained(path, **load)
        if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING and not hasattr(
            config, "auto_map"
        ):
            raise BackboneError(
                f"`{setting}` {name!r} is a {config.model_type!r} network, which has no "
                "image-classification form in transformers; choose an image classifier"
            )
        processor = _processor(path, load)
    except (OSError, ValueError, ImportError) as error:
        raise BackboneError(_load_failure(name, setting, local, error)) from error
    weights = not local or bool(list(Path(path).glob("*.safetensors")))
    if local and not weights and list(Path(path).glob("*.bin")):
        raise BackboneError(
            f"`{setting}` {name!r} has only pickled weights (*.bin), which are never read; "
            "convert them with save_pretrained(folder), which writes safetensors"
        )
    return BackboneSource(path, config, processor, weights, sha, trust_remote_code)


def _hub_sha(name: str, revision: str | None, setting: str) -> str | None:
    try:
        sha: str | None = HfApi().model_info(name, revision=revision).sha
        return sha
    except GatedRepoError as error:
        raise BackboneError(
            f"`{setting}` {name!r} is gated; accept its terms on its page, then run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise BackboneError(f"`{setting}` {name!r} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise BackboneError(
            f"`{setting}` {name!r} is no model on the Hub, no local folder and no built-in "
            f"({', '.join(BUILT_IN)}); if it is private, run `hf auth login` first"
        ) from error
    except HFValidationError as error:
        raise BackboneError(
            f"`{setting}` {name!r} is neither a Hub id, nor a local folder, nor a built-in "
            f"({', '.join(BUILT_IN)})"
        ) from error
    except Exception:  # offline: a cached copy may do, and from_pretrained says if it does not
        return revision


def _processor(path: str, load: dict[str, Any]) -> dict[str, Any] | None:
    try:
        values, _ = ImageProcessingMixin.get_image_processor_dict(path, **load)
    except OSError:
        if (Path(path) / "preprocessor_config.json").exists():  # there, but damaged
            raise
        return None
    return dict(values)


def _load_failure(name: str, setting: str, local: bool, error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    if local:
        return f"`{setting}` {name!r} cannot be read as a Hugging Face model folder: {first}"
    if "gated repo" in str(error):
        return (
            f"`{setting}` {name!r} is gated; accept its terms on its page, then run `hf auth login`"
        )
    if "trust_remote_code" in str(error):
        return (
            f"`{setting}` {name!r} runs code of its own; pass "
            "`teacher.trust_remote_code=True` if you trust it"
        )
    return f"`{setting}` {name!r} cannot be loaded: {first}"


def new_network(
    source: BackboneSource, class_names: Sequence[str], resolution: int, seed: int
) -> PreTrainedModel:
    """The architecture of ``source`` with random weights and one output per class."""
    config = type(source.config).from_dict(source.config.to_dict())
    _set_classes(config, class_names)
    if isinstance(getattr(config, "image_size", None), int):
        config.image_size = resolution
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForImageClassification.from_config(
            config, trust_remote_code=source.trust_remote_code, dtype=torch.float32
        )


def load_backbone(
    source: BackboneSource,
    class_names: Sequence[str],
    preprocessing: Preprocessing,
    seed: int,
) -> Backbone:
    """The classifier of ``source`` with one output per class, ready to use or to train."""
    if not source.has_weights:
        model = new_network(source, class_names, preprocessing.resolution, seed)
        return Backbone(source.name, model, preprocessing, "from_scratch", source.revision)
    try:
        model, report = AutoModelForImageClassification.from_pretrained(
            source.name,
            revision=source.revision,
            trust_remote_code=source.trust_remote_code,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise BackboneError(_load_failure(source.name, "teacher.backbone", False, error)) from error
    missing = set(report["missing_keys"])
    if missing >= {name for name, _ in model.named_parameters()}:
        raise BackboneError(
            f"`teacher.backbone` {source.name!r}: its weights are those of another architecture "
            "than its config.json describes; choose another checkpoint"
        )
    order = match_classes(model.config.id2label, class_names)
    if any(name in missing for name in _head_parameters(model)):
        order = None  # the checkpoint has no head, whatever its classes are called
    origin: Origin = "as_is"
    if order is None:
        origin = "fine_tuned"
        model = _with_new_head(source, class_names, seed)
    elif order != list(range(len(class_names))):
        for head in classification_heads(model):
            head.weight.data = head.weight.data[order]
            if head.bias is not None:
                head.bias.data = head.bias.data[order]
    _set_classes(model.config, class_names)
    return Backbone(source.name, model, preprocessing, origin, source.revision)


def _with_new_head(
    source: BackboneSource, class_names: Sequence[str], seed: int
) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageClassification.from_pretrained(
            source.name,
            revision=source.revision,
            trust_remote_code=source.trust_remote_code,
            use_safetensors=True,
            dtype=torch.float32,
            num_labels=len(class_names),
            ignore_mismatched_sizes=True,
        )
        for head in classification_heads(model):  # kept if other classes are equal in number
            head.reset_parameters()
    return model


def _head_parameters(model: PreTrainedModel) -> list[str]:
    heads = {id(value) for head in classification_heads(model) for value in head.parameters()}
    return [name for name, value in model.named_parameters() if id(value) in heads]


def _set_classes(config: PretrainedConfig, class_names: Sequence[str]) -> None:
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: index for index, name in enumerate(class_names)}


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def match_classes(id2label: dict[int, str], class_names: Sequence[str]) -> list[int] | None:
    """Match the dataset's classes to those of a checkpoint by their names.

    Case, underscores and spacing are ignored. A name that the checkpoint uses for several classes
    (ImageNet has two cranes) is decided by position, even if the dataset, whose names must be
    unique, appends something to it (``crane2``, ``crane bird``).

    Returns:
        For each class of the dataset, its index in the checkpoint; None if the names differ.
    """
    checkpoint = [_plain(str(id2label.get(index, ""))) for index in range(len(id2label))]
    dataset = [_plain(name) for name in class_names]
    if len(checkpoint) != len(dataset):
        return None
    repeated = {name for name, count in Counter(checkpoint).items() if count > 1}
    position_of = {name: index for index, name in enumerate(checkpoint) if name not in repeated}
    order = []
    for position, name in enumerate(dataset):
        same_place = checkpoint[position]
        if same_place in repeated and name.startswith(same_place):
            order.append(position)
        elif name in position_of:
            order.append(position_of[name])
        else:
            return None
    return order if len(set(order)) == len(order) else None


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the model's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_WIDTHS = ("hidden_sizes", "hidden_size", "embed_dim", "width")
_DEPTHS = (("depths", "block"), ("num_hidden_layers", "layer"), ("depth", "block"))


def architecture(config: PretrainedConfig) -> str:
    """A network in words, such as ``resnet, 16-32-64-128 channels, 1 block a stage``: its type, and
    its widths and depths if the configuration has them under a usual name.
    """
    values = config.to_dict()
    parts = [str(config.model_type).removeprefix("wdistill_") or "network"]
    widths = [_joined(values.get(name)) for name in _WIDTHS]
    parts += [f"{width} channels" for width in widths if width][:1]
    depths = [_depth(values.get(name), unit) for name, unit in _DEPTHS]
    parts += [depth for depth in depths if depth][:1]
    return ", ".join(parts)


def local_architectures(sources: Mapping[str, BackboneSource]) -> dict[str, str]:
    """The architectures of networks from local folders, whose published names say little."""
    names = displayed(sources)
    return {
        names[name]: architecture(source.config)
        for name, source in sources.items()
        if name not in BUILT_IN and source.revision is None
    }


def _depth(value: Any, unit: str) -> str:
    if isinstance(value, list) and value and value == value[:1] * len(value):
        return f"{_depth(value[0], unit)} a stage" if _joined(value) else ""
    joined = _joined(value)
    stages = " a stage" if "-" in joined else ""
    return f"{joined} {unit}{'s' if joined != '1' else ''}{stages}" if joined else ""


def _joined(value: Any) -> str:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
        return ""
    return "-".join(map(str, numbers))
