"""A Hub on loopback for the unmodified clients: `huggingface_hub`, `datasets`, `transformers`.

    with HubServer() as hub:
        hub.add_user("alice", "hf_alice")
        hub.create_repo("dataset", "alice/shapes")
        hub.commit_files("dataset", "alice/shapes", {"README.md": b"..."})
        done = run_python("import datasets; ...", hub_env(hub, tmp_path, "hf_alice"))

The clients read ``HF_ENDPOINT`` when they are imported, so they run in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

from helpers.environment import environment
from helpers.hub_routes import Handler
from helpers.hub_store import Commit, Repo, User

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Fault:
    status: int  # 0: the connection is cut
    count: int
    path: str
    method: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = None  # cut within the request, after so many bytes of its body
    lost: bool = False  # what was asked for is done, but the answer does not arrive
    action: Callable[[], object] | None = None  # no failure: this happens, then the answer


class HubServer:
    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, int]] = []  # method, path, status
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def add_user(
        self,
        name: str,
        token: str,
        role: str = "write",
        orgs: tuple[str, ...] = (),
        org_role: str = "write",
        scopes: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        """``scopes``: permissions by namespace or dataset of a token whose role is fineGrained."""
        self.users[token] = User(name, role, orgs, org_role, scopes or {})

    def create_repo(self, type: str, id: str, private: bool = False, gated: bool = False) -> Repo:
        return self.repos.setdefault((type, id), Repo(type, id, private, gated))

    def alias(self, type: str, old: str, new: str) -> None:
        """The old name of a renamed repo; the Hub redirects it."""
        self.aliases[type, old] = new

    def commit_files(
        self, type: str, id: str, files: dict[str, bytes], title: str = "Upload"
    ) -> str:
        return self.repos[type, id].commit("refs/heads/main", title, files).oid

    def head(self, type: str, id: str, revision: str = "main") -> str:
        return self.repos[type, id].resolve(revision).oid

    def commits(self, type: str, id: str, revision: str = "main") -> list[Commit]:
        return self.repos[type, id].history(revision)

    def files(self, type: str, id: str, revision: str = "main") -> dict[str, bytes]:
        return {p: b.data for p, b in self.repos[type, id].resolve(revision).files.items()}

    def tags(self, type: str, id: str) -> dict[str, str]:
        refs = self.repos[type, id].refs.items()
        return {r.removeprefix("refs/tags/"): o for r, o in refs if r.startswith("refs/tags/")}

    def sent(self, method: str, path: str) -> list[str]:
        """Paths containing ``path`` that were asked for with ``method`` and answered well."""
        return [p for m, p, status in self.log if m == method and path in p and status == 200]

    def fail_next(
        self,
        status: int,
        count: int = 1,
        path: str = "",
        method: str = "",
        body: bytes = b'{"error": "injected"}',
        headers: dict[str, str] | None = None,
        after: int | None = None,
        lost: bool = False,
    ) -> None:
        """The next ``count`` requests whose path contains ``path`` fail; status 0 cuts them off:
        when they are read, after ``after`` bytes of their body, or (``lost``) when all is done."""
        self.faults.append(Fault(status, count, path, method, body, headers or {}, after, lost))

    def before_next(self, action: Callable[[], object], path: str, method: str = "") -> None:
        """``action`` happens before the next such request is answered, as if by somebody else."""
        self.faults.append(Fault(200, 1, path, method, b"", action=action))

    def next_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.count and fault.path in path and fault.method in ("", method):
                    fault.count -= 1
                    return fault
        return None


def hub_env(server: HubServer | str, home: Path, token: str | None) -> dict[str, str]:
    """Environment of a process whose Hub is ``server``, with an empty cache under ``home``."""
    url = server if isinstance(server, str) else server.url
    own = {"HF_ENDPOINT": url, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1"}
    return environment(**own, **({"HF_TOKEN": token} if token else {}))


def run_python(
    code: str, env: dict[str, str], timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in a fresh interpreter with the repository on its path."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
