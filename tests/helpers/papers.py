"""Code blocks of the project's papers, and a shell that runs them without leaving the machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAPERS = ("README.md", "CONTRIBUTING.md", "docs/guide.md", "tests/benchmarks/README.md")
SHIM = f"""#!{sys.executable} -S
import os, socket, sys
words = [os.getcwd(), {{name!r}}, *sys.argv[1:]]
with socket.socket(socket.AF_UNIX) as server:
    server.connect({{address!r}})
    socket.send_fds(server, [os.fsencode(chr(0).join(words))], [0, 1, 2])
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(8) or b"70"))
"""


@dataclass(frozen=True)
class Block:
    """A code block: where it stands, its language ("" if it is indented) and its text."""

    paper: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.paper}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each line of a shell block, without comments."""
        text = self.text.replace("\\\n", " ")
        return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def blocks(paper: str) -> list[Block]:
    """All code blocks of ``paper``, in order."""
    tokens = MarkdownIt("commonmark").parse((ROOT / paper).read_text())
    return [
        Block(paper, (token.map or [0])[0] + 1, token.info.strip(), token.content)
        for token in tokens
        if token.type in ("fence", "code_block")
    ]


@contextmanager
def shell(folder: Path, env: dict[str, str]) -> Iterator[dict[str, str]]:
    """An environment in which ``wdistill`` and ``python`` do their work with small settings.

    One server process has imported everything; each command is a fork of it, with the command's own
    folder and output (see :mod:`helpers.paper_server`).
    """
    address, programs = folder / "server", folder / "bin"
    programs.mkdir(parents=True)
    for name in ("wdistill", "python"):
        program = programs / name
        program.write_text(SHIM.format(address=str(address), name=name))
        program.chmod(0o755)
    env = env | {"PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "helpers.paper_server", str(address)]
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL) as server:
        try:
            while not address.exists():
                assert server.poll() is None, "the server has ended"
                time.sleep(0.05)
            yield env
        finally:
            server.terminate()


def execute(block: Block, env: dict[str, str], cwd: Path) -> str:
    """Run ``block`` as it stands; an error in any of its lines is one of the test."""
    command = ["python", "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, block.text],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{block}\n{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout
