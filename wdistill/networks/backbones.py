"""Any image classifier by name: loaded with its weights, or new."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForImageClassification, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from wdistill.core.text import clean
from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.checkpoints.classes import match_classes
from wdistill.networks.checkpoints.configuration import configured, prepared, set_classes
from wdistill.networks.checkpoints.source import BackboneSource, find_backbone, load_failure
from wdistill.networks.features import classification_heads

logger = logging.getLogger(__name__)
SMALL = "convnet-w64"
SMALL_SIDE = (
    64  # [own] pixels of a side that it sees at most: at 128 a step takes four times as long
)
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


def new_network(
    source: BackboneSource, class_names: Sequence[str], resolution: int, seed: int
) -> PreTrainedModel:
    """The architecture of ``source`` with random weights and one output per class."""
    config = configured(source.config, class_names, resolution)
    with _named(source), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForImageClassification.from_config(
            config, trust_remote_code=source.trust_remote_code, dtype=torch.float32
        )


class Reduced(nn.Module):
    """A network that sees its images with a smaller side, each pixel being the mean of several.

    Matrix products, because the gradient of an adaptive mean is not deterministic on a GPU.
    """

    means: Tensor

    def __init__(self, network: PreTrainedModel, side: int, resolution: int) -> None:
        super().__init__()
        self.network, self.config = network, network.config
        every = F.adaptive_avg_pool1d(torch.eye(resolution), side)
        self.register_buffer("means", every.T.contiguous(), persistent=False)

    def forward(self, pixels: Tensor) -> ModelOutput:
        """Pixels (B, 3, R, R), R the resolution."""
        output: ModelOutput = self.network(self.means @ pixels @ self.means.T)
        return output


def small_convnet(
    class_names: Sequence[str], resolution: int, seed: int, name: str = SMALL
) -> nn.Module:
    """A ConvNet with random weights that can be trained in minutes on a CPU, for images of
    ``resolution`` pixels a side. name: of a built-in architecture.
    """
    side = min(resolution, SMALL_SIDE)
    network = new_network(find_backbone(name, resolution=side), class_names, side, seed)
    return network if side == resolution else Reduced(network, side, resolution)


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
    model, absent = _pretrained(source, prepared(source.config))
    heads = _head_parameters(model)
    order = match_classes(model.config.id2label, class_names)
    if absent & heads:
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
    if body := sorted(absent - heads):
        logger.info(
            f"teacher: {len(body)} tensors of {source.name} are not among its weights and start at "
            f"random ({body[0]}{', ...' * (len(body) > 1)})"
        )
    _check_finite(source, model)
    set_classes(model.config, class_names)
    return Backbone(source.name, model, preprocessing, origin, source.revision)


def _pretrained(
    source: BackboneSource, config: PretrainedConfig
) -> tuple[PreTrainedModel, frozenset[str]]:
    """The network of ``config`` with the weights of ``source``, and the names of the parameters
    that are not among them, or of another shape.
    """
    with _named(source):
        model, report = AutoModelForImageClassification.from_pretrained(
            source.name,
            config=config,
            revision=source.revision,
            trust_remote_code=source.trust_remote_code,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    parameters = {name for name, _ in model.named_parameters()}
    other_shapes = {name for name, *_ in report["mismatched_keys"]}
    absent = frozenset((set(report["missing_keys"]) | other_shapes) & parameters)
    if absent >= parameters or other_shapes - _head_parameters(model):
        raise BackboneError(
            f"{source.subject}: its weights are those of another architecture "
            "than its config.json describes; choose another checkpoint"
        )
    return model, absent


def _with_new_head(
    source: BackboneSource, class_names: Sequence[str], seed: int
) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, _ = _pretrained(source, configured(source.config, class_names))
        for head in classification_heads(model):  # kept if other classes are equal in number
            head.reset_parameters()
    return model


@contextmanager
def _named(source: BackboneSource) -> Iterator[None]:
    """Whatever a library raises over somebody's checkpoint is said of that checkpoint."""
    try:
        yield
    except (BackboneError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise BackboneError(load_failure(source.subject, False, error)) from error


def _check_finite(source: BackboneSource, model: nn.Module) -> None:
    tensors = {
        name: value for name, value in model.state_dict().items() if value.is_floating_point()
    }
    broken = [name for name, value in tensors.items() if bool(value.isnan().any())]
    broken += [n for n, value in model.named_parameters() if bool(value.isinf().any())]
    if broken:
        raise BackboneError(
            f"{source.subject}: {len(set(broken))} of its {len(tensors)} tensors "
            f"have values that are not finite numbers ({clean(broken[0])}); choose another "
            "checkpoint"
        )


def _head_parameters(model: PreTrainedModel) -> set[str]:
    heads = {id(value) for head in classification_heads(model) for value in head.parameters()}
    return {name for name, value in model.named_parameters() if id(value) in heads}


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the model's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
