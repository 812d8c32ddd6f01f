"""Networks that give labels together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from wdistill.core.files import read_tensors, write_tensors
from wdistill.core.settings import stable_hash
from wdistill.data.pixels import Preprocessing
from wdistill.errors import RunFolderError
from wdistill.networks.backbones import new_network, weights_sha256
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork

MEMBER = "convnet-w64"  # [own] the network beside the teacher
MEMBER_SIDE = (
    64  # [own] pixels of a side that it sees at most: at 128 a step takes four times as long
)


@dataclass(frozen=True, eq=False)
class Committee:
    """The mean logits of several networks:  z(x) = 1/K sum_k z_k(x).

    members: K networks with the same classes.
    """

    members: tuple[FeatureNetwork, ...]

    @property
    def device(self) -> torch.device:
        return self.members[0].device

    @property
    def num_classes(self) -> int:
        return self.members[0].num_classes

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, C) float32 of pixels (B, 3, R, R) in [0, 1] on the networks' device."""
        return torch.stack([member.logits(pixels) for member in self.members]).mean(0)


LabelGiver = FeatureNetwork | Committee


class Reduced(nn.Module):
    """A network that sees its images with a smaller side, each pixel being the mean of several."""

    def __init__(self, network: PreTrainedModel, side: int) -> None:
        super().__init__()
        self.network, self.side, self.config = network, side, network.config

    def forward(self, pixels: Tensor) -> ModelOutput:
        """Pixels (B, 3, R, R), R >= ``side``."""
        smaller = F.interpolate(pixels, size=(self.side, self.side), mode="area")
        output: ModelOutput = self.network(smaller)
        return output


def new_member(class_names: Sequence[str], resolution: int, seed: int) -> nn.Module:
    """The network beside the teacher, untrained, for images of ``resolution`` pixels a side."""
    side = min(resolution, MEMBER_SIDE)
    network = new_network(find_backbone(MEMBER, resolution=side), class_names, side, seed)
    return network if side == resolution else Reduced(network, side)


def giver_sha256(giver: LabelGiver) -> str:
    """A digest of the weights of all networks that give the labels."""
    members = giver.members if isinstance(giver, Committee) else (giver,)
    return stable_hash([weights_sha256(member.model) for member in members])


def member_file(work: Path) -> Path:
    return work / "committee.safetensors"


def save_member(network: nn.Module, path: Path, key: str) -> None:
    """``key``: a hash of everything that the training depends on."""
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    write_tensors(path, state, {"key": key})


def has_member(path: Path, key: str) -> bool:
    try:
        return read_tensors(path)[1].get("key") == key
    except (RunFolderError, FileNotFoundError):
        return False


def open_committee(
    teacher: FeatureNetwork, work: Path, class_names: Sequence[str], preprocessing: Preprocessing
) -> Committee:
    """The teacher and the network that is stored in ``work``.

    Raises:
        RunFolderError: Its file is damaged.
        FileNotFoundError: It is missing.
    """
    tensors, _ = read_tensors(member_file(work))
    network = new_member(class_names, preprocessing.resolution, 0)
    network.load_state_dict(tensors)
    return Committee((teacher, FeatureNetwork(network, preprocessing, teacher.device)))
