"""Files of tensors, as papers publish their sets: ``.pt`` and ``.npz``, never as running code.

What is read: a dictionary whose ``data`` is a list of [images, labels], one for each repetition
(DC, DSA, DM and DataDAM: github.com/VICO-UoE/DatasetCondensation, ``res_*.pt``); [images, labels]
(IDC, NCFM); a dictionary or ``.npz`` of images and labels by name (RFAD); and a tensor
of images with one of labels in the file beside it (MTT, DATM: ``images_best.pt`` and
``labels_best.pt``).
"""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from wdistill.core.text import clean
from wdistill.errors import DataError

SUFFIXES = (".pt", ".pth", ".npz")
IMAGES = ("images", "image", "data", "x", "x_train", "image_syn", "images_syn")
LABELS = ("labels", "label", "targets", "y", "y_train", "label_syn", "labels_syn")
_PAIR = 2
_CHANNELS = (1, 3)
Loaded = Tensor | Mapping[str, object] | list[object] | tuple[object, ...]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TensorSet:
    """Images and labels as they are stored.

    Attributes:
        name: Of the file.
        path: With its folders, whose names may say how it was made.
        images: (n, C, H, W) of any type, C 1 or 3.
        labels: (n,) classes, or (n, K) values for each class.
        bytes: Size of the images as they are stored.
    """

    name: str
    path: Path
    images: Tensor
    labels: Tensor
    bytes: int


def read_tensor_set(path: Path, which: str | None = None) -> TensorSet:
    """The images and labels in ``path``.

    Args:
        path: A file of ``SUFFIXES``.
        which: The number of the set, from 0, in a file that has several; None for the last.

    Raises:
        DataError: The file holds something else, or pickled objects, which are not read.
    """
    loaded = _load_numpy(path) if path.suffix == ".npz" else _load(path)
    images, labels = _pair(loaded, path, which)
    images, labels = _as_tensor(images, path), _as_tensor(labels, path)
    if images.dim() != 4:
        raise DataError(
            f"{path.name!r} has images of shape {_shape(images)}; four numbers are needed: images, "
            "channels, height and width"
        )
    if images.shape[1] not in _CHANNELS and images.shape[3] in _CHANNELS:
        images = images.permute(0, 3, 1, 2)
    if images.shape[1] not in _CHANNELS or images.shape[2] != images.shape[3]:
        raise DataError(
            f"{path.name!r} has images of shape {_shape(images)}; square ones with 1 or 3 channels "
            "are needed"
        )
    if labels.dim() not in (1, _PAIR) or len(labels) != len(images) or not len(images):
        raise DataError(
            f"{path.name!r} has {len(images):,} images and labels of shape {_shape(labels)}; one "
            "label, or one value for each class, is needed for each image"
        )
    size = images.numel() * images.element_size()
    return TensorSet(path.name, path, images, labels, size)


def load_tensor(path: Path) -> Tensor:
    """The one tensor in a .pt, .npy or .npz file.

    Raises:
        DataError: It holds something else.
    """
    loaded: object = _load_numpy(path) if path.suffix in (".npy", ".npz") else _load(path)
    if isinstance(loaded, Mapping):
        loaded = next(iter(loaded.values())) if len(loaded) == 1 else None
    return _as_tensor(loaded, path)


def _load(path: Path) -> Loaded:
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            loaded: Loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = clean(str(error).partition("Unsupported global: ")[2].partition(" was not")[0])
        named = f" ({first.removeprefix('GLOBAL ')})" if first else ""
        raise DataError(
            f"{path.name!r} holds pickled objects{named}, which are never run; save its images and "
            "labels as tensors: torch.save([images, labels], file)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        reason = clean(str(error).partition("\n")[0]) or type(error).__name__
        raise DataError(f"{path.name!r} cannot be read as a file of tensors: {reason}") from error
    return loaded


def _numpy_scalars() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """Numbers of NumPy, which the classic code stores beside its images as the accuracies of its
    students; rebuilding one runs no code of the file.
    """
    scalar = cast("Callable[..., object]", np.float64(0).__reduce__()[0])
    kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _load_numpy(path: Path) -> Mapping[str, object]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path.name!r} holds pickled objects, which are never run; save its images and "
                "labels as arrays of numbers"
            ) from error
        raise DataError(
            f"{path.name!r} cannot be read as a file of arrays: {clean(str(error))}"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path.name!r} cannot be read as a file of arrays: {clean(str(error))}"
        ) from error


def _pair(loaded: Loaded, path: Path, which: str | None) -> tuple[object, object]:
    """Images and labels, in whichever of the known forms."""
    if isinstance(loaded, Tensor):
        return loaded, _labels_beside(path)
    if isinstance(loaded, Mapping):
        data = loaded.get("data")
        if isinstance(data, list | tuple):
            return _one_of(data, path, which)
        images = next((loaded[name] for name in IMAGES if name in loaded), None)
        labels = next((loaded[name] for name in LABELS if name in loaded), None)
        if images is None or labels is None:
            names = ", ".join(sorted(clean(str(name)) for name in loaded)[:8]) or "nothing"
            raise DataError(
                f"{path.name!r} has {names}; images are looked for as {', '.join(IMAGES[:4])} and "
                f"labels as {', '.join(LABELS[:4])}"
            )
        return images, labels
    if isinstance(loaded, list | tuple) and loaded:
        return _one_of(loaded, path, which)
    raise DataError(f"{path.name!r} holds {type(loaded).__name__}, not images and labels")


def _one_of(
    data: list[object] | tuple[object, ...], path: Path, which: str | None
) -> tuple[object, object]:
    """[images, labels], or the one that is asked for of several of them."""
    if len(data) == _PAIR and not isinstance(data[0], list | tuple):
        return data[0], data[1]
    pairs = [each for each in data if isinstance(each, list | tuple) and len(each) == _PAIR]
    if not pairs or len(pairs) != len(data):
        raise DataError(f"{path.name!r} holds a list of {len(data)}, not [images, labels]")
    number = len(pairs) - 1
    if which is not None:
        if not (which.isdecimal() and int(which) < len(pairs)):
            raise DataError(
                f"`columns.train_split` is {which!r}, but {path.name!r} holds {len(pairs)} sets; "
                f"give a number from 0 to {len(pairs) - 1}"
            )
        number = int(which)
    elif len(pairs) > 1:
        logger.info(
            f"{path.name}: the last of {len(pairs)} sets; its number as the split chooses another"
        )
    images, labels = pairs[number]
    return images, labels


def _labels_beside(path: Path) -> Tensor:
    beside = path.with_name(path.name.replace("images", "labels", 1))
    if beside == path or not beside.is_file():
        raise DataError(
            f"{path.name!r} holds images alone; their labels belong in a file beside it, such as "
            "labels.pt beside images.pt"
        )
    labels = _load(beside)
    if not isinstance(labels, Tensor):
        raise DataError(f"{beside.name!r} holds {type(labels).__name__}, not a tensor of labels")
    return labels


def _as_tensor(value: object, path: Path) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor) and not value.is_complex():
        return value.detach()
    raise DataError(f"{path.name!r} holds {type(value).__name__} where numbers are needed")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "nothing"
