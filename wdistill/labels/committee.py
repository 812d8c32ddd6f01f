"""Networks that give labels together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from wdistill.core.files import read_tensors, write_tensors
from wdistill.core.settings import stable_hash
from wdistill.data.pixels import Preprocessing
from wdistill.networks.backbones import small_convnet, weights_sha256
from wdistill.networks.features import FeatureNetwork


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


def open_committee(
    teacher: FeatureNetwork, work: Path, class_names: Sequence[str], preprocessing: Preprocessing
) -> Committee:
    """The teacher and the network that is stored in ``work``.

    Raises:
        RunFolderError: Its file is damaged.
        FileNotFoundError: It is missing.
    """
    tensors, _ = read_tensors(member_file(work))
    network = small_convnet(class_names, preprocessing.resolution, 0)
    network.load_state_dict(tensors)
    return Committee((teacher, FeatureNetwork(network, preprocessing, teacher.device)))
