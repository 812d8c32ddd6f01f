"""Feature spaces: networks in which distilled images should look like the real ones they stand for.

The transport plan T of a class says which real images each atom stands for. In any network with
features Y' of the real images the matching atoms are the plan-weighted means

    X' = diag(1/b) T Y'

so one plan, computed in the teacher's features, serves many networks. Beyond the paper, which knows
the teacher alone. Random networks of the field's ConvNet are the default pool: randomly initialised
networks as feature spaces are from distribution matching (Zhao and Bilen, arXiv 2110.04181).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """Which real images the n atoms of a class stand for: the nonzero entries of T.

    rows: (m,) rows of the training split; owner: (m,) atom; mass: (m,) float32, sum 1.
    """

    rows: Tensor
    owner: Tensor
    mass: Tensor
    atoms: int

    def sample(self, most: int, generator: torch.Generator) -> Plan:
        """About ``most`` entries, shared out over the atoms by their mass, at least 4 of each.

        Stratified, so that every atom keeps its mass exactly: each entry kept stands for those of
        its atom that are left out.
        """
        kept, mass = [], torch.zeros_like(self.mass)
        for atom in range(self.atoms):
            mine = (self.owner == atom).nonzero()[:, 0]
            total = self.mass[mine].sum()
            count = max(4, math.ceil(most * float(total)))
            if count < len(mine):
                mine = mine[torch.randperm(len(mine), generator=generator)[:count]]
            mass[mine] = self.mass[mine] * (total / self.mass[mine].sum())
            kept.append(mine)
        index = torch.cat(kept)
        return Plan(self.rows[index], self.owner[index], mass[index], self.atoms)
