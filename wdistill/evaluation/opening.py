"""Open the set, the real images, the teacher and the students that a user names."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from wdistill.artifact.candidate import Candidate, mean_one
from wdistill.artifact.manifest import Manifest
from wdistill.artifact.reading import check_data, remote
from wdistill.artifact.records import CodingRecord
from wdistill.artifact.report import EvaluatedSet
from wdistill.config import (
    BUILT_IN,
    BarycenterConfig,
    DataConfig,
    EvaluateConfig,
    RelabelConfig,
    RuntimeConfig,
)
from wdistill.core.files import IDENTITY, read_json
from wdistill.core.machine.graphs import GraphSwitch
from wdistill.core.text import without_folders
from wdistill.data.content.coding import Coding
from wdistill.data.content.leaks import Pixels, without_copies
from wdistill.data.dataset import ImageData, load_data
from wdistill.data.pixels import Decoding, PixelStore, Preprocessing, check_room
from wdistill.errors import BackboneError, DataError, OptionError
from wdistill.evaluation.comparison import Comparison, EvaluationTeacher, Protocol, check
from wdistill.evaluation.recipes.named import NAMED
from wdistill.evaluation.sets.order import in_order_of
from wdistill.evaluation.sets.spaces import FileForm
from wdistill.evaluation.sets.subject import Subject, against, check_options, open_subject
from wdistill.labels.committee import LabelGiver, giver_sha256, open_committee
from wdistill.networks.backbones import Backbone, load_backbone, weights_sha256
from wdistill.networks.checkpoints.source import STUDENTS, BackboneSource, find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.preprocessing import preprocessing_for, working_resolution
from wdistill.networks.teacher import (
    NO_NORMALISATION,
    check_accepts,
    check_new_network,
    features_key,
    pixel_statistics,
)

STUDENT = "resnet10-w16"  # default
SMALL = 100_000  # training images that are all decoded, to find copies; of more only what is needed
logger = logging.getLogger(__name__)


def open_comparison(
    config: EvaluateConfig,
    runtime: RuntimeConfig,
    accelerator: Accelerator,
    decoding: Decoding | None = None,
) -> Comparison:
    """Open and check everything before any student is trained."""
    form = FileForm(config.space, config.tiles, config.against.dataset)
    subject = open_subject(config.source, config.columns, form)
    check_options(subject, config.columns, config.against.resolution)
    run_config = subject.manifest.config if subject.manifest else None
    seed = run_config.seed if run_config else config.seed  # the seed that drew its hold-out
    real = _real_data(config, subject, seed, runtime)
    subject = in_order_of(subject, real.class_names, real.source.id)
    source = _teacher_source(config, subject, real)
    resolution = _resolution(config, subject, real, source)
    reference = source or find_backbone(STUDENT, resolution=resolution)
    plain = preprocessing_for(reference, resolution, NO_NORMALISATION)
    train = PixelStore(real.train, plain, decoding, runtime.quiet)
    test = PixelStore(real.eval, plain, decoding, runtime.quiet)
    needs_all_images = {*config.baselines} - {"random", "noise"}
    check_room({train: len(train) if needs_all_images else 0, test: len(test)})
    pixels = _preprocessing(reference, train, seed)
    images = Pixels(train.normalised(pixels), test.normalised(pixels))
    if needs_all_images or len(train) <= SMALL:
        real, images = without_copies(real, images)  # the main process opens first, and alone
    else:
        logger.info(
            f"dataset: copies of evaluation images were not looked for among {len(train):,} "
            "training images, of which this evaluation needs a few"
        )
    teacher = None
    if source is not None:
        backbone = load_backbone(source, real.class_names, pixels, 0)
        check_accepts(backbone, "teacher")
        teacher = _teacher(config, subject, real, backbone, seed, accelerator)
    candidate = _candidate(subject, pixels)
    giver, giver_key = _giver(config, subject, real, pixels, teacher)
    record = subject.manifest.coding if subject.manifest else CodingRecord()
    comparison = Comparison(
        evaluated=_evaluated_set(subject, candidate),
        candidate=candidate,
        protocol=_protocol(config, subject.manifest),
        real=real,
        train=images.train,
        test=images.test,
        teacher=teacher,
        students=_students(config, subject.manifest, real, resolution, pixels),
        accelerator=accelerator,
        quiet=runtime.quiet,
        graphs=GraphSwitch(runtime.cuda_graphs),
        data_seed=seed,
        barycenter=run_config.barycenter if run_config else BarycenterConfig(),
        work=subject.folder / "work" if subject.folder else None,
        coding=Coding(record.format, record.quality),
        grey=record.grey,
        image_bytes=subject.manifest.bytes.images if subject.manifest else subject.stored_bytes,
        tiles=subject.tiles,
        label_bytes=subject.label_bytes,
        weighted=subject.weights is not None,
        giver=giver,
        giver_key=giver_key,
        hard_soft=subject.manifest is not None and subject.manifest.labels.hard_soft,
        construction=sum(subject.manifest.seconds.values()) if subject.manifest else None,
    )
    check(comparison)
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
        check_data(real, subject.manifest.source, "; say where they are with `against.dataset`")
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
    record = subject.manifest.teacher if subject.manifest else None
    if record is None or record.origin != "as_is":
        return None
    if subject.folder is not None:  # the manifest omits local folders, run.json does not
        name = read_json(subject.folder / IDENTITY)["teacher.backbone"]
        if record.revision is None and name not in BUILT_IN and not Path(name).is_dir():
            raise BackboneError(
                f"the teacher of the run is the folder {name!r}, which is not there; go to where "
                "the run was started, or say where it is with `teacher`"
            )
    elif record.revision is None:
        return None
    else:
        name = remote(record.backbone, "teacher", "teacher")
    revision = record.revision
    return find_backbone(
        name, resolution=size, revision=revision, trust_remote_code=trust, setting="teacher"
    )


def _resolution(
    config: EvaluateConfig, subject: Subject, real: ImageData, teacher: BackboneSource | None
) -> int:
    if subject.manifest is not None:
        return subject.manifest.resolution
    if isinstance(subject.images, np.ndarray):
        return _stored_size(subject.images, config, subject.id)
    default = teacher or find_backbone(STUDENT, resolution=real.native_size)
    return working_resolution(default, config.against.resolution, real.native_size)


def _stored_size(images: np.ndarray, config: EvaluateConfig, name: str) -> int:
    """The size of the images in a file of tensors, which are not scaled."""
    side = int(images.shape[1])
    if config.against.resolution not in (None, side):
        raise OptionError(
            f"`against.resolution` is {config.against.resolution}, but the images in {name!r} have "
            f"{side} pixels and are taken as they are; leave it out"
        )
    return side


def _preprocessing(source: BackboneSource, train: PixelStore, seed: int) -> Preprocessing:
    plain = train.preprocessing
    if source.processor is not None:
        return plain
    return preprocessing_for(source, plain.resolution, pixel_statistics(train, seed))


def _teacher(
    config: EvaluateConfig,
    subject: Subject,
    real: ImageData,
    backbone: Backbone,
    seed: int,
    accelerator: Accelerator,
) -> EvaluationTeacher:
    """The teacher under its published name, with the accuracy that its run measured if that was on
    the same test images.
    """
    if backbone.origin != "as_is":
        raise BackboneError(
            f"`teacher` {backbone.name!r} does not know the classes of {real.source.id!r}; give a "
            "network trained on them, such as the teacher folder of a run"
        )
    manifest = subject.manifest if config.teacher is None else None
    name, accuracy = str(without_folders(backbone.name)), None
    if manifest:
        name, source = manifest.teacher.backbone, manifest.source
        same_test_images = real.is_of(source.fingerprint) and real.eval_split == source.eval_split
        accuracy = manifest.teacher.accuracy if same_test_images and subject.folder else None
    network = FeatureNetwork(backbone.model, backbone.preprocessing, accelerator.device)
    digest = weights_sha256(backbone.model)
    key = features_key(real, backbone, digest, seed)
    return EvaluationTeacher(name, network, digest, key, accuracy)


def _giver(
    config: EvaluateConfig,
    subject: Subject,
    real: ImageData,
    pixels: Preprocessing,
    teacher: EvaluationTeacher | None,
) -> tuple[LabelGiver | None, str]:
    """The network that gave the set's labels and its digest: that of the run, as far as it is
    there, otherwise the teacher that the user names.
    """
    name = subject.manifest.labels.giver if subject.manifest else "teacher"
    if config.teacher is not None and name == "committee":
        logger.info(
            f"teacher: {config.teacher} alone labels the real images; the labels of "
            f"{subject.id!r} are of a committee, so the two are not labelled alike"
        )
    if config.teacher is not None or name == "teacher":
        return (teacher.network, giver_sha256(teacher.network)) if teacher else (None, "")
    if subject.folder is None or teacher is None or name == "none":
        return None, ""
    try:
        giver = open_committee(teacher.network, subject.folder / "work", real.class_names, pixels)
    except FileNotFoundError:
        return None, ""
    return giver, giver_sha256(giver)


def _candidate(subject: Subject, preprocessing: Preprocessing) -> Candidate:
    if isinstance(subject.images, np.ndarray):
        pixels = torch.from_numpy(subject.images).permute(0, 3, 1, 2)
    else:
        pixels = PixelStore(subject.images, preprocessing).get(range(len(subject.labels)))
    labels, soft = torch.from_numpy(subject.labels), subject.soft_labels
    weights = torch.ones(len(labels))
    if subject.weights is not None:
        weights = mean_one(torch.from_numpy(subject.weights), labels)
    soft_labels = None if soft is None else torch.tensor(soft)
    return Candidate(pixels, labels, weights, soft_labels, subject.views)


def _evaluated_set(subject: Subject, candidate: Candidate) -> EvaluatedSet:
    counts = torch.bincount(candidate.labels, minlength=len(subject.class_names)) // subject.tiles
    return EvaluatedSet(
        id=subject.id,
        kind=subject.kind,
        url=subject.url,
        revision=subject.revision,
        fingerprint=subject.fingerprint,
        images=len(candidate.labels) // subject.tiles,
        notes=subject.notes,
        ipc=int(counts[0]) if bool((counts == counts[0]).all()) else None,
        classes=subject.class_names,
    )


def _protocol(config: EvaluateConfig, manifest: Manifest | None) -> Protocol:
    """The protocol; random real images get their soft labels in the same way as the set."""
    named = NAMED.get(config.recipe)
    students = config.evaluate.with_labels(named.labels if named else "hard")
    return Protocol(
        students=students.at(manifest.temperature) if manifest else students,
        recipe=config.recipe,
        baselines=config.baselines,
        augmentation_robust=config.augmentation_robust,
        relabel=manifest.config.relabel if manifest else RelabelConfig(),
        seed=config.seed,
        mixed_precision=config.mixed_precision,
    )


def _students(
    config: EvaluateConfig,
    manifest: Manifest | None,
    real: ImageData,
    resolution: int,
    pixels: Preprocessing,
) -> dict[str, BackboneSource]:
    names = config.evaluate.students
    trust, students = config.trust_remote_code, {}
    named = NAMED.get(config.recipe)
    if not names and named is not None:
        own = named.student(resolution)
        check_new_network(own, real.class_names, pixels)
        return {own.name: own}
    if not names:
        backbone = manifest.teacher.backbone if manifest else None
        names = (backbone if backbone in BUILT_IN else STUDENT,)
    for name in names:
        source = find_backbone(
            name, resolution=resolution, trust_remote_code=trust, setting=STUDENTS
        )
        check_new_network(source, real.class_names, pixels)
        students[name] = source
    return students
