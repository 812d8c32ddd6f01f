"""One view of any classifier: its features are what its head sees, whatever the architecture."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    MobileNetV2Config,
    PretrainedConfig,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
)

from wdistill.core.seeds import stream
from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.architectures import built_in_config
from wdistill.networks.features import (
    FeatureNetwork,
    classification_heads,
    fast_layout,
    number_of_classes,
)

SIZE, CLASSES = 32, 7
CPU = torch.device("cpu")
WORDS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TOKENS = {"hidden_size": 16, "image_size": SIZE, "patch_size": 8, **WORDS}

CONFIGS: dict[str, PretrainedConfig] = {
    "resnet": ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    ),
    "vit": ViTConfig(**TOKENS),
    "convnext": ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
    "swin": SwinConfig(
        image_size=SIZE, patch_size=4, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4
    ),
    "mobilenet": MobileNetV2Config(depth_multiplier=0.35, image_size=SIZE),
    "resnet18": built_in_config("resnet18", SIZE),
    "resnet10-w16": built_in_config("resnet10-w16", 28),
    "resnet10-w16-large": built_in_config("resnet10-w16", 96),
    "convnet": built_in_config("convnet", 28),
    "convnet-large": built_in_config("convnet", 64),
}
SIZES = {"resnet10-w16": 28, "convnet": 28, "resnet10-w16-large": 96, "convnet-large": 64}


def tiny(name: str) -> nn.Module:
    torch.manual_seed(0)
    config = CONFIGS[name]
    config.num_labels = CLASSES
    return AutoModelForImageClassification.from_config(config)


def network_of(model: nn.Module, size: int = SIZE) -> FeatureNetwork:
    preprocessing = Preprocessing(size, 0, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    return FeatureNetwork(model, preprocessing, CPU)


def pictures(count: int = 5, size: int = SIZE) -> Tensor:
    return torch.rand(count, 3, size, size, generator=stream(0, "pictures"))


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_the_head_of_the_features(name: str) -> None:
    size = SIZES.get(name, SIZE)
    network = network_of(tiny(name), size)
    with torch.no_grad():
        out = network(pictures(size=size))
    (head,) = network.heads
    assert out.features.shape == (5, head.in_features)
    assert out.logits.shape == (5, CLASSES)
    torch.testing.assert_close(out.features @ head.weight.T + head.bias, out.logits)
    assert out.features.std(0).max() > 0  # they depend on the image


@pytest.mark.parametrize("name", CONFIGS)
def test_pixels_are_normalised_as_the_network_expects(name: str) -> None:
    size = SIZES.get(name, SIZE)
    model = tiny(name).eval()
    network, x = network_of(model, size), pictures(size=size)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    with torch.no_grad():
        torch.testing.assert_close(network(x).logits, model((x - mean) / std).logits)


def test_two_heads_give_both_features() -> None:
    torch.manual_seed(0)
    model = DeiTForImageClassificationWithTeacher(DeiTConfig(**TOKENS, num_labels=CLASSES))
    network = network_of(model)
    with torch.no_grad():
        out = network(pictures())
    assert out.features.shape == (5, 32)
    parts = zip(network.heads, out.features.split(16, dim=1), strict=True)
    logits = [f @ head.weight.T + head.bias for head, f in parts]
    assert not torch.allclose(*logits)
    torch.testing.assert_close(sum(logits) / 2, out.logits)


def test_a_convolutional_head_is_a_head() -> None:
    class Conv(nn.Module):
        config = SimpleNamespace(num_labels=CLASSES)

        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = nn.Conv2d(3, CLASSES, 1)

        def forward(self, x: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=self.head(self.pool(x)).flatten(1))

    model = Conv()
    out = network_of(model)(pictures())
    assert out.features.shape == (5, 3)
    logits = out.features @ model.head.weight[:, :, 0, 0].T + model.head.bias
    torch.testing.assert_close(logits, out.logits)


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_layers_as_wide_as_the_classes_are_not_heads(name: str) -> None:
    """A backbone may contain linear layers with as many outputs as there are classes."""
    config = CONFIGS[name].__class__(**CONFIGS[name].to_dict())
    config.num_labels = 16
    model = AutoModelForImageClassification.from_config(config)
    inside = [m for m in model.base_model.modules() if getattr(m, "out_features", 0) == 16]
    assert inside
    assert classification_heads(model) == [model.classifier]


def test_the_network_is_frozen_and_in_evaluation_mode() -> None:
    """Dropout and batch statistics would make the features random."""
    model = tiny("mobilenet").train()
    network, x = network_of(model), pictures()
    assert not any(m.training for m in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = network(x), network(x)
    assert torch.equal(first.features, second.features)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(network(x[:1]).features, first.features[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "vit", "convnext", "swin", "convnet"])
def test_gradients_reach_the_pixels(name: str) -> None:
    size = SIZES.get(name, SIZE)
    x = pictures(2, size).requires_grad_()
    out = network_of(tiny(name), size)(x)
    weighted = [(m * torch.arange(m.shape[1])).sum() for m in (*out.means, *out.variances)]
    for value in (out.features.square().sum(), out.logits.square().sum(), sum(weighted)):
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        assert torch.isfinite(gradient).all()
        assert (gradient.abs().amax((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_moments_can_be_left_out(name: str) -> None:
    network = network_of(tiny(name))
    without, full = network(pictures(), moments=False), network(pictures())
    assert without.means == without.variances == ()
    assert len(full.means) == len(full.variances) == len(network.norms) > 0
    torch.testing.assert_close(without.features, full.features)


@pytest.mark.parametrize("name", ["resnet", "vit", "convnext"])
def test_hooks_are_removed(name: str) -> None:
    model = tiny(name)
    network = network_of(model)
    before = hooks(model)
    network(pictures())
    assert hooks(model) == before == 0
    with pytest.raises((RuntimeError, ValueError)):
        network(torch.rand(2, 5, SIZE, SIZE))
    assert hooks(model) == 0


class Plain(nn.Module):
    """No normalisation, and a head unless told otherwise."""

    config = SimpleNamespace(num_labels=CLASSES, model_type="plain")

    def __init__(self, head: bool = True) -> None:
        super().__init__()
        self.head = nn.Linear(3, CLASSES) if head else nn.Identity()

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(x.mean((2, 3))))


def test_a_network_without_norm_layers_has_no_moments() -> None:
    network = network_of(Plain())
    out = network(pictures())
    assert network.norms == []
    assert out.means == out.variances == ()
    assert out.features.shape == (5, 3)


def test_no_linear_head_is_refused() -> None:
    with pytest.raises(BackboneError, match="no linear classification head found in a 'plain'"):
        network_of(Plain(head=False))
    model = tiny("resnet")
    model.classifier = nn.Identity()
    with pytest.raises(BackboneError, match="'resnet' network"):
        network_of(model)


def test_number_of_classes() -> None:
    assert number_of_classes(tiny("vit")) == CLASSES
    assert network_of(tiny("vit")).num_classes == CLASSES


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "norm", "stays"),
    [
        (8, 1, 2, True, True),
        (15, 1, 2, True, True),
        (16, 1, 2, True, False),
        (8, 1, 1, True, False),
        (8, 3, 2, True, False),
        (16, 1, 2, False, True),
    ],
)
def test_small_shortcuts_stay_out_of_channels_last(
    channels: int, kernel: int, stride: int, norm: bool, stays: bool
) -> None:
    """There oneDNN ends the process when the weights get their gradient."""
    norms = [nn.BatchNorm2d(16)] if norm else []
    model = nn.Sequential(nn.Conv2d(channels, 16, kernel, stride), *norms, nn.Conv2d(16, 4, 3))
    fast_layout(model)
    last = model.get_parameter(f"{len(model) - 1}.weight")
    assert last.is_contiguous() is stays
    shape = (12, channels, 32, 32)
    x = torch.rand(shape, generator=stream(0, "pictures"))
    model(x).square().mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
