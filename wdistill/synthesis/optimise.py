"""Optimise pixels to match atoms and statistics in one or several feature spaces.

For the n images s_j of class c with weights b_j, the loss of a feature space with network f, atoms
x_j and total class variance v (section 3.3 of the paper, where the teacher is the only space):

    L_c =  alpha * sum_j b_j ||f(a(s_j)) - x_j||^2 / v
         + beta  * ||sum_j b_j (f(a(s_j)) - x_j)||^2 / v
         + lambda / L * sum_l ( ||mean_l - mean_c,l|| + ||var_l - var_c,l|| ) / sqrt(channels_l)
         + mu * sum_j b_j CE(h(f(a(s_j))), c)

For ConvNets that learn from class labels (``aim`` "convnet") there is no teacher among the spaces
and no distance of single images: each step takes one state f_t of ConvNets in training, see
:mod:`wdistill.synthesis.states`, and its own operation A_t of DSA, the same for all images:

    L_c =  ||sum_j b_j (f_t(A_t a(s_j)) - x_t,j)||^2 / v_t  +  mu_t * sum_j b_j CE(h_t(...), c)

mean_l and var_l are the b-weighted per-channel moments of norm layer l's input over the class's
images. Each step uses the teacher and one space of the pool, in turn. Departures from the paper:
moments are exact per class (total variance); each image has its own view a, and half of the views
are not cropped, because objects shrink if only crops have to resemble whole real images;
distances are measured relative to the class's variance, and statistics are divided by the number of
layers and the root of the number of channels, so that one set of weights suits any network; Adam
updates spectral coefficients instead of pixels, which are clamped to [0, 1] after each step. Where
the images' files lose something, the later steps see what a reader gets of them: the loss is taken
at D(E(s)) for encoder E and decoder D, and its gradient there is that of s (straight-through). Grey
images are coded afterwards: this gained two points on CIFAR-10 and lost three on Fashion-MNIST.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wdistill.config import Aim, SynthesisConfig
from wdistill.core.devices import Capacity
from wdistill.core.machine.graphs import Graphs, GraphSwitch
from wdistill.core.units import Tensors
from wdistill.data.augment import Views, concatenate, random_views
from wdistill.data.content.coding import Coding
from wdistill.data.pixels import to_float, to_uint8
from wdistill.errors import NumericalError
from wdistill.synthesis.gradient import Active, Group, LayerMoments, Unequal, pixel_gradient
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget
from wdistill.synthesis.spectrum import Spectrum

LOOK_EVERY = 25  # steps between two readings of the loss; each synchronises with the device
CODED_SHARE = 0.5  # of the steps see the images as they will be decoded
TERMS = ("features", "mean", "moments", "entropy")


@dataclass(frozen=True)
class ClassTarget:
    """The target of the n images of one class.

    Attributes:
        label: The class.
        weights: (n,) float32, sum 1.
        spaces: One target per feature space, the teacher's first.
        grey: Whether the images stay grey, because all real images of the class are.
    """

    label: int
    weights: Tensor
    spaces: tuple[SpaceTarget, ...]
    grey: bool = False


@dataclass(frozen=True)
class DistilledUnit:
    """The distilled images of a group of classes, M in all, class by class.

    Attributes:
        pixels: (M, 3, R, R) uint8, after all steps.
        start: The same before the first step.
        middle: The same after half of the steps.
        trace: (readings, 1 + 4 + 4) float32: the step, then the unweighted TERMS of the teacher
            and those of the pool.
    """

    pixels: Tensor
    start: Tensor
    middle: Tensor
    trace: Tensor

    def to_tensors(self) -> Tensors:
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> DistilledUnit:
        return cls(**tensors)


@dataclass(frozen=True)
class Objective:
    """The objective and its coordinates; the same for all groups of classes.

    Attributes:
        spaces: The teacher first, then the pool.
        spectrum: The coordinates that are optimised.
        config: The settings of synthesis.
        autocast: The dtype of the networks' passes; None for float32.
        coding: Of the files that the images are made for.
        graphs: Whether to use CUDA graphs.
    """

    spaces: Sequence[FeatureSpace]
    spectrum: Spectrum
    config: SynthesisConfig
    autocast: torch.dtype | None = None
    coding: Coding = field(default_factory=Coding)
    graphs: GraphSwitch = field(default_factory=GraphSwitch)


def _group(targets: Sequence[ClassTarget], space: int, device: torch.device) -> Group:
    """The targets of several classes in space number ``space``."""
    aims = [target.spaces[space] for target in targets]
    counts = [len(t.weights) for t in targets]
    return Group(
        labels=_each([t.label for t in targets], counts, device),
        weights=pad_sequence([t.weights for t in targets], batch_first=True).to(device),
        atoms=torch.cat([t.atoms for t in aims]).to(device),
        scale=torch.tensor([1 / t.variance for t in aims], device=device),
        moments=LayerMoments.of([(t.means, t.variances) for t in aims], device),
        unequal=Unequal.of(counts, device),
    )


def _each(of_classes: Sequence[int], counts: Sequence[int], device: torch.device) -> Tensor:
    """A value for each image from one for each class."""
    return torch.tensor(of_classes).repeat_interleave(torch.tensor(counts)).to(device)


class _Gradients:
    """dL/dx of a group of classes at each step, with a CUDA graph for each turn of the spaces where
    all images fit into memory at once.
    """

    def __init__(
        self, objective: Objective, targets: Sequence[ClassTarget], capacity: Capacity, side: int
    ) -> None:
        self._objective, self._capacity = objective, capacity
        device = objective.spaces[0].network.device
        self._active = [
            (space, _group(targets, index, device)) for index, space in enumerate(objective.spaces)
        ]
        # An operation of DSA is drawn on the host each time.
        drawn = any(space.operation is not None for space in objective.spaces)
        self._graphs = Graphs(GraphSwitch() if drawn else objective.graphs, device, side)
        self._works: dict[tuple[int, ...], Callable[..., tuple[Tensor, list[Tensor]]]] = {}

    def of(
        self, turn: tuple[int, ...], pixels: Tensor, views: Views
    ) -> tuple[Tensor, list[Tensor]]:
        """As :func:`pixel_gradient` of the spaces of ``turn``; the next step may overwrite it."""
        active = [self._active[index] for index in turn]

        def gradient(limit: int) -> tuple[Tensor, list[Tensor]]:
            if limit < len(pixels):
                self._graphs.release()
                return _gradient(self._objective, active, limit, pixels, views.box, views.flip)
            work = self._works.setdefault(turn, partial(_gradient, self._objective, active, None))
            return self._graphs.run(work, pixels, views.box, views.flip)

        return self._capacity.run(gradient, len(pixels))


def _gradient(
    objective: Objective,
    active: Active,
    limit: int | None,
    pixels: Tensor,
    box: Tensor,
    flip: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    share, autocast = objective.config.space_weight, objective.autocast
    return pixel_gradient(active, pixels, Views(box, flip), share, autocast, limit)


def synthesise(
    objective: Objective,
    targets: Sequence[ClassTarget],
    start: Sequence[Tensor],
    generators: Sequence[torch.Generator],
    on_step: Callable[[int], object] | None = None,
    capacity: Capacity | None = None,
) -> DistilledUnit:
    """Distil the images of a group of classes.

    Args:
        objective: What is minimised.
        targets: One per class.
        start: For each class (n, 3, R, R) float in [0, 1]; n may differ.
        generators: One CPU generator per class, which draws the views of its images.
        on_step: Called after each step with the number of images.
        capacity: How many images fit into the device's memory at once, as measured so far.

    Raises:
        NumericalError: The loss or a pixel is not finite.
        MemoryLimitError: Not even one image fits into the device's memory.
    """
    spaces, config = objective.spaces, objective.config
    device = spaces[0].network.device
    counts, first = [len(images) for images in start], torch.cat(list(start))
    gradients = _Gradients(objective, targets, capacity or Capacity(), first.shape[-1])
    grey = _each([t.grey for t in targets], counts, device)
    spectrum = objective.spectrum.to(device)
    pixels = _desaturate(first.to(device), grey)
    coefficients = spectrum.coefficients(pixels)
    optimizer = torch.optim.Adam([coefficients], lr=config.lr, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, config.iterations))
    looks: list[Tensor] = []
    middle = to_uint8(pixels)
    colour = not bool(grey.all())
    coded_from = (1 - CODED_SHARE if colour else 1) * config.iterations
    for step in range(config.iterations):
        # No flips, unlike the paper: an image that has to match both ways becomes symmetric, and
        # students flip images themselves. [own] No difference on CIFAR-10 and Fashion-MNIST.
        class_views = [
            random_views(n, config.crop_min, generator, config.whole_share, flips=False)
            for n, generator in zip(counts, generators, strict=True)
        ]
        views = concatenate(class_views).to(device)
        turn = _turn(config.aim, len(spaces), step)
        shown = _decoded(pixels, objective.coding) if step >= coded_from else pixels
        gradient, values = gradients.of(turn, shown, views)
        coefficients.grad = spectrum.gradient(_desaturate(gradient, grey))
        optimizer.step()
        schedule.step()
        pixels = _desaturate(spectrum.pixels(coefficients).clamp_(0, 1), grey)
        coefficients.copy_(spectrum.coefficients(pixels))
        if step + 1 == config.iterations // 2:
            middle = to_uint8(pixels)
        if step % LOOK_EVERY == 0 or step + 1 == config.iterations:
            looks.append(_look(step, dict(zip(turn, values, strict=True)), config.aim))
        if on_step is not None:
            on_step(len(first))
    if not bool(torch.isfinite(pixels).all()):
        raise NumericalError(_not_finite(config.iterations, config.aim))
    return DistilledUnit(
        pixels=to_uint8(pixels).cpu(),
        start=to_uint8(first),
        middle=middle.cpu(),
        trace=torch.stack(looks) if looks else torch.zeros(0, 1 + 2 * len(TERMS)),
    )


def _decoded(pixels: Tensor, coding: Coding) -> Tensor:
    """The images as they will be read. Gradients at these pixels are those of the images: rounding
    is taken for the identity (straight-through).
    """
    if coding.is_lossless:
        return pixels
    return to_float(coding.seen(to_uint8(pixels).cpu()), pixels.device)


def _desaturate(images: Tensor, grey: Tensor) -> Tensor:
    """Remove the colour of the images (B, 3, R, R) that the mask grey (B,) selects."""
    return torch.where(grey.view(-1, 1, 1, 1), images.mean(1, keepdim=True), images)


def _turn(aim: Aim, spaces: int, step: int) -> tuple[int, ...]:
    """The spaces of a step: the teacher, which is number 0, and one of the pool, or that alone."""
    if spaces == 1:
        return (0,)
    pool = 1 + step % (spaces - 1)
    return (pool,) if aim == "convnet" else (0, pool)


def _look(step: int, values: Mapping[int, Tensor], aim: Aim) -> Tensor:
    """A row of the trace. values: the terms of each space of the step; 0 is the teacher."""
    if not all(bool(torch.isfinite(terms).all()) for terms in values.values()):
        raise NumericalError(_not_finite(step, aim))
    none = torch.zeros(len(TERMS))
    pool = [terms for space, terms in values.items() if space > 0]
    shown = [values.get(0, none).cpu(), (pool or [none])[0].cpu()]
    return torch.cat([torch.tensor([float(step)]), *shown])


def _not_finite(step: int, aim: Aim) -> str:
    if step == 0 and aim == "any":
        return (
            "the synthesis loss is not finite at its first step: the features of the networks are "
            "beyond float32, as of one that was hardly trained; raise `teacher.epochs`, choose "
            "another `backbone` or use `mixed_precision=no`"
        )
    return (
        f"the synthesis loss is not finite at step {step}; "
        + ("lower `synthesis.bn_weight` or " if aim == "any" else "")
        + "use `mixed_precision=no`"
    )
