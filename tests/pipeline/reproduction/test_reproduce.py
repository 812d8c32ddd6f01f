"""A published set is made again from its own manifest, and a hostile manifest is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.examples import manifest_json
from helpers.hub_server import HubServer, hub_env
from helpers.pushes import run_json
from helpers.runs import QUICK, parquet_bytes, run_wdistill, small_source

from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import Manifest
from wdistill.artifact.reading import open_published
from wdistill.config import RunConfig
from wdistill.errors import OptionError, RunFolderError, WdistillError
from wdistill.pipeline.reproduction import reproduce
from wdistill.pipeline.reproduction.reproduce import Overrides, default_output

pytestmark = pytest.mark.slow
TOKEN = "hf_aliceSecretWriteToken"
SHA = "0123456789" * 4


@pytest.fixture(scope="module")
def hub(source: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        server.add_user("alice", TOKEN)
        server.create_repo("dataset", "alice/fashion")
        files = {f"data/{p.name}": p.read_bytes() for p in source.iterdir()}
        server.commit_files("dataset", "alice/fashion", files)
        yield server


@pytest.fixture(scope="module")
def env(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    return hub_env(hub, home, TOKEN) | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def finished(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from the Hub to the Hub, with stored views."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = run_wdistill(
        "run", "--dataset", "alice/fashion", "--output", folder, *QUICK, "--label-views", "2",
        "--push-to", "alice/fashion-distilled", env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_from_the_hub_it_is_bit_identical(
    finished: Path, source: Path, hub: HubServer, env: dict[str, str], tmp_path: Path
) -> None:
    """Although the source has moved on: the recorded revision counts."""
    recorded = hub.head("dataset", "alice/fashion")
    other = small_source(tmp_path / "other", per_class=30)
    moved = {"data/train.parquet": (other / "train.parquet").read_bytes()}
    assert hub.commit_files("dataset", "alice/fashion", moved) != recorded
    done = run_wdistill("reproduce", "alice/fashion-distilled", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "bit-identical: 20 images, their labels, weights, soft labels, label views" in done.stdout
    )
    assert "accuracy of students: the same in all 4 rows" in done.stdout
    again = tmp_path / "runs" / "reproduced-fashion-distilled"
    assert f"made again in {again.relative_to(tmp_path)}" in done.stdout
    assert parquet_bytes(again) == parquet_bytes(finished)
    written = json.loads((one_set(again) / "wdistill.json").read_text())
    assert written["source"]["revision"] == recorded
    assert TOKEN not in done.stdout + done.stderr
    times = {path: path.stat().st_mtime_ns for path in (again / "work").rglob("*.safetensors")}
    once_more = run_wdistill("reproduce", "alice/fashion-distilled", env=env, cwd=tmp_path)
    assert "bit-identical: 20 images" in once_more.stdout
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_from_a_published_folder_it_is_bit_identical(
    finished: Path, source: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """With a local copy of the source, which has the recorded fingerprint."""
    done = run_wdistill(
        "reproduce", finished / "publish", "--dataset", source, "-q", env=env, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first == "bit-identical: 20 images, their labels, weights, soft labels, label views"
    assert last == "made again in runs/reproduced-whole"


def test_another_setting_or_other_data_is_told(
    finished: Path, source: Path, env: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(finished / "publish", tmp_path / "set")
    path = one_set(tmp_path / "set") / "wdistill.json"
    stored = json.loads(path.read_text())
    stored["config"]["synthesis"]["lr"] = 0.2
    path.write_text(json.dumps(stored))
    out = ("--output", tmp_path / "again")
    other = small_source(tmp_path / "other", per_class=30)
    refused = run_wdistill("reproduce", tmp_path / "set", "--dataset", other, *out, env=env)
    assert refused.returncode == 1
    assert "'other' is not the data that this set was made from" in refused.stderr
    assert "it has 300 training images and had 600" in refused.stderr
    assert not (tmp_path / "again").exists()
    done = run_wdistill("reproduce", tmp_path / "set", "--dataset", source, *out, env=env)
    assert done.returncode == 0, done.stderr
    assert "not identical: 0 of 20 images are the same" in done.stdout
    assert "pixels (of 255): " in done.stdout
    assert "weights: the same" in done.stdout  # the transport comes before what was changed
    assert "the set was made with other settings than it says" in done.stdout


def test_a_set_is_not_compared_with_itself(finished: Path, env: dict[str, str]) -> None:
    done = run_wdistill("reproduce", finished, "--output", finished, env=env)
    assert done.returncode == 1
    assert "holds the set itself; choose another --output" in done.stderr


OPEN = """
import json
from wdistill.errors import WdistillError
from wdistill.artifact.reading import open_published
said = []
for name in ("alice/fashion", "alice/nothing"):
    try:
        open_published(name)
    except WdistillError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_what_is_no_set_on_the_hub_is_refused(hub: HubServer, env: dict[str, str]) -> None:
    other, unknown = run_json(OPEN, env)
    assert other == "dataset 'alice/fashion' has no wdistill.json; wdistill did not make it"
    assert unknown.startswith("dataset 'alice/nothing' is neither a local path nor found on http")


def test_what_is_no_folder_of_a_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="does not exist; give a run, its publish folder or a"):
        open_published("./nothing")
    with pytest.raises(RunFolderError, match=r"has no ipc\*/wdistill\.json"):
        open_published(tmp_path)


# --- settings -----------------------------------------------------------------------------------


def of_hub(**changes: Any) -> dict[str, Any]:
    """As a run with a Hub dataset and a Hub backbone writes it."""
    hub_source = {
        "source__kind": "hub", "source__id": "alice/pets", "source__revision": SHA,
        "source__config_name": "small", "teacher__revision": SHA[::-1],
        "config__teacher__backbone": "lab/net",
    }  # fmt: skip
    return manifest_json(**(hub_source | changes))


def settings_of(stored: dict[str, Any], overrides: Overrides) -> RunConfig:
    """Those of a file with the content ``stored``."""
    return reproduce.settings_of(Manifest.parse(stored, Path("wdistill.json")), overrides)


def test_data_and_backbone_are_those_of_the_recorded_revisions() -> None:
    config = settings_of(of_hub(source__eval_is_holdout=True), Overrides())
    data, teacher = config.data, config.teacher
    assert (data.dataset, data.config_name, data.revision) == ("alice/pets", "small", SHA)
    assert (data.image_column, data.label_column) == ("image", "label")
    assert (data.train_split, data.eval_split) == ("train", None)
    assert (teacher.backbone, teacher.backbone_revision) == ("lab/net", SHA[::-1])
    assert config.synthesis.iterations == 100
    assert config.barycenter.ipc == 4


def test_the_embedded_subset_and_a_built_in_network_need_nothing() -> None:
    config = settings_of(manifest_json(), Overrides())
    assert config.data.dataset is None
    assert config.teacher.backbone == "resnet10-w16"


def test_what_was_on_a_disk_is_asked_for() -> None:
    local = of_hub(source__kind="imagefolder", source__id="photos", source__revision=None)
    with pytest.raises(OptionError, match=r"'photos' was on the disk .* with `data.dataset` PATH"):
        settings_of(local, Overrides())
    assert settings_of(local, Overrides(dataset="/here/photos")).data.dataset == "/here/photos"
    local = of_hub(teacher__revision=None)
    with pytest.raises(
        OptionError, match=r"'lab/net' was on the disk .* with `teacher.backbone` PATH"
    ):
        settings_of(local, Overrides())
    teacher = settings_of(local, Overrides(backbone="/here/net")).teacher
    assert (teacher.backbone, teacher.backbone_revision) == ("/here/net", None)


def test_only_the_user_can_trust_code() -> None:
    untrusted = of_hub(config__teacher__trust_remote_code=True)
    assert not settings_of(untrusted, Overrides()).teacher.trust_remote_code
    assert settings_of(untrusted, Overrides(trust_remote_code=True)).teacher.trust_remote_code


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config__seed": "0"}, "seed is str instead of a whole number"),
        ({"config__seed": True}, "seed is bool instead of a whole number"),
        ({"config__cheat": 1}, "config.cheat is no setting of this version"),
        ({"config__synthesis__lr": 1e300}, "synthesis.lr is 1e+300; give a finite number above 0"),
        ({"config__teacher__batch_size": 0}, "teacher.batch_size is 0"),
        ({"config__evaluate__students": ["../../net"]}, "'../../net' is not a repository id"),
        ({"config__evaluate__students": "net"}, "evaluate.students is str instead of a list"),
        ({"config__synthesis__feature_spaces": ["/etc:2"]}, "'/etc' is not a repository id"),
        ({"config__data__group_column": "a\x1b[2J"}, "data.group_column has control characters"),
        ({"config__teacher": []}, "teacher is list instead of a mapping"),
        ({"config__barycenter__ipc": 5}, "ipc is 4, but 5 in config"),
        ({"source__id": "/home/user/private"}, "'/home/user/private' is not a repository id"),
        ({"config__teacher__backbone": "~/net"}, "'~/net' is not a repository id"),
    ],
)
def test_hostile_settings_are_refused_in_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RunFolderError) as caught:
        settings_of(of_hub(**changes), Overrides())
    assert words in str(caught.value)
    assert "wdistill.json" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_folder_does_not_stand_in_for_what_is_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alice" / "pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WdistillError, match="there is a folder of that name here"):
        settings_of(of_hub(), Overrides())


def test_the_output_is_named_after_the_set(tmp_path: Path) -> None:
    (tmp_path / "pets-ipc4" / "publish").mkdir(parents=True)
    expected = Path("runs/reproduced-pets-ipc4")
    assert default_output("alice/pets-ipc4") == expected
    assert default_output(str(tmp_path / "pets-ipc4")) == expected
    assert default_output(str(tmp_path / "pets-ipc4" / "publish")) == expected
