"""Everything that `wdistill evaluate` compares with: real data, a teacher, students, baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from wdistill.artifact.distilled_set import Candidate, mean_one
from wdistill.artifact.reading import check_data, remote
from wdistill.config import (
    BUILT_IN,
    BarycenterConfig,
    DataConfig,
    EvaluateConfig,
    RuntimeConfig,
)
from wdistill.core.files import IDENTITY, read_json
from wdistill.core.seeds import stream
from wdistill.data.dataset import ImageData, load_data
from wdistill.data.pixels import PixelStore, Preprocessing, png_bytes
from wdistill.errors import BackboneError, DataError, OptionError
from wdistill.evaluation.sets.baselines import herding
from wdistill.evaluation.sets.subject import (
    Subject,
    against,
    check_options,
    in_order_of,
    open_subject,
)
from wdistill.evaluation.students import STORED
from wdistill.networks.backbones import (
    Backbone,
    BackboneSource,
    find_backbone,
    load_backbone,
    new_network,
    weights_sha256,
)
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.preprocessing import preprocessing_for, working_resolution
from wdistill.networks.teacher import (
    NO_NORMALISATION,
    check_accepts,
    features_key,
    pixel_statistics,
)
from wdistill.transport.barycenter import class_barycenter, groups_of
from wdistill.transport.plan import Atoms, stored_atoms, transport_key
from wdistill.transport.survey import survey_class

SURVEY_BATCH = 128
SIZE_SAMPLE = 200  # real images whose mean size stands for that of all
STUDENT = "resnet10-w16"  # where nothing says which


@dataclass(frozen=True, eq=False)
class Comparison:
    """Real data, a set, and the networks that look at them."""

    config: EvaluateConfig
    subject: Subject
    seed: int
    real: ImageData
    train: PixelStore
    test: PixelStore
    teacher: Backbone | None
    students: dict[str, BackboneSource]
    accelerator: Accelerator
    quiet: bool

    @property
    def classes(self) -> int:
        return len(self.real.class_names)

    @cached_property
    def network(self) -> FeatureNetwork | None:
        if self.teacher is None:
            return None
        pixels, device = self.teacher.preprocessing, self.accelerator.device
        return FeatureNetwork(self.teacher.model, pixels, device)

    @cached_property
    def candidate(self) -> Candidate:
        subject = self.subject
        if isinstance(subject.images, np.ndarray):
            pixels = torch.from_numpy(subject.images).permute(0, 3, 1, 2)
        else:
            pixels = PixelStore(subject.images, self.train.preprocessing).get(
                range(len(subject.labels))
            )
        labels, soft = torch.from_numpy(subject.labels), subject.soft_labels
        weights = torch.ones(len(labels))
        if subject.weights is not None:
            weights = mean_one(torch.from_numpy(subject.weights), labels)
        stored = None if soft is None else torch.tensor(soft)
        return Candidate(pixels, labels, weights, stored, subject.views)

    def rows(self, label: int) -> Tensor:
        return (self.train.labels == label).nonzero()[:, 0]

    @cached_property
    def features(self) -> list[Tensor]:
        """The teacher's features of the real training images, class by class."""
        network = self.network
        if network is None:
            return []
        found = []
        for c in range(self.classes):
            rows = self.rows(c)
            batches = self.train.batches(rows, SURVEY_BATCH)
            found.append(survey_class(network, batches, torch.ones(len(rows))).features)
        return found

    @cached_property
    def transport(self) -> list[Atoms]:
        """The atoms of each class, as many as the set has images of it: those of its run where they
        are stored and of these real images and this teacher, else computed again.
        """
        subject, teacher, groups = self.subject, self.teacher, self.real.train.groups
        config = _barycenter_config(subject.manifest, self.candidate.ipc)
        if subject.folder is not None and teacher is not None:
            digest = weights_sha256(teacher.model)
            key = features_key(self.real, teacher, digest, self.seed)
            key = transport_key(key, config, self.seed, groups)
            stored = stored_atoms(subject.folder / "work", key, self.classes)
            if stored is not None:
                return stored
        counts = torch.bincount(self.candidate.labels, minlength=self.classes).tolist()
        made = []
        for c, features in enumerate(self.features):
            own = replace(config, ipc=min(counts[c], len(features)))
            rows, draw = self.rows(c), stream(self.seed, "transport", c)
            found = class_barycenter(features, own, draw, groups_of(groups, rows))
            made.append(Atoms(found.atoms, found.weights, rows[found.nearest]))
        return made

    @cached_property
    def own_bytes(self) -> int:
        """Of all images of the set, as PNG."""
        return sum(png_bytes(self.candidate.pixels))

    @cached_property
    def real_bytes(self) -> float:
        """Of a real training image as PNG, the mean over a sample."""
        order = torch.randperm(len(self.train), generator=stream(0, "png"))[:SIZE_SAMPLE]
        return float(np.mean(png_bytes(self.train.get(order))))


def _barycenter_config(manifest: dict[str, Any] | None, ipc: int) -> BarycenterConfig:
    """The settings of a set's barycenters as its manifest records them, else the defaults."""
    recorded = (manifest or {}).get("config", {}).get("barycenter")
    settings = recorded if isinstance(recorded, dict) else {}
    names = [name for name in ("weights", "group_weights") if name in settings]
    return BarycenterConfig(ipc=ipc, **{name: settings[name] for name in names})


def open_comparison(
    config: EvaluateConfig, runtime: RuntimeConfig, accelerator: Accelerator
) -> Comparison:
    """Everything that is needed, found and checked before any student is trained."""
    subject = open_subject(config.source, config.columns)
    check_options(subject, config.columns, config.against.resolution)
    own = subject.manifest or {}
    seed = int(own["config"]["seed"]) if own else config.seed  # a run's hold-out is its own
    real = _real_data(config, subject, seed, runtime)
    subject = in_order_of(subject, real.class_names, real.source.id)
    found = _teacher_source(config, subject, real)
    resolution = _resolution(config, subject, real, found)
    pixels = _preprocessing(found, resolution, real, seed, runtime)
    train = PixelStore(real.train, pixels, runtime.num_workers, runtime.quiet)
    test = PixelStore(real.eval, pixels, runtime.num_workers, runtime.quiet)
    teacher = None
    if found is not None:
        teacher = load_backbone(found, real.class_names, pixels, 0)
        if teacher.origin != "as_is":
            raise BackboneError(
                f"`teacher` {found.name!r} does not know the classes of {real.source.id!r}; give a "
                "network trained on them, such as the teacher folder of a run"
            )
    students = _students(config, subject, real, resolution, pixels)
    comparison = Comparison(
        config, subject, seed, real, train, test, teacher, students, accelerator, runtime.quiet
    )
    _check_regimes(comparison)
    train.preload()
    test.preload()
    return comparison


def _real_data(
    config: EvaluateConfig, subject: Subject, seed: int, runtime: RuntimeConfig
) -> ImageData:
    try:
        real = load_data(against(subject, config.against), seed, 1, runtime.quiet)
    except DataError as error:
        if config.against.dataset is not None:
            raise
        raise DataError(
            f"the real images of {subject.id!r} cannot be read ({error}); say where they are with "
            "`against.dataset`"
        ) from error
    if subject.manifest is not None and config.against == DataConfig():
        check_data(real, subject.manifest["source"], "; say where they are with `against.dataset`")
    return real


def _teacher_source(
    config: EvaluateConfig, subject: Subject, real: ImageData
) -> BackboneSource | None:
    size = config.against.resolution or real.native_size
    trust = config.trust_remote_code
    if config.teacher is not None:
        return find_backbone(
            config.teacher, resolution=size, trust_remote_code=trust, setting="teacher"
        )
    if subject.folder is not None and (subject.folder / "teacher").is_dir():
        return find_backbone(str(subject.folder / "teacher"), resolution=size)
    known = (subject.manifest or {}).get("teacher", {})
    if known.get("origin") != "as_is":
        return None
    if subject.folder is not None:  # the manifest names no folder of this machine, the run does
        name = read_json(subject.folder / IDENTITY)["teacher.backbone"]
    elif known.get("revision") is None:
        return None
    else:
        name = remote(known["backbone"], "teacher", "teacher")
    revision = known.get("revision")
    return find_backbone(
        name, resolution=size, revision=revision, trust_remote_code=trust, setting="teacher"
    )


def _resolution(
    config: EvaluateConfig, subject: Subject, real: ImageData, teacher: BackboneSource | None
) -> int:
    if subject.manifest is not None:
        return int(subject.manifest["resolution"])
    default = teacher or find_backbone(STUDENT, resolution=real.native_size)
    return working_resolution(default, config.against.resolution, real.native_size)


def _preprocessing(
    teacher: BackboneSource | None,
    resolution: int,
    real: ImageData,
    seed: int,
    runtime: RuntimeConfig,
) -> Preprocessing:
    source = teacher or find_backbone(STUDENT, resolution=resolution)
    plain = preprocessing_for(source, resolution, NO_NORMALISATION)
    if source.processor is not None:
        return plain
    store = PixelStore(real.train, plain, runtime.num_workers, runtime.quiet)
    return preprocessing_for(source, resolution, pixel_statistics(store, seed))


def _students(
    config: EvaluateConfig,
    subject: Subject,
    real: ImageData,
    resolution: int,
    pixels: Preprocessing,
) -> dict[str, BackboneSource]:
    names = config.evaluate.students
    if not names:
        known = (subject.manifest or {}).get("teacher", {}).get("backbone")
        names = (known if known in BUILT_IN else STUDENT,)
    trust, found = config.trust_remote_code, {}
    for name in names:
        source = find_backbone(
            name, resolution=resolution, trust_remote_code=trust, setting="evaluate.students"
        )
        model = new_network(source, real.class_names, resolution, 0)
        check_accepts(Backbone(name, model, pixels, "from_scratch", None))
        found[name] = source
    return found


def _check_regimes(comparison: Comparison) -> None:
    labels, baselines = comparison.config.evaluate.labels, comparison.config.baselines
    name = comparison.subject.id
    if "soft" in labels and comparison.subject.soft_labels is None:
        raise OptionError(
            f"{name!r} has no soft labels (a column 'soft_label' of one probability per class); "
            "choose `evaluate.labels` hard or teacher"
        )
    if "views" in labels and comparison.subject.views is None:
        raise OptionError(
            f"{name!r} has no labels of views (a configuration 'soft_labels'); distil it with "
            "`label_views.count`, or choose `evaluate.labels` hard, soft or teacher"
        )
    needs = [f"`evaluate.labels` {kind}" for kind in ("teacher",) if kind in labels]
    needs += [f"`baselines` {kind}" for kind in ("nearest", "herding") if kind in baselines]
    if baselines:
        needs += [f"`evaluate.labels` {kind} with `baselines`" for kind in STORED if kind in labels]
    if needs and comparison.teacher is None:
        raise OptionError(
            f"{needs[0]} needs a network that knows the classes; name one with `teacher`"
        )
    counts = np.bincount(comparison.real.train.labels, minlength=comparison.classes)
    wanted = np.bincount(comparison.candidate.labels, minlength=comparison.classes)
    wanted = np.maximum(wanted, comparison.candidate.ipc)  # random ones are as many of each class
    least = int((counts - wanted).argmin())
    if baselines and counts[least] < wanted[least]:
        raise DataError(
            f"class {comparison.real.class_names[least]!r} of {comparison.real.source.id!r} has "
            f"{counts[least]} real images, fewer than the {wanted[least]} of the set; leave out "
            "`baselines` or choose another `against.dataset`"
        )


def chosen_rows(comparison: Comparison) -> dict[str, tuple[Tensor, Tensor]]:
    """Rows of the training split and their weights, for the baselines that need features."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    counts = torch.bincount(comparison.candidate.labels, minlength=comparison.classes).tolist()
    classes = range(comparison.classes)
    if "herding" in comparison.config.baselines:
        picked = [comparison.rows(c)[herding(comparison.features[c], counts[c])] for c in classes]
        rows = torch.cat(picked)
        found["herding"] = rows, torch.ones(len(rows))
    if "nearest" in comparison.config.baselines:
        atoms = comparison.transport
        rows = torch.cat([found.nearest for found in atoms])
        found["nearest"] = (
            rows,
            torch.cat([found.weights * len(found.weights) for found in atoms]).float(),
        )
    return found
