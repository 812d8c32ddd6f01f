"""A small real dataset, a Hub on loopback with the users of :mod:`helpers.pushes`, no network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from helpers.environment import isolate

isolate()

import datasets
import pytest
from helpers.hub_server import HubServer, hub_env
from helpers.pushes import TOKEN, add_users, finished_run
from helpers.runs import small_source
from hypothesis import HealthCheck, settings

settings.register_profile(
    "the same every time",
    derandomize=True, deadline=None, max_examples=30, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("the same every time")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of parquet files; see :func:`small_source`."""
    return small_source(tmp_path_factory.mktemp("source"))


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


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Addresses that something tried to reach."""
    tried: list[object] = []

    def refuse(_: socket.socket, address: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: refuse(None, address))
    return tried
