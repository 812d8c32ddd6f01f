"""What the images were made from: real images and a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from wdistill.artifact.records.model import Count, Number, Record

if TYPE_CHECKING:  # brings torch, and a push reads manifests
    from wdistill.data.dataset import ImageData

Access = Literal["open", "gated", "private", "unknown"]


class SourceRecord(Record):
    """The real images: where they come from, and how they were read.

    kind: embedded, hub, imagefolder, parquet or saved; access: of the source on the Hub, unknown
    where it was read offline; groups: into how many measures each class was split, 0 for none;
    unlabelled, broken: images that were left out, and why; shared: of training, as they are also in
    the evaluation split.
    """

    id: str
    kind: str
    config_name: str | None = None
    revision: str | None = None
    fingerprint: str
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    access: Access = "open"
    pretty_name: str | None = None
    url: str | None = None
    train_split: str
    eval_split: str
    eval_is_holdout: bool
    image_column: str
    label_column: str
    groups: Count = 0
    train_images: Count
    eval_images: Count
    unlabelled: Count = 0
    broken: Count = 0
    shared: Count = 0

    @classmethod
    def of(cls, data: ImageData) -> Self:
        """The record of ``data`` in the manifest."""
        source, groups = data.source, data.train.groups
        return cls(
            id=source.id,
            kind=source.kind,
            config_name=source.config_name,
            revision=source.revision,
            fingerprint=source.fingerprint,
            license=source.license,
            license_name=source.license_name,
            license_link=source.license_link,
            access=_access(source.gated),
            pretty_name=source.pretty_name,
            url=source.url,
            train_split=data.train_split,
            eval_split=data.eval_split,
            eval_is_holdout=data.eval_is_holdout,
            image_column=data.image_column,
            label_column=data.label_column,
            groups=0 if groups is None else len(set(groups.tolist())),
            train_images=len(data.train),
            eval_images=len(data.eval),
            unlabelled=data.unlabelled,
            broken=data.broken,
            shared=data.shared,
        )


def _access(gated: bool | str) -> Access:
    if gated == "private":
        return "private"
    if gated == "unknown":
        return "unknown"
    return "gated" if gated else "open"


class TeacherRecord(Record):
    """The network whose features defined the transport.

    origin: whether it was used as_is, fine_tuned or trained from_scratch; architecture: in words;
    accuracy: top-1 on the evaluation images.
    """

    backbone: str
    revision: str | None = None
    origin: Literal["as_is", "fine_tuned", "from_scratch"]
    architecture: str
    accuracy: Number
    weights_sha256: str
    parameters: Count
