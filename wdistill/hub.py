"""Publish a finished folder on the Hugging Face Hub. The only module that writes there.

It reads files: no torch, no model, and for a dry run no network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, get_token

# HTTPError is httpx's in 1.x and httpx2's in 2.x; this name is right in both.
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from wdistill.config import PLACEHOLDER_REPO
from wdistill.errors import HubError, RunFolderError
from wdistill.published import MANIFEST_FILE, human_bytes, publish_folder

REQUIRED = ("README.md", MANIFEST_FILE, "data/*.parquet")
OPTIONAL = ("soft_labels/*.parquet", "preview.png", "results.json")


@dataclass(frozen=True)
class PushOptions:
    """What ``wdistill push`` was asked for. ``private=None`` follows the source's terms."""

    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    commit_message: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class PushPlan:
    """What a push sends: paths in the repository with their bytes, and the card's text."""

    repo_id: str
    files: tuple[tuple[str, int], ...]
    card: str
    private: bool | None  # of a new repository; None: as the namespace has it, mostly public
    notice: str | None = None  # why it is private although nobody asked


@dataclass(frozen=True)
class PushResult(PushPlan):
    """A plan carried out; after a dry run there is no commit."""

    commit_url: str | None = None
    pr_url: str | None = None
    changed: bool = False  # False: the Hub has these very files already


def push(folder: Path, repo_id: str, options: PushOptions | None = None) -> PushResult:
    """Uploads the publishable files of ``folder`` to the dataset ``repo_id`` in one commit.

    ``folder`` is a run folder or its ``publish/``. Files that are on the Hub already are not sent
    again, other files there are left alone. Raises `RunFolderError` or `HubError`.
    """
    options = options or PushOptions()
    root = publish_folder(folder, REQUIRED).resolve()
    plan = _plan(root, repo_id, options.private)
    if options.dry_run:
        return PushResult(**vars(plan))
    check_write_access()
    with _explained(repo_id):
        return _upload(root, plan, options)


def check_write_access() -> str:
    """Name of the user whose token may write. Raises `HubError` otherwise; cheap, call it early."""
    token = get_token()
    login = "run `hf auth login` or set HF_TOKEN to a token that may write"
    if token is None:
        raise HubError(f"no Hugging Face token found; {login}")
    if not (token.isascii() and token.isprintable()):
        raise HubError(f"the Hugging Face token has characters that no token has; {login}")
    with _explained():
        identity = HfApi().whoami()
    access = identity.get("auth", {}).get("accessToken", {})
    if access.get("role") == "read":
        raise HubError(f"the token of {identity['name']!r} may read but not write; {login}")
    return str(identity["name"])


def format_plan(plan: PushPlan) -> str:
    """File tree, sizes and card, for ``--dry-run``."""
    width = max(len(path) for path, _ in plan.files)
    lines = [f"{plan.repo_id} (dataset, {'private' if plan.private else 'public'} if new)"]
    lines += [f"  {path:<{width}}  {human_bytes(size):>9}" for path, size in plan.files]
    total = sum(size for _, size in plan.files)
    lines.append(f"  {f'{len(plan.files)} files':<{width}}  {human_bytes(total):>9}")
    if plan.notice:
        lines.append(plan.notice)
    return "\n".join([*lines, "", plan.card])


def format_result(result: PushResult) -> str:
    """What a push did, in one or two lines."""
    if not result.changed:
        lines = [f"{result.repo_id} has these very files already; nothing was pushed"]
    else:
        lines = [f"pushed: {result.pr_url or result.commit_url}"]
    if result.notice:
        lines.append(result.notice)
    return "\n".join([*lines, f'load:   load_dataset("{result.repo_id}")'])


def _plan(root: Path, repo_id: str, private: bool | None) -> PushPlan:
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise HubError(
            f"{repo_id!r} is not a repository id; give 'name' or 'user/name' "
            "of letters, digits, '-', '_' and '.', up to 96 characters"
        ) from None
    files = tuple((name, (root / name).stat().st_size) for name in _files(root))
    source = _manifest(root)["source"]
    notice = _terms(source) if private is None else None
    card = (root / "README.md").read_text(encoding="utf-8", errors="replace")
    card = card.replace(PLACEHOLDER_REPO, repo_id)
    return PushPlan(repo_id, files, card, True if notice else private, notice)


def _files(root: Path) -> list[str]:
    found = sorted(path for pattern in REQUIRED + OPTIONAL for path in root.glob(pattern))
    for path in found:
        if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
            raise RunFolderError(f"{str(path)!r} is a link or not a file; only files are published")
    return [path.relative_to(root).as_posix() for path in found]


def _manifest(root: Path) -> dict[str, Any]:
    path = root / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_bytes())
        if not isinstance(manifest["source"], dict):
            raise TypeError("source is not an object")
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{str(path)!r} is damaged ({error}); run again or restore") from None
    return dict(manifest)


def _terms(source: dict[str, Any]) -> str | None:
    """Why a new repository is private unless asked otherwise: the source's terms ask for it."""
    gated = source.get("gated")
    if gated == "unknown":
        reason = f"source {source.get('id')!r} was read offline and may be gated"
    elif gated:
        reason = f"source {source.get('id')!r} is {'private' if gated == 'private' else 'gated'}"
    elif str(source.get("license") or "unknown").strip().lower() == "unknown":
        reason = f"licence of source {source.get('id')!r} is not known"
    else:
        return None
    return f"the {reason}, so a new repository is private; pass --public to change that"


def _upload(root: Path, plan: PushPlan, options: PushOptions) -> PushResult:
    api = HfApi()
    url = api.create_repo(plan.repo_id, repo_type="dataset", private=plan.private, exist_ok=True)
    repo_id = url.repo_id  # with the user's name, which a short id lacks
    if options.private is not None and api.dataset_info(repo_id).private != options.private:
        api.update_repo_settings(repo_id, private=options.private, repo_type="dataset")
    before = _head(api, repo_id, options.revision)
    commit = api.create_commit(
        repo_id,
        [_operation(root, name, repo_id) for name, _ in plan.files],
        commit_message=options.commit_message or _message(root),
        repo_type="dataset",
        revision=options.revision,
        create_pr=options.create_pr,
    )
    return PushResult(
        **{**vars(plan), "repo_id": repo_id},
        commit_url=str(commit.commit_url),
        pr_url=commit.pr_url,
        changed=commit.oid != before,
    )


def _operation(root: Path, name: str, repo_id: str) -> CommitOperationAdd:
    if name != "README.md":
        return CommitOperationAdd(name, root / name)
    card = (root / name).read_text(encoding="utf-8", errors="replace")
    return CommitOperationAdd(name, card.replace(PLACEHOLDER_REPO, repo_id).encode())


def _head(api: HfApi, repo_id: str, revision: str | None) -> str:
    """Commit that the push builds on. ``revision`` becomes a branch if there is no such thing."""
    try:
        return str(api.dataset_info(repo_id, revision=revision).sha)
    except RevisionNotFoundError:
        api.create_branch(repo_id, branch=revision, repo_type="dataset", exist_ok=True)
        return str(api.dataset_info(repo_id, revision=revision).sha)


def _message(root: Path) -> str:
    manifest = _manifest(root)
    return (
        f"Distilled {manifest['source'].get('id')}, {manifest.get('ipc')} images per class, "
        f"with wdistill {manifest.get('wdistill_version')}"
    )


@contextmanager
def _explained(repo_id: str | None = None) -> Iterator[None]:
    """Turns what the client raises into one line that says what to do."""
    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        # what stopped a file's upload comes wrapped in a RuntimeError that does not say it
        cause = error.__cause__ if isinstance(error, RuntimeError) else None
        raise HubError(_explain(cause or error, repo_id)) from error


def _explain(error: BaseException, repo_id: str | None) -> str:
    endpoint = HfApi().endpoint
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing can be pushed; unset it, or use --dry-run"
    if isinstance(error, HfHubHTTPError):
        return _refused(error, repo_id, endpoint)
    if isinstance(error, json.JSONDecodeError):
        return f"{endpoint} did not answer as a Hub does; check HF_ENDPOINT and try again later"
    if isinstance(error, HTTPError | ConnectionError):
        kind = type(error).__name__
        return (
            f"cannot reach {endpoint} ({kind}); check the network and HF_ENDPOINT, then try again"
        )
    return " ".join(str(error).split()) or type(error).__name__


def _refused(error: HfHubHTTPError, repo_id: str | None, endpoint: str) -> str:
    status = error.response.status_code
    said = " ".join((error.server_message or "").split()) or "no reason given"
    if isinstance(error, RepositoryNotFoundError):
        return f"no dataset {repo_id!r} that this token can see at {endpoint}; check the id"
    if status == 401:
        return (
            f"{endpoint} does not accept the token; "
            "run `hf auth login` or set HF_TOKEN to a token that may write"
        )
    if status == 403:
        target = f" {repo_id!r}" if repo_id else ""
        return f"no right to write{target}: {said}; use a token that may, or pass --create-pr"
    if status == 412:
        return f"{repo_id!r} changed during the push: {said}; push again"
    if status == 429 or status >= 500:
        return f"{endpoint} answered {status} ({said}); push again later, that is safe"
    return f"{endpoint} refused {repo_id!r} with {status}: {said}"
