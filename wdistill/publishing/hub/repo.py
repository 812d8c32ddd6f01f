"""The repository that a push goes to: its contents, and one commit on top of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from wdistill.artifact.layout import MANIFEST_FILE, SET_NAME
from wdistill.errors import HubError
from wdistill.publishing.hub.client import retry
from wdistill.publishing.hub.merge import marked, merge_cards

CARD = "README.md"
STALE = 412  # the branch has moved since its head was read
# What an earlier push of another set may have left, and what would then be read as part of this.
LEFT_OVER = re.compile(
    r"(data|soft_labels)/train-\d{5}-of-\d{5}\.parquet|(preview|accuracy)\.png|report\.json"
)
DOCUMENTS = {".md", ".rst", ".bib", ".cff", ".gitattributes", ".gitignore"}


@dataclass(frozen=True)
class Head:
    """The current state of a branch of the repository."""

    repo_id: str
    sha: str
    private: bool
    contents: Mapping[str, str]  # of each path: SHA-256 if it is an LFS file, else git's blob id

    @property
    def sets(self) -> list[str]:
        """Folders of the sets in the repository."""
        paths = [PurePosixPath(path) for path in self.contents]
        return [
            path.parts[0]
            for path in paths
            if path.name == MANIFEST_FILE and len(path.parts) == 2
            and SET_NAME.fullmatch(path.parts[0])
        ]  # fmt: skip

    @property
    def pushed_before(self) -> bool:
        return bool(self.sets)

    def download(self, api: HfApi, path: str) -> str:
        """Download ``path`` of this commit to the client's cache."""
        return str(api.hf_hub_download(self.repo_id, path, repo_type="dataset", revision=self.sha))


@dataclass(frozen=True)
class Change:
    """What one push commits.

    files: by path in the repository; card: makes the card for a head; revision: the branch.
    """

    repo_id: str
    files: Mapping[str, Path]
    card: Callable[[Head], str]
    message: str
    revision: str | None = None
    create_pr: bool = False


def read_head(api: HfApi, repo_id: str, revision: str | None = None) -> Head | None:
    """The head of a branch; None if there is no such dataset."""
    try:
        info = retry(lambda: api.dataset_info(repo_id, revision=revision, files_metadata=True))
    except RepositoryNotFoundError:
        return None
    contents = {
        file.rfilename: str(file.lfs.sha256 if file.lfs else file.blob_id)
        for file in info.siblings or []
    }
    return Head(info.id, str(info.sha), bool(info.private), contents)


def refuse_other_contents(head: Head) -> None:
    """Raise HubError if the dataset has contents but no set of wdistill."""
    if head.pushed_before:
        return
    for path in sorted(head.contents):
        name = PurePosixPath(path)
        if name.stem.upper() != "LICENSE" and (name.suffix or name.name) not in DOCUMENTS:
            raise HubError(
                f"dataset {head.repo_id!r} holds something else ({path!r} and no set of ours); "
                "give the id of a new dataset or of one that wdistill has pushed"
            )


def commit(api: HfApi, change: Change, first: Head) -> CommitInfo:
    """Commit ``change`` on top of the branch, whose head was ``first`` when the push began.

    If somebody else commits in the meantime, the change is applied on top of that commit.

    Raises:
        HubError: the other commit changed files of this push.
    """
    heads = [first]

    def attempt() -> CommitInfo:
        head = heads.pop() if heads else read_head(api, change.repo_id, change.revision) or first
        adds = [CommitOperationAdd(path, file) for path, file in sorted(change.files.items())]
        _refuse_conflict(first, head, adds)
        return api.create_commit(
            change.repo_id,
            [_card_operation(api, change, head), *adds, *_left_over(change, head)],
            commit_message=change.message,
            repo_type="dataset",
            revision=change.revision,
            create_pr=change.create_pr,
            parent_commit=head.sha,
        )

    return retry(attempt, once=change.create_pr, also=(STALE,))


def replaced_sets(change: Change, head: Head) -> list[str]:
    """Names of the sets in the repository whose images or labels are others after ``change``."""
    return [
        name
        for name in head.sets
        if any(
            path.startswith(f"{name}/")
            and path.endswith(".parquet")
            and not _is(CommitOperationAdd(path, file), head.contents.get(path))
            for path, file in change.files.items()
        )
    ]


def _card_operation(api: HfApi, change: Change, head: Head) -> CommitOperationAdd:
    ours = change.card(head)
    if CARD not in head.contents:
        return CommitOperationAdd(CARD, marked(ours).encode())
    theirs = Path(head.download(api, CARD)).read_bytes().decode("utf-8", errors="replace")
    return CommitOperationAdd(CARD, merge_cards(ours, theirs, head.pushed_before).encode())


def _left_over(change: Change, head: Head) -> list[CommitOperationDelete]:
    if not head.pushed_before:
        return []
    own = {path.partition("/")[0] for path in change.files}
    return [
        CommitOperationDelete(path)
        for path in sorted(head.contents)
        for name, _, rest in [path.partition("/")]
        if name in own and LEFT_OVER.fullmatch(rest) and path not in change.files
    ]


def _refuse_conflict(first: Head, head: Head, adds: list[CommitOperationAdd]) -> None:
    """Raise HubError if files of this push, other than the card, were changed since ``first``."""
    for add in adds:
        path, now = add.path_in_repo, head.contents.get(add.path_in_repo)
        if now != first.contents.get(path) and not _is(add, now):
            raise HubError(
                f"{path!r} in {head.repo_id!r} was changed by somebody else during the push; "
                "look at their commit, then push again to replace it"
            )


def _is(add: CommitOperationAdd, content: str | None) -> bool:
    if content is None or len(content) > 40:
        return bool(content == add.upload_info.sha256.hex())
    with add.as_file() as file:
        data = file.read()
    blob = b"blob %d\0" % len(data) + data  # as git names a file by its content
    return bool(content == hashlib.sha1(blob, usedforsecurity=False).hexdigest())


def set_tag(api: HfApi, repo_id: str, name: str, sha: str) -> None:
    """Create the tag ``name`` at ``sha``, or move it there."""

    def attempt() -> None:
        refs = api.list_repo_refs(repo_id, repo_type="dataset")
        tags = {tag.name: tag.target_commit for tag in refs.tags}
        if tags.get(name) == sha:
            return
        if name in tags:
            api.delete_tag(repo_id, tag=name, repo_type="dataset")
        api.create_tag(repo_id, tag=name, revision=sha, repo_type="dataset")

    retry(attempt)
