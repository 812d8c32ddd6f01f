"""What synthesis aims at comes from the survey and the plan, and from no other look at the data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.datasets_on_disk import picture
from torch import Tensor, nn

from wdistill.config import BarycenterConfig
from wdistill.core.seeds import stream
from wdistill.data.pixels import Preprocessing
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.spaces import FeatureSpace, Terms
from wdistill.synthesis.spectrum import measure_spectrum
from wdistill.synthesis.targets import (
    SPACE_SAMPLE,
    class_start,
    class_target,
    sampled_plan,
    teacher_target,
)
from wdistill.transport.barycenter import class_barycenter, groups_of, image_shares
from wdistill.transport.plan import Atoms, ClassTransport, Plan, class_transport
from wdistill.transport.survey import ClassSurvey, survey_class

SIZE = 16
SEEN = Preprocessing(SIZE, 0, (0.3, 0.3, 0.3), (0.3, 0.3, 0.3))
IMAGES = torch.stack([SEEN(picture(row).convert("RGB")) for row in range(24)])
MEMBERS = torch.arange(1, 24, 2)  # the rows of the class: twelve images
GROUPS = np.array([0, 0, 0, 1] * 6)  # of all 24; in the class 6 of each
UNEQUAL = np.array([0] * 20 + [1] * 4)  # in the class 10 and 2
SETTINGS = [
    (weights, share, groups)
    for weights in ("free", "uniform")
    for share in ("equal", "proportional")
    for groups in (None, GROUPS, UNEQUAL)
]


class Small(nn.Module):
    config = SimpleNamespace(num_labels=4)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.again = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> SimpleNamespace:
        pooled = self.norm(self.mix(x)).relu().mean((2, 3))
        return SimpleNamespace(logits=self.head(self.again(pooled)))


NETWORK = FeatureNetwork(Small(), SEEN, torch.device("cpu"))


class Store:
    """A PixelStore of the class's images that remembers which were asked for."""

    preprocessing = SEEN

    def __init__(self) -> None:
        self.asked = set[int]()

    def get(self, rows: Tensor) -> Tensor:
        self.asked |= set(rows.tolist())
        return IMAGES[rows]

    def batches(self, rows: Tensor, size: int) -> list[Tensor]:
        return [self.get(part) for part in rows.split(size)]


def located(weights: Any, share: Any, groups: Any) -> tuple[ClassSurvey, ClassTransport, Tensor]:
    config = BarycenterConfig(ipc=3, weights=weights, group_weights=share)
    members = groups_of(groups, MEMBERS)
    shares = image_shares(len(MEMBERS), members, config.group_weights)
    survey = survey_class(NETWORK, IMAGES[MEMBERS].split(5), shares)
    found = class_barycenter(survey.features, config, stream(0, "transport"), members)
    return survey, class_transport(survey, found, MEMBERS, shares), shares


@pytest.mark.parametrize(("weights", "share", "groups"), SETTINGS)
def test_an_image_counts_what_the_plan_gives_it(weights: str, share: str, groups: Any) -> None:
    _, transport, shares = located(weights, share, groups)
    plan = transport.plan
    given = torch.zeros(len(IMAGES)).index_add_(0, plan.rows, plan.mass)
    torch.testing.assert_close(given[MEMBERS], shares)
    assert float(shares.sum()) == pytest.approx(1)


@pytest.mark.parametrize(("weights", "share", "groups"), SETTINGS)
def test_the_teachers_target_is_the_barycenter_and_the_moments_of_its_measure(
    weights: str, share: str, groups: Any
) -> None:
    survey, transport, shares = located(weights, share, groups)
    aim, plan = teacher_target(transport), transport.plan
    y = torch.zeros(len(IMAGES), survey.features.shape[1])
    y[MEMBERS] = survey.features
    full = torch.zeros(3, len(IMAGES))
    full[plan.owner, plan.rows] = plan.mass
    projected = (full @ y) / full.sum(1, keepdim=True)
    torch.testing.assert_close(aim.atoms, projected, rtol=1e-4, atol=1e-5)
    centre = shares @ survey.features
    spread = sum(
        s * ((f - centre) ** 2).sum() for s, f in zip(shares, survey.features, strict=True)
    )
    assert aim.variance == pytest.approx(float(spread), rel=1e-4)
    mixed = NETWORK.model.mix((IMAGES[MEMBERS] / 255 - 0.3) / 0.3)
    weighted = shares.view(-1, 1, 1, 1) / mixed[0, 0].numel()
    mean = (weighted * mixed).sum((0, 2, 3))
    variance = (weighted * (mixed - mean.view(1, -1, 1, 1)) ** 2).sum((0, 2, 3))
    assert len(aim.means) == len(aim.variances) == 2
    torch.testing.assert_close(aim.means[0], mean)
    torch.testing.assert_close(aim.variances[0], variance)
    # Normalised once more, one position an image: only the spread between images is left.
    assert float(aim.variances[1].min()) > 0


def test_a_network_without_norm_layers_has_no_moments() -> None:
    survey, _, shares = located("free", "equal", None)
    bare = ClassSurvey(survey.features, (), (), grey=False)
    config = BarycenterConfig(ipc=3)
    found = class_barycenter(bare.features, config, stream(0, "transport"))
    aim = teacher_target(class_transport(bare, found, MEMBERS, shares))
    assert aim.means == aim.variances == ()


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("init", ["real", "mean", "noise"])
def test_synthesis_looks_at_no_more_real_images_than_it_needs(
    init: Any, pooled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wdistill.synthesis.targets.SPACE_SAMPLE", 2)
    _, transport, _ = located("uniform", "equal", None)
    pool = [FeatureSpace("other", NETWORK, Terms(1.0), "")] if pooled else []
    store: Any = Store()
    spectrum = measure_spectrum([IMAGES])
    start = class_start(store, spectrum, init, transport, 2, seed=0)
    aim = class_target(store, pool, transport, 2, seed=0)
    assert start.shape == (3, 3, SIZE, SIZE)
    assert len(aim.spaces) == 1 + len(pool)
    looked_at = set(sampled_plan(transport, 2, 0).rows.tolist()) if pooled else set()
    if init == "real":
        looked_at |= set(transport.atoms.nearest.tolist())
    if init == "mean":
        looked_at |= set(MEMBERS.tolist())
    assert store.asked == looked_at


def test_the_pool_sees_a_sample_of_a_large_class() -> None:
    many = SPACE_SAMPLE * 3
    transport = ClassTransport(
        atoms=Atoms(torch.zeros(5, 1), torch.full((5,), 0.2), torch.arange(5) + 7),
        plan=Plan(torch.arange(many), torch.arange(many) % 5, torch.full((many,), 1 / many), 5),
        spread=1.0, means=(), variances=(), grey=False, w2=0.5, w2_random=0.6,
    )  # fmt: skip
    assert SPACE_SAMPLE <= len(sampled_plan(transport, 0, seed=0).rows) <= SPACE_SAMPLE + 5
