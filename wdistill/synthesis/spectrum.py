"""Pixel coordinates in which real images vary equally.

Real images are smooth: their energy falls with frequency, and their colour channels are correlated.
A step of equal size in every pixel is mostly noise that real images lack. Here an image x is
parametrised by

    z = (C(x / p) - m) / s,   C(x)_a = D (sum_k U_ak x_k) D^T

with the orthonormal cosine transform D along both axes, the principal colour axes U, the mean m and
deviation s of each coefficient over the real images, and the deviation p of each pixel, scaled to a
mean square of 1. A step in z changes each coefficient in proportion to its deviation in real
images, and hardly changes pixels that are the same in all images, such as a black border. Spectra
of natural images: Field 1987; images optimised in such coordinates: Olah et al. 2017, "Feature
Visualization". The paper optimises the pixels themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wdistill.core.machine.transfer import to_device
from wdistill.data.pixels import to_float

LEAST_DEVIATION = (
    1e-4  # in pixel units: coefficients that are constant in real images hardly change
)
LEAST_PLACE = 0.1  # of p


@dataclass(frozen=True)
class Spectrum:
    """The coordinates z, all float32.

    Attributes:
        transform: (R, R), D.
        colours: (3, 3), U; rows are axes.
        mean: (3, R, R), m.
        deviation: (3, R, R), s.
        places: (R, R), p.
    """

    transform: Tensor
    colours: Tensor
    mean: Tensor
    deviation: Tensor
    places: Tensor

    def to(self, device: torch.device) -> Spectrum:
        return Spectrum(*(value.to(device) for value in vars(self).values()))

    def coefficients(self, pixels: Tensor) -> Tensor:
        """z (B, 3, R, R) of pixels (B, 3, R, R) in [0, 1]."""
        normalised = pixels / self.places
        return (_cosine(normalised, self.transform, self.colours) - self.mean) / self.deviation

    def pixels(self, coefficients: Tensor) -> Tensor:
        """The inverse of :meth:`coefficients`; not clamped."""
        scaled = coefficients * self.deviation + self.mean
        return _cosine(scaled, self.transform.T, self.colours.T) * self.places

    def gradient(self, pixel_gradient: Tensor) -> Tensor:
        """dL/dz from dL/dx."""
        normalised = pixel_gradient * self.places
        return _cosine(normalised, self.transform, self.colours) * self.deviation


def _cosine(images: Tensor, transform: Tensor, colours: Tensor) -> Tensor:
    rotated = torch.einsum("ak,bkhw->bahw", colours, images)
    return transform @ rotated @ transform.T


def cosine_transform(size: int) -> Tensor:
    """(size, size) orthonormal DCT-II, float64; row k is the k-th frequency."""
    place, frequency = torch.arange(size, dtype=torch.float64), torch.arange(size)[:, None]
    matrix = torch.cos(math.pi * (place + 0.5) * frequency / size) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def measure_spectrum(
    batches: Sequence[Tensor],
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> Spectrum:
    """Spectrum of a sample of real images; batches: (b, 3, R, R) uint8. Returns float32.

    ``device`` does the work, if it has float64; the result is on the CPU.
    """
    device = torch.device("cpu") if device.type == "mps" else device
    count = sum(len(batch) for batch in batches)
    places = _places(batches, count, device)
    transform = cosine_transform(batches[0].shape[-1]).float().to(device)
    sums = products = torch.zeros((), device=device)
    identity = torch.eye(3, device=device)
    for batch in batches:
        normalised = to_float(batch, device) / places
        plain = _cosine(normalised, transform, identity).double()
        sums = sums + plain.sum(0)
        products = products + torch.einsum("bihw,bjhw->ijhw", plain, plain)
    sums, products, places, transform = (
        value.cpu() for value in (sums, products, places, transform)
    )
    mean = sums / count
    # The moments of all pairs of channels give those of the rotated channels.
    covariance = products / count - mean[:, None] * mean
    colours = _axes(covariance.sum((2, 3)))
    variance = torch.einsum("ai,ijhw,aj->ahw", colours, covariance, colours)
    return Spectrum(
        transform,
        colours.float(),
        torch.einsum("ai,ihw->ahw", colours, mean).float(),
        variance.clamp(min=LEAST_DEVIATION**2).sqrt().float(),
        places,
    )


def _places(batches: Sequence[Tensor], count: int, device: torch.device) -> Tensor:
    """(R, R) deviation of each pixel over images and channels, relative to its root mean square."""
    sums = squares = torch.zeros((), device=device)
    for batch in batches:
        pixels = to_device(batch, device).double() / 255
        sums, squares = sums + pixels.sum(0), squares + pixels.square().sum(0)
    variance = (squares / count - (sums / count) ** 2).clamp(min=0).mean(0)
    if not float(variance.max()):
        return torch.ones_like(variance, dtype=torch.float32)
    return (variance / variance.mean()).sqrt().clamp(min=LEAST_PLACE).float()


def _axes(cross: Tensor) -> Tensor:
    """Principal axes as rows; the largest entry is positive, so that LAPACK does not set signs."""
    axes: Tensor = torch.linalg.eigh(cross).eigenvectors.T
    return axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
