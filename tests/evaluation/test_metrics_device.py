"""The test images travel to a device once for all students, where its memory has room for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.environment import environment

TESTS = Path(__file__).parents[1]
SCRIPT = """
import json, os, sys, torch
from accelerate import Accelerator
from helpers.pretend import NAME, _Module, install, pretended
from helpers.stages import Stages
from wdistill.evaluation.metrics import score_network

install()
os.environ["ACCELERATE_TORCH_DEVICE"] = f"{NAME}:0"
COUNT, SIZE = 600, 16
found = {}
with pretended():
    stages = Stages(SIZE, 8, "convnet-w64", Accelerator())
for name, free in (("room", 2**30), ("exactly", 8 * COUNT * 3 * SIZE**2), ("too little", 10**6)):
    _Module.free = free
    store = stages.store(COUNT)
    of_all = []
    for part in (store, store.normalised(stages.pixels), store.take(torch.arange(300)), store):
        with pretended() as seen:
            score = score_network(stages.network, part)
        sent = sum(n for place, n in seen.sent.items() if "to_device" in place)
        of_all.append([sent, score.confusion.tolist()])
    found[name] = of_all
print(json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment(PYTHONPATH=path),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("memory", ["room", "exactly"])
def test_images_that_fit_are_sent_once(memory: str, seen: dict[str, Any]) -> None:
    """600 images are three batches; 300 of them are another set, of two."""
    assert [sent for sent, _ in seen[memory]] == [3, 0, 2, 0]


def test_images_that_do_not_fit_are_sent_every_time(seen: dict[str, Any]) -> None:
    assert [sent for sent, _ in seen["too little"]] == [3, 3, 2, 3]


def test_scores_do_not_depend_on_where_the_images_are(seen: dict[str, Any]) -> None:
    scores = [[score for _, score in parts] for parts in seen.values()]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0][0] == scores[0][1] == scores[0][3] != scores[0][2]
