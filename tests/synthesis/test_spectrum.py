"""The coordinates in which images move: exact, white on real images, and without grain."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from helpers.runs import embedded_table
from PIL import Image
from scipy.fft import dctn
from torch import Tensor

from wdistill.core.seeds import stream
from wdistill.synthesis.spectrum import (
    LEAST_DEVIATION,
    Spectrum,
    cosine_transform,
    measure_spectrum,
)


def coloured(count: int, size: int = 12) -> Tensor:
    """(count, 3, size, size) uint8: smooth pictures whose colours go together."""
    generator = stream(0, "pictures", count)
    waves = torch.rand(count, 1, 1, 1, generator=generator) * torch.linspace(0, 6, size)
    plain = 0.5 + 0.3 * torch.sin(waves + waves.transpose(2, 3) / 2)
    tint = 0.05 * torch.randn(count, 3, size, size, generator=generator)
    return ((plain + tint).clamp(0, 1) * 255).to(torch.uint8)


def fashion(per_class: int = 100) -> Tensor:
    cells = embedded_table("train", per_class)["image"].to_pylist()
    images = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells])
    return torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1)


def test_the_cosine_transform_is_orthonormal_and_scipys() -> None:
    matrix = cosine_transform(9)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(9, dtype=torch.float64))
    image = torch.rand(9, 9, dtype=torch.float64, generator=stream(0, "image"))
    expected = dctn(image.numpy(), type=2, norm="ortho")
    np.testing.assert_allclose((matrix @ image @ matrix.T).numpy(), expected, atol=1e-12)


def test_pixels_and_coefficients_are_each_others_inverse() -> None:
    images = coloured(40)
    spectrum = measure_spectrum(images.split(16))
    pixels = images[:7].float() / 255
    back = spectrum.pixels(spectrum.coefficients(pixels))
    torch.testing.assert_close(back, pixels, atol=1e-5, rtol=0)


@pytest.mark.parametrize("images", [coloured(400), fashion()], ids=["coloured", "fashion-mnist"])
def test_coefficients_of_the_images_are_standardised(images: Tensor) -> None:
    spectrum = measure_spectrum(images.split(128))
    z = spectrum.coefficients(images.float() / 255).double()
    varied = spectrum.deviation > 2 * LEAST_DEVIATION
    assert float(varied[-1].float().mean()) > 0.9  # the axis of most variance
    assert float(z.mean(0)[varied].abs().max()) < 1e-3
    torch.testing.assert_close(
        z.std(0, unbiased=False)[varied], torch.ones(int(varied.sum())).double(), atol=1e-2, rtol=0
    )


def test_colours_are_uncorrelated_axes() -> None:
    images = coloured(300)
    spectrum = measure_spectrum([images])
    torch.testing.assert_close(spectrum.colours @ spectrum.colours.T, torch.eye(3))
    x = images.float() / 255
    turned = torch.einsum("ak,bkhw->bahw", spectrum.colours, (x - x.mean(0)) / spectrum.places)
    cross = torch.einsum("bihw,bjhw->ij", turned, turned)
    assert float((cross - cross.diag().diag()).abs().max()) < 1e-3 * float(cross.max())


def test_grey_images_have_one_colour_that_moves() -> None:
    spectrum = measure_spectrum([fashion(20)])
    assert spectrum.deviation[:2].max() == pytest.approx(LEAST_DEVIATION)
    torch.testing.assert_close(spectrum.colours[2], torch.full((3,), 3**-0.5))


def test_the_gradient_is_autograds() -> None:
    spectrum = measure_spectrum([coloured(60)])
    weights = torch.randn(2, 3, 12, 12, generator=stream(0, "weights"))
    z = torch.randn(2, 3, 12, 12, generator=stream(0, "z")).requires_grad_()
    (spectrum.pixels(z) * weights).sum().backward()
    torch.testing.assert_close(spectrum.gradient(weights), z.grad)


def test_a_step_of_equal_size_has_little_grain() -> None:
    """Of a random unit step little energy lies in the finer half of the frequencies, three quarters
    of all, that white noise fills with three quarters of its own.
    """
    spectrum = measure_spectrum([fashion()])
    step = spectrum.pixels(torch.randn(200, 3, 28, 28, generator=stream(0, "step")))
    energy = Spectrum.coefficients(
        Spectrum(spectrum.transform, spectrum.colours, spectrum.mean, *2 * [torch.ones(())]), step
    ).square()
    fine = energy[:, :, 14:].sum() + energy[:, :, :14, 14:].sum()
    assert float(fine / energy.sum()) < 0.2


def test_a_border_that_is_black_in_all_images_stays_black() -> None:
    images = coloured(200)
    images[:, :, :3] = 0
    spectrum = measure_spectrum([images])
    z = spectrum.coefficients(images[:50].float() / 255)
    noise = torch.randn(z.shape, generator=stream(0, "step"))
    moved = spectrum.pixels(z + 0.1 * noise) - spectrum.pixels(z)
    assert float(moved[:, :, :3].std()) < 0.2 * float(moved[:, :, 3:].std())
    nothing = measure_spectrum([torch.zeros(4, 3, 8, 8, dtype=torch.uint8)])
    assert torch.equal(nothing.places, torch.ones(8, 8))


def test_batches_do_not_matter() -> None:
    images = coloured(50)
    whole, parts = measure_spectrum([images]), measure_spectrum(images.split(7))
    for name, value in vars(whole).items():
        torch.testing.assert_close(value, getattr(parts, name), atol=1e-5, rtol=1e-3)
