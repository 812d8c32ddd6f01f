"""A device that holds few images at once gives what one that holds all gives."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.synthesis import CLASSES, CPU, network_of, pixels_themselves, resnet, streams, uniform
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from wdistill.cli.exit import fail
from wdistill.config import LabelViewsConfig, RelabelConfig, SynthesisConfig
from wdistill.core.devices import Capacity, is_out_of_memory
from wdistill.core.seeds import stream
from wdistill.data.augment import random_views
from wdistill.data.pixels import to_uint8
from wdistill.errors import MemoryLimitError
from wdistill.evaluation.metrics import nearest_real, score_network
from wdistill.labels.soft import soft_labels
from wdistill.labels.views import ViewRecipe, label_views
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.gradient import pixel_gradient
from wdistill.synthesis.optimise import ClassTarget, DistilledUnit, Objective, _group, synthesise
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, Terms, space_targets
from wdistill.transport.plan import Plan
from wdistill.transport.survey import survey_class

SIZE, IPC, GROUP = 16, 5, 3
WEIGHTS = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.35])
EVERY = Terms(1.0, mean=0.5, moments=10.0, entropy=1.0)
POOL = Terms(1.0, mean=1.0)
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB."


def vit() -> FeatureNetwork:
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=SIZE, patch_size=4, num_labels=CLASSES,
    )  # fmt: skip
    return network_of(ViTForImageClassification(config), SIZE)


def convnet() -> FeatureNetwork:
    model = new_network(find_backbone("convnet-w64", resolution=SIZE), "abcde", SIZE, 2)
    return network_of(model, SIZE)


class Constant(nn.Module):
    """One of its norm layers sees something that does not depend on the image."""

    config = SimpleNamespace(num_labels=CLASSES)

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(uniform(1, 4, 3, key="query"))
        self.inner, self.norm, self.head = nn.LayerNorm(3), nn.LayerNorm(3), nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> SimpleNamespace:
        query = self.inner(self.query.expand(len(x), -1, -1))
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        actual = (query @ tokens.transpose(1, 2)).softmax(2) @ tokens
        return SimpleNamespace(logits=self.head(actual.mean(1)))


def constant() -> FeatureNetwork:
    torch.manual_seed(3)
    return network_of(Constant(), SIZE)


NETWORKS: dict[str, Callable[[], FeatureNetwork]] = {
    "resnet": resnet, "vit": vit, "constant": constant,
}  # fmt: skip


def aims(spaces: Sequence[FeatureSpace], grey: int | None = None) -> list[ClassTarget]:
    """Atoms and statistics of random pictures, with uneven weights."""
    actual = []
    for label in range(GROUP):
        images = uniform(8, 3, SIZE, SIZE, key=f"class {label}")
        targets = []
        for space in spaces:
            with torch.no_grad():
                out = space.network(images)
            moments = space.terms.moments > 0
            means = tuple(m.mean(0) for m in out.means) if moments else ()
            variances = tuple(v.mean(0) for v in out.variances) if moments else ()
            targets.append(SpaceTarget(out.features[:IPC], 2.0 + label, means, variances))
        actual.append(ClassTarget(label, WEIGHTS, tuple(targets), label == grey))
    return actual


def gradient(
    spaces: Sequence[FeatureSpace], most: int | None, autocast: torch.dtype | None = None
) -> tuple[Tensor, list[Tensor]]:
    targets = aims(spaces)
    active = [(space, _group(targets, index, CPU)) for index, space in enumerate(spaces)]
    pixels = uniform(GROUP * IPC, 3, SIZE, SIZE, key="start")
    views = random_views(len(pixels), 0.3, stream(0, "views"), 0.5)
    return pixel_gradient(active, pixels, views, 0.1, autocast, most)


def check_same(spaces: Sequence[FeatureSpace], most: int) -> None:
    whole, whole_terms = gradient(spaces, None)
    actual, terms = gradient(spaces, most)
    # Kernels sum in another order where the batch is another one: float32 has 1e-7.
    torch.testing.assert_close(actual, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    torch.testing.assert_close(terms, whole_terms, rtol=1e-5, atol=1e-6)
    assert float(whole.flatten(1).norm(dim=1).min()) > 0


# --- the gradient -------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 4, 5, 7, 10])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_parts_of_a_group_give_the_gradient_of_all(name: str, pool: bool, most: int) -> None:
    """Below 5 images a class is split, and parts are ragged and of two classes; from 5 on, whole
    classes stay together.
    """
    spaces = [FeatureSpace("teacher", NETWORKS[name](), EVERY, "")]
    check_same([*spaces, FeatureSpace("pool", convnet(), POOL, "")] if pool else spaces, most)


@pytest.mark.parametrize(
    "terms", [Terms(1.0), Terms(0.0, mean=1.0), Terms(0.0, moments=1.0), Terms(0.0, entropy=1.0)]
)
def test_each_term_alone(terms: Terms) -> None:
    check_same([FeatureSpace("teacher", resnet(), terms, "")], 2)


def test_bf16_splits_too() -> None:
    """To its own precision."""
    spaces = [FeatureSpace("teacher", resnet(), EVERY, "")]
    whole, _ = gradient(spaces, None, torch.bfloat16)
    actual, _ = gradient(spaces, 2, torch.bfloat16)
    difference = (actual - whole).flatten(1).norm(dim=1) / whole.flatten(1).norm(dim=1)
    assert float(difference.max()) < 0.05


# --- the search ---------------------------------------------------------------------------------


class Room(torch.autograd.Function):
    """Runs out of memory on the way back of more than ``most`` images, as on the way there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, most: int) -> Tensor:
        ctx.most = most
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if len(grad) > ctx.most:
            raise torch.OutOfMemoryError(CUDA)
        return grad, None


@contextmanager
def limited(network: FeatureNetwork, most: int, back: int = 100) -> Iterator[list[int]]:
    """The network runs out of memory with more images than ``most``, or than ``back`` on the way
    back. Yields the batches with which it did so on the way there.
    """
    failed: list[int] = []

    def check(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        if len(inputs[0]) > most:
            failed.append(len(inputs[0]))
            raise torch.OutOfMemoryError(CUDA)
        return Room.apply(inputs[0], back)

    handle = network.model.register_forward_pre_hook(check)
    try:
        yield failed
    finally:
        handle.remove()


def two_spaces() -> list[FeatureSpace]:
    return [
        FeatureSpace("teacher", resnet(), EVERY, ""), FeatureSpace("pool", convnet(), POOL, ""),
    ]  # fmt: skip


def distil(
    spaces: Sequence[FeatureSpace],
    targets: Sequence[ClassTarget],
    generators: Sequence[torch.Generator],
    capacity: Capacity | None = None,
) -> DistilledUnit:
    start = uniform(GROUP, IPC, 3, SIZE, SIZE, key="start")
    config, plain = SynthesisConfig(iterations=6, lr=0.02), pixels_themselves(SIZE)
    return synthesise(
        Objective(spaces, plain, config), targets, start, generators, capacity=capacity
    )


def check_same_images(actual: DistilledUnit, whole: DistilledUnit) -> None:
    """Adam divides the gradient by its size: where that is next to nothing, its rounding counts."""
    difference = (actual.pixels.int() - whole.pixels.int()).abs()
    assert float((difference == 0).float().mean()) > 0.99
    assert float((difference <= 1).float().mean()) > 0.9999
    torch.testing.assert_close(actual.trace, whole.trace, rtol=1e-3, atol=1e-5)
    grey = actual.pixels[IPC : 2 * IPC]  # of the grey class
    assert bool((grey == grey[:, :1]).all())


@pytest.mark.parametrize(
    ("most", "back", "kept"),
    [(14, 100, 8), (4, 100, 4), (1, 100, 1), (100, 5, 8), (100, 3, 2)],
)
def test_a_step_that_exceeds_the_memory_goes_on_in_parts(most: int, back: int, kept: int) -> None:
    """15 images, then halves of them: those of one class of five together as long as they fit. The
    number is found once for all groups, and nothing is drawn twice.
    """
    spaces, draws, again = two_spaces(), streams(range(GROUP)), streams(range(GROUP))
    targets, capacity = aims(spaces, grey=1), Capacity()
    whole = distil(spaces, targets, draws)
    with limited(spaces[0].network, most, back) as failed:
        check_same_images(distil(spaces, targets, again, capacity), whole)
        assert capacity.limit == kept
        attempts = len(failed)
        check_same_images(distil(spaces, targets, streams(range(GROUP)), capacity), whole)
    assert len(failed) == attempts <= 6
    for one, other in zip(draws, again, strict=True):
        assert torch.equal(one.get_state(), other.get_state())


def test_one_pass_is_enough_for_whole_classes() -> None:
    """Each image goes through the network once as long as a class fits, and else twice."""
    spaces = [FeatureSpace("teacher", resnet(), EVERY, "")]
    seen: list[int] = []
    spaces[0].network.model.register_forward_pre_hook(lambda _, x: seen.append(len(x[0])))
    for most, batches in ((None, [15]), (10, [10, 5]), (9, [5, 5, 5]), (4, 2 * [4, 4, 4, 3])):
        targets = aims(spaces)
        active = [(spaces[0], _group(targets, 0, CPU))]
        seen.clear()
        pixels = uniform(GROUP * IPC, 3, SIZE, SIZE, key="start")
        views = random_views(len(pixels), 0.3, stream(0, "views"), 0.5)
        pixel_gradient(active, pixels, views, 0.1, None, most)
        assert seen == batches


def test_an_image_that_does_not_fit_alone_is_told() -> None:
    spaces = two_spaces()
    targets = aims(spaces)
    with limited(spaces[0].network, 0), pytest.raises(MemoryLimitError) as error:
        distil(spaces, targets, streams(range(GROUP)))
    said = str(error.value)
    assert said.startswith("not even one image at a time fits into the device's memory (CUDA out")
    assert said.endswith("lower `data.resolution` or choose a smaller network")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("anything"), True),
        (RuntimeError(CUDA), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_other_errors_are_not_taken_for_it(error: RuntimeError, memory: bool) -> None:
    calls: list[int] = []

    def work(most: int) -> None:
        calls.append(most)
        raise error

    assert is_out_of_memory(error) == memory
    with pytest.raises(MemoryLimitError if memory else RuntimeError):
        Capacity().run(work, 9)
    assert calls == ([9, 5, 3, 2, 1] if memory else [9])


def test_nothing_of_the_failed_attempt_stays_in_memory() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def work(most: int) -> bool:
        if most > 1:
            activations = torch.zeros(3)
            alive.append(weakref.ref(activations))
            raise torch.OutOfMemoryError(CUDA)
        return all(actual() is None for actual in alive)

    assert Capacity().run(work, 4)
    assert len(alive) == 2


# --- without gradients --------------------------------------------------------------------------


class Store:
    """Real images in memory, with the methods of a PixelStore."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, rows: Tensor, size: int) -> Iterator[Tensor]:
        for part in rows.split(size):
            yield self.pixels[part]

    def all_on(self, device: torch.device, size: int) -> Iterator[Tensor]:
        yield from self.batches(torch.arange(len(self)), size)


PIXELS = to_uint8(uniform(11, 3, SIZE, SIZE, key="pixels"))
STORE: Any = Store(PIXELS, torch.arange(11) % CLASSES)


def surveyed(network: FeatureNetwork) -> list[Tensor]:
    actual = survey_class(network, PIXELS.split(6), torch.ones(11))
    return [actual.features, *actual.means, *actual.variances]


def in_a_space(network: FeatureNetwork) -> list[Tensor]:
    plan = Plan(torch.arange(11), torch.arange(11) % 2, torch.full((11,), 1 / 11), 2)
    space = FeatureSpace("", network, Terms(1.0), "")
    actual = space_targets([space], STORE, plan)[0]
    return [actual.atoms, torch.tensor(actual.variance)]


def relabelled(network: FeatureNetwork) -> list[Tensor]:
    return [soft_labels(network, PIXELS, RelabelConfig(views=3), stream(0, "relabel"))]


def label_viewed(network: FeatureNetwork) -> list[Tensor]:
    actual = label_views(network, PIXELS, ViewRecipe(LabelViewsConfig(count=3)))
    return [actual.logits, actual.crop, actual.mix, actual.rest]


def scored(network: FeatureNetwork) -> list[Tensor]:
    return [score_network(network, STORE).confusion]


@pytest.mark.parametrize(("name", "most"), [("resnet", 1), ("vit", 4)])
@pytest.mark.parametrize("look", [surveyed, in_a_space, relabelled, label_viewed, scored])
def test_what_sees_images_sees_them_in_parts(
    look: Callable[[FeatureNetwork], list[Tensor]], name: str, most: int
) -> None:
    whole, network = look(NETWORKS[name]()), NETWORKS[name]()
    with limited(network, most) as failed:
        actual = look(network)
    torch.testing.assert_close(actual, whole, rtol=1e-4, atol=1e-5)
    assert 1 <= len(failed) <= 4


def test_the_nearest_real_image_is_found_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    real = to_uint8(uniform(20, 3, SIZE, SIZE, key="real"))
    whole, whole_distances = nearest_real(PIXELS, real.split(13), CPU)
    cdist, failed = torch.cdist, []

    def small(ours: Tensor, theirs: Tensor) -> Tensor:
        if len(theirs) > 4:
            failed.append(len(theirs))
            raise torch.OutOfMemoryError(CUDA)
        return cdist(ours, theirs)

    monkeypatch.setattr(torch, "cdist", small)
    actual, measured = nearest_real(PIXELS, real.split(13), CPU)
    assert torch.equal(actual, whole)
    torch.testing.assert_close(measured, whole_distances)
    assert failed == [13, 7]


# --- what cannot be split -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError(CUDA), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_training_that_does_not_fit_is_told_in_one_line(
    error: RuntimeError, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        fail(error, False, 1)
    assert left.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: the device is out of memory (")
    assert "lower --resolution" in line
