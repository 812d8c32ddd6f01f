"""Whole runs on real images through the command line."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.hub_server import HubServer, hub_env, run_python
from helpers.runs import (
    QUICK,
    one_thread,
    parquet_bytes,
    run_wdistill,
    wdistill_command,
)
from PIL import Image

from wdistill.artifact.layout import one_set
from wdistill.artifact.report import Report

TOKEN = "hf_aliceSecretWriteToken"


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with a teacher trained from scratch."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = run_wdistill("run", "--dataset", source, "--output", folder, *QUICK)
    assert done.returncode == 0, done.stderr
    for shown in (
        "teacher: resnet10-w16",
        "W2^2",
        "distilled gains",
        "preview.png",
        "wdistill push",
    ):
        assert shown in done.stdout
    return folder


def test_what_a_run_leaves_can_be_loaded_and_adds_up(finished: Path) -> None:

    manifest = json.loads((one_set(finished) / "wdistill.json").read_text())
    report = json.loads((one_set(finished) / "report.json").read_text())
    loaded = datasets.load_dataset(str(finished / "publish"), split="train")
    assert loaded.features["label"].names == manifest["classes"]
    assert len(loaded) == 20
    weights = np.array(loaded["weight"]).reshape(10, 2)
    assert np.allclose(weights.sum(1), 1, atol=1e-6)
    assert np.allclose(np.array(loaded["soft_label"]).sum(1), 1, atol=1e-5)
    assert loaded[0]["image"].size == (28, 28)
    assert all(w2 < random for w2, random in zip(*_w2(manifest), strict=True))
    for picture in ("synthesis.png", "loss.png"):
        with Image.open(finished / "pictures" / picture) as image:
            assert image.width > 300
    assert {image.mode for image in loaded["image"]} == {"L"}  # as grey as Fashion-MNIST
    assert {(row["images"], row["labels"]) for row in report["rows"]} == {
        ("distilled", "hard"), ("distilled", "soft"), ("random", "hard"), ("random", "soft"),
    }  # fmt: skip


def _w2(manifest: dict[str, dict[str, list[float]]]) -> tuple[list[float], list[float]]:
    return manifest["barycenter"]["w2"], manifest["barycenter"]["w2_random"]


def test_the_same_command_again_computes_and_changes_nothing(finished: Path, source: Path) -> None:
    before = {p: p.read_bytes() for p in (finished / "publish").rglob("*") if p.is_file()}
    made = {p: p.stat().st_mtime_ns for p in (finished / "work").rglob("*.safetensors")}
    done = run_wdistill("run", "--dataset", source, "--output", finished, *QUICK)
    assert done.returncode == 0, done.stderr
    assert {p: p.read_bytes() for p in before} == before
    assert {p: p.stat().st_mtime_ns for p in made} == made


def test_evaluate_takes_the_students_of_the_run_as_they_are(finished: Path, tmp_path: Path) -> None:
    """`run` and `evaluate` are one evaluation: the same settings give the same rows, and only the
    students of other numbers of random images are new.
    """
    folder = Path(shutil.copytree(finished, tmp_path / finished.name))
    of_run = Report.read(one_set(folder) / "report.json")
    assert of_run.equivalents == ()
    stored = {path: path.stat().st_mtime_ns for path in (folder / "work" / "evaluate").iterdir()}
    settings = ("--epochs", "3", "--seeds", "1", "--labels", "soft", "--labels", "hard")
    done = run_wdistill("evaluate", folder, *settings, "--baselines", "random")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
    new = set((folder / "work" / "evaluate").iterdir()) - stored.keys()
    assert all("-random-2-" not in path.name and "-random-" in path.name for path in new)
    whole = Report.read(folder / "report" / "report.json")
    published = Report.read(one_set(folder) / "report.json")
    assert published == whole.for_publication()
    assert len(whole.equivalents) == 2
    alike = ("source", "against", "resolution", "recipe", "teacher", "device", "versions")
    for name in alike:
        assert getattr(of_run, name) == getattr(whole, name)
    assert [row for row in published.rows if row.images != "random" or row.ipc == 2] == list(
        of_run.rows
    )


def test_the_same_run_again_keeps_what_evaluate_has_found(
    finished: Path, source: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / finished.name))
    settings = ("--epochs", "3", "--seeds", "1", "--labels", "hard")
    done = run_wdistill("evaluate", folder, *settings)
    assert done.returncode == 0, done.stderr
    report = Report.read(one_set(folder) / "report.json")
    assert {row.labels for row in report.rows} == {"hard", "soft"}, "those of the run stay"
    assert len(report.equivalents) == 1
    before = {p: p.read_bytes() for p in (folder / "publish").rglob("*") if p.is_file()}
    done = run_wdistill("run", "--dataset", source, "--output", folder, *QUICK)
    assert done.returncode == 0, done.stderr
    assert {p: p.read_bytes() for p in before} == before


def test_label_views_are_added_without_computing_anything_else(
    finished: Path, source: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    made = {p: p.stat().st_mtime_ns for p in (folder / "work").rglob("*-*") if p.is_file()}
    assert any(path.parent.name == "evaluate" for path in made)
    done = run_wdistill(
        "run", "--dataset", source, "--output", folder, *QUICK, "--label-views", "3"
    )
    assert done.returncode == 0, done.stderr
    assert "label views: 3 of each image, 10 logits a view: " in done.stdout
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert parquet_bytes(folder) == parquet_bytes(finished)
    views = datasets.load_dataset(str(folder / "publish"), "ipc2_soft_labels", split="train")
    assert len(views) == 3 * 20


def test_files_of_an_earlier_coding_and_of_earlier_views_do_not_stay(
    finished: Path, source: Path, tmp_path: Path
) -> None:
    """And a run that goes back to those settings ends with the same bytes."""
    folder = Path(shutil.copytree(finished, tmp_path / "run"))

    def run(*options: str) -> tuple[list[str], list[str]]:
        done = run_wdistill("run", "--dataset", source, "--output", folder, *QUICK, *options)
        assert done.returncode == 0, done.stderr
        names = [path.name for path in (folder / "work").iterdir()]
        packed = [name for name in names if name.startswith("packed-")]
        return sorted({n.rsplit("-", 1)[0] for n in names if n.startswith("files-")}), packed

    fine, three = run("--image-quality", "90", "--label-views", "3")
    published = parquet_bytes(folder)
    assert (fine, len(three)) == (["files-webp90"], 1)
    middling, two = run("--image-quality", "70", "--label-views", "2")
    assert (middling, len(two)) == (["files-webp70"], 1)
    assert two != three
    assert run("--image-quality", "90", "--label-views", "3") == (fine, three)
    assert parquet_bytes(folder) == published


def test_another_run_is_refused_by_a_folder_that_holds_one(finished: Path, source: Path) -> None:
    done = run_wdistill("run", "--dataset", source, "--output", finished, *QUICK, "--seed", "7")
    assert done.returncode == 1
    assert "holds another run: seed was 0 and is now 7" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "stage",
    [
        "synthesis",
        *(
            pytest.param(stage, marks=pytest.mark.slow)
            for stage in ("teacher-epoch", "transport", "nearest", "evaluate")
        ),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    stage: str, finished: Path, source: Path, tmp_path: Path
) -> None:
    arguments = ("run", "--dataset", source, "--output", tmp_path / "run", *QUICK)
    process = subprocess.Popen(
        wdistill_command(*arguments), env=one_thread(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    work = tmp_path / "run" / "work"
    while process.poll() is None and not list(work.glob(f"{stage}*")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not any((tmp_path / "run" / "publish").glob("*/wdistill.json"))
    done = run_wdistill(*arguments)
    assert done.returncode == 0, done.stderr
    assert parquet_bytes(tmp_path / "run") == parquet_bytes(finished)
    assert _accuracies(tmp_path / "run") == _accuracies(finished)


def _accuracies(run: Path) -> list[list[float]]:
    rows = json.loads((one_set(run) / "report.json").read_text())["rows"]
    return [row["top1"] for row in rows]


LOAD = """
import json, sys, datasets
import numpy as np
loaded = datasets.load_dataset("alice/fashion-distilled", split="train")
images = np.stack([np.array(image.convert("RGB")) for image in loaded["image"]])
np.savez(sys.argv[1] if len(sys.argv) > 1 else {out!r}, images=images,
         label=loaded["label"], weight=np.array(loaded["weight"], np.float32),
         soft=np.array(loaded["soft_label"], np.float32))
print(json.dumps([loaded.features["label"].names, "wdistill" in sys.modules]))
"""


@pytest.mark.slow
def test_groups_make_another_barycenter_and_one_group_the_same(
    finished: Path, source: Path, tmp_path: Path
) -> None:
    """Real images in two groups: how much cloth they show."""
    grouped = tmp_path / "grouped"
    grouped.mkdir()
    for path in source.glob("*.parquet"):
        table = pq.read_table(path)
        sizes = np.array([len(cell["bytes"]) for cell in table["image"].to_pylist()])
        group = pa.array(np.where(sizes > np.median(sizes), "full", "sparse"))
        one = pa.array(["all"] * len(table))
        table = table.append_column("cloth", group).append_column("one", one)
        pq.write_table(table, grouped / path.name)

    def run(name: str, *options: str | Path) -> Path:
        command = ["run", "--dataset", grouped, "--label-column", "label", *options]
        command += ["--backbone", finished / "teacher", "--ipc", "2", "--iterations", "2"]
        command += ["--label-giver", "teacher", "--label-views", "0"]
        done = run_wdistill(*command, "--no-evaluate", "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
        return tmp_path / name

    plain, alone = run("plain"), run("alone", "--group-column", "one")
    assert parquet_bytes(plain) == parquet_bytes(alone)
    two = run("two", "--group-column", "cloth")
    manifest = json.loads((one_set(two) / "wdistill.json").read_text())
    assert manifest["source"]["groups"] == 2
    assert "2 groups named by column" in (two / "publish" / "README.md").read_text()
    assert parquet_bytes(two) != parquet_bytes(plain)
    assert all(w2 < random for w2, random in zip(*_w2(manifest), strict=True))


def test_run_from_the_hub_push_and_load(finished: Path, source: Path, tmp_path: Path) -> None:
    """Dataset and backbone come over HTTP, the result goes back and is loaded without our code."""
    from wdistill.artifact.distilled_set import read_distilled

    with HubServer() as hub:
        hub.add_user("alice", TOKEN)
        hub.create_repo("dataset", "alice/fashion")
        files = {f"data/{p.stem}-00000-of-00001.parquet": p.read_bytes() for p in source.iterdir()}
        card = b"---\nlicense: mit\npretty_name: Small Fashion\n---\n"
        hub.commit_files("dataset", "alice/fashion", {**files, "README.md": card})
        hub.create_repo("model", "alice/teacher")
        teacher = {p.name: p.read_bytes() for p in (finished / "teacher").iterdir()}
        hub.commit_files("model", "alice/teacher", teacher)
        env = hub_env(hub, tmp_path / "home", TOKEN)
        run = tmp_path / "run"
        hub.fail_next(400, path="/commit/main")
        done = run_wdistill(
            "run", "--dataset", "alice/fashion", "--backbone", "alice/teacher", *QUICK,
            "--student", "alice/teacher", "--num-processes", "2",
            "--output", run, "--push-to", "alice/fashion-distilled", env=env,
        )  # fmt: skip
        assert done.returncode == 1
        error = done.stderr.splitlines()[-1]
        assert "with 400: injected; the run itself is finished, push it with: " in error
        again = shlex.split(error.partition("push it with: wdistill ")[2])
        assert again == ["push", str(run), "alice/fashion-distilled"]
        manifest = json.loads((one_set(run) / "wdistill.json").read_text())
        assert manifest["source"]["revision"] == hub.head("dataset", "alice/fashion")
        assert manifest["source"]["license"] == "mit"
        assert manifest["teacher"]["revision"] == hub.head("model", "alice/teacher")
        assert manifest["teacher"]["origin"] == "as_is"
        assert manifest["revisions"] == {"alice/teacher": hub.head("model", "alice/teacher")}
        assert manifest["processes"] == 2
        assert hub.files("dataset", "alice/fashion-distilled").keys() == {".gitattributes"}
        pushed = run_wdistill(*again, env=env)
        assert pushed.returncode == 0, pushed.stderr
        assert TOKEN not in done.stdout + done.stderr + pushed.stdout + pushed.stderr
        out = tmp_path / "loaded.npz"
        loaded = run_python(LOAD.format(out=str(out)), env)
        assert loaded.returncode == 0, loaded.stderr
    names, imported = json.loads(loaded.stdout.splitlines()[-1])
    ours, theirs = read_distilled(one_set(run)), np.load(out)
    assert not imported
    assert tuple(names) == ours.class_names
    assert np.array_equal(theirs["images"], ours.images)
    assert np.array_equal(theirs["label"], ours.labels)
    assert np.array_equal(theirs["weight"], ours.weights)
    assert np.array_equal(theirs["soft"], ours.soft_labels)


TINY = {
    "vit": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "image_size": 28, "patch_size": 7,
    },
    "convnext": {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2, "patch_size": 2},
}  # fmt: skip


@pytest.mark.parametrize("architecture", TINY)
def test_backbones_without_batch_norm(architecture: str, source: Path, tmp_path: Path) -> None:
    """A configuration without weights is trained from scratch and distilled."""
    from transformers import AutoConfig

    AutoConfig.for_model(architecture, **TINY[architecture]).save_pretrained(tmp_path / "network")
    done = run_wdistill(
        "run", "--dataset", source, "--backbone", tmp_path / "network", *QUICK,
        "--resolution", "28", "--teacher-epochs", "15", "--output", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "from scratch" in done.stdout
    assert "no norm layer" not in done.stdout
    manifest = json.loads((one_set(tmp_path / "run") / "wdistill.json").read_text())
    assert manifest["teacher"]["accuracy"] > 0.2
