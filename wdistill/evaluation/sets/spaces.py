"""From stored tensors to pictures: the space of their values, and tiles that are decoded.

Papers store what their students see: pixels divided by 255, or normalised by the mean and deviation
of the dataset (DC, DSA, DM), or whitened (MTT, DataDAM, FRePo, RFAD). Whitened images are no
pictures, and students of theirs are tested on whitened images too, so they are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wdistill.config import Space
from wdistill.errors import DataError
from wdistill.evaluation.recipes.datasets import FIELD_DATASETS, field_dataset
from wdistill.evaluation.sets.tensors import TensorSet
from wdistill.evaluation.sets.tiles import decoded

EDGE = 1 / 255  # values so far beyond [0, 1] are rounding
PICTURE = 0.6  # correlation of neighbouring pixels above which images are taken for pictures
FLAT = 0.75  # deviation below which normalised images would have little contrast
FAR = 8.0  # beyond the mean, in deviations: no pixel of a normalised picture
_SUM = 1e-3


@dataclass(frozen=True)
class FileForm:
    """What is said of a file of tensors.

    Attributes:
        space: auto, pixels or normalised.
        tiles: A side of the grid of tiles in each stored image; None if it is to be read off the
            names of its folders (``factor2``), otherwise 1.
        dataset: Id of the real data, by whose name normalised values are undone.
    """

    space: Space = "auto"
    tiles: int | None = None
    dataset: str | None = None


@dataclass(frozen=True, eq=False)
class Pictures:
    """A set as students see it.

    Attributes:
        pixels: (n, H, W, 3).
        labels: (n,) int64.
        classes: Number of classes.
        soft: (n, classes) probabilities, or None.
        tiles: Images that were decoded from each stored one.
        notes: What was taken for granted or lost, one sentence each.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: int
    soft: NDArray[np.float32] | None
    tiles: int
    notes: tuple[str, ...]


def as_images(stored: TensorSet, form: FileForm) -> Pictures:
    """Undo the normalisation, decode the tiles, round to 8 bits.

    Raises:
        DataError: The values are whitened, are not finite, or their space cannot be told.
    """
    values, notes = _in_unit(stored, form)
    labels, soft, label_notes = _labels(stored)
    side = form.tiles or _factor_in(stored)
    if side > 1:
        values = decoded(values, side)
        labels = labels.repeat_interleave(side**2)
        soft = None if soft is None else soft.repeat_interleave(side**2, dim=0)
        notes.append(
            f"Each of the {len(stored.images):,} stored images is decoded to {side**2} "
            f"({side} x {side} tiles, enlarged bilinearly, as IDC does)."
        )
    beyond = float(((values < -EDGE) | (values > 1 + EDGE)).float().mean())
    if beyond > 0:
        notes.append(f"{100 * beyond:.2g} % of the values lie beyond black or white and are cut.")
    pixels = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()
    classes = int(labels.max()) + 1 if soft is None else soft.shape[1]
    return Pictures(
        pixels.numpy(),
        labels.numpy(),
        classes,
        None if soft is None else soft.numpy(),
        side**2,
        (*notes, *label_notes),
    )


def _factor_in(stored: TensorSet) -> int:
    """The factor that the names of the file and its folder say: ``..._factor2_...``."""
    found = re.search(r"factor(\d)(?!\d)", f"{stored.path.parent.name}/{stored.path.stem}")
    return max(1, int(found[1])) if found else 1


def _in_unit(stored: TensorSet, form: FileForm) -> tuple[Tensor, list[str]]:
    """The values as shares of white, (n, C, H, W) float32, and what was assumed."""
    values, name = stored.images.float(), stored.name
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"{name!r} has values that are not finite numbers; save it again")
    low, high = float(values.min()), float(values.max())
    if stored.images.dtype == torch.uint8:
        return values / 255, []
    if form.space == "pixels" or (form.space == "auto" and low >= -EDGE):
        if high > 1 + EDGE:
            return values / 255, [f"Values from {low:.3g} to {high:.3g} are taken for 0 to 255."]
        return values, []
    if form.space == "auto":
        _check_pictures(values, name)
    dataset = field_dataset(form.dataset or "")
    if dataset is None:
        known = ", ".join(each.name for each in FIELD_DATASETS)
        raise DataError(
            f"{name!r} has normalised values ({low:.2g} to {high:.2g}), which can be undone for "
            f"{known} alone, by the name of `against.dataset`; save it with pixels from 0 to 1"
        )
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (dataset.mean, dataset.std))
    if values.shape[1] == 1:
        mean, std = mean[:, :1], std[:, :1]
    how = "as was said" if form.space == "normalised" else "by their range"
    return values * std + mean, [f"The values are taken {how} for normalised as {dataset.name}."]


def _check_pictures(values: Tensor, name: str) -> None:
    """Raise DataError unless values with both signs are normalised pictures.

    Of pictures, neighbouring pixels correlate (0.93 in CIFAR-10) and the deviation is about 1 (1.2
    with the field's constants). Whitening takes out the correlation, and what remains of it: with
    the regularisation that papers use (0.1) a correlation of 0.35 and a deviation of 0.46, without
    any 0.0, 1.0 and values beyond 10 [own measurement on CIFAR-10].
    """
    correlation = _neighbours(values)
    if correlation >= PICTURE:
        return
    deviation, far = float(values.std()), float(values.abs().max())
    told = (
        f"from {float(values.min()):.2g} to {float(values.max()):.2g}, deviation {deviation:.2g}, "
        f"neighbouring pixels correlate by {correlation:.2f}"
    )
    if deviation < FLAT or far > FAR:
        raise DataError(
            f"{name!r} is ZCA-whitened, as its values show ({told}): its students are tested on "
            "whitened images, so no accuracy on ordinary ones would be a fair one; give a set that "
            "is not whitened"
        )
    raise DataError(
        f"{name!r} has values that may be normalised or whitened ({told}); if they are normalised, "
        "say `space=normalised`"
    )


def _neighbours(values: Tensor) -> float:
    """Correlation of the values of pixels that lie side by side."""
    left, right = values[..., :-1].flatten(), values[..., 1:].flatten()
    return float(torch.corrcoef(torch.stack([left, right]).double())[0, 1].nan_to_num())


def _labels(stored: TensorSet) -> tuple[Tensor, Tensor | None, list[str]]:
    """Classes (n,), probabilities (n, K) where the labels are such, and what is lost."""
    labels = stored.labels
    if labels.dim() == 1:
        whole = labels.double()
        if bool((whole != whole.round()).any()) or float(whole.min()) < 0:
            raise DataError(f"{stored.name!r} has labels that are no classes from 0 on")
        return whole.long(), None, []
    values = labels.float()
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"{stored.name!r} has labels that are not finite numbers; save it again")
    classes = values.argmax(1)
    if bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < _SUM).all()):
        return classes, values, []
    note = (
        "The labels are values for each class, but no probabilities; the largest of each image is "
        "taken for its class, and the rest is not used."
    )
    return classes, None, [note]
