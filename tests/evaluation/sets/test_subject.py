"""`wdistill evaluate you/set`: sets on the Hub, ours and others', over real HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.hub_server import HubServer, hub_env, run_python
from helpers.runs import run_wdistill, small_source

from wdistill.artifact.distilled_set import read_distilled
from wdistill.artifact.layout import one_set
from wdistill.artifact.report import Report
from wdistill.config import DataConfig
from wdistill.evaluation.sets.subject import against, fingerprint_of, open_subject

TOKEN = "hf_aliceSecretWriteToken"
OURS, THEIRS = "alice/fashion-distilled", "bob/fashion-small"
SUBJECT = """
import json
from wdistill.config import (DataConfig)
from wdistill.evaluation.sets.subject import against, open_subject
subject = open_subject({source!r}, DataConfig())
known = ("kind", "id", "url", "revision", "fingerprint", "class_names")
told = {{name: getattr(subject, name) for name in known}}
arrays = (subject.labels, subject.weights, subject.soft_labels)
told["arrays"] = [array.tolist() for array in arrays]
told["against"] = vars(against(subject, DataConfig())) if subject.manifest else None
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Published:
    """A run made from datasets and models of the Hub, and pushed to it."""

    hub: HubServer
    run: Path
    home: Path

    def env(self, home: Path, **more: str) -> dict[str, str]:
        return hub_env(self.hub, home, TOKEN) | {"OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    home = tmp_path_factory.mktemp("hub")
    source = small_source(home / "source", per_class=40)
    quick = (
        "--iterations",
        "2",
        "--feature-spaces",
        "none",
        "--no-evaluate",
        "--ipc",
        "2",
        "--label-giver",
        "teacher",
        "--label-views",
        "0",
    )
    done = run_wdistill(
        "run", "--dataset", source, "--teacher-epochs", "3", *quick, "--output", home / "first"
    )
    assert done.returncode == 0, done.stderr
    with HubServer() as hub:
        hub.add_user("alice", TOKEN)
        hub.create_repo("dataset", "alice/fashion")
        files = {f"data/{p.stem}-00000-of-00001.parquet": p.read_bytes() for p in source.iterdir()}
        files["README.md"] = b"---\nlicense: mit\n---\n"
        hub.commit_files("dataset", "alice/fashion", files)
        hub.create_repo("model", "alice/teacher")
        teacher = {p.name: p.read_bytes() for p in (home / "first" / "teacher").iterdir()}
        hub.commit_files("model", "alice/teacher", teacher)
        made = Published(hub, home / "run", home)
        env = made.env(home / "home")
        run = ("run", "--dataset", "alice/fashion", "--backbone", "alice/teacher", *quick)
        for command in ((*run, "--output", made.run), ("push", made.run, OURS, "--public")):
            done = run_wdistill(*command, env=env)
            assert done.returncode == 0, done.stderr
        hub.create_repo("dataset", THEIRS)
        data = one_set(made.run) / "data" / "train-00000-of-00001.parquet"
        hub.commit_files("dataset", THEIRS, {"train.parquet": data.read_bytes()})
        yield made


def subject_of(source: str, env: dict[str, str]) -> dict[str, Any]:
    done = run_python(SUBJECT.format(source=source), env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def assert_whole(found: dict[str, Any], run: Path) -> None:
    """Labels, weights, soft labels and class names are those of the run."""
    ours = read_distilled(one_set(run))
    labels, weights, soft = found["arrays"]
    assert labels == ours.labels.tolist()
    assert np.array_equal(np.array(weights, np.float32), ours.weights)
    assert np.array_equal(np.array(soft, np.float32), ours.soft_labels)
    assert tuple(found["class_names"]) == ours.class_names


@pytest.mark.slow
def test_a_published_set_is_known_by_its_manifest(published: Published, tmp_path: Path) -> None:
    hub, env = published.hub, published.env(tmp_path)
    hub.log.clear()
    found = subject_of(OURS, env)
    asked = [path for _, path, _ in hub.log if f"{OURS}/resolve/" in path]
    assert {path.rpartition("/")[2] for path in asked} == {
        "README.md", "wdistill.json", "train-00000-of-00001.parquet",
    }  # fmt: skip
    assert (found["kind"], found["id"]) == ("published", OURS)
    assert found["url"] == f"{hub.url}/datasets/{OURS}"
    assert found["revision"] == hub.head("dataset", OURS)
    assert_whole(found, published.run)
    assert found["against"]["dataset"] == "alice/fashion"
    assert found["against"]["revision"] == hub.head("dataset", "alice/fashion")
    offline = subject_of(OURS, env | {"HF_HUB_OFFLINE": "1"})
    assert offline == found
    assert subject_of(f"{OURS}/ipc2", env) == found
    other = {"ipc9/wdistill.json": b"{}", "ipc9/data/train-00000-of-00001.parquet": b"not asked"}
    hub.commit_files("dataset", OURS, other)
    hub.log.clear()
    again = subject_of(OURS, env)
    assert again["arrays"] == found["arrays"]  # of two sets the one that the card names
    assert not any("ipc9/data" in path for _, path, _ in hub.log)


@pytest.mark.slow
def test_a_set_of_others_brings_its_columns(published: Published, tmp_path: Path) -> None:
    found = subject_of(THEIRS, published.env(tmp_path))
    assert (found["kind"], found["id"]) == ("dataset", THEIRS)
    assert found["revision"] == published.hub.head("dataset", THEIRS)
    assert_whole(found, published.run)


@pytest.mark.slow
def test_evaluate_needs_no_more_than_the_id(published: Published, tmp_path: Path) -> None:
    """Real images, teacher, resolution and soft labels are found by what is on the Hub."""
    hub = published.hub
    done = run_wdistill(
        "evaluate", OURS, "--labels", "soft", "--labels", "teacher", "--steps", "4",
        "--seeds", "1", "--student", "convnet-w64", "--baselines", "nearest", "-q",
        env=published.env(tmp_path / "home"), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "reports" / "fashion-distilled"
    report = json.loads((folder / "report.json").read_text())
    Report.read(folder / "report.json")
    source, against = report["source"], report["against"]
    assert (source["kind"], source["id"]) == ("published", OURS)
    assert source["revision"] == hub.head("dataset", OURS)
    assert source["fingerprint"] == fingerprint_of(read_distilled(one_set(published.run)))
    assert against["id"] == "alice/fashion"
    assert against["revision"] == hub.head("dataset", "alice/fashion")
    assert report["teacher"]["name"] == "alice/teacher"
    assert {(row["images"], row["labels"]) for row in report["rows"]} == {
        (images, labels) for images in ("distilled", "nearest") for labels in ("soft", "teacher")
    }
    page = (folder / "report.html").read_text()
    assert source["revision"] in page
    assert source["fingerprint"] in page
    assert f'href="{hub.url}/datasets/{OURS}"' in page


@pytest.mark.slow
def test_a_run_is_judged_with_the_commit_that_it_read(published: Published) -> None:
    read = json.loads((one_set(published.run) / "wdistill.json").read_text())["source"]["revision"]
    subject = open_subject(str(published.run), DataConfig())
    assert against(subject, DataConfig()).revision == read
    assert against(subject, DataConfig(revision="main")).revision == "main"


@pytest.mark.slow
def test_the_fingerprint_is_that_of_the_content(published: Published, tmp_path: Path) -> None:
    """Where the set lies does not matter, what it says does."""
    publish = published.run / "publish"
    shutil.copytree(publish, tmp_path / "moved")
    run, moved = (open_subject(str(p), DataConfig()) for p in (published.run, tmp_path / "moved"))
    stored = read_distilled(one_set(publish))
    assert run.fingerprint == moved.fingerprint == fingerprint_of(stored)
    for name in ("images", "labels", "weights", "soft_labels"):
        changed = getattr(stored, name).copy()
        changed.flat[0] += 1
        assert fingerprint_of(replace(stored, **{name: changed})) != run.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "network", "said"),
    [
        ("runs/cifar-ipc1", True, "'runs/cifar-ipc1' is no folder or file here, and {hub} has no"),
        ("cifar-ipc1", True, "'cifar-ipc1' is no folder or file here, and {hub} has no dataset"),
        ("runs/cifar-ipc1", False, "is no folder or file here, and {hub} cannot be reached"),
        ("./cifar-ipc1", True, "SOURCE './cifar-ipc1' does not exist; give a run folder"),
        ("runs/all/cifar-ipc1", True, "SOURCE 'runs/all/cifar-ipc1' does not exist"),
        (f"{OURS}/ipc5", True, f"dataset '{OURS}' has no set 'ipc5'; it has ipc2"),
        ("alice/secret", True, "dataset 'alice/secret' is gated; accept its terms"),
    ],
)
def test_a_source_that_is_nowhere_is_told_in_one_line(
    published: Published, tmp_path: Path, source: str, network: bool, said: str
) -> None:
    hub = published.hub
    hub.create_repo("dataset", "alice/secret", gated=True)
    files = {"ipc2/wdistill.json": b"{}", "ipc2/data/train-00000-of-00001.parquet": b""}
    hub.commit_files("dataset", "alice/secret", files)
    env = hub_env(hub, tmp_path, None) | ({} if network else {"HF_HUB_OFFLINE": "1"})
    done = run_wdistill("evaluate", source, env=env, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert said.format(hub=hub.url) in line
    assert not (tmp_path / "reports").exists()
