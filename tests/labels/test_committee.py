"""The network beside the teacher sees images of 64 pixels a side at most."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.examples import NAMES
from helpers.labels import CPU
from torch.nn import functional as F

from wdistill.data.pixels import Preprocessing
from wdistill.labels.committee import (
    MEMBER_SIDE,
    Reduced,
    has_member,
    member_file,
    new_member,
    open_committee,
    save_member,
)
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork


def at(side: int) -> Preprocessing:
    return Preprocessing(side, 0, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def test_small_images_are_seen_as_they_are() -> None:
    assert not isinstance(new_member(NAMES, 32, 0), Reduced)
    assert not isinstance(new_member(NAMES, MEMBER_SIDE, 0), Reduced)


def test_of_larger_images_it_sees_the_means_of_their_pixels() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 128, 128)
    member = FeatureNetwork(new_member(NAMES, 128, 3), at(128), CPU)
    source = find_backbone("convnet-w64", resolution=64)
    small = FeatureNetwork(new_network(source, NAMES, 64, 3), at(64), CPU)
    torch.testing.assert_close(member.logits(images), small.logits(F.avg_pool2d(images, 2)))
    assert member.num_classes == len(NAMES)


@pytest.mark.parametrize("side", [32, 100])
def test_a_committee_is_read_as_it_was_stored(side: int, tmp_path: Path) -> None:
    member = new_member(NAMES, side, 1)
    save_member(member, member_file(tmp_path), "key")
    assert has_member(member_file(tmp_path), "key")
    assert not has_member(member_file(tmp_path), "another")
    source = find_backbone("resnet10-w16", resolution=side)
    teacher = FeatureNetwork(new_network(source, NAMES, side, 0), at(side), CPU)
    committee = open_committee(teacher, tmp_path, NAMES, at(side))
    images = torch.rand(2, 3, side, side)
    alone = FeatureNetwork(member, at(side), CPU).logits(images)
    torch.testing.assert_close(committee.logits(images), (alone + teacher.logits(images)) / 2)
