"""What the test Hub remembers: users, and repositories with their commits and references."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

LFS_SUFFIXES = (".parquet", ".png", ".jpg", ".jpeg", ".safetensors", ".bin", ".arrow", ".zip")
LICENSES = (
    "afl-3.0 agpl-3.0 apache-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 cc cc-by-2.0 cc-by-3.0 "
    "cc-by-4.0 cc-by-nc-2.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 "
    "cc-by-sa-4.0 cc0-1.0 cdla-permissive-2.0 gpl-2.0 gpl-3.0 isc lgpl-3.0 mit mpl-2.0 odbl odc-by "
    "openrail osl-3.0 pddl unlicense other unknown"
)
SIZES = (
    "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B "
    "100B<n<1T n>1T"
)
FRONT_MATTER = re.compile(r"^---\r?\n(.*?)\r?\n---", re.DOTALL)


class HubRefusal(Exception):
    """An answer other than 2xx, with the Hub's own error headers."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class User:
    name: str
    role: str  # of the token: "read", "write" or "fineGrained"
    orgs: tuple[str, ...] = ()
    org_role: str = "write"  # in each of them
    scopes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of a fine-grained token

    def may_write(self, repo_id: str) -> bool:
        namespace = repo_id.partition("/")[0]
        if self.role == "fineGrained":
            given = (*self.scopes.get(namespace, ()), *self.scopes.get(repo_id, ()))
            return "repo.write" in given
        in_org = namespace in self.orgs and self.org_role != "read"
        return self.role == "write" and (namespace == self.name or in_org)


@dataclass(frozen=True)
class Blob:
    """A file's content, named as git and as LFS name it."""

    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_oid(self) -> str:
        data = self.data
        if self.lfs:
            data = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
                self.sha256.encode(),
                len(self.data),
            )
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid

    def entry(self, path: str) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(self.data), "oid": self.git_oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": 130}
        return entry


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict[str, Blob]
    date: str


@dataclass
class Repo:
    type: str  # "dataset" or "model"
    id: str
    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)  # users whom a gated repo lets in
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("refs/heads/main", "initial commit", {".gitattributes": b"*.parquet lfs\n"})

    def ref(self, revision: str) -> str | None:
        names = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        return next((name for name in names if name in self.refs), None)

    def resolve(self, revision: str) -> Commit:
        ref = self.ref(revision)
        oid = self.refs[ref] if ref else revision
        if oid not in self.commits:
            raise HubRefusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def commit(
        self,
        ref: str,
        title: str,
        changed: dict[str, bytes],
        deleted: tuple[str, ...] = (),
        parent: Commit | None = None,
    ) -> Commit:
        parent = parent or self.commits.get(self.refs.get(ref, ""))
        files = dict(parent.files) if parent else {}
        for name in deleted:
            files = {p: b for p, b in files.items() if p != name and not p.startswith(f"{name}/")}
        files |= {path: Blob(data, is_lfs(path, len(data))) for path, data in changed.items()}
        state = repr((len(self.commits), title, sorted((p, b.git_oid) for p, b in files.items())))
        oid = hashlib.sha1(f"{self.type}{self.id}{state}".encode()).hexdigest()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self.commits[oid] = Commit(oid, parent.oid if parent else None, title, files, now)
        self.refs[ref] = oid
        return self.commits[oid]

    def history(self, revision: str) -> list[Commit]:
        """Newest first."""
        commits, commit = [], self.resolve(revision)
        while True:
            commits.append(commit)
            if commit.parent is None:
                return commits
            commit = self.commits[commit.parent]

    def info(self, revision: str, blobs: bool) -> dict[str, Any]:
        commit = self.resolve(revision)
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.files)]
        if blobs:
            for sibling in siblings:
                entry = commit.files[sibling["rfilename"]].entry(sibling["rfilename"])
                sibling |= {"size": entry["size"], "blobId": entry["oid"]}
                if "lfs" in entry:
                    sibling["lfs"] = {"sha256": entry["lfs"]["oid"]} | entry["lfs"]
        card = commit.files.get("README.md")
        metadata = None
        with suppress(yaml.YAMLError):  # a damaged card is shown without
            metadata = card_metadata(card.data.decode()) if card else None
        return {
            "_id": hashlib.md5(self.id.encode()).hexdigest()[:24],
            "id": self.id,
            "modelId": self.id,
            "author": self.id.split("/")[0] if "/" in self.id else None,
            "sha": commit.oid,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "lastModified": commit.date,
            "createdAt": self.history(commit.oid)[-1].date,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
            **({"cardData": metadata} if isinstance(metadata, dict) else {}),
        }

    def tree(self, revision: str, folder: str, recursive: bool) -> list[dict[str, Any]]:
        commit = self.resolve(revision)
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, blob in sorted(commit.files.items()):
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                name = prefix + "/".join(parts[:depth])
                entries[name] = folder_entry(name)
            if recursive or len(parts) == 1:
                entries[path] = blob.entry(path)
        if folder and not entries:
            raise HubRefusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        return list(entries.values())


def folder_entry(path: str) -> dict[str, Any]:
    oid = hashlib.sha1(path.encode()).hexdigest()
    return {"type": "directory", "path": path, "oid": oid, "size": 0}


def is_lfs(path: str, size: int) -> bool:
    return size > 0 and (path.endswith(LFS_SUFFIXES) or size > 10_000_000)


def card_metadata(text: str) -> Any:
    found = FRONT_MATTER.match(text)
    return yaml.safe_load(found[1]) if found else None


def card_errors(text: str, repo_type: str) -> list[str]:
    """The Hub's rules for a card's front matter, those that a dataset card meets."""
    try:
        metadata = card_metadata(text) or {}
    except yaml.YAMLError as error:
        return [f"YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["metadata must be a mapping"]
    errors = []
    for one in listed(metadata.get("license")):
        if one not in LICENSES.split():
            errors.append(f'"license" must be one of {LICENSES}, not {one!r}')
    for size in listed(metadata.get("size_categories")):
        if size not in SIZES.split():
            errors.append(f'"size_categories" must be one of {SIZES}, not {size!r}')
    for key in ("task_categories", "tags", "source_datasets", "annotations_creators"):
        value = metadata.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            errors.append(f'"{key}" must be an array of strings')
    if repo_type == "dataset":
        for config in metadata.get("configs", []):
            if not isinstance(config, dict) or not isinstance(config.get("config_name"), str):
                errors.append('"configs[].config_name" is required')
    return errors


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
