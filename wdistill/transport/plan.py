"""The transport result of a class: its atoms and the transport plan.

The transport plan T of a class says which real images each atom represents. In any network with
features Y' of the real images, the matching atoms are the plan-weighted means

    X' = diag(1/b) T Y'

so one plan, computed in the teacher's features, applies to any network.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wdistill.config import BarycenterConfig
from wdistill.core.files import read_tensors
from wdistill.core.settings import stable_hash
from wdistill.core.units import Tensors
from wdistill.errors import RunFolderError
from wdistill.transport.barycenter import Barycenter, Groups
from wdistill.transport.survey import ClassSurvey

STAGE = "transport"
LEAST_ENTRIES = 4  # per atom in a sample of a plan


@dataclass(frozen=True)
class Plan:
    """The nonzero entries of a class's transport plan T between n atoms and the real images.

    Attributes:
        rows: (m,) int64, the image of each entry, as a row of the training split.
        owner: (m,) int64, its atom.
        mass: (m,) float32, its mass; they sum to 1.
        atoms: The number of atoms, n.
    """

    rows: Tensor
    owner: Tensor
    mass: Tensor
    atoms: int

    def sample(self, size: int, generator: torch.Generator) -> Plan:
        """A stratified sample of about ``size`` entries, allocated to the atoms by mass, at least
        LEAST_ENTRIES each.

        Every atom keeps its mass exactly: the mass of its omitted entries is redistributed to those
        that are kept.
        """
        parts, mass = [], torch.zeros_like(self.mass)
        for atom in range(self.atoms):
            entries = (self.owner == atom).nonzero()[:, 0]
            total = self.mass[entries].sum()
            count = max(LEAST_ENTRIES, math.ceil(size * float(total)))
            if count < len(entries):
                entries = entries[torch.randperm(len(entries), generator=generator)[:count]]
            mass[entries] = self.mass[entries] * (total / self.mass[entries].sum())
            parts.append(entries)
        index = torch.cat(parts)
        return Plan(self.rows[index], self.owner[index], mass[index], self.atoms)


@dataclass(frozen=True)
class Atoms:
    """The barycenter of one class, and the real images nearest to its atoms.

    Attributes:
        positions: (n, d) float32.
        weights: (n,) float32, sum 1.
        nearest: (n,) int64, the real image nearest to each atom as a row of the training split; no
            image occurs twice.
    """

    positions: Tensor
    weights: Tensor
    nearest: Tensor


@dataclass(frozen=True)
class ClassTransport:
    """What later stages need to know about the real images of one class.

    Attributes:
        atoms: The barycenter.
        plan: Which real images its atoms represent.
        spread: E ||y - E y||^2 of the class's features, the total variance.
        means: Per norm layer (channels,) float32, the mean of the layer's input over the class;
            empty where the network has no norm layers.
        variances: The variance, likewise.
        grey: Whether no image of the class has any colour.
        w2: The exact W2^2 between the barycenter and the features.
        w2_random: The mean W2^2 of as many random real features.
    """

    atoms: Atoms
    plan: Plan
    spread: float
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]
    grey: bool
    w2: float
    w2_random: float

    def to_tensors(self, label: int) -> Tensors:
        """Tensors for the file of a unit, every name prefixed by the class's label."""
        tensors = {
            "atoms": self.atoms.positions,
            "weights": self.atoms.weights,
            "nearest": self.atoms.nearest,
            "plan.rows": self.plan.rows,
            "plan.owner": self.plan.owner,
            "plan.mass": self.plan.mass,
            "spread": torch.tensor(self.spread, dtype=torch.float32),
            "channels": torch.tensor([len(layer) for layer in self.means], dtype=torch.int64),
            "means": torch.cat([torch.empty(0), *self.means]),
            "variances": torch.cat([torch.empty(0), *self.variances]),
            "grey": torch.tensor(self.grey),
            "w2": torch.tensor([self.w2, self.w2_random], dtype=torch.float64),
        }
        return {f"{label}.{name}": tensor for name, tensor in tensors.items()}

    @classmethod
    def from_tensors(cls, tensors: Tensors, label: int) -> ClassTransport:
        """The inverse of :meth:`to_tensors`."""
        start = f"{label}."
        part = {
            name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)
        }
        channels = part["channels"].tolist()
        w2, w2_random = part["w2"].tolist()
        atoms = Atoms(part["atoms"], part["weights"], part["nearest"])
        return cls(
            atoms=atoms,
            plan=Plan(part["plan.rows"], part["plan.owner"], part["plan.mass"], len(atoms.weights)),
            spread=float(part["spread"]),
            means=part["means"].split(channels) if channels else (),
            variances=part["variances"].split(channels) if channels else (),
            grey=bool(part["grey"]),
            w2=w2,
            w2_random=w2_random,
        )


def class_transport(
    survey: ClassSurvey, barycenter: Barycenter, rows: Tensor, shares: Tensor
) -> ClassTransport:
    """Combine the survey and the barycenter of a class.

    Args:
        survey: The survey of the class's images.
        barycenter: The barycenter of the survey's features.
        rows: (N_c,) int64, the class's images as rows of the training split.
        shares: (N_c,) float32, sum 1, the share of each image.
    """
    centre = shares @ survey.features
    spread = shares @ (survey.features - centre).square().sum(1)
    return ClassTransport(
        atoms=Atoms(barycenter.atoms, barycenter.weights, rows[barycenter.nearest]),
        plan=Plan(
            rows[barycenter.rows], barycenter.owner, barycenter.mass, len(barycenter.weights)
        ),
        spread=float(spread),
        means=survey.means,
        variances=survey.variances,
        grey=survey.grey,
        w2=barycenter.w2,
        w2_random=barycenter.w2_random,
    )


@dataclass(frozen=True)
class TransportUnit:
    """The classes of one unit, by their labels."""

    classes: Mapping[int, ClassTransport]

    def to_tensors(self) -> Tensors:
        tensors: Tensors = {}
        for label, transport in self.classes.items():
            tensors |= transport.to_tensors(label)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> TransportUnit:
        labels = sorted(int(name.split(".")[0]) for name in tensors if name.endswith(".atoms"))
        return cls({label: ClassTransport.from_tensors(tensors, label) for label in labels})


def transport_key(
    features_key: str,
    config: BarycenterConfig,
    counts: Sequence[int],
    seed: int,
    groups: Groups | None,
) -> str:
    """A hash of everything that the barycenters depend on.

    counts: atoms of each class, whatever ``config`` says of their number;
    groups: (N,) int64, the group of every training image; None if there are no groups.
    """
    digest = None if groups is None else hashlib.sha256(groups.tobytes()).hexdigest()
    numbers = ("ipc", "images", "allocation")
    settings = {name: value for name, value in vars(config).items() if name not in numbers}
    given = [features_key, settings, list(counts), seed, digest, STAGE, "with moments"]
    return stable_hash(given)


def stored_atoms(work: Path, key: str, classes: int) -> list[Atoms] | None:
    """The atoms of every class as a run wrote them into its folder ``work``.

    None if any are absent, damaged, or have another key. The files record which classes they hold,
    so the grouping of classes into units does not matter.
    """
    atoms: dict[int, Atoms] = {}
    for path in sorted(work.glob(f"{STAGE}-*.safetensors")):
        try:
            tensors, metadata = read_tensors(path)
        except RunFolderError:
            continue
        if metadata.get("key") != key:
            continue
        unit = TransportUnit.from_tensors(tensors)
        atoms |= {label: transport.atoms for label, transport in unit.classes.items()}
    if atoms.keys() != set(range(classes)):
        return None
    return [atoms[label] for label in range(classes)]
