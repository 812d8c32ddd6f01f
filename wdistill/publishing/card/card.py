"""The dataset card: a pure function of the files in a publishable folder.

Names, ids and settings in those files are untrusted: the room's ``markdown`` escapes whatever the
template prints, and the YAML block is dumped from plain data, never written by the template.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from wdistill.artifact.distilled_set import read_report, read_summary
from wdistill.artifact.layout import (
    CURVE_FILE,
    LABELS_SUFFIX,
    publish_folder,
    set_folders,
    set_name,
)
from wdistill.artifact.manifest import (
    BudgetRecord,
    CodingRecord,
    LabelRecord,
    Manifest,
    SourceRecord,
    check_bytes,
    read_manifest,
)
from wdistill.artifact.report import Report
from wdistill.config import PLACEHOLDER_REPO
from wdistill.core.settings import flat
from wdistill.core.text import human_bytes, human_seconds
from wdistill.data.content.coding import Coding
from wdistill.errors import HubError, RunFolderError
from wdistill.evaluation.wording import number, percent
from wdistill.publishing.card.markdown import Trusted, code, environment, escape, is_hub_id, link
from wdistill.publishing.card.metadata import (
    HUB,
    header,
    license_id,
    license_url,
    source_link,
    title,
)
from wdistill.publishing.card.report import report_view

Json = dict[str, Any]
_MAX_CLASSES = 20
_ORIGINS = {
    "as_is": "used as it is, its classes being those of the source",
    "fine_tuned": "fine-tuned on the training split of the source",
    "from_scratch": "trained from scratch on the training split of the source",
}
_GIVERS = {
    "teacher": "the teacher",
    "committee": "a committee of two, the teacher and a small ConvNet trained for {steps:,} steps,",
    "none": "nobody",
}
_STARTS = {
    "real": "each image starts from the real training image nearest to its atom",
    "mean": "each image starts from the weighted mean of the real images of its atom",
    "noise": "each image starts from noise that has the spectrum of the real images",
}


@dataclass(frozen=True)
class SetFiles:
    """What a card tells of a set: the name of its configuration and folder, wdistill.json,
    report.json, and whether there are pictures of the images and of the accuracies.
    """

    name: str
    manifest: Manifest
    report: Report | None
    preview: bool
    curve: bool


def read_set(folder: Path, with_data: bool = True) -> SetFiles:
    """Read the files of the set in ``folder`` that its card describes.

    Args:
        folder: The folder of one set.
        with_data: Whether to compare the manifest with the parquet files.

    Raises:
        RunFolderError: a file is damaged, or files contradict each other.
    """
    manifest = read_manifest(folder)
    if folder.name != set_name(manifest.ipc):
        raise RunFolderError(
            f"'{folder}' holds {manifest.ipc} images per class; call it {set_name(manifest.ipc)!r}"
        )
    if with_data:
        _check(folder, manifest)
    report = read_report(folder)
    preview, curve = ((folder / name).is_file() for name in ("preview.png", CURVE_FILE))
    return SetFiles(folder.name, manifest, report, preview, curve)


def render_card(
    folder: Path, repo_id: str = PLACEHOLDER_REPO, others: Sequence[SetFiles] = (),
    default: str | None = None,
) -> str:  # fmt: skip
    """Render README.md for the sets in ``folder``.

    Args:
        folder: A publishable folder.
        repo_id: The repository that the examples of the card load.
        others: Sets that are already in the repository.
        default: The configuration to load without a name; by default the largest set.

    Raises:
        RunFolderError: a file is damaged, or the sets differ in their source or classes.
    """
    if not is_hub_id(repo_id):
        raise HubError(f"'{repo_id}' is not a repository id; give one such as '{PLACEHOLDER_REPO}'")
    own = [read_set(path) for path in set_folders(publish_folder(folder))]
    names = {files.name for files in own}
    sets = [*own, *(files for files in others if files.name not in names)]
    sets.sort(key=lambda files: int(files.manifest.ipc))
    _check_alike(sets)
    loaded = default if default in {files.name for files in sets} else sets[-1].name
    view = {
        "title": title([files.manifest for files in sets]),
        "repo_id": repo_id,
        "default": loaded,
        "sets": [_view(files, repo_id) for files in sets],
    }
    body = environment().get_template("dataset_card.md.jinja").render(view)
    front = header([files.manifest for files in sets], loaded)
    return f"---\n{front}\n---\n\n{body}"


def _check_alike(sets: Sequence[SetFiles]) -> None:
    first = sets[-1]
    for files in sets:
        own, theirs = files.manifest.source.id, first.manifest.source.id
        if own != theirs or files.manifest.classes != first.manifest.classes:
            raise RunFolderError(
                f"{files.name} was made from {own!r} and {first.name} from {theirs!r}, or their "
                "classes differ; sets of one repository have one source: give another repository"
            )


def _view(files: SetFiles, repo_id: str) -> Json:
    """What the template prints of one set."""
    manifest = files.manifest
    known = manifest.source.kind in ("hub", "embedded")
    return _describe(manifest) | _make(manifest) | _lists(manifest) | {
        "name": files.name,
        "labels_config": files.name + LABELS_SUFFIX,
        "preview": files.preview,
        "curve": files.curve and files.report is not None,
        "report": files.report
        and report_view(files.report, repo_id if known else None, manifest.config.seed),
        "parquet": human_bytes(manifest.bytes.parquet),
        "bits": f"{manifest.bits_per_class:,}",
        "coding": str(manifest.coding),
        "grey": manifest.coding.grey,
        "lossy": manifest.coding.quality is not None,
        "made_for": Coding(manifest.coding.format, manifest.coding.quality).is_coarse,
        "tried": _tried(manifest.coding),
    }  # fmt: skip


def _tried(coding: CodingRecord) -> str:
    """The mean accuracies that a quality was chosen from."""
    return ", ".join(
        f"{percent(sum(trial.top1) / len(trial.top1))} "
        + ("without loss" if trial.quality is None else f"at {trial.quality}")
        for trial in coding.tried
    )


def _labels_tried(labels: LabelRecord) -> str:
    """The mean accuracies that the giver of the labels was chosen from."""
    return "; ".join(
        f"{trial} {' and '.join(percent(sum(kind) / len(kind)) for kind in trial.top1)}"
        for trial in labels.tried
    )


def _spendings(budget: BudgetRecord) -> list[Json]:
    """What a budget could have been spent on: the last accuracy that each was judged by."""
    last = {(trial.images, trial.ipc, trial.quality, trial.views): trial for trial in budget.tried}
    return [
        {
            "images": trial.images,
            "ipc": trial.ipc,
            "quality": "lossless" if trial.quality is None else trial.quality,
            "views": trial.views,
            "steps": trial.steps,
            "top1": percent(trial.mean),
        }
        for trial in last.values()
    ]


def _check(folder: Path, manifest: Manifest) -> None:
    check_bytes(folder, manifest.bytes)
    if read_summary(folder) != (manifest.images, manifest.classes):
        raise RunFolderError(f"'{folder}': wdistill.json and data/ disagree; write them again")


def _teacher(manifest: Manifest) -> Json:
    teacher = manifest.teacher
    on_hub = teacher.revision and is_hub_id(teacher.backbone)
    return {
        "link": link(teacher.backbone, f"{HUB}/{teacher.backbone}" if on_hub else None),
        "architecture": teacher.architecture,
        "origin": _ORIGINS[teacher.origin],
        "parameters": f"{teacher.parameters:,}",
        "accuracy": percent(teacher.accuracy),
    }


def _describe(manifest: Manifest) -> Json:
    """What the set is and where it comes from."""
    source = manifest.source
    holdout = "held out of its training split" if source.eval_is_holdout else None
    return {
        "images": f"{manifest.images}",
        "each": _each(manifest),
        "unequal": manifest.counts is not None,
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


def _make(manifest: Manifest) -> Json:
    """How it was made, and how close it is to the source."""
    config = manifest.config
    return {
        "teacher": _teacher(manifest),
        "local_students": manifest.local_students,
        "made": _made(manifest),
        "weights": config.barycenter.weights,
        "groups": _groups(manifest),
        "views": config.relabel.views,
        "giver": _GIVERS[manifest.labels.giver].format(steps=config.relabel.committee_steps),
        "hard_labels": manifest.labels.giver == "none",
        "hard_soft": manifest.labels.hard_soft,
        "budget": manifest.budget and human_bytes(manifest.budget.bytes),
        "spendings": _spendings(manifest.budget) if manifest.budget else [],
        "chosen": manifest.budget is not None and manifest.budget.images == "chosen",
        "images_tried": manifest.budget is not None
        and any(trial.images == "distilled" for trial in manifest.budget.tried),
        "labels_tried": _labels_tried(manifest.labels),
        "stored": _stored(manifest),
        "start": _STARTS[config.synthesis.init],
        "init": config.synthesis.init,
        "pool": [space for space in config.synthesis.feature_spaces if space != "none"],
        "iterations": config.synthesis.iterations,
        "entropy": config.synthesis.ce_weight > 0,
        "untouched": manifest.untouched,
        "temperature": number(config.evaluate.temperature),
        "transport": _transport(manifest),
    }


def _made(manifest: Manifest) -> str:
    """How long it took to make the set, without its evaluation."""
    seconds = {k: v for k, v in manifest.seconds.items() if k != "evaluate"}
    if not seconds:
        return ""
    return f"The set was made in {human_seconds(sum(seconds.values()))} on {manifest.device}."


def _groups(manifest: Manifest) -> Json | None:
    """The column that split each class into several measures; None if there was none."""
    column, count = manifest.config.data.group_column, manifest.source.groups
    if not column or not count:
        return None
    proportional = manifest.config.barycenter.group_weights == "proportional"
    return {
        "column": column,
        "count": count,
        "weighted": "in proportion to their images" if proportional else "equally",
    }


def _stored(manifest: Manifest) -> Json | None:
    """The configuration of label views; None if there is none."""
    views = manifest.label_views
    if views is None:
        return None
    return {
        "views": views.views,
        "rows": f"{views.views * manifest.images:,}",
        "topk": views.topk,
        "levels": views.levels,
        "temperature": number(views.temperature),
        "cut": views.topk < len(manifest.classes),
    }


def _transport(manifest: Manifest) -> Json:
    w2, w2_random = manifest.barycenter.w2, manifest.barycenter.w2_random
    nearest = manifest.distances.nearest_real_rmse
    names = manifest.classes
    rows = [
        {
            "name": names[c],
            "images": manifest.per_class[c],
            "w2": number(w2[c]),
            "w2_random": number(w2_random[c]),
            "nearest": number(statistics.fmean(nearest[c])),
            "closest": number(min(nearest[c])),
        }
        for c in range(min(_MAX_CLASSES, len(names)))
    ]
    return {
        "w2": number(statistics.fmean(w2)),
        "w2_random": number(statistics.fmean(w2_random)),
        "nearest": number(statistics.fmean(chain.from_iterable(nearest))),
        "closest": number(min(chain.from_iterable(nearest))),
        "rows": rows,
        "more": max(0, len(names) - _MAX_CLASSES),
    }


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


def _lists(manifest: Manifest) -> Json:
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
