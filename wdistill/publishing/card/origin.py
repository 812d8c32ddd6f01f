"""What a set is, where it comes from, with which settings."""

from __future__ import annotations

from typing import Any

from wdistill.artifact.manifest import Manifest
from wdistill.artifact.records import SourceRecord
from wdistill.core.settings import flat
from wdistill.core.text import human_bytes
from wdistill.evaluation.wording import number
from wdistill.publishing.card.markdown import Trusted, code, escape, link
from wdistill.publishing.card.metadata import license_id, license_url, source_link

Json = dict[str, Any]


def origin(manifest: Manifest) -> Json:
    """What the set is and where it comes from."""
    source = manifest.source
    holdout = "held out of its training split" if source.eval_is_holdout else None
    return {
        "images": f"{manifest.images}",
        "each": _each(manifest),
        "unequal": manifest.counts is not None,
        "shared": manifest.config.barycenter.allocation == "w2",
        "rare": manifest.counts is not None and manifest.config.barycenter.allocation != "w2",
        "classes": len(manifest.classes),
        "width": manifest.resolution,
        "height": manifest.resolution,
        "source_link": source_link(source),
        "train_images": f"{source.train_images:,}",
        "eval_images": f"{source.eval_images:,}",
        "eval_split": holdout or f"split '{source.eval_split}'",
        "holdout": source.eval_is_holdout,
        "licence": _licence(source),
        "version": manifest.wdistill_version,
        "command": manifest.command,
        "left_out": [
            f"{count:,} images of the source were left out: {why}."
            for count, why in (
                (source.unlabelled, "they have no label"),
                (source.broken, "they are broken"),
                (source.shared, "they are in the evaluation split too"),
            )
            if count
        ],
    }


def _each(manifest: Manifest) -> str:
    """Images of each class: their number, or the least and the most."""
    least, most = min(manifest.per_class), max(manifest.per_class)
    return f"{least}" if least == most else f"{least} to {most}"


def _licence(source: SourceRecord) -> Trusted:
    where, identifier = source_link(source), license_id(source)
    if identifier is None:
        text = (
            "The licence of the source is **unknown**, and none is made up here. These images are "
            f"derived from it: ask the publisher of {where} before you use or share them."
        )
    else:
        name = source.license_name or source.license or ""
        text = (
            f"Inherited from the source: {link(name, license_url(source))}. These images and "
            f"labels are derived from {where}, whose terms apply to them as well."
        )
    if source.access == "private":
        text += " The source is **private**: ask its owner before you share this set."
    elif source.access == "unknown":
        text += " Whether the source is gated is not known: it was read offline."
    elif source.access == "gated":
        text += " The source is **gated**: accept its terms there before you use this set."
    return Trusted(text)


def details(manifest: Manifest) -> Json:
    """Settings, sizes and provenance."""
    settings, names = flat(manifest.config.to_dict()), manifest.config_changed
    changed = {name: value for name, value in settings.items() if name in names}
    default = {name: value for name, value in settings.items() if name not in names}
    own = manifest.bytes
    sizes = {"Images": own.images, "Soft labels": own.soft_labels, "Parquet files": own.parquet}
    if manifest.label_views:
        sizes["Labels of views, parquet"] = own.label_views
    count = f"{len(changed)} changed, {len(default)} at their default"
    return {
        "settings": {"changed": list(changed.items()), "default": list(default.items())},
        "changed_count": count,
        "parquet": human_bytes(own.parquet),
        "bits": f"{manifest.bits_per_class:,}",
        "sizes": [
            {"name": name, "human": human_bytes(size), "exact": f"{size:,}"}
            for name, size in sizes.items()
        ],
        "provenance": _provenance(manifest),
    }


def _provenance(manifest: Manifest) -> list[tuple[str, Trusted]]:
    source, teacher, seconds = manifest.source, manifest.teacher, manifest.seconds
    stages = ", ".join(f"{name} {number(value)} s" for name, value in seconds.items())
    used = {"wdistill": manifest.wdistill_version, **manifest.versions}
    versions = ", ".join(f"{name} {version}" for name, version in used.items())
    trained = f"{source.train_split}, {source.train_images:,} images"
    place = "held out of " * source.eval_is_holdout + source.eval_split
    tested = f"{place}, {source.eval_images:,} images"
    rows: list[tuple[str, Any]] = [
        ("Source", source_link(source)),
        ("Source id", code(source.id)),
        ("Source configuration", source.config_name),
        ("Source revision", source.revision and code(source.revision)),
        ("Source fingerprint", source.fingerprint and code(source.fingerprint)),
        ("Training split", trained),
        ("Evaluation split", tested),
        (
            "Columns read",
            Trusted(f"{code(source.image_column)}, {code(source.label_column)}"),
        ),
        ("Backbone", code(teacher.backbone)),
        ("Architecture", teacher.architecture),
        ("Backbone revision", teacher.revision and code(teacher.revision)),
        ("Teacher weights (SHA-256)", code(teacher.weights_sha256)),
        ("Seed", str(manifest.config.seed)),
        ("Settings hash", code(manifest.config_hash)),
        ("Created", manifest.created),
        ("Device", f"{manifest.device}, {manifest.processes} process(es)"),
        ("Time", f"{number(sum(seconds.values()))} s: {stages}"),
        ("Versions", versions),
    ]
    return [
        (name, value if isinstance(value, Trusted) else escape(value))
        for name, value in rows
        if value
    ]
