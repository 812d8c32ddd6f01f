"""The atoms behind a set: as its run has stored them, or computed from real features."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wdistill.config import BarycenterConfig, stable_hash
from wdistill.core.files import read_tensors
from wdistill.errors import RunFolderError
from wdistill.transport.barycenter import Barycenter, barycenter, barycenter_of_groups

STAGE = "transport"


@dataclass(frozen=True)
class Atoms:
    """Of one class. positions: (n, d) float32; weights: (n,) float32, sum 1; rows: (n,) int64 of
    the training split, the real image nearest to each atom, none of them twice.
    """

    positions: Tensor
    weights: Tensor
    rows: Tensor


def transport_key(
    features_key: str, config: BarycenterConfig, seed: int, groups: np.ndarray | None
) -> str:
    """What the barycenters depend on; groups: (N,) int64 of all training images, or None."""
    digest = None if groups is None else hashlib.sha256(groups.tobytes()).hexdigest()
    return stable_hash([features_key, vars(config), seed, digest, STAGE, "with moments"])


def class_barycenter(
    features: Tensor,
    rows: Tensor,
    groups: np.ndarray | None,
    config: BarycenterConfig,
    generator: torch.Generator,
) -> Barycenter:
    """Barycenter of a class, or of the groups in it.

    features: (N, d); rows: (N,) of the training split; groups: of all training images, or None.
    """
    if groups is None:
        return barycenter(features, config, generator)
    own = torch.from_numpy(groups)[rows]
    return barycenter_of_groups(features, own, config, generator, config.group_weights)


def row_shares(rows: Tensor, groups: np.ndarray | None, config: BarycenterConfig) -> Tensor:
    """(N,) float32, sum 1: what each image of a class counts in its barycenter, which is the column
    sums of the plan. rows, groups: as in :func:`class_barycenter`.
    """
    if groups is None or config.group_weights == "proportional":
        return torch.full((len(rows),), 1 / len(rows))
    _, member, counts = np.unique(groups[rows.numpy()], return_inverse=True, return_counts=True)
    return torch.from_numpy(1 / (len(counts) * counts[member])).float()


def stored_atoms(work: Path, key: str, classes: int) -> list[Atoms] | None:
    """Of every class, as the run wrote them into ``work``; None if any are absent, damaged, or of
    another key. The files say themselves which classes they hold.
    """
    stored: dict[int, Atoms] = {}
    for path in sorted(work.glob(f"{STAGE}-*.safetensors")):
        try:
            tensors, metadata = read_tensors(path)
        except RunFolderError:
            continue
        if metadata.get("key") != key:
            continue
        labels = [int(name.split(".")[0]) for name in tensors if name.endswith(".atoms")]
        for label in labels:
            parts = (tensors[f"{label}.{name}"] for name in ("atoms", "weights", "nearest"))
            stored[label] = Atoms(*parts)
    if stored.keys() != set(range(classes)):
        return None
    return [stored[label] for label in range(classes)]


def told_settings(manifest: dict[str, Any] | None, ipc: int) -> BarycenterConfig:
    """The settings of the barycenters of a set, as its manifest tells them, else the defaults."""
    told = (manifest or {}).get("config", {}).get("barycenter")
    known = told if isinstance(told, dict) else {}
    names = [name for name in ("weights", "group_weights") if name in known]
    return BarycenterConfig(ipc=ipc, **{name: known[name] for name in names})
