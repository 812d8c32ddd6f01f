"""A pretended device for each module of tests that asks for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from helpers.pretended_command import DeviceProcess
from helpers.pretended_scenes import Command, scenes
from helpers.runs import one_thread


@pytest.fixture(scope="module")
def device() -> Iterator[DeviceProcess]:
    process = DeviceProcess(one_thread())
    yield process
    process.close()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Command]:
    return scenes(tmp_path_factory.mktemp("device"))
