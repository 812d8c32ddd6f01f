"""Small files as other tools publish their sets, made of real images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from helpers.runs import embedded_table

MEAN, STD = 0.2861, 0.3530  # of Fashion-MNIST, in the classic code


def real_images(per_class: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    """(n, 1, 28, 28) uint8 and (n,) classes of Fashion-MNIST, class by class."""
    table = embedded_table("train", per_class, classes)
    labels = table["label"].to_numpy()
    order = np.argsort(labels, kind="stable")
    cells = table["image"].to_pylist()
    arrays = [np.asarray(Image.open(io.BytesIO(cells[row]["bytes"]))) for row in order]
    return torch.from_numpy(np.stack(arrays))[:, None], torch.from_numpy(labels[order].copy())


def normalised(images: Tensor) -> Tensor:
    return (images.float() / 255 - MEAN) / STD


def classic_file(path: Path, per_class: int = 2, sets: int = 2) -> Path:
    """As main_DM.py saves it: several sets, and accuracies as NumPy's numbers beside them."""
    images, labels = real_images(per_class * sets)
    data = []
    for number in range(sets):
        rows = torch.arange(len(labels)).view(10, -1)[:, number * per_class :][:, :per_class]
        data.append([normalised(images[rows.flatten()]), labels[rows.flatten()]])
    torch.save({"data": data, "accs_all_exps": {"ConvNet": [np.float64(0.31)]}}, path)
    return path


def whitened(images: Tensor, regularisation: float = 0.1) -> Tensor:
    """ZCA of ``images`` (n, C, H, W), normalised ones, by their own covariance."""
    flat = images.flatten(1).double()
    centred = flat - flat.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / (len(flat) - 1))
    scale = (values.clamp(min=0) + regularisation).rsqrt()
    return (centred @ vectors * scale @ vectors.T).float().view_as(images)
