"""Publish a finished folder on the Hugging Face Hub.

It only reads files: torch is not imported, and a dry run needs no network.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import RevisionNotFoundError

from wdistill.artifact.layout import (
    CURVE_FILE,
    MANIFEST_FILE,
    default_config,
    publish_folder,
    set_folders,
)
from wdistill.artifact.manifest import read_manifest
from wdistill.core.settings import flat
from wdistill.core.text import clean
from wdistill.errors import HubError, RunFolderError
from wdistill.publishing.hub.client import check_access, explained, retry
from wdistill.publishing.hub.plan import REQUIRED, PushPlan, plan_push, read_card, read_manifests
from wdistill.publishing.hub.repo import (
    CARD,
    Change,
    Head,
    commit,
    read_head,
    refuse_other_contents,
    replaced_sets,
    set_tag,
)

_DIFFERENCES = 3  # settings that are named of a set that is replaced


@dataclass(frozen=True)
class PushOptions:
    """Options of a push. ``private=None``: as the terms of the source ask for."""

    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    commit_message: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class PushResult(PushPlan):
    """A plan carried out; after a dry run there is no commit.

    replaced: a sentence for each set of another content that had the same name in the repository;
    config: of the pushed set, where the repository loads one of its other sets without a name.
    """

    commit_url: str | None = None
    pr_url: str | None = None
    changed: bool = False  # False: the Hub has these very files already
    replaced: tuple[str, ...] = ()
    config: str | None = None


def push(folder: Path, repo_id: str, options: PushOptions | None = None) -> PushResult:
    """Upload the publishable files of ``folder`` to the dataset ``repo_id`` in one commit.

    Files that the Hub has already are not sent again; files and text of other people stay. The
    commit on the main branch gets a tag that names the format.

    Args:
        folder: A run folder, or its subfolder ``publish``.
        repo_id: Id of the dataset, with or without its owner.
        options: How to push.

    Raises:
        RunFolderError: ``folder`` is not complete.
        HubError: the Hub refused or could not be reached; the same push can be repeated.
    """
    options = options or PushOptions()
    root = publish_folder(folder, REQUIRED).resolve()
    plan = plan_push(root, repo_id, options.private)
    if options.dry_run:
        return PushResult(**vars(plan))
    plan = replace(plan, repo_id=check_access(repo_id, options.create_pr))
    with explained(plan.repo_id):
        return _upload(root, plan, options)


def check_target(repo_id: str) -> None:
    """Raise HubError if a push to ``repo_id`` is certain to fail. Cheap enough to call early."""
    full = check_access(repo_id)
    with explained(full):
        head = read_head(HfApi(), full)
    if head is not None:
        refuse_other_contents(head)


def push_finished(folder: Path, repo_id: str) -> PushResult:
    """Push at the end of a run; an error also says how to push the finished run later."""
    try:
        return push(folder, repo_id)
    except (HubError, RunFolderError) as error:
        again = shlex.join(["wdistill", "push", str(folder), repo_id])
        raise HubError(f"{error}; the run itself is finished, push it with: {again}") from error


def format_result(result: PushResult) -> str:
    """What a push did, in one or two lines."""
    if not result.changed:
        lines = [f"{result.repo_id} has these very files already; nothing was pushed"]
    else:
        lines = [f"pushed: {result.pr_url or result.commit_url}", *result.replaced]
    if result.notice:
        lines.append(result.notice)
    config = f', "{result.config}"' if result.config else ""
    return "\n".join([*lines, f'load:   load_dataset("{result.repo_id}"{config})'])


def _upload(root: Path, plan: PushPlan, options: PushOptions) -> PushResult:
    api = HfApi()
    head = _open_branch(api, plan, options)
    change = Change(
        repo_id=head.repo_id,
        files={name: root / name for name, _ in plan.files if name != CARD},
        card=lambda now: _card(api, root, now),
        message=options.commit_message or _message(root),
        revision=options.revision,
        create_pr=options.create_pr,
    )
    replaced = tuple(_told(api, root, name, head) for name in replaced_sets(change, head))
    done = commit(api, change, head)
    if not options.create_pr and options.revision in (None, "main"):
        versions = [manifest.format_version for manifest in read_manifests(root)]
        _tag(api, head.repo_id, f"wdistill-v{max(versions)}", done)
    return PushResult(
        **{**vars(plan), "repo_id": head.repo_id},
        commit_url=str(done.commit_url),
        pr_url=done.pr_url,
        changed=done.oid != head.sha,
        replaced=replaced,
        config=_unless_default(root, _card(api, root, head)),
    )


def _unless_default(root: Path, card: str) -> str | None:
    """The pushed set, of several the largest; None where the default of ``card`` was pushed."""
    own = [folder.name for folder in set_folders(root)]
    return None if default_config(card) in (None, *own) else own[-1]


def _told(api: HfApi, root: Path, name: str, head: Head) -> str:
    """What set a push replaces: by which settings it differs, and where it stays."""
    now = read_manifest(root / name)
    kept = f"it stays at revision {head.sha[:12]}"
    try:
        was = read_manifest(Path(head.download(api, f"{name}/{MANIFEST_FILE}")).parent)
    except RunFolderError:
        return f"{name} replaces a set whose {MANIFEST_FILE} cannot be read; {kept}"
    own, before = flat(now.config.to_dict()), flat(was.config.to_dict())
    names = [key for key in own if own[key] != before[key]]
    if was.source.fingerprint != now.source.fingerprint:
        names.insert(0, "the data")
    shown = [
        f"{key} (was {before[key]!r}, is {own[key]!r})" if key in own else key
        for key in names[:_DIFFERENCES]
    ]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    reason = f"which differs in {', '.join(shown)}" if shown else "which has the same settings"
    return clean(f"{name} replaces one made {was.created[:10]}, {reason}; {kept}")


def _card(api: HfApi, root: Path, head: Head) -> str:
    """The card for the sets in the folder and those in the repository."""
    own = {folder.name for folder in set_folders(root)}
    others = [name for name in head.sets if name not in own]
    if not others:
        return read_card(root, head.repo_id)
    from wdistill.publishing.card.card import read_set, render_card  # noqa: PLC0415 (brings torch, rarely needed)

    sets = []
    for name in others:
        files = [f"{name}/{file}" for file in (MANIFEST_FILE, "report.json")]
        paths = [Path(head.download(api, file)) for file in files if file in head.contents]
        set_files = read_set(paths[0].parent, with_data=False)
        pictures = [f"{name}/{file}" in head.contents for file in ("preview.png", CURVE_FILE)]
        sets.append(replace(set_files, preview=pictures[0], curve=pictures[1]))
    default = None
    if CARD in head.contents:
        default = default_config(Path(head.download(api, CARD)).read_text(errors="replace"))
    return render_card(root, head.repo_id, sets, default)


def _open_branch(api: HfApi, plan: PushPlan, options: PushOptions) -> Head:
    """The head of the branch to push to. Branch and repository are created if necessary."""
    branch = None
    try:
        head = read_head(api, plan.repo_id, options.revision)
    except RevisionNotFoundError:
        head, branch = read_head(api, plan.repo_id), options.revision
    if head is None:
        head, branch = _create(api, plan), options.revision
    elif not options.create_pr:
        refuse_other_contents(head)
    repo_id, sha = head.repo_id, head.sha
    if options.private is not None and head.private != options.private:
        retry(
            lambda: api.update_repo_settings(repo_id, private=options.private, repo_type="dataset")
        )
    if branch not in (None, "main"):
        retry(
            lambda: api.create_branch(
                repo_id, branch=branch, revision=sha, repo_type="dataset", exist_ok=True
            )
        )
    return head


def _create(api: HfApi, plan: PushPlan) -> Head:
    created = retry(
        lambda: api.create_repo(
            plan.repo_id, repo_type="dataset", private=plan.private, exist_ok=True
        )
    )
    head = read_head(api, created.repo_id)
    if head is None:
        raise HubError(f"dataset {created.repo_id!r} was created, but the token cannot read it")
    return head


def _tag(api: HfApi, repo_id: str, name: str, done: CommitInfo) -> None:
    """Tag the commit, so that the newest set of this format is found after the format changes."""
    try:
        with explained(repo_id):
            set_tag(api, repo_id, name, done.oid)
    except HubError as error:
        raise HubError(
            f"pushed {done.commit_url}, but its tag {name!r} is missing: {error}"
        ) from error


def _message(root: Path) -> str:
    manifests = read_manifests(root)
    counts = ", ".join(dict.fromkeys(str(manifest.ipc) for manifest in manifests))
    text = (
        f"Distilled {manifests[0].source.id}, {counts} images per class, "
        f"with wdistill {manifests[0].wdistill_version}"
    )
    return " ".join(text.split())[:200]
