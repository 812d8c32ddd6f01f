"""The sentence of the README, unchanged in form, against a Hub with a miniature of ImageNet-1K."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.hub_server import HubServer, hub_env, run_python
from helpers.miniature import imagenet_files, resnet18_files, unique_names
from helpers.runs import run_wdistill

from wdistill.artifact.layout import one_set

TOKEN = "hf_aliceSecretWriteToken"
RESOLUTION = 16
LOAD = """
import json, datasets
loaded = datasets.load_dataset("alice/imagenet-1k-wdistill-ipc1", split="train")
names = loaded.features["label"].names
print(json.dumps([len(loaded), names, list(loaded["label"]), loaded[7]["image"].size]))
"""


@pytest.mark.slow
def test_run_push_load(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.add_user("alice", TOKEN)
        hub.create_repo("dataset", "ILSVRC/imagenet-1k")
        hub.alias("dataset", "imagenet-1k", "ILSVRC/imagenet-1k")
        hub.commit_files("dataset", "ILSVRC/imagenet-1k", imagenet_files(tmp_path))
        hub.create_repo("model", "microsoft/resnet-18")
        weights = resnet18_files(tmp_path / "resnet-18", RESOLUTION)
        hub.commit_files("model", "microsoft/resnet-18", weights)
        env = hub_env(hub, tmp_path / "home", TOKEN)
        done = run_wdistill(
            "run", "--dataset", "imagenet-1k", "--backbone", "microsoft/resnet-18",
            "--ipc", "1", "--iterations", "2", "--feature-spaces", "none",
            "--label-giver", "teacher", "--label-views", "1",
            "--resolution", str(RESOLUTION),
            env=env, cwd=tmp_path, timeout=7200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        run = tmp_path / "runs" / "imagenet-1k-ipc1"
        pushed = run_wdistill("push", run, "alice/imagenet-1k-wdistill-ipc1", env=env)
        assert pushed.returncode == 0, pushed.stderr
        loaded = run_python(LOAD, env)
        assert loaded.returncode == 0, loaded.stderr
    manifest = json.loads((one_set(run) / "wdistill.json").read_text())
    assert manifest["teacher"]["origin"] == "as_is"
    assert manifest["source"]["eval_split"] == "validation"
    count, names, labels, size = json.loads(loaded.stdout.splitlines()[-1])
    assert (count, names, size) == (1000, unique_names(), [RESOLUTION, RESOLUTION])
    assert labels == list(range(1000))
    print(done.stdout)
