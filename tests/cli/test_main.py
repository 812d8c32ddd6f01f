"""The command line: help, and one clear line for each bad input."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers.environment import environment
from helpers.examples import manifest
from helpers.hub_server import HubServer, hub_env
from helpers.runs import (
    QUICK,
    embedded_table,
    one_thread,
    run_wdistill,
    small_source,
    wdistill_command,
)
from PIL import Image

from wdistill.artifact.layout import one_set
from wdistill.cli.main import cli
from wdistill.data.hub.streaming import SIZE_SAMPLE

OFFLINE = one_thread()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_source(tmp_path_factory.mktemp("source"), per_class=12)


def refused(*arguments: str | Path, env: dict[str, str] | None = None, code: int = 1) -> str:
    """The one line on stderr with which a command is refused."""
    done = run_wdistill(*arguments, env=env)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def leaves() -> dict[str, click.Command]:
    assert isinstance(cli, click.Group)
    return dict(cli.commands)


def test_help_is_quick_to_import() -> None:
    """What makes --help slow is what it imports; the time itself depends on the machine."""
    code = "import sys, wdistill.cli.main; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "datasets", "numpy", "huggingface_hub", "matplotlib", "ot"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("name", leaves())
def test_each_command_has_an_example_and_helps_with_every_option(name: str) -> None:
    command = leaves()[name]
    assert f"wdistill {name} " in (command.help or "")
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert all(option.help for option in options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ipc", "0"], "--ipc is 0; give a number from 1 to 1000"),
        (["--ipc", "1001"], "--ipc is 1001"),
        (["--resolution", "4"], "--resolution is 4"),
        (["--iterations", "-1"], "--iterations is -1"),
        (["--eval-epochs", "0"], "--eval-epochs is 0"),
        (["--bn-weight", "nan"], "--bn-weight is nan"),
    ],
)
def test_numbers_out_of_bounds(arguments: list[str], said: str, tmp_path: Path) -> None:
    line = refused("run", "--output", tmp_path / "run", *arguments, code=2)
    assert said in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["run", "--ipcs", "3"],
            "No such option '--ipcs' (did you mean '--ipc'?); see 'wdistill run --help'",
        ),
        (["runn"], "No such command 'runn' (did you mean 'run'?); see 'wdistill --help'"),
        (
            ["run", "--weights", "equal"],
            "Invalid value for '--weights': 'equal' is not one of 'uniform', 'free'; "
            "see 'wdistill run --help'",
        ),
        (["push", "runs/a"], "Missing argument 'REPO_ID'; see 'wdistill push --help'"),
        (["run", "--ipc"], "Option '--ipc' requires an argument; see 'wdistill --help'"),
    ],
)
def test_misuse_is_told_in_one_line(arguments: list[str], line: str) -> None:
    done = run_wdistill(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert as_written_since_8_5(done.stderr) == as_written_since_8_5(f"Error: {line}\n")


def as_written_since_8_5(line: str) -> str:
    """Versions of click quote otherwise, and some older ones offer no similar command."""
    line = line.replace("No such option:", "No such option").replace(
        "Possible options:", "did you mean one of:"
    )
    return re.sub(r"'|( \(did you mean 'run'\?\))", "", line)


def test_several_similar_options_are_all_offered() -> None:
    line = as_written_since_8_5(refused("run", "--image-colum", "x", code=2))
    assert line.startswith("Error: No such option --image-colum (did you mean one of: ")
    assert "--image-column" in line
    assert line.endswith("); see wdistill run --help")


def test_no_command_shows_the_help() -> None:
    done = run_wdistill()
    assert all(name in done.stdout + done.stderr for name in leaves())


def test_bad_data(source: Path, tmp_path: Path) -> None:
    """A class smaller than ipc, a wrong column, one class, text, a missing folder."""
    out = ("--output", tmp_path / "run")
    line = refused("run", "--dataset", source, "--ipc", "50", *out)
    assert re.search(r"class '.+' has 12 images but --ipc is 50", line)
    line = refused("run", "--dataset", source, "--label-column", "kind", *out)
    assert "kind" in line
    assert "label" in line
    pq.write_table(embedded_table("train", 20, classes=1), tmp_path / "one.parquet")
    table = pq.read_table(tmp_path / "one.parquet")
    names = pa.array(["shirt"] * len(table))
    pq.write_table(pa.table({"image": table["image"], "label": names}), tmp_path / "one.parquet")
    assert "one class" in refused("run", "--dataset", tmp_path / "one.parquet", *out)
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), tmp_path / "text.parquet")
    assert "image" in refused("run", "--dataset", tmp_path / "text.parquet", *out)
    assert "nowhere" in refused("run", "--dataset", tmp_path / "nowhere.parquet", *out)


def test_a_broken_image_is_named_or_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    table = embedded_table("train", 14, classes=2).to_pylist()
    for index, row in enumerate(table):
        path = folder / "train" / ("shirt", "trouser")[row["label"]] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])
    broken = folder / "train" / "shirt" / "broken.png"
    broken.write_bytes(table[0]["image"]["bytes"][:100])
    arguments = ("run", "--dataset", folder, *QUICK, "--allow-weak-teacher")
    line = refused(*arguments, "--output", tmp_path / "run")
    assert "broken.png" in line
    assert "--skip-broken" in line
    done = run_wdistill(*arguments, "--output", tmp_path / "skipped", "--skip-broken", "-q")
    assert done.returncode == 0, done.stderr
    assert "checking" not in done.stderr
    publish = one_set(tmp_path / "skipped")
    assert json.loads((publish / "wdistill.json").read_text())["source"]["broken"] == 1
    assert "left out: they are broken" in (publish.parent / "README.md").read_text()


def test_a_broken_image_found_by_a_worker_process_is_one_line_too(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source", per_class=60)
    table = pq.read_table(source / "train.parquet")
    looked_at = np.random.default_rng(0).choice(len(table), SIZE_SAMPLE, replace=False)
    row = int(np.setdiff1d(np.arange(len(table)), looked_at)[0])  # else no worker would find it
    cells = table["image"].to_pylist()
    cells[row]["bytes"] = cells[row]["bytes"][:100]
    image = pa.array(cells, table.schema.field("image").type)
    pq.write_table(
        table.set_column(0, table.schema.field("image"), image), source / "train.parquet"
    )
    line = refused("run", "--dataset", source, "--num-workers", "2", "--output", tmp_path / "run")
    assert line.startswith(f"Error: broken image in row {row} of split 'train'")
    assert line.endswith("; repair it or pass --skip-broken")


@pytest.mark.slow
def test_unknown_names_without_network(tmp_path: Path) -> None:
    home = tmp_path / "home"
    env = hub_env("http://127.0.0.1:9", home, None)
    out = ("--output", tmp_path / "run")
    line = refused("run", "--dataset", "user/data", *out, env=env)
    assert "user/data" in line
    assert "127.0.0.1:9" in line
    line = refused("run", "--backbone", "user/network", *out, env=env)
    assert "user/network" in line
    line = refused("push", tmp_path, "user/name")
    assert "give the output folder of a finished `wdistill run`" in line


@pytest.mark.slow
def test_unknown_gated_and_private_on_the_hub(tmp_path: Path) -> None:
    out = ("--output", tmp_path / "run")
    with HubServer() as hub:
        hub.create_repo("dataset", "lab/gated", gated=True)
        hub.create_repo("dataset", "lab/private", private=True)
        hub.create_repo("model", "lab/gated", gated=True)
        env = hub_env(hub, tmp_path / "home", None)
        assert "lab/none" in refused("run", "--dataset", "lab/none", *out, env=env)
        assert "lab/private" in refused("run", "--dataset", "lab/private", *out, env=env)
        gated = refused("run", "--dataset", "lab/gated", *out, env=env)
        assert "gated" in gated
        assert "hf auth login" in gated
        assert "lab/none" in refused("run", "--backbone", "lab/none", *out, env=env)
        assert "gated" in refused("run", "--backbone", "lab/gated", *out, env=env)


@pytest.mark.slow
def test_a_text_dataset_is_refused_before_its_download(tmp_path: Path) -> None:
    card = "---\ndataset_info:\n  features:\n"
    card += "  - name: text\n    dtype: string\n  - name: label\n    dtype: int64\n"
    card += "  splits:\n  - name: train\n    num_examples: 2\n---\n"
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), tmp_path / "train.parquet")
    with HubServer() as hub:
        hub.create_repo("dataset", "lab/text")
        files = {"train.parquet": (tmp_path / "train.parquet").read_bytes()}
        hub.commit_files("dataset", "lab/text", {**files, "README.md": card.encode()})
        env = hub_env(hub, tmp_path / "home", None)
        line = refused("run", "--dataset", "lab/text", "--output", tmp_path / "run", env=env)
        read = {path.rpartition("/")[2] for method, path, _ in hub.log if method == "GET"}
    assert "no image column (columns: text, label)" in line
    assert "README.md" in read
    assert "train.parquet" not in read


def test_the_revision_of_the_backbone_is_looked_up_on_the_hub(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.create_repo("model", "lab/net")
        env = hub_env(hub, tmp_path / "home", None)
        arguments = ("run", "--backbone", "lab/net", "--output", tmp_path / "run")
        line = refused(*arguments, "--backbone-revision", "v9", env=env)
    assert "--backbone 'lab/net' has no revision 'v9'" in line


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_the_main_process_pushes(
    rank: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from wdistill.pipeline import run as pipeline
    from wdistill.pipeline.api import result
    from wdistill.publishing.hub import push as hub

    calls: list[tuple[object, ...]] = []
    pushed = hub.PushResult("me/set", (), "", None, commit_url="https://h/commit/1", changed=True)
    monkeypatch.setenv("RANK", rank)
    (tmp_path / "ipc10").mkdir()
    (tmp_path / "ipc10" / "wdistill.json").touch()
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: calls.append(("run",)) or tmp_path)
    monkeypatch.setattr(result, "read_report", lambda _: None)
    monkeypatch.setattr(result, "read_manifest", lambda _: manifest())
    monkeypatch.setattr(hub, "check_target", lambda *a: calls.append(("check", *a)))
    monkeypatch.setattr(hub, "push_finished", lambda *a: calls.append(("push", *a)) or pushed)
    arguments = ["run", "--push-to", "me/set", "--output", str(tmp_path)]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    if rank == "0":
        assert calls == [("check", "me/set"), ("run",), ("push", tmp_path, "me/set")]
        assert "pushed: https://h/commit/1\n" in done.output
    else:
        assert calls == [("run",)]
        assert done.output == ""


def test_a_weak_teacher_stops_the_run(source: Path, tmp_path: Path) -> None:
    arguments = ("run", "--dataset", source, "--teacher-epochs", "0", "--ipc", "2")
    line = refused(*arguments, "--output", tmp_path / "run")
    assert "--teacher-epochs" in line
    assert "--allow-weak-teacher" in line


def test_a_folder_that_is_no_run_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    line = refused("run", "--dataset", source, "--output", tmp_path)
    assert "thesis.tex" in line
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_interrupt_says_how_to_go_on(
    number: signal.Signals, code: int, source: Path, tmp_path: Path
) -> None:
    """Ctrl-C, or a scheduler's signal, during the teacher's training."""
    folder = tmp_path / "run"
    endless = ("--output", folder, "--teacher-epochs", "500", "-q")
    process = subprocess.Popen(
        wdistill_command("run", "--dataset", source, *endless),
        env=OFFLINE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        # In the background of a shell a process is born deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    while not (folder / "work" / "teacher-epoch.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == code, errors
    assert "Traceback" not in errors, errors
    assert f"To go on: wdistill run --dataset {source}" in errors


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_loses_nothing(source: Path, tmp_path: Path) -> None:
    """On a file system of 256 kB the run stops with one line; with room it goes on."""
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", full], check=True)
    try:
        arguments = ("run", "--dataset", source, *QUICK, "--allow-weak-teacher")
        line = refused(*arguments, "--output", full / "run")
        assert "no space left" in line.lower()
        subprocess.run(["mount", "-o", "remount,size=64m", full], check=True)
        done = run_wdistill(*arguments, "--output", full / "run")
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", "--lazy", full], check=True)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run_wdistill("run", "--dataset", tmp_path / "none.parquet", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "DataError" in done.stderr


def test_sixteen_bit_and_palette_images_are_fine(tmp_path: Path) -> None:
    """Images of other modes go through a whole run."""
    table = embedded_table("train", 16, classes=2).to_pylist()
    for index, row in enumerate(table):
        path = tmp_path / "photos" / "train" / f"class{row['label']}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        if index % 2:
            image = image.convert("P")
        else:
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        image.save(path)
    done = run_wdistill(
        "run", "--dataset", tmp_path / "photos", *QUICK, "--output", tmp_path / "run",
        "--teacher-epochs", "12", "--allow-weak-teacher",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_processes_are_not_multiplied_under_a_launcher() -> None:
    launched = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}
    done = run_wdistill("run", "--num-processes", "2", env=environment(**launched))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "Error: --num-processes is 2, but a launcher has started this process as one of 4; leave "
        "the option out"
    )
