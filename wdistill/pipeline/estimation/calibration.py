"""Seconds that each piece of a run's work takes here, measured by doing a little of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from wdistill.core.seeds import stream
from wdistill.data.pixels import PixelStore, Preprocessing, to_float
from wdistill.labels.views import LabelViews, join, rounded, view_shapes
from wdistill.networks.backbones import Backbone, load_backbone, new_network
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.preprocessing import PixelStatistics, preprocessing_for
from wdistill.networks.teacher import check_accepts
from wdistill.pipeline.estimation.workload import Counts, class_sizes
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Networks
from wdistill.synthesis.spaces import FeatureSpace, open_spaces
from wdistill.transport.survey import ClassSurvey, survey_class

Piece = Callable[[], tuple[float, float]]  # does some work: how much, in how many seconds
LEAST_SECONDS, MOST_SECONDS = 1.0, 10.0  # of the repetitions, between which SHARE decides
SHARE = 0.05  # of what the run is going to take
SAMPLE = 256  # images that the pieces share
VIEW_ROWS = 4000  # of label views that are encoded
DECODE_SECONDS = 1.0  # that these may take
PIECE_SECONDS = 1.0  # that a piece may take: large networks on a CPU get fewer images
ANY_STATISTICS: PixelStatistics = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def now(device: torch.device) -> float:
    """Seconds on a clock, read when ``device`` has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


class Laps:
    """Called after each step, it knows what all but the first took together."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[float] = []

    def __call__(self, _: object) -> None:
        self.times.append(now(self.device))

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]


def measure(pieces: Mapping[str, Piece], counts: Counts) -> dict[str, float]:
    """Seconds for one of each: the median of repetitions after a first that warms up.

    Those that the run spends most time in are repeated most. counts: how often the run does each.
    """
    seen: dict[str, list[float]] = {name: [] for name in pieces}
    costs: dict[str, float] = {}

    def once(name: str) -> None:
        began = time.perf_counter()
        items, seconds = pieces[name]()
        seen[name].append(seconds / items)
        costs[name] = time.perf_counter() - began

    for name in pieces:
        once(name)
    spent = 0.0
    while True:
        rates = {name: median(values[1:] or values) for name, values in seen.items()}
        total = {name: rates[name] * counts[name] for name in pieces}
        limit = min(MOST_SECONDS, max(LEAST_SECONDS, SHARE * sum(total.values())))
        due = [name for name in pieces if spent + costs[name] <= limit]
        if not due:
            return rates
        name = max(due, key=lambda name: (len(seen[name]) == 1, total[name] / len(seen[name])))
        once(name)
        spent += costs[name]


@dataclass(frozen=True, eq=False)
class Scene:
    """What the pieces work with; networks that the run is still to train have random weights.

    rows: of training images of one class; pool: one network of each source; per_image: seconds
    that an image takes in the slowest network, without gradients.
    """

    run: Run
    networks: Networks
    backbone: Backbone
    network: FeatureNetwork
    rows: np.ndarray
    pool: tuple[FeatureSpace, ...]
    students: Mapping[str, nn.Module]
    per_image: float

    @property
    def device(self) -> torch.device:
        return self.network.device

    def few(self, wanted: int, passes: float) -> int:
        """As many of ``wanted`` images as the slowest network sees ``passes`` times in
        PIECE_SECONDS, and no more than there are.
        """
        affordable = max(4, int(PIECE_SECONDS / (passes * self.per_image)))
        return min(wanted, affordable, len(self.rows))

    def part(self, count: int) -> PixelStore:
        """The first ``count`` images, decoded."""
        if count == len(self.rows):
            return self.store
        return decoded(self.run, self.rows[:count], self.network.preprocessing)

    @cached_property
    def store(self) -> PixelStore:
        return decoded(self.run, self.rows, self.network.preprocessing)

    @cached_property
    def pixels(self) -> Tensor:
        """(n, 3, R, R) uint8."""
        return self.store.get(range(len(self.store)))

    @cached_property
    def survey(self) -> ClassSurvey:
        """Of some images."""
        return surveyed(self, self.pixels[: self.few(SAMPLE, 1)])


def surveyed(scene: Scene, images: Tensor) -> ClassSurvey:
    """By the teacher; images: (n, 3, R, R) uint8."""
    return survey_class(scene.network, [images], torch.full((len(images),), 1 / len(images)))


def decoded(run: Run, rows: np.ndarray, preprocessing: Preprocessing) -> PixelStore:
    store = PixelStore(run.data.train.take(rows), preprocessing)
    store.get(range(len(store)))
    return store


def open_scene(run: Run, networks: Networks) -> Scene:
    """Raises BackboneError as the run itself would."""
    source, resolution, device = networks.backbone, networks.resolution, run.accelerator.device
    preprocessing = preprocessing_for(source, resolution, ANY_STATISTICS)
    backbone = load_backbone(source, run.data.class_names, preprocessing, 0)
    check_accepts(backbone)
    network = FeatureNetwork(backbone.model, preprocessing, device)
    statistics = (preprocessing.mean, preprocessing.std)
    pool = [(s, 1, preprocessing_for(s, resolution, statistics)) for s, _ in networks.pool]
    names = run.data.class_names
    spaces = open_spaces(pool, run.config.synthesis, names, 0, device)
    students = {
        name: new_network(source, names, resolution, 0)
        for name, source in networks.students.items()
    }
    tested = [FeatureNetwork(model, preprocessing, device) for model in students.values()]
    every = [network, *(space.network for space in spaces), *tested]
    rows = _sample(run, preprocessing)
    pixels = decoded(run, rows[:8], preprocessing).get(range(8))
    slowest = max(_per_image(network, pixels) for network in every)
    return Scene(run, networks, backbone, network, rows, tuple(spaces), students, slowest)


def _sample(run: Run, preprocessing: Preprocessing) -> np.ndarray:
    """SAMPLE rows of a class of middle size, repeated where it has fewer; not as many where
    decoding is slow.
    """
    sizes = class_sizes(run)
    label = int(np.argsort(sizes, kind="stable")[len(sizes) // 2])
    rows = np.flatnonzero(run.data.train.labels == label)
    began = time.perf_counter()
    decoded(run, np.resize(rows, 8), preprocessing)
    affordable = max(32, int(8 * DECODE_SECONDS / (time.perf_counter() - began)))
    return np.resize(rows, min(SAMPLE, affordable))


@torch.no_grad()
def _per_image(network: FeatureNetwork, pixels: Tensor) -> float:
    """The shortest of a few times: one that was interrupted says nothing."""
    images, seconds = to_float(pixels, network.device), []
    network(images, moments=False)
    for _ in range(3):
        began = now(network.device)
        network(images, moments=False)
        seconds.append(now(network.device) - began)
    return min(seconds) / len(images)


def random_label_views(scene: Scene) -> LabelViews:
    """About VIEW_ROWS rows of views with random logits."""
    run, draw = scene.run, stream(0, "calibration", "logits")
    config, classes = run.config.label_views, len(run.data.class_names)
    images = min(run.config.barycenter.ipc * classes, VIEW_ROWS)
    views = min(config.count, max(1, VIEW_ROWS // images))
    shapes = [
        view_shapes(images, scene.networks.resolution, v, config.crop_min, 0) for v in range(views)
    ]
    every = join(shapes)
    logits, order = torch.randn(len(every), classes, generator=draw).sort(1, descending=True)
    kept = min(config.topk or classes, classes)
    return rounded(replace(every, logits=logits[:, :kept], classes=order[:, :kept]), config.levels)
