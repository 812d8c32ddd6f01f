"""Class statistics equal those of all images at once, however they are batched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from helpers.datasets_on_disk import picture
from torch import Tensor, nn
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from wdistill.config import DataConfig
from wdistill.core.seeds import stream
from wdistill.data.dataset import load_data
from wdistill.data.pixels import Decoding, PixelStore, Preprocessing
from wdistill.errors import NumericalError
from wdistill.networks.architectures import ConvNet, ConvNetConfig
from wdistill.networks.features import FeatureNetwork
from wdistill.transport.pool import BarycenterPool
from wdistill.transport.survey import ClassSurvey, Moments, survey_class, survey_classes

SIZE = 32
PREPROCESSING = Preprocessing(SIZE, 0, (0.3, 0.3, 0.3), (0.3, 0.3, 0.3))


@cache
def real_images() -> Tensor:
    """(23, 3, 32, 32) uint8 real pictures: a number that no batch size divides."""
    return torch.stack([PREPROCESSING(picture(row).convert("RGB")) for row in range(23)])


class Norms(nn.Module):
    """A scaled and shifted picture through one norm layer, with its pooled output as feature."""

    config = SimpleNamespace(num_labels=4)

    def __init__(self, norm: nn.Module, offset: float = 0.0) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 8, 3, padding=1)
        nn.init.constant_(self.mix.bias, offset)
        self.norm, self.head = norm, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.norm(self.mix(x)).mean((2, 3))))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm of a ResNet": lambda: ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ),
    "LayerNorm of a ViT": lambda: ViTForImageClassification(
        ViTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
            image_size=SIZE, patch_size=8,
        )
    ),
    "LayerNorm of a ConvNeXt": lambda: ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    ),
    "GroupNorm, one channel each": lambda: ConvNet(ConvNetConfig(width=8, image_size=SIZE)),
    "GroupNorm": lambda: Norms(nn.GroupNorm(2, 8)),
    "InstanceNorm": lambda: Norms(nn.InstanceNorm2d(8)),
}  # fmt: skip


def network_of(model: nn.Module) -> FeatureNetwork:
    return FeatureNetwork(model, PREPROCESSING, torch.device("cpu"))


@cache
def network(name: str) -> FeatureNetwork:
    torch.manual_seed(0)
    return network_of(MODELS[name]())


def is_norm(module: nn.Module) -> bool:
    return not list(module.children()) and "Norm" in type(module).__name__


def direct(tapped: FeatureNetwork, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance per channel of each norm layer's input over all images, in float64."""
    seen: list[tuple[Tensor, Tensor]] = []

    def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].double()
        first = getattr(module, "data_format", "") == "channels_first"
        last = isinstance(module, nn.LayerNorm) and not first
        rows = x.reshape(-1, x.shape[-1]) if last else x.transpose(0, 1).flatten(1).T
        seen.append((rows.mean(0), rows.var(0, unbiased=False)))

    norms = [m for m in tapped.model.modules() if is_norm(m)]
    handles = [m.register_forward_pre_hook(look) for m in norms]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PREPROCESSING.mean, PREPROCESSING.std))
    with torch.no_grad():
        tapped.model((images.float() / 255 - mean) / std)
    for handle in handles:
        handle.remove()
    assert len(seen) == len(norms) > 0
    return seen


def moments_of(
    network: FeatureNetwork, batches: Sequence[Tensor], shares: Tensor | None = None
) -> ClassSurvey:
    """shares: what each image counts, equal if not given."""
    alike = torch.ones(sum(map(len, batches)))
    return survey_class(network, batches, alike if shares is None else shares)


def check(survey: ClassSurvey, expected: list[tuple[Tensor, Tensor]], rtol: float = 1e-4) -> None:
    assert len(survey.means) == len(survey.variances) == len(expected)
    for mean, variance, (m, v) in zip(survey.means, survey.variances, expected, strict=True):
        torch.testing.assert_close(mean.double(), m, rtol=rtol, atol=1e-5)
        torch.testing.assert_close(variance.double(), v, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 5, 16, 23])
@pytest.mark.parametrize("name", MODELS)
def test_moments_are_those_of_all_images_together(name: str, batch: int) -> None:
    images = real_images()
    check(moments_of(network(name), images.split(batch)), direct(network(name), images))


@pytest.mark.parametrize("name", MODELS)
def test_features_keep_the_order_of_the_images(name: str) -> None:
    images = real_images()
    survey = moments_of(network(name), images.split(6))
    one = [moments_of(network(name), [images[i : i + 1]]) for i in (0, 11, 22)]
    alone = [actual.features for actual in one]
    torch.testing.assert_close(survey.features[[0, 11, 22]], torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert survey.features.shape[0] == len(images)
    assert not survey.features.requires_grad


def test_both_layouts_of_layer_norm_are_met() -> None:
    """The oracle above would not notice if a ConvNeXt had only one of them."""
    formats = {getattr(m, "data_format", None) for m in network("LayerNorm of a ConvNeXt").norms}
    assert {"channels_first", "channels_last"} <= formats


def test_spread_between_images_counts() -> None:
    """Black and white pictures have no variance each, but 1/4 together (in pixels of [0, 1])."""
    model = Norms(nn.BatchNorm2d(8))
    nn.init.zeros_(model.mix.weight)
    model.mix.weight.data[0, 0, 1, 1] = 1
    images = torch.zeros(8, 3, SIZE, SIZE, dtype=torch.uint8)
    images[4:] = 255
    for batch in (1, 3, 4, 8):  # batches of four see no variance at all
        survey = moments_of(network_of(model), images.split(batch))
        assert float(survey.variances[0][0]) == pytest.approx(0.25 / 0.3**2, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 4, 23])
def test_a_large_mean_does_not_swallow_the_variance(batch: int) -> None:
    torch.manual_seed(0)
    shifted = network_of(Norms(nn.BatchNorm2d(8), offset=1e4))
    expected = direct(shifted, real_images())
    assert float(expected[0][0].min()) > 9e3
    assert float(expected[0][1].max()) < 10
    check(
        moments_of(shifted, real_images().split(batch)), expected, rtol=1e-2
    )  # float32 resolves 1e-3 at 1e4


@pytest.mark.parametrize("batch", [1, 7, 100, 1000])
def test_accumulation_is_stable(batch: int) -> None:
    x = 1e8 + torch.randn(1000, 5, generator=stream(0, "moments"), dtype=torch.float64)
    moments = Moments()
    for part in x.split(batch):
        moments.update(part, torch.full_like(part, 0.5), torch.ones(len(part)))
    assert moments.count == 1000
    torch.testing.assert_close(moments.mean, x.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(moments.variance, x.var(0, unbiased=False) + 0.5, rtol=1e-6, atol=0)


def test_an_image_that_counts_twice_is_as_two_images() -> None:
    images = real_images()[:7]
    shares = torch.tensor([2, 1, 1, 2, 1, 1, 1]) / 9
    weighted = moments_of(network("GroupNorm"), images.split(3), shares)
    again = torch.cat([images, images[[0, 3]]])
    check(weighted, direct(network("GroupNorm"), again))


def test_no_norm_layer_no_moments() -> None:
    survey = moments_of(network_of(Norms(nn.Identity())), real_images().split(10))
    assert survey.means == survey.variances == ()
    assert survey.features.shape == (23, 8)


def test_moments_change_no_feature() -> None:
    tapped, images = network("BatchNorm of a ResNet"), real_images()
    with torch.no_grad():
        alone = tapped(images.float() / 255, moments=False).features
    torch.testing.assert_close(moments_of(tapped, images.split(10)).features, alone)


def test_features_that_are_not_finite_are_refused() -> None:
    model = Norms(nn.BatchNorm2d(8))
    model.mix.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(NumericalError, match="features are not finite"):
        moments_of(network_of(model), real_images().split(10))


@pytest.mark.parametrize("threads", [1, 3])
def test_classes_are_surveyed_and_used_in_order(threads: int) -> None:
    classes = [real_images()[start : start + 8] for start in (0, 8, 15)]
    shares = [torch.rand(8, generator=stream(index, "shares")) for index in range(3)]
    parts_of_classes = ((part.split(3), share) for part, share in zip(classes, shares, strict=True))
    with BarycenterPool(threads) as pool:
        actual = survey_classes(
            network("BatchNorm of a ResNet"), parts_of_classes, lambda i, s: (i, s), pool
        )
    for index, (place, survey) in enumerate(future.result() for future in actual):
        batches = classes[index].split(3)
        alone = survey_class(network("BatchNorm of a ResNet"), batches, shares[index])
        assert place == index
        assert torch.equal(survey.features, alone.features)
        assert all(map(torch.equal, survey.means, alone.means))


def test_a_class_is_used_while_the_next_is_surveyed() -> None:
    """The use of the first class waits for an image of the second; that of the second must not be
    begun, as a third class would have to be held.
    """
    second, used = threading.Event(), []

    def parts() -> Iterator[tuple[Iterator[Tensor], Tensor]]:
        for index in range(3):
            yield images(index), torch.ones(4)

    def images(index: int) -> Iterator[Tensor]:
        assert len(used) >= index - 1
        if index == 1:
            second.set()
        yield real_images()[:4]

    def use(index: int, survey: object) -> int:
        assert second.wait(30)
        used.append(index)
        return index

    with BarycenterPool(1) as pool:
        results = survey_classes(network("BatchNorm of a ResNet"), parts(), use, pool)
        assert [result.result() for result in results] == [0, 1, 2]


@pytest.mark.parametrize("where", ["survey", "use"])
def test_what_goes_wrong_with_a_class_is_told(where: str) -> None:
    def images() -> Iterator[Tensor]:
        yield real_images()[:4]
        if where == "survey":
            raise NumericalError("no more")

    def use(index: int, survey: object) -> None:
        if where == "use" and index == 1:
            raise NumericalError("no more")

    each = (images() if index == 1 else iter([real_images()[:4]]) for index in range(3))
    parts = ((batches, torch.ones(4)) for batches in each)

    def work() -> None:
        with BarycenterPool(2) as pool:
            for result in survey_classes(network("BatchNorm of a ResNet"), parts, use, pool):
                result.result()

    with pytest.raises(NumericalError, match="no more"):
        work()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_parts_are_the_batches_of_each_group(threads: int, kept: bool) -> None:
    data = load_data(DataConfig(), 0, 1)
    store = PixelStore(data.eval, PREPROCESSING, Decoding(threads=threads))
    if kept:
        store.get(range(len(store)))
    groups = [torch.tensor([5, 3, 8, 1, 900]), torch.tensor([7]), torch.tensor([2, 2, 4])]
    actual = [list(part) for part in store.parts(groups, 2)]
    assert [[len(batch) for batch in part] for part in actual] == [[2, 2, 1], [1], [2, 1]]
    for rows, part in zip(groups, actual, strict=True):
        expected = torch.stack([PREPROCESSING(data.eval.image(int(row))) for row in rows])
        assert torch.equal(torch.cat(part), expected)
