"""The dataset card: a pure function of the files in a publishable folder.

Names, ids and settings in those files are untrusted: the room's ``markdown`` escapes whatever the
template prints, and the YAML block is dumped from plain data, never written by the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wdistill.artifact.distilled_set import read_report, read_summary
from wdistill.artifact.layout import (
    CURVE_FILE,
    LABELS_SUFFIX,
    publish_folder,
    set_folders,
    set_name,
    set_order,
)
from wdistill.artifact.manifest import Manifest, check_bytes, read_manifest
from wdistill.artifact.report import Report
from wdistill.config import PLACEHOLDER_REPO
from wdistill.errors import HubError, RunFolderError
from wdistill.publishing.card.making import making
from wdistill.publishing.card.markdown import environment, is_hub_id
from wdistill.publishing.card.metadata import header, title
from wdistill.publishing.card.origin import details, origin
from wdistill.publishing.card.report import LABELS, first_row, report_view
from wdistill.publishing.card.snippet import snippet_of

Json = dict[str, Any]


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
    if folder.name not in (manifest.name, set_name(manifest.ipc)):
        raise RunFolderError(
            f"'{folder}' holds {manifest.ipc} images per class; call it {manifest.name!r}"
        )
    if with_data:
        _check(folder, manifest)
    report = read_report(folder)
    preview, curve = ((folder / name).is_file() for name in ("preview.png", CURVE_FILE))
    return SetFiles(folder.name, manifest, report, preview, curve)


def _check(folder: Path, manifest: Manifest) -> None:
    check_bytes(folder, manifest.bytes)
    if read_summary(folder) != (manifest.images, manifest.classes):
        raise RunFolderError(f"'{folder}': wdistill.json and data/ disagree; write them again")


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
    sets.sort(key=lambda files: set_order(files.name))
    _check_alike(sets)
    loaded = default if default in {files.name for files in sets} else sets[-1].name
    view = {
        "title": title([files.manifest for files in sets]),
        "repo_id": repo_id,
        "default": loaded,
        "sets": [_view(files, repo_id) for files in sets],
    }
    body = environment().get_template("dataset_card.md.jinja").render(view)
    front = header({files.name: files.manifest for files in sets}, loaded)
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
    row = first_row(files.report) if files.report else None
    snippet = snippet_of(manifest, row, files.report)
    known = manifest.source.kind in ("hub", "embedded")
    return origin(manifest) | making(manifest) | details(manifest) | {
        "name": files.name,
        "labels_config": files.name + LABELS_SUFFIX,
        "preview": files.preview,
        "curve": files.curve and files.report is not None,
        "report": files.report
        and report_view(files.report, repo_id if known else None, manifest.config.seed),
        "snippet": snippet,
        "labels_in_words": LABELS[snippet.labels],
    }  # fmt: skip
