"""Bytes that a run keeps in memory and leaves on the disk."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wdistill.data.pixels import file_bytes, png_bytes, to_float
from wdistill.labels.codec import encode
from wdistill.networks.features import FeatureNetwork
from wdistill.pipeline.estimation.calibration import Scene, random_label_views
from wdistill.pipeline.estimation.pieces import student_images, synthesis_images, training_images
from wdistill.pipeline.estimation.workload import Workload, class_sizes, plan_entries
from wdistill.publishing.card.pictures import MOST_CLASSES
from wdistill.synthesis.optimise import LOOK_EVERY

# [own] six sets of CIFAR-10 and Fashion-MNIST, IPC 1 to 50.
PNG_GROWTH = 1.2  # of a distilled image, beside a real one
ROW_BYTES, FILE_BYTES = 80, 8000  # of parquet, beside image and soft label
CELL_GROWTH = 1.1  # of an image in a picture of many
LARGE_CELL = 112  # side above which such an image is reduced
CARD_BYTES, PLOT_BYTES = 12_000, 65_000
COPIES = 6  # of the distilled images in memory, when the pictures are drawn


@dataclass(frozen=True)
class Sizes:
    """Bytes of the finished run folder, of the published set in it, and of the label views in
    that.
    """

    run: int
    published: int
    label_views: int


def sizes(scene: Scene, work: Workload) -> Sizes:
    """The images' are those of real ones as PNG, times PNG_GROWTH."""
    config, classes = scene.run.config, len(scene.run.data.class_names)
    ipc, side = config.barycenter.ipc, scene.networks.resolution
    images = ipc * classes
    png = PNG_GROWTH * float(np.mean(png_bytes(scene.pixels[:32])))
    cell = CELL_GROWTH * png * min(1.0, (LARGE_CELL / side) ** 2)
    shown = min(classes, MOST_CLASSES)
    views = _label_views(scene)
    confusion = classes * classes if classes <= 100 else 0
    # Figures of a row of the results: a curve, an accuracy per class and a confusion matrix.
    row = 3200 + 12 * classes + 4 * confusion
    rows = work.students / config.evaluate.seeds
    parquet = images * (png + 4 * classes + ROW_BYTES) + FILE_BYTES
    manifest = 5000 + 50 * classes + 9 * images
    preview = shown * min(ipc, 10) * cell + 10_000
    published = parquet + views + preview + CARD_BYTES + rows * row + manifest
    pictures = 3 * shown * min(ipc, 3) * cell + PLOT_BYTES
    units = _units(scene) + work.students * row
    teacher = _parameters(scene) if work.training_steps else 0
    return Sizes(round(published + pictures + units + teacher), round(published), round(views))


def _units(scene: Scene) -> float:
    """Of the folder ``work``: plans, atoms, moments, images at three moments, labels, views."""
    run, side = scene.run, scene.networks.resolution
    classes, ipc = len(run.data.class_names), run.config.barycenter.ipc
    images, width = ipc * classes, scene.survey.features.shape[1]
    plans = sum(plan_entries(size, run.config.barycenter) for size in class_sizes(run))
    channels = sum(map(len, scene.survey.means))
    transport = 20 * plans + images * (4 * width + 12) + 8 * channels * classes
    looks = run.config.synthesis.iterations // LOOK_EVERY + 2
    synthesis = 3 * images * 3 * side**2 + len(run.units) * looks * 9 * 4
    labels = images * (4 * classes + 4)
    stored = min(run.config.label_views.topk or classes, classes)
    views = run.config.label_views.count * images * (77 + 12 * stored)
    headers = 1000 * classes + 1000 * len(run.units)
    return transport + synthesis + labels + views + headers


def _label_views(scene: Scene) -> float:
    config, classes = scene.run.config, len(scene.run.data.class_names)
    if not config.label_views.count:
        return 0.0
    rows = config.label_views.count * config.barycenter.ipc * classes
    some = random_label_views(scene)
    size = len(encode(some, classes)) * rows / len(some)
    return min(size, config.label_views.budget or size)


def _parameters(scene: Scene) -> int:
    """Bytes of the teacher's checkpoint."""
    return sum(v.numel() * v.element_size() for v in scene.backbone.model.state_dict().values())


def kept_in_memory(scene: Scene) -> int:
    """Bytes of the decoded splits and of the distilled images, which no short piece shows."""
    run, side = scene.run, scene.networks.resolution
    splits = [len(run.data.train), len(run.data.eval)]
    decoded = sum(count for count in splits if not file_bytes(count, side))
    distilled = COPIES * run.config.barycenter.ipc * len(run.data.class_names)
    return (decoded + distilled) * 3 * side**2


def unseen_activations(scene: Scene, work: Workload) -> int:
    """Bytes of activations that the pieces did without because they had fewer images than the
    run's own steps; 0 where they had as many.
    """
    groups = scene.run.config.barycenter.ipc * len(scene.run.units[0].classes)
    spaces = [scene.network, *(space.network for space in scene.pool)]
    cases = [(network, False, groups, synthesis_images(scene)) for network in spaces]
    batch = work.training_batch
    if work.training_steps:
        cases.append((scene.network, True, batch, training_images(scene, batch)))
    batch = work.student_batch
    for model in scene.students.values():
        student = FeatureNetwork(model, scene.network.preprocessing, scene.device)
        cases.append((student, True, batch, student_images(scene, batch)))
    missing = [
        (wanted - afforded) * _kept_per_image(scene, network, trained)
        for network, trained, wanted, afforded in cases
        if wanted > afforded
    ]
    return round(max(missing, default=0.0))


def _kept_per_image(scene: Scene, network: FeatureNetwork, trained: bool) -> float:
    """Bytes that a pass through ``network`` keeps of an image for the way back."""
    known = {value.untyped_storage().data_ptr() for value in network.model.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = to_float(scene.pixels[:4], scene.device).requires_grad_()
    network.model.requires_grad_(trained)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = network(images)
        size = sum(kept.values()) / len(images)  # while ``out`` holds what is kept
    del out
    network.model.requires_grad_(False)
    return size


def peak_memory() -> int:
    """Bytes of memory that this process has had at most; 0 where the system does not tell."""
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
