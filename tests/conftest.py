"""A Hub on loopback with the users of :mod:`pushes`, for the tests that push to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer, hub_env
from pushes import TOKEN, add_users, finished_run


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        add_users(server)
        yield server


@pytest.fixture
def env(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that talks to ``hub`` as alice."""
    return hub_env(hub, tmp_path, TOKEN)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder whose set is small enough to push."""
    return finished_run(tmp_path / "run")
