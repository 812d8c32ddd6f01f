"""What a push of a finished folder sends, which is found without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wdistill.artifact.layout import CURVE_FILE, MANIFEST_FILE, check_id, set_folders
from wdistill.artifact.manifest import Manifest, check_bytes, read_manifest
from wdistill.artifact.records import SourceRecord
from wdistill.config import PLACEHOLDER_REPO
from wdistill.core.text import human_bytes
from wdistill.errors import RunFolderError
from wdistill.publishing.hub.repo import CARD

REQUIRED = (CARD, f"ipc*/{MANIFEST_FILE}", "ipc*/data/*.parquet")
IN_A_SET = (
    MANIFEST_FILE, "data/*.parquet", "soft_labels/*.parquet", "preview.png", "report.json",
    CURVE_FILE,
)  # fmt: skip


@dataclass(frozen=True)
class PushPlan:
    """What a push sends: paths in the repository with their bytes, and the card's text."""

    repo_id: str
    files: tuple[tuple[str, int], ...]
    card: str
    private: bool | None  # of a new repository; None: as the namespace has it, mostly public
    notice: str | None = None  # why it is private although nobody asked


def plan_push(root: Path, repo_id: str, private: bool | None) -> PushPlan:
    """What a push of the publishable folder ``root`` sends.

    Raises:
        RunFolderError: a file is damaged, or is no file that may be published.
        HubError: ``repo_id`` cannot be the id of a repository.
    """
    check_id(repo_id)
    files = tuple((name, (root / name).stat().st_size) for name in _files(root))
    terms = [_terms(manifest.source) for manifest in read_manifests(root)]
    notice = next(filter(None, terms), None) if private is None else None
    return PushPlan(repo_id, files, read_card(root, repo_id), True if notice else private, notice)


def read_card(root: Path, repo_id: str) -> str:
    """The card in ``root`` for the repository ``repo_id``."""
    card = (root / CARD).read_text(encoding="utf-8", errors="replace")
    return card.replace(PLACEHOLDER_REPO, repo_id)


def _files(root: Path) -> list[str]:
    paths = [root / CARD]
    for folder in set_folders(root):
        paths += sorted(path for pattern in IN_A_SET for path in folder.glob(pattern))
    for path in paths:
        above = [path, *path.parents][: len(path.relative_to(root).parts)]
        if any(part.is_symlink() for part in above) or not path.is_file():
            raise RunFolderError(f"{str(path)!r} is a link or not a file; only files are published")
        if not path.name.isprintable():
            raise RunFolderError(f"{str(path)!r} has control characters in its name; rename it")
    return [path.relative_to(root).as_posix() for path in paths]


def read_manifests(root: Path) -> list[Manifest]:
    """The manifests of all sets, after the sizes of their files were checked."""
    manifests = []
    for folder in set_folders(root):
        manifests.append(read_manifest(folder))
        check_bytes(folder, manifests[-1].bytes)
    return manifests


def _terms(source: SourceRecord) -> str | None:
    """Why the terms of the source ask for a private repository; None if they do not."""
    if source.access == "unknown":
        reason = f"source {source.id!r} was read offline and may be gated"
    elif source.access != "open":
        reason = f"source {source.id!r} is {source.access}"
    elif (source.license or "unknown").strip().lower() == "unknown":
        reason = f"licence of source {source.id!r} is not known"
    else:
        return None
    return f"the {reason}, so a new repository is private; pass `private=False` to change that"


def format_plan(plan: PushPlan) -> str:
    """File tree, sizes and card, for a dry run."""
    width = max(len(path) for path, _ in plan.files)
    lines = [f"{plan.repo_id} (dataset, {'private' if plan.private else 'public'} if new)"]
    lines += [f"  {path:<{width}}  {human_bytes(size):>9}" for path, size in plan.files]
    total = sum(size for _, size in plan.files)
    lines.append(f"  {f'{len(plan.files)} files':<{width}}  {human_bytes(total):>9}")
    if plan.notice:
        lines.append(plan.notice)
    card = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in plan.card
    )
    return "\n".join([*lines, "", card])
