"""Atoms in other networks are the plan-weighted means of their features."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.datasets_on_disk import picture
from torch import Tensor, nn

from wdistill.config import BarycenterConfig, SynthesisConfig
from wdistill.core.seeds import stream
from wdistill.data.pixels import Preprocessing
from wdistill.errors import NumericalError, OptionError
from wdistill.networks.architectures import built_in_config
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.spaces import (
    FeatureSpace,
    Terms,
    open_spaces,
    plan_means,
    space_targets,
)
from wdistill.transport.barycenter import class_barycenter
from wdistill.transport.plan import Plan

SIZE = 32
PREPROCESSING = Preprocessing(SIZE, 0, (0.3, 0.3, 0.3), (0.3, 0.3, 0.3))
CPU = torch.device("cpu")


class Store:
    """Real pictures, as a PixelStore shows them."""

    preprocessing = PREPROCESSING
    images = torch.stack([PREPROCESSING(picture(row).convert("RGB")) for row in range(20)])

    def batches(self, rows: Tensor, size: int) -> list[Tensor]:
        return [self.images[part] for part in rows.split(size)]


class Pooled(nn.Module):
    """Features: mean of each channel, which neither flips nor the whole crop change."""

    config = SimpleNamespace(num_labels=2)

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(x.mean((2, 3))))


def network(model: nn.Module | None = None) -> FeatureNetwork:
    plain = Preprocessing(SIZE, 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return FeatureNetwork(model or Pooled(), plain, CPU)


def space(model: nn.Module | None = None, operation: int | None = None) -> FeatureSpace:
    return FeatureSpace("", network(model) if model else network(), Terms(1.0), "", operation)


def split_plan() -> Plan:
    """Two atoms of unequal mass; row 7 belongs to both."""
    rows = torch.tensor([1, 4, 7, 7, 12, 19])
    owner = torch.tensor([0, 1, 0, 1, 0, 1])
    mass = torch.tensor([0.2, 0.2, 0.15, 0.05, 0.2, 0.2])
    return Plan(rows, owner, mass, 2)


def matrix(plan: Plan, images: int = 20) -> Tensor:
    """The plan as T, (n, N)."""
    full = torch.zeros(plan.atoms, images)
    full[plan.owner, plan.rows] = plan.mass
    return full


def test_atoms_are_the_barycentric_projection() -> None:
    """diag(1/b) T Y', by the formula."""
    store, plan = Store(), split_plan()
    target = space_targets([space()], store, plan)[0]
    features, t = (store.images.float() / 255).mean((2, 3)), matrix(plan)
    torch.testing.assert_close(target.atoms, (t @ features) / t.sum(1, keepdim=True))
    share = t.sum(0)[:, None]
    centre = (share * features).sum(0)
    spread = (share * (features - centre) ** 2).sum()
    assert target.variance == pytest.approx(float(spread), rel=1e-3)


class Corner(Pooled):
    """Features: the colour of the left upper corner, which a flip would change."""

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(x[..., 0, 0]))


@pytest.mark.parametrize("batch", [2, 128])
def test_atoms_are_of_the_images_as_they_are(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wdistill.synthesis.spaces.SURVEY_BATCH", batch)
    store, plan = Store(), split_plan()
    target = space_targets([space(Corner())], store, plan)[0]
    features, t = store.images[..., 0, 0].float() / 255, matrix(plan)
    torch.testing.assert_close(target.atoms, (t @ features) / t.sum(1, keepdim=True))


def test_plan_means_are_the_same_in_pixel_space() -> None:
    store, plan = Store(), split_plan()
    t = matrix(plan)
    expected = (t @ (store.images.flatten(1) / 255)) / t.sum(1, keepdim=True)
    torch.testing.assert_close(plan_means(store, plan).flatten(1), expected)


def test_a_sample_keeps_the_mass_of_every_atom() -> None:
    plan = Plan(
        rows=torch.arange(200), owner=(torch.arange(200) % 10 > 6).long(),
        mass=torch.full((200,), 1 / 200), atoms=2,
    )  # fmt: skip
    part = plan.sample(50, stream(0, "rows"))
    assert len(part.rows) == 35 + 15
    assert len(set(part.rows.tolist())) == 50
    for atom in range(2):
        mass = plan.mass[plan.owner == atom].sum()
        torch.testing.assert_close(part.mass[part.owner == atom].sum(), mass)
    assert torch.equal(part.owner, plan.owner[part.rows])
    assert torch.equal(plan.sample(50, stream(0, "rows")).rows, part.rows)


def test_small_atoms_are_not_thinned_out() -> None:
    plan = split_plan()
    part = plan.sample(1, stream(0, "rows"))
    assert sorted(zip(part.rows.tolist(), part.owner.tolist(), strict=True)) == sorted(
        zip(plan.rows.tolist(), plan.owner.tolist(), strict=True)
    )
    torch.testing.assert_close(matrix(part), matrix(plan))


def test_features_that_are_not_finite_are_reported() -> None:
    class Broken(Pooled):
        def forward(self, x: Tensor) -> SimpleNamespace:
            return super().forward(x / 0)

    with pytest.raises(NumericalError, match="not finite"):
        space_targets([space(Broken())], Store(), split_plan())[0]


def test_random_networks_differ_from_one_another_and_repeat_with_the_seed() -> None:
    source = find_backbone("convnet-w64", resolution=SIZE)
    sources = [(source, 2, PREPROCESSING)]
    config = SynthesisConfig(space_mean_weight=0.7)
    first, second = open_spaces(sources, config, ("a", "b"), 0, CPU)
    again = open_spaces(sources, config, ("a", "b"), 0, CPU)
    other = open_spaces(sources, config, ("a", "b"), 1, CPU)
    assert first.key == again[0].key
    assert len({first.key, second.key, other[0].key, other[1].key}) == 4
    assert (first.terms.features, first.terms.mean) == (1.0, 0.7)
    images = Store.images[:2].float() / 255
    features = first.network(images).features
    assert features.shape == (2, 64 * 4 * 4)
    torch.testing.assert_close(features, again[0].network(images).features)


@pytest.mark.parametrize(("size", "depth"), [(28, 3), (32, 3), (64, 4), (128, 5), (224, 6)])
def test_convnets_of_the_pool_end_in_small_maps(size: int, depth: int) -> None:
    config = built_in_config("convnet-w64", size)
    assert (config.depth, config.width) == (depth, 64)
    assert 3 <= size // 2**depth <= 4


@pytest.mark.parametrize(
    ("texts", "pool"),
    [
        (("none",), ()),
        (("convnet:3",), (("convnet", 3),)),
        (("resnet18", "user/model:2"), (("resnet18", 1), ("user/model", 2))),
        (("./a:b",), (("./a:b", 1),)),
    ],
)
def test_feature_spaces_are_read(texts: tuple[str, ...], pool: tuple[tuple[str, int], ...]) -> None:
    assert SynthesisConfig(feature_spaces=texts).pool() == pool


@pytest.mark.parametrize("texts", [("convnet:0",), (":3",), ("convnet:101",), ("none", "convnet")])
def test_bad_feature_spaces_are_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(OptionError, match=r"`synthesis.feature_spaces"):
        SynthesisConfig(feature_spaces=texts)


def test_the_plan_of_a_barycenter_gives_its_own_atoms() -> None:
    """In the space in which it was computed, X' = X."""
    store = Store()
    features = (store.images.float() / 255).mean((2, 3))
    for weights in ("free", "uniform"):
        config = BarycenterConfig(ipc=4, weights=weights)
        found = class_barycenter(features, config, stream(0, "transport"))
        plan = Plan(found.rows, found.owner, found.mass, 4)
        target = space_targets([space()], store, plan)[0]
        torch.testing.assert_close(target.atoms, found.atoms, atol=1e-4, rtol=0)
        assert math.isclose(float(found.mass.sum()), 1, rel_tol=1e-5)
