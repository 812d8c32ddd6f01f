"""A small teacher, its images, and their label views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from helpers.examples import NAMES, distilled_set, manifest, write_set
from wdistill.config import LabelViewsConfig
from wdistill.core.seeds import stream
from wdistill.data.pixels import Preprocessing
from wdistill.labels.rounding import rounded
from wdistill.labels.views import LabelViews, ViewRecipe, label_views
from wdistill.networks.features import FeatureNetwork
from wdistill.publishing.card.card import render_card

SIZE, CLASSES = 8, 6
CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(SIZE, 0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def pictures(count: int = 6) -> Tensor:
    shape = (count, 3, SIZE, SIZE)
    return torch.randint(256, shape, generator=stream(0, "pictures"), dtype=torch.uint8)


def normal(*shape: int, key: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=stream(0, key), dtype=torch.float64)


class Looks(nn.Module):
    """Logits that depend on every pixel, so that another view has others."""

    def __init__(self, size: int = SIZE, classes: int = CLASSES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3 * size * size, classes)
        self.config = type("Config", (), {"num_labels": classes})()

    def forward(self, x: Tensor) -> Any:
        return type("Output", (), {"logits": 3 * self.head(x.flatten(1))})()


def teacher(size: int = SIZE, classes: int = CLASSES) -> FeatureNetwork:
    square = Preprocessing(size, 0, PREPROCESSING.mean, PREPROCESSING.std)
    return FeatureNetwork(Looks(size, classes), square, CPU)


def example_views(count: int = 5, topk: int | None = None, images: int = 6) -> LabelViews:
    return label_views(
        teacher(), pictures(images), ViewRecipe(LabelViewsConfig(count, topk), seed=3)
    )


def with_views(folder: Path) -> tuple[LabelViews, Any]:
    """A published folder whose views were labelled by a network that looks at every pixel."""
    images = distilled_set()
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2)
    network = teacher(28, len(NAMES))
    every = label_views(network, pixels, ViewRecipe(LabelViewsConfig(6), seed=1))
    views = rounded(every, 64, len(NAMES), 20.0)
    stored = {"views": 6, "topk": 3, "levels": 64, "temperature": 20.0}
    write_set(folder / "ipc4", images, manifest(label_views=stored), views)
    (folder / "README.md").write_text(render_card(folder))
    return views, network
