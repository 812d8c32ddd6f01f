"""What an evaluation compares: a set of images with real images, by a teacher and students."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from wdistill.artifact.candidate import Candidate, mean_one, weights_alike
from wdistill.artifact.report import EvaluatedSet, Recipe
from wdistill.config import BarycenterConfig, Baseline, RecipeName, RelabelConfig, StudentConfig
from wdistill.core.machine.graphs import GraphSwitch
from wdistill.core.seeds import stream
from wdistill.core.settings import Precision
from wdistill.data.content.coding import Coding, file_sizes
from wdistill.data.dataset import ImageData
from wdistill.data.pixels import PixelStore
from wdistill.errors import DataError, OptionError
from wdistill.evaluation.recipes.datasets import Colour, FieldDataset, field_dataset
from wdistill.evaluation.recipes.named import NAMED
from wdistill.evaluation.sets.baselines import TILES, easiest, herding, k_centre
from wdistill.evaluation.sets.early import early_errors
from wdistill.evaluation.students import STORED
from wdistill.evaluation.training import recipe_for
from wdistill.labels.committee import LabelGiver
from wdistill.networks.checkpoints.source import BackboneSource
from wdistill.networks.features import FeatureNetwork
from wdistill.transport.barycenter import class_barycenter, groups_of
from wdistill.transport.plan import Atoms, stored_atoms, transport_key
from wdistill.transport.survey import survey_class

NEED_TEACHER = ("nearest", "herding", "k-centre")  # baselines that are chosen by its features
SURVEY_BATCH = 128
SIZE_SAMPLE = 200  # real images from which the mean size of all is estimated


@dataclass(frozen=True)
class Protocol:
    """Which students are trained, on what, and how.

    Attributes:
        equivalents: Whether to train students on growing numbers of random real images until they
            match the set.
        relabel: How the teacher labels real images for students that learn soft labels.
        recipe: Name of how they are trained.
    """

    students: StudentConfig
    baselines: tuple[Baseline, ...] = ("random",)
    augmentation_robust: bool = False
    equivalents: bool = True
    relabel: RelabelConfig = field(default_factory=RelabelConfig)
    recipe: RecipeName = "default"
    seed: int = 0
    mixed_precision: Precision = "no"


@dataclass(frozen=True, eq=False)
class EvaluationTeacher:
    """A network that classifies the dataset's classes.

    Attributes:
        name: Published name.
        digest: SHA-256 of its weights.
        features_key: A hash of everything that its features of the real images depend on.
        accuracy: Top-1 on the test images; None if not yet measured.
    """

    name: str
    network: FeatureNetwork
    digest: str
    features_key: str
    accuracy: float | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything an evaluation needs, opened and checked.

    Attributes:
        candidate: The images of the set.
        data_seed: Seed of the hold-out split, for real data without a test split.
        barycenter: Settings of the set's atoms.
        work: Work folder of the set's run with the stored atoms; None if the set is not a run.
        coding: How the files of its images are coded; real images are coded alike.
        grey: Whether they are read as grey images.
        image_bytes: Size of these files; None if it is not known, and they are taken for PNG.
        label_bytes: Size of the files of its label views.
        weighted: Whether its images came with weights.
        tiles: Images that students see of each stored one.
        giver: The network or committee that gave its labels, to label real images alike; None if
            it is not there.
        giver_key: A hash of everything that its labels depend on.
        hard_soft: Whether the soft label of an image is its class.
        construction: Seconds that it took to make the set, teacher included; None if not known.
        graphs: Whether students use CUDA graphs.
    """

    evaluated: EvaluatedSet
    candidate: Candidate
    protocol: Protocol
    real: ImageData
    train: PixelStore
    test: PixelStore
    teacher: EvaluationTeacher | None
    students: Mapping[str, BackboneSource]
    accelerator: Accelerator
    quiet: bool
    data_seed: int
    barycenter: BarycenterConfig
    work: Path | None = None
    coding: Coding = field(default_factory=Coding)
    grey: bool = False
    image_bytes: int | None = None
    label_bytes: int = 0
    weighted: bool = True
    tiles: int = 1
    giver: LabelGiver | None = None
    giver_key: str = ""
    hard_soft: bool = False
    construction: float | None = None
    graphs: GraphSwitch = field(default_factory=GraphSwitch)

    @property
    def classes(self) -> int:
        return len(self.real.class_names)

    @property
    def field_dataset(self) -> FieldDataset | None:
        """What the field's tables call the real data, by name."""
        return field_dataset(self.real.source.id)

    @property
    def colours(self) -> tuple[Colour, Colour] | None:
        """Mean and deviation by which the recipe has its students see images; None for those of
        the training images.
        """
        named, known = NAMED.get(self.protocol.recipe), self.field_dataset
        if named is None or not named.field_colours or known is None:
            return None
        return known.mean, known.std

    @cached_property
    def recipes(self) -> tuple[Recipe, ...]:
        """How every student is trained: once with each optimiser."""
        protocol, count = self.protocol, len(self.candidate.labels)
        students, name = protocol.students, protocol.recipe
        return tuple(
            recipe_for(students, count, name, self.field_dataset, optimizer)
            for optimizer in dict.fromkeys(students.optimizers)
        )

    @property
    def counts(self) -> list[int]:
        """Number of stored images of the set per class."""
        counts = torch.bincount(self.candidate.labels, minlength=self.classes) // self.tiles
        return counts.tolist()

    @property
    def ipc(self) -> int:
        """Stored images per class, rounded where classes differ; others get as many real ones."""
        return max(1, self.candidate.ipc // self.tiles)

    @property
    def unequal(self) -> tuple[int, ...] | None:
        """Number of stored images per class, where classes differ in it."""
        counts = tuple(self.counts)
        return counts if len(set(counts)) > 1 else None

    def rows(self, label: int) -> Tensor:
        """Rows of the training split that belong to class ``label``."""
        return (self.train.labels == label).nonzero()[:, 0]

    @cached_property
    def features(self) -> list[Tensor]:
        """The teacher's features of the real training images, class by class."""
        if self.teacher is None:
            return []
        features = []
        for c in range(self.classes):
            rows = self.rows(c)
            batches = self.train.batches(rows, SURVEY_BATCH)
            survey = survey_class(self.teacher.network, batches, torch.ones(len(rows)))
            features.append(survey.features)
        return features

    @cached_property
    def transport(self) -> list[Atoms]:
        """The atoms of each class, one per image of the set. They are read from the set's run if it
        stored them for the same real images and teacher, otherwise computed.
        """
        config, seed = self.barycenter, self.data_seed
        if self.work is not None and self.teacher is not None:
            all_groups = self.train.whole.split.groups
            key = transport_key(self.teacher.features_key, config, self.counts, seed, all_groups)
            atoms_of_run = stored_atoms(self.work, key, self.classes)
            if atoms_of_run is not None:
                return [self._of_train(class_atoms) for class_atoms in atoms_of_run]
        atoms, groups = [], self.real.train.groups
        for c, features in enumerate(self.features):
            of_class = replace(config, ipc=min(self.counts[c], len(features)))
            rows, draw = self.rows(c), stream(seed, "transport", c)
            result = class_barycenter(features, of_class, draw, groups_of(groups, rows))
            atoms.append(Atoms(result.atoms, result.weights, rows[result.nearest]))
        return atoms

    def _of_train(self, atoms: Atoms) -> Atoms:
        """Atoms of a run, whose rows are those of all images that were there."""
        return replace(atoms, nearest=torch.searchsorted(self.train.rows, atoms.nearest))

    @cached_property
    def set_bytes(self) -> int:
        """Size of all image files of the set."""
        if self.image_bytes is not None:
            return self.image_bytes
        return sum(file_sizes(self.candidate.pixels, self.coding, self.grey))

    @cached_property
    def real_bytes(self) -> float:
        """Mean size of a real training image under the same coding, over a sample."""
        order = torch.randperm(len(self.train), generator=stream(0, "png"))[:SIZE_SAMPLE]
        return float(np.mean(file_sizes(self.train.get(order), self.coding, self.grey)))


def check(comparison: Comparison) -> None:
    """Check that students can be trained as the protocol says.

    Raises:
        OptionError: the set has no such labels, or they need a teacher and there is none.
        DataError: a class has fewer real images than the set.
    """
    protocol, candidate = comparison.protocol, comparison.candidate
    labels, baselines = protocol.students.labels, protocol.baselines
    name = comparison.evaluated.id
    if "soft" in labels and candidate.soft is None:
        raise OptionError(
            f"{name!r} has no soft labels (a column 'soft_label' of one probability per class); "
            "choose `evaluate.labels` hard or teacher"
        )
    if "views" in labels and candidate.views is None:
        raise OptionError(
            f"{name!r} has no labels of views (a configuration 'soft_labels'); distil it with "
            "`label_views.count`, or choose `evaluate.labels` hard, soft or teacher"
        )
    needs = [f"`evaluate.labels` {kind}" for kind in ("teacher",) if kind in labels]
    needs += [f"`baselines` {kind}" for kind in NEED_TEACHER if kind in baselines]
    if needs and comparison.teacher is None:
        raise OptionError(
            f"{needs[0]} needs a network that knows the classes; name one with `teacher`"
        )
    stored = [kind for kind in STORED if kind in labels]
    if (
        {*baselines} - {"noise"}
        and stored
        and comparison.giver is None
        and not comparison.hard_soft
    ):
        raise OptionError(
            f"`evaluate.labels` {stored[0]} with `baselines` needs a network that labels real "
            "images as those of the set; name one with `teacher`"
        )
    counts = np.bincount(comparison.real.train.labels, minlength=comparison.classes)
    required = np.array(comparison.counts)
    kind = "set"
    if "tiles" in baselines:
        kind, required = "tiles", required * TILES**2
    least = int((counts - required).argmin())
    if {*baselines} - {"noise"} and counts[least] < required[least]:
        raise DataError(
            f"class {comparison.real.class_names[least]!r} of {comparison.real.source.id!r} has "
            f"{counts[least]} real images, fewer than the {required[least]} of the {kind}; leave "
            "out `baselines` or choose another `against.dataset`"
        )


def baseline_rows(comparison: Comparison) -> dict[str, tuple[Tensor, Tensor]]:
    """Rows of the training split and their weights, for the baselines that need features."""
    selections: dict[str, tuple[Tensor, Tensor]] = {}
    if "herding" in comparison.protocol.baselines:
        features, counts = comparison.features, comparison.counts
        parts = [
            comparison.rows(c)[herding(features[c], counts[c])] for c in range(comparison.classes)
        ]
        rows = torch.cat(parts)
        selections["herding"] = rows, _weights(comparison, rows)
    if "nearest" in comparison.protocol.baselines:
        atoms = comparison.transport
        rows = torch.cat([class_atoms.nearest for class_atoms in atoms])
        weights = torch.cat([class_atoms.weights for class_atoms in atoms]).float()
        selections["nearest"] = rows, mean_one(weights, comparison.train.labels[rows])
    for kind, rows in _unweighted(comparison).items():
        selections[kind] = rows, _weights(comparison, rows)
    return selections


def _weights(comparison: Comparison, rows: Tensor) -> Tensor:
    """Of real images that have none of their own."""
    if comparison.unequal is None:
        return torch.ones(len(rows))
    return weights_alike(comparison.candidate, comparison.train.labels[rows])


def _unweighted(comparison: Comparison) -> dict[str, Tensor]:
    """Rows of the baselines that are real images as they are."""
    baselines, counts = comparison.protocol.baselines, comparison.counts
    seed, train = comparison.protocol.seed, comparison.train
    selections = {}
    if "k-centre" in baselines:
        parts = [
            comparison.rows(c)[k_centre(features, counts[c], stream(seed, "k-centre", c))]
            for c, features in enumerate(comparison.features)
        ]
        selections["k-centre"] = torch.cat(parts)
    if {"easy", "tiles"} & {*baselines}:
        names, device = comparison.real.class_names, comparison.accelerator.device
        errors = early_errors(train, names, seed, device)
        if "easy" in baselines:
            selections["easy"] = easiest(errors, train.labels, counts)
        if "tiles" in baselines:
            more = [TILES**2 * count for count in counts]
            selections["tiles"] = easiest(errors, train.labels, more)
    return selections
