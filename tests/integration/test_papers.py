"""Every code block of the README, the guide and CONTRIBUTING runs, and what they name exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from helpers.hub_server import HubServer, hub_env
from helpers.paper_hub import fill
from helpers.papers import PAPERS, ROOT, Block, blocks, execute, shell

from wdistill.cli.main import cli

TOKEN = "hf_yourSecretToken"
COMMANDS = [
    (block, words)
    for paper in PAPERS
    for block in blocks(paper)
    if block.language in ("", "bash")
    for words in block.commands()
]
SETUP = (".venv", "make ", "pre-commit")  # blocks that set up a checkout, not a run


def commands_of(*start: str) -> pytest.MarkDecorator:
    found = [
        (str(block), words) for block, words in COMMANDS if tuple(words[: len(start)]) == start
    ]
    return pytest.mark.parametrize("words", [pytest.param(w, id=f"{b} {w[1]}") for b, w in found])


def leaves(group: click.Group, *parents: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        deeper = isinstance(command, click.Group)
        yield from leaves(command, *parents, name) if deeper else [(*parents, name)]


def test_the_readme_documents_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    names = [" ".join(leaf) for leaf in leaves(cli)]
    assert [name for name in names if f"| `wdistill {name}` |" not in text] == []


def test_the_readme_is_short() -> None:
    assert 8_000 <= len((ROOT / "README.md").read_bytes()) <= 12_300


@commands_of("wdistill")
def test_each_command_is_understood(words: list[str]) -> None:
    """Options that do not exist, or values that are not allowed, would raise here."""
    group: Any = cli
    arguments = words[1:]
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    while isinstance(group, click.Group):
        name, *arguments = arguments
        group = group.commands[name]
    missing = [str(part) for part in arguments if part.endswith(".yaml")]
    if not missing:  # a file of settings is read at once; such blocks are only run
        group.make_context(name, arguments)


@commands_of("python", "-m")
def test_each_script_has_the_options_of_its_command(words: list[str]) -> None:
    folder = ROOT / "tests" / "benchmarks"
    script = ROOT / f"{words[2].replace('.', '/')}.py"
    files = (script, folder / "distilling.py", folder / "ablation.py")
    text = "".join(file.read_text() for file in files)
    options = [word for word in words[3:] if re.fullmatch("--?[a-z][a-z0-9-]*", word)]
    assert [option for option in options if f'"{option}"' not in text] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_what_is_named_exists(paper: str) -> None:
    """Links to files and headings, pictures, and paths in backticks."""
    text = (ROOT / paper).read_text()
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if target.startswith("http"):
            continue
        path = (ROOT / paper).parent / target if target else ROOT / paper
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert heading in [anchor(title) for title in titles], heading
    for name in re.findall(r"`((?:wdistill|tests|cards)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name


def anchor(title: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_names_in_contributing_exist() -> None:
    """``name`` in `file`: such pairs are true."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    pairs = re.findall(r"((?:`\w+`(?: and)? )+)in `(wdistill/[\w/]+\.py)`", text)
    assert len(pairs) >= 5
    for names, file in pairs:
        source = (ROOT / file).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(?:(?:def|class) {name}\b|{name} = )", source, re.MULTILINE)


def test_a_checkout_is_set_up_as_the_papers_say() -> None:
    """The targets of make exist, and each hook's program is one that the environment has."""
    made = {words[1] for _, words in COMMANDS if words[0] == "make"}
    for target in made:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks)
    development = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = {re.split(r"\W", name)[0] for name in development["optional-dependencies"]["dev"]}
    assert {hook["entry"].split()[0] for hook in hooks} <= installed


@pytest.mark.slow
def test_the_install_of_the_readme(tmp_path: Path) -> None:
    """As it stands, but for the dependencies: those of this environment are there already."""
    (install,) = (block for block in blocks("README.md") if "pip install" in block.text)
    kept = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, kept.stdout.decode().split("\0")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    alone = replace(install, text=install.text.replace("--editable", "--no-deps --editable"))
    execute(alone, dict(os.environ), tmp_path)
    assert (tmp_path / ".venv" / "bin" / "wdistill").exists()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.add_user("you", TOKEN)
        yield server


@pytest.mark.slow
def test_the_readme_runs(hub: HubServer, tmp_path: Path) -> None:
    run_paper("README.md", hub, tmp_path)


@pytest.mark.slow
def test_the_guide_runs(hub: HubServer, tmp_path: Path) -> None:
    before = """
    wdistill run --dataset cifar10 --backbone resnet18 --ipc 10
    wdistill push runs/cifar10-ipc10 you/cifar10-wdistill-ipc10
    wdistill push runs/cifar10-ipc10 you/cifar10-wdistill
    """
    run_paper("docs/guide.md", hub, tmp_path, before)


def run_paper(paper: str, hub: HubServer, folder: Path, before: str = "") -> None:
    """Run its blocks in order, in one folder, as a user whose Hub is ``hub``."""
    fill(hub, folder)
    with shell(folder / "shell", hub_env(hub, folder / "home", TOKEN)) as env:
        first = [Block(paper, 0, "bash", before)] if before else []
        for block in [*first, *blocks(paper)]:
            runs = block.language in ("bash", "python")
            if runs and not any(word in block.text for word in SETUP):
                execute(block, env, folder)
