"""Values of other tools as pictures: what is undone, decoded, cut, and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.foreign import normalised, real_images, whitened
from torch import Tensor

from wdistill.errors import DataError
from wdistill.evaluation.sets.spaces import FileForm, Pictures, as_images
from wdistill.evaluation.sets.tensors import TensorSet
from wdistill.evaluation.sets.tiles import decoded

FASHION = FileForm(dataset="zalando-datasets/fashion_mnist")


def stored(images: Tensor, labels: Tensor | None = None, path: str = "set.pt") -> TensorSet:
    labels = torch.arange(len(images)) % 10 if labels is None else labels
    return TensorSet(Path(path).name, Path(path), images, labels, images.nbytes)


def pixels_of(images: Tensor, form: FileForm = FASHION) -> np.ndarray:
    return as_images(stored(images), form).pixels


@pytest.mark.parametrize("form", ["uint8", "unit", "0 to 255", "normalised"])
def test_the_pixels_come_back_whatever_was_stored(form: str) -> None:
    images, _ = real_images(3)
    values = {
        "uint8": images,
        "unit": images.float() / 255,
        "0 to 255": images.float(),
        "normalised": normalised(images),
    }[form]
    found = as_images(stored(values), FASHION)
    wanted = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found.pixels, wanted)
    assert found.pixels.dtype == np.uint8
    assert any("normalised as Fashion-MNIST" in note for note in found.notes) == (
        form == "normalised"
    )


def test_normalised_values_need_the_name_of_the_dataset() -> None:
    images, _ = real_images(1)
    with pytest.raises(DataError, match=r"normalised values .* undone for CIFAR-10, CIFAR-100"):
        pixels_of(normalised(images), FileForm(dataset="my-photos"))
    colour = normalised(images).expand(-1, 3, -1, -1)
    other = pixels_of(colour, FileForm(dataset="cifar10"))
    assert not np.array_equal(other, pixels_of(colour))


@pytest.mark.parametrize("regularisation", [0.1, 1e-4])
def test_whitened_images_are_refused_with_the_reason(regularisation: float) -> None:
    images, _ = real_images(120)
    values = whitened(normalised(images), regularisation)[:100]
    with pytest.raises(DataError) as caught:
        pixels_of(values)
    assert "is ZCA-whitened, as its values show" in str(caught.value)
    assert "neighbouring pixels correlate by" in str(caught.value)
    with pytest.raises(DataError, match="ZCA-whitened"):
        pixels_of(values.expand(-1, 3, -1, -1))


def test_what_may_be_either_is_asked_for() -> None:
    noise = torch.randn(20, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=r"may be normalised or whitened .* say `space=normalised`"):
        pixels_of(noise)
    found = as_images(stored(noise), replace(FASHION, space="normalised"))
    assert "as was said" in found.notes[0]
    assert "are cut" in found.notes[1]


def test_synthetic_images_with_some_noise_are_still_pictures() -> None:
    images, _ = real_images(5)
    generator = torch.Generator().manual_seed(0)
    noisy = normalised(images) + 0.5 * torch.randn(images.shape, generator=generator)
    found = as_images(stored(noisy), FASHION)
    (share,) = [note for note in found.notes if "are cut" in note]
    beyond = noisy * 0.3530 + 0.2861
    wanted = 100 * float(((beyond < -1 / 255) | (beyond > 1 + 1 / 255)).float().mean())
    assert float(share.split()[0]) == pytest.approx(wanted, rel=0.06)


@pytest.mark.parametrize(("side", "size"), [(2, 32), (3, 32), (2, 28), (3, 28)])
def test_tiles_are_cut_and_enlarged_as_idc_does(side: int, size: int) -> None:
    images = torch.rand(4, 3, size, size)
    found = decoded(images, side)
    assert found.shape == (4 * side**2, 3, size, size)
    tile = -(-size // side)
    whole = torch.full((4, 3, tile * side, tile * side), 0.5)
    whole[:, :, :size, :size] = images
    for number in range(side**2):
        row, column = divmod(number, side)
        cut = whole[:, :, row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
        wanted = torch.nn.functional.interpolate(cut, (size, size), mode="bilinear")
        assert torch.allclose(found[number :: side**2], wanted, atol=1e-6)


def test_decoding_keeps_the_labels_of_each_image() -> None:
    images, labels = real_images(2)
    soft = torch.nn.functional.one_hot(labels, 10).float() * 0.9 + 0.01
    found = as_images(stored(images, soft), replace(FASHION, tiles=2))
    assert found.tiles == 4
    assert found.labels.tolist() == labels.repeat_interleave(4).tolist()
    assert found.soft is not None
    assert np.allclose(found.soft, soft.repeat_interleave(4, 0).numpy())
    assert any("is decoded to 4 (2 x 2 tiles" in note for note in found.notes)


def test_the_factor_is_read_off_the_name_of_the_folder() -> None:
    images, labels = real_images(1)

    def tiles(path: str, form: FileForm = FASHION) -> Pictures:
        return as_images(stored(images, labels, path), form)

    assert tiles("cifar10/conv3in_grad_mse_nd2000_factor2_lr0.005_mix_ipc10/data.pt").tiles == 4
    assert tiles("a/data_factor3.pt").tiles == 9
    assert tiles("a/factor20/data.pt").tiles == 1
    assert tiles("a/x_factor2_y/data.pt", replace(FASHION, tiles=1)).tiles == 1


def test_labels_that_are_no_probabilities_are_taken_as_classes_and_it_is_said() -> None:
    images, labels = real_images(1)
    centred = torch.nn.functional.one_hot(labels, 10).float() - 0.1  # RFAD's
    found = as_images(stored(images, centred), FASHION)
    assert found.soft is None
    assert found.labels.tolist() == labels.tolist()
    assert "no probabilities" in found.notes[-1]


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.full((2, 3, 8, 8), torch.nan), torch.tensor([0, 1]), "not finite"),
        (torch.rand(2, 3, 8, 8), torch.tensor([0.5, 1]), "no classes from 0 on"),
        (torch.rand(2, 3, 8, 8), torch.tensor([-1, 1]), "no classes from 0 on"),
        (torch.rand(2, 3, 8, 8), torch.tensor([[torch.inf, 0], [0, 1]]), "not finite"),
    ],
)
def test_numbers_that_make_no_set_are_refused(images: Tensor, labels: Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_images(stored(images, labels), FASHION)
