"""The parts of the Hub's HTTP API that the clients use."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from helpers.hub_store import HubRefusal, Repo, User, card_errors, folder_entry, is_lfs

if TYPE_CHECKING:
    from helpers.hub_server import HubServer

ID = r"(?P<id>[^/]+(?:/[^/]+)??)"  # lazy: "name/tree/main" is the repo "name"
API = re.compile(
    rf"/api/(?P<type>model|dataset)s/{ID}(?:/(?P<action>revision|tree|paths-info|refs|commits|commit|"
    r"branch|tag|preupload|settings|auth-check)(?:/(?P<rev>[^/]*)(?:/(?P<path>.*))?)?)?"
)
RESOLVE = re.compile(rf"/(?:(?P<type>dataset)s/)?{ID}/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
LFS_BATCH = re.compile(rf"/(?:(?P<type>dataset)s/)?{ID}\.git/info/lfs/objects/batch")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one(self) -> None:
        parts = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        fault = self.hub.next_fault(self.command, parts.path)
        self.lost = bool(fault and fault.lost)
        if fault and fault.after is not None:
            self.rfile.read(fault.after)
        else:
            self.body = self._read_body()
        try:
            if fault and fault.action:
                fault.action()
            elif fault and fault.status == 0 and not fault.lost:
                self.hub.log.append((self.command, parts.path, 0))
                self.close_connection = True
                return
            elif fault and not fault.lost:
                return self.answer(fault.status, fault.body, fault.headers)
            with self.hub.lock:
                self.route(parts.path)
        except HubRefusal as error:
            headers = {"X-Error-Message": error.message}
            if error.code:
                headers["X-Error-Code"] = error.code
            self.answer(error.status, {"error": error.message}, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        headers = {"Content-Type": "application/json", **(headers or {})}
        data = body if isinstance(body, bytes) else json.dumps(body, default=str).encode()  # dates
        self.hub.log.append((self.command, urlsplit(self.path).path, status))
        if self.lost:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # ---- who may do what

    def user(self) -> User | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise HubRefusal(401, "Invalid credentials in Authorization header")
        return self.hub.users.get(token)

    def member(self, namespace: str) -> bool:
        user = self.user()
        return user is not None and namespace in (user.name, *user.orgs)

    def repo(self, type: str, id: str, contents: bool = False) -> Repo:
        repo, user = self.hub.repos.get((type, id)), self.user()
        mine = repo is not None and self.member(repo.id.partition("/")[0])
        if repo is None or (repo.private and not mine):
            raise HubRefusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if contents and repo.gated and not mine and not (user and user.name in repo.readers):
            message = f"Access to {type} {id} is restricted. Ask for access on its page."
            raise HubRefusal(403 if user else 401, message, "GatedRepo")
        return repo

    def require_write(self, repo_id: str, pull_request: bool = False) -> User:
        user = self.user()
        if user is None:
            raise HubRefusal(401, "Invalid username or password.")
        if not user.may_write(repo_id) and not (pull_request and user.role != "read"):
            namespace = repo_id.partition("/")[0]
            raise HubRefusal(403, f"You don't have the rights to write under {namespace}")
        return user

    # ---- routes

    def route(self, path: str) -> None:
        if path == "/api/whoami-v2":
            return self.whoami()
        if path == "/api/validate-yaml":
            request = json.loads(self.body)
            errors = [{"message": m} for m in card_errors(request["content"], request["repoType"])]
            return self.answer(400 if errors else 200, {"errors": errors, "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(self.body))
        if path.startswith("/lfs/"):
            return self.lfs_object(path.removeprefix("/lfs/"))
        for pattern, act in ((API, self.api), (RESOLVE, self.resolve), (LFS_BATCH, self.lfs_batch)):
            if found := pattern.fullmatch(path):
                parts = {k: unquote(v) for k, v in found.groupdict().items() if v is not None}
                kind, id = parts.get("type", "model"), parts["id"]
                if new := self.hub.aliases.get((kind, id)):
                    target = self.path.replace(f"/{quote(id)}", f"/{new}", 1)
                    return self.answer(307, {}, {"Location": target})
                return act(kind, id, parts)
        raise HubRefusal(404, "Sorry, we can't find the page you are looking for.")

    def whoami(self) -> None:
        user = self.user()
        if user is None:
            raise HubRefusal(401, "Invalid username or password.")
        token: dict[str, Any] = {"displayName": "test", "role": user.role}
        if user.role == "fineGrained":
            scoped = [
                {"entity": {"_id": "0", "type": scope_type(name, user), "name": name},
                 "permissions": list(permissions)}
                for name, permissions in user.scopes.items()
            ]  # fmt: skip
            token["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
        orgs = [{"type": "org", "name": org, "roleInOrg": user.org_role} for org in user.orgs]
        auth = {"type": "access_token", "accessToken": token}
        self.answer(200, {"type": "user", "name": user.name, "orgs": orgs, "auth": auth})

    def create(self, request: dict[str, Any]) -> None:
        user = self.user()
        namespace = request.get("organization") or (user.name if user else "")
        kind, id = request.get("type", "model"), f"{namespace}/{request['name']}"
        self.require_write(id)
        url = f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{id}"
        if (kind, id) in self.hub.repos:
            error = f"You already created this {kind} repo"
            return self.answer(409, {"error": error, "url": url})
        self.hub.create_repo(kind, id, wants_private(request))
        self.answer(200, {"url": url, "name": id, "id": id})

    def api(self, kind: str, id: str, parts: dict[str, str]) -> None:
        action, rev = parts.get("action", "revision"), parts.get("rev", "main")
        repo = self.repo(kind, id)
        pull_request = "create_pr" in self.query or rev.startswith("refs/pr/")
        writes = action in ("commit", "branch", "tag", "preupload", "settings")
        if writes or (action, rev) == ("auth-check", "write"):
            self.require_write(id, pull_request)
        if action == "revision":
            self.answer(200, repo.info(rev, "blobs" in self.query))
        elif action == "tree":
            recursive = self.query.get("recursive", "").lower() in ("1", "true")
            self.answer(200, repo.tree(rev, parts.get("path", ""), recursive))
        elif action == "paths-info":
            self.answer(200, self.paths_info(repo, rev))
        elif action == "refs":
            self.answer(200, self.refs(repo))
        elif action == "commits":
            keys = [(c.oid, c.title, c.date) for c in repo.history(rev)]
            commits = [{"id": o, "title": t, "date": d, "message": ""} for o, t, d in keys]
            user = id.partition("/")[0]
            self.answer(200, [{**commit, "authors": [{"user": user}]} for commit in commits])
        elif action == "preupload":
            self.preupload(repo, rev)
        elif action == "commit":
            self.commit(repo, rev)
        elif action in ("branch", "tag") and self.command == "DELETE":
            self.delete_ref(repo, f"refs/{'heads' if action == 'branch' else 'tags'}/{rev}")
        elif action in ("branch", "tag"):
            self.make_ref(repo, action, rev)
        elif action == "settings":
            repo.private = wants_private(json.loads(self.body))
            self.answer(200, {"private": repo.private})
        else:
            self.answer(200, {})

    def paths_info(self, repo: Repo, rev: str) -> list[dict[str, Any]]:
        files = repo.resolve(rev).files
        found = []
        for path in parse_qs(self.body.decode()).get("paths", []):
            if path in files:
                found.append(files[path].entry(path))
            elif any(name.startswith(f"{path}/") for name in files):
                found.append(folder_entry(path))
        return found

    def refs(self, repo: Repo) -> dict[str, Any]:
        prefixes = {"branches": "refs/heads/", "tags": "refs/tags/", "pullRequests": "refs/pr/"}
        answer: dict[str, Any] = {"converts": []}
        for key, prefix in prefixes.items():
            answer[key] = [
                {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
                for ref, oid in repo.refs.items()
                if ref.startswith(prefix)
            ]
        return answer

    def make_ref(self, repo: Repo, action: str, rev: str) -> None:
        request = json.loads(self.body or b"{}")
        name = f"refs/heads/{rev}" if action == "branch" else f"refs/tags/{request['tag']}"
        start = request.get("startingPoint", "main") if action == "branch" else rev
        if name in repo.refs:
            raise HubRefusal(409, f"Reference already exists: {name}")
        repo.refs[name] = repo.resolve(start).oid
        self.answer(200, {})

    def delete_ref(self, repo: Repo, name: str) -> None:
        if name not in repo.refs:
            raise HubRefusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
        del repo.refs[name]
        self.answer(200, {})

    # ---- writing

    def preupload(self, repo: Repo, rev: str) -> None:
        files, answers = repo.resolve(rev).files, []
        for item in json.loads(self.body)["files"]:
            path, mode = item["path"], "lfs" if is_lfs(item["path"], item["size"]) else "regular"
            oid = files[path].etag if path in files else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer(200, {"files": answers})

    def lfs_batch(self, kind: str, id: str, _: dict[str, str]) -> None:
        request = json.loads(self.body)
        self.repo(kind, id)
        self.require_write(id, pull_request="ref" not in request)
        objects = []
        for item in request["objects"]:
            if item["oid"] not in self.hub.lfs:
                upload = {"href": f"{self.hub.url}/lfs/{item['oid']}"}
                verify = {"href": f"{self.hub.url}/lfs/{item['oid']}/verify"}
                item["actions"] = {"upload": upload, "verify": verify}
            objects.append(item)
        self.answer(200, {"transfer": "basic", "objects": objects})

    def lfs_object(self, name: str) -> None:
        oid = name.removesuffix("/verify")
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != oid:
                raise HubRefusal(400, "the bytes are not those announced")
            self.hub.lfs[oid] = self.body
        elif oid not in self.hub.lfs:
            raise HubRefusal(404, "no such LFS object")
        self.answer(200, {})

    def commit(self, repo: Repo, rev: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines() if line]
        head, header = repo.resolve(rev), lines[0]["value"]
        if "create_pr" in self.query and "parentCommit" in header:
            head = repo.resolve(header["parentCommit"])  # a pull request may start further back
        if header.get("parentCommit") not in (None, head.oid):
            raise HubRefusal(412, "A commit has happened since. Please refresh and try again.")
        changed: dict[str, bytes] = {}
        deleted: list[str] = []
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.lfs:
                    raise HubRefusal(400, f"LFS object of {value['path']} was not uploaded")
                changed[value["path"]] = self.hub.lfs[value["oid"]]
            else:
                deleted.append(value["path"].rstrip("/"))
        ref = repo.ref(rev) or rev
        number = sum(name.startswith("refs/pr/") for name in repo.refs) + 1
        if "create_pr" in self.query:
            ref = f"refs/pr/{number}"
        made = repo.commit(ref, header["summary"], changed, tuple(deleted), head)
        page = f"{self.hub.url}/{'datasets/' if repo.type == 'dataset' else ''}{repo.id}"
        answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{page}/commit/{made.oid}"}
        if "create_pr" in self.query:
            answer["pullRequestUrl"] = f"{page}/discussions/{number}"
        self.answer(200, answer)

    # ---- reading

    def resolve(self, kind: str, id: str, parts: dict[str, str]) -> None:
        commit = self.repo(kind, id, contents=True).resolve(parts["rev"])
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        blob = commit.files.get(parts["path"])
        if blob is None:
            headers |= {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self.answer(404, {"error": "Entry not found"}, headers)
        headers |= {"ETag": f'"{blob.etag}"', "Content-Type": "application/octet-stream"}
        if blob.lfs:
            headers |= {"X-Linked-ETag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
        size, found = len(blob.data), RANGE.fullmatch(self.headers.get("Range", ""))
        if not found or found.groups() == ("", ""):
            return self.answer(200, blob.data, headers)
        first, last = found.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start >= size:
            return self.answer(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self.answer(206, blob.data[start:stop], headers)


def scope_type(name: str, user: User) -> str:
    return "dataset" if "/" in name else "user" if name == user.name else "org"


def wants_private(request: dict[str, Any]) -> bool:
    return request.get("visibility") == "private" or bool(request.get("private"))
