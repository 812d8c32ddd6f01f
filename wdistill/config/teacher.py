"""The teacher, and the networks that need no checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from wdistill.core.settings import Settings, between, setting

BUILT_IN = ("resnet18", "resnet10-w16", "convnet", "convnet-w64", "vit")
LARGE_DATASET = 20_000  # images


@dataclass(frozen=True)
class TeacherConfig(Settings):
    """The network whose features define the transport."""

    section = "teacher"
    backbone: str = setting(
        "resnet10-w16",
        "Image classifier whose features are used: Hub id, local folder (trained from scratch if "
        "it has no weights), or built-in: resnet18, resnet10-w16, convnet, convnet-w64, vit. "
        "[source: own choice, 92% on Fashion-MNIST in minutes on two CPU cores]",
        "--backbone",
        metavar="ID|PATH|NAME",
    )
    backbone_revision: str | None = setting(
        None,
        "Branch, tag or commit of a Hub backbone, ignored for others. [default: main]",
        "--backbone-revision",
        metavar="REV",
    )
    epochs: int = setting(
        10,
        "Epochs of training where the backbone's classes are not the dataset's. [source: own "
        "choice; official 50]",
        "--teacher-epochs",
        allowed=between(0, 10_000),
    )
    batch_size: int | None = setting(
        None,
        f"Images per step of that training. [default: 32 up to {LARGE_DATASET:,} images, 128 "
        "above, our measurement in tests/benchmarks/README.md#teacher]",
        allowed=between(1, 100_000),
    )
    allow_weak: bool = setting(
        False,
        "Go on with a teacher near chance. [default: stop, our choice]",
        "--allow-weak-teacher",
    )
    trust_remote_code: bool = setting(
        False,
        "Run code that a network's repository brings. [default: no, as in transformers]",
        "--trust-remote-code",
    )

    def batch(self, images: int) -> int:
        """Images per step of the training on a dataset of ``images``."""
        return min(self.batch_size or (32 if images <= LARGE_DATASET else 128), images)
