"""The teacher and the network beside it give labels together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.examples import NAMES
from helpers.labels import CPU

from wdistill.core.files import has_tensors
from wdistill.data.pixels import Preprocessing
from wdistill.labels.committee import member_file, open_committee, save_member
from wdistill.networks.backbones import new_network, small_convnet
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork


def at(side: int) -> Preprocessing:
    return Preprocessing(side, 0, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


@pytest.mark.parametrize("side", [32, 100])
def test_a_committee_is_read_as_it_was_stored(side: int, tmp_path: Path) -> None:
    member = small_convnet(NAMES, side, 1)
    save_member(member, member_file(tmp_path), "key")
    assert has_tensors(member_file(tmp_path), "key")
    assert not has_tensors(member_file(tmp_path), "another")
    source = find_backbone("resnet10-w16", resolution=side)
    teacher = FeatureNetwork(new_network(source, NAMES, side, 0), at(side), CPU)
    committee = open_committee(teacher, tmp_path, NAMES, at(side))
    images = torch.rand(2, 3, side, side)
    alone = FeatureNetwork(member, at(side), CPU).logits(images)
    torch.testing.assert_close(committee.logits(images), (alone + teacher.logits(images)) / 2)
