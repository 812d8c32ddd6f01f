"""The teacher of a run: find it, train it if its classes are not the dataset's, and test it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np
import torch
from torch import Tensor

from wdistill.artifact.records import TeacherRecord
from wdistill.config import RunConfig
from wdistill.core.files import read_json, write_json
from wdistill.core.processes import main_process_value, share_file, share_folder
from wdistill.core.seeds import stream_seed
from wdistill.core.settings import stable_hash
from wdistill.core.text import without_folders
from wdistill.data.content.leaks import Pixels, without_copies
from wdistill.data.dataset import ImageData
from wdistill.data.hub.streaming import Scaling
from wdistill.data.pixels import PixelStore, Preprocessing, check_room
from wdistill.errors import OptionError, RunFolderError
from wdistill.networks.backbones import Backbone, load_backbone, weights_sha256
from wdistill.networks.checkpoints.description import architecture, local_architectures
from wdistill.networks.checkpoints.source import STUDENTS, BackboneSource, find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.preprocessing import preprocessing_for, working_resolution
from wdistill.networks.teacher import (
    NO_NORMALISATION,
    check_accepts,
    check_new_network,
    features_key,
    pixel_statistics,
    save_checkpoint,
    training_key,
)
from wdistill.networks.training import Checkpoint, check_not_weak, measure_accuracy, train_teacher
from wdistill.pipeline.run_folder import Run
from wdistill.synthesis.spaces import FeatureSpace, open_spaces

logger = logging.getLogger(__name__)
COPIES = "copies.json"


@dataclass(frozen=True)
class Teacher:
    """The network whose features define the transport, and the images that it sees.

    Attributes:
        network: The network, in evaluation mode.
        images: All training images. Rows of :meth:`class_rows` are theirs, whatever is left out.
        train: Without those that stand in the evaluation split too.
        test: The evaluation images.
        accuracy: Top-1 on the evaluation images, from 0 to 1.
        description: What the manifest records of it.
        key: A hash of everything that its features depend on.
    """

    network: FeatureNetwork
    images: PixelStore
    train: PixelStore
    test: PixelStore
    accuracy: float
    description: TeacherRecord
    key: str

    def class_rows(self, label: int) -> Tensor:
        """The training images of a class, as rows of ``images``."""
        rows = self.train.rows
        return rows[self.train.labels == label]


@dataclass(frozen=True)
class Networks:
    """All networks of a run, resolved before any long work starts."""

    backbone: BackboneSource
    students: dict[str, BackboneSource]
    pool: tuple[tuple[BackboneSource, int], ...]
    resolution: int

    @property
    def revisions(self) -> dict[str, str]:
        """Commits of the students and of the pool's networks that are on the Hub, by their ids."""
        sources = [*self.students.values(), *(source for source, _ in self.pool)]
        return {source.name: source.revision for source in sources if source.revision}

    @property
    def local_students(self) -> dict[str, str]:
        """See :func:`local_architectures`."""
        return local_architectures(self.students)


def find_teacher(config: RunConfig, native_size: int) -> tuple[BackboneSource, int]:
    """The backbone, and the side in pixels of its square input images."""
    backbone = find_backbone(
        config.teacher.backbone,
        resolution=config.data.resolution or native_size,
        revision=config.teacher.backbone_revision,
        trust_remote_code=config.teacher.trust_remote_code,
    )
    return backbone, working_resolution(backbone, config.data.resolution, native_size)


def scaling(config: RunConfig) -> Callable[[int], Scaling]:
    """A function from the images' native size to the scaling of a stream of them."""

    def scaling_of(native_size: int) -> Scaling:
        source, resolution = find_teacher(config, native_size)
        preprocessing = preprocessing_for(source, resolution, NO_NORMALISATION)
        name = "-".join(str(int(value)) for value in preprocessing.geometry)
        return Scaling(name, preprocessing.scaled)

    return scaling_of


def find_networks(config: RunConfig, data: ImageData) -> Networks:
    """Raises BackboneError if the backbone, a student or a feature space is not there, or if one
    that starts from random weights does not take the images or give an output for each class.
    """
    backbone, resolution = find_teacher(config, data.native_size)

    def find(name: str, setting: str) -> BackboneSource:
        trust = config.teacher.trust_remote_code
        return find_backbone(name, resolution=resolution, trust_remote_code=trust, setting=setting)

    students = {name: find(name, STUDENTS) for name in config.evaluate.students}
    students = students or {config.teacher.backbone: backbone}
    pool = tuple((find(name, "synthesis.feature_spaces"), n) for name, n in config.synthesis.pool())
    pixels = Preprocessing(resolution, 0, *NO_NORMALISATION)
    new = [source for source, _ in pool if not source.has_weights]
    for source in [*(students.values() if config.evaluate.enabled else ()), *new]:
        check_new_network(source, data.class_names, pixels)
    return Networks(backbone, students, pool, resolution)


def open_pixels(run: Run, networks: Networks) -> Pixels:
    """The images of the run as its backbone sees them."""
    source, resolution = networks.backbone, networks.resolution
    plain = preprocessing_for(source, resolution, NO_NORMALISATION)
    train = PixelStore(run.data.train, plain, run.decoding, run.quiet)
    test = PixelStore(run.data.eval, plain, run.decoding, run.quiet)
    if not any(run.work.glob("transport-*")):
        check_room({train: len(train) // (run.shard.count if run.shard else 1), test: len(test)})
    pixels = Pixels(train, test)
    if source.processor is not None:
        return pixels
    statistics = pixel_statistics(train, run.config.seed)
    return pixels.normalised(preprocessing_for(source, resolution, statistics))


def without_copies_in(run: Run, pixels: Pixels) -> tuple[Run, Pixels]:
    """The run without images that stand in both splits; of a shard those of its classes."""
    rows = None
    if run.shard is not None:
        classes = [label for unit in run.shard.of(run.units) for label in unit.classes]
        rows = torch.from_numpy(np.flatnonzero(np.isin(run.data.train.labels, classes)))
    data, kept = without_copies(run.data, pixels, run.accelerator, rows, run.work / COPIES)
    if data is run.data:
        return run, pixels
    logger.info(f"dataset: {data.notes[-1]}")
    check_images(run.config, data)
    return replace(run, data=data), kept


def check_images(config: RunConfig, data: ImageData) -> None:
    """Raise DataError or OptionError unless the classes have as many images as they will need."""
    settings = config.barycenter
    data.check_classes(config.least_ipc)
    if config.budget is not None:
        return
    classes = len(data.class_names)
    settings.check(np.bincount(data.train.labels, minlength=classes).tolist())
    if settings.images is not None and settings.allocation == "uniform":
        data.check_classes(settings.mean(classes), settings.images)


def prepare_teacher(run: Run, networks: Networks, pixels: Pixels) -> Teacher:
    """Load the backbone, train it if its classes are not the dataset's, and test it."""
    data, preprocessing = run.data, pixels.train.preprocessing
    seed = stream_seed(run.config.seed, "teacher") % 2**31
    backbone = load_backbone(networks.backbone, data.class_names, preprocessing, seed)
    check_accepts(backbone)
    if backbone.origin != "as_is":
        _check_not_shard(run, backbone)
        backbone = _trained_backbone(run, backbone, pixels.train)
    return _evaluate_teacher(run, backbone, pixels)


def _check_not_shard(run: Run, backbone: Backbone) -> None:
    """Raise OptionError if the run is a shard: each shard would train a different teacher."""
    if run.shard is not None:
        raise OptionError(
            f"`runtime.shard` needs a teacher that is trained, and {backbone.name!r} is not: train "
            "it once (the same run with `synthesis.iterations=0`, `evaluate.enabled=False` and "
            "`output=teacher`), "
            "then give each part `teacher.backbone` teacher/teacher"
        )


def _trained_backbone(run: Run, backbone: Backbone, train: PixelStore) -> Backbone:
    """The backbone after training, by this or an earlier start of the run.

    It is always loaded from the checkpoint, because training wraps the model (mixed precision,
    processes).
    """
    settings = run.config.teacher
    key = training_key(run.data, backbone, settings, run.config.seed, run.config.mixed_precision)
    folder, record = run.folder / "teacher", run.work / "teacher.json"
    finished = record.exists() and read_json(record).get("key") == key and folder.is_dir()
    if not main_process_value(finished, run.accelerator):
        initialisation = "from scratch" if backbone.origin == "from_scratch" else "with a new head"
        logger.info(f"teacher: training {backbone.name} {initialisation}, {settings.epochs} epochs")
        checkpoint = run.work / "teacher-epoch.safetensors"
        share_file(checkpoint, run.accelerator)
        train_teacher(
            backbone, train, settings, run.config.seed, run.accelerator, Checkpoint(checkpoint, key)
        )
        if run.accelerator.is_main_process:
            save_checkpoint(backbone, folder)
            write_json(record, {"key": key})
        checkpoint.unlink(missing_ok=True)
    share_folder(folder, run.accelerator)
    try:
        model_class = type(backbone.model)
        model = model_class.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    except Exception as error:
        raise RunFolderError(
            f"{str(folder)!r} is damaged; delete it and run the same command again"
        ) from error
    return replace(backbone, model=model)


def _evaluate_teacher(run: Run, backbone: Backbone, pixels: Pixels) -> Teacher:
    digest = weights_sha256(backbone.model)
    network = FeatureNetwork(backbone.model, backbone.preprocessing, run.accelerator.device)
    key = features_key(run.data, backbone, digest, run.config.seed)
    record, tested = run.work / "teacher-accuracy.json", stable_hash([key, len(pixels.test)])
    cached = read_json(record) if record.exists() else {}
    accuracy = main_process_value(
        cached["accuracy"] if cached.get("key") == tested else nan, run.accelerator
    )
    if isnan(accuracy):
        accuracy = measure_accuracy(network, pixels.test, run.accelerator)
        if run.accelerator.is_main_process:
            write_json(record, {"key": tested, "accuracy": accuracy})
    if not run.config.teacher.allow_weak:
        check_not_weak(accuracy, pixels.test, backbone)
    description = TeacherRecord(
        backbone=without_folders(run.config.teacher.backbone),
        revision=backbone.revision,
        origin=backbone.origin,
        architecture=architecture(backbone.model.config),
        accuracy=accuracy,
        weights_sha256=digest,
        parameters=sum(p.numel() for p in backbone.model.parameters()),
    )
    images = pixels.train.whole
    return Teacher(network, images, pixels.train, pixels.test, accuracy, description, key)


def open_pool(run: Run, teacher: Teacher, networks: Networks) -> list[FeatureSpace]:
    """The feature spaces besides the teacher; each normalises the same pixels in its own way."""
    pixels = teacher.train.preprocessing
    sources = [
        (source, count, preprocessing_for(source, pixels.resolution, (pixels.mean, pixels.std)))
        for source, count in networks.pool
    ]
    config, names = run.config.synthesis, run.data.class_names
    return open_spaces(sources, config, names, run.config.seed, run.accelerator.device)
