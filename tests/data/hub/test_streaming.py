"""A dataset read as a stream is the same to every network, and the originals are not stored."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.datasets_on_disk import picture
from helpers.hub_server import HubServer, hub_env, run_python
from helpers.pushes import TOKEN, run_json
from helpers.runs import QUICK, embedded_table, parquet_bytes, run_wdistill
from PIL import Image

from wdistill.data.pixels import Preprocessing

ID = "alice/photos"
SIDES = (96, 80)

LEARNT = (*QUICK, "--teacher-epochs", "10")  # 3 epochs leave some machines near chance


def large(table: pa.Table) -> pa.Table:
    """The same pictures at another size each, as files of several formats."""
    cells = []
    for row, cell in enumerate(table["image"].to_pylist()):
        with Image.open(io.BytesIO(cell["bytes"])) as small:
            image = small.resize((SIDES[0] + row % 5, SIDES[1] + row % 7))
        file = io.BytesIO()
        image.convert("RGB" if row % 2 else "L").save(file, "JPEG" if row % 3 else "PNG")
        cells.append({"bytes": file.getvalue(), "path": f"{row}.img"})
    field = table.schema.field("image")
    return table.set_column(
        table.schema.get_field_index("image"), field, pa.array(cells, field.type)
    )


@pytest.fixture
def photos(hub: HubServer) -> HubServer:
    """A dataset in three files, two of them of the training split."""
    tables = {"train-0": embedded_table("train", 40), "train-1": embedded_table("train", 20, 5),
              "test-0": embedded_table("test", 10)}  # fmt: skip
    hub.create_repo("dataset", ID)
    files = {}
    for name, table in tables.items():
        file = io.BytesIO()
        pq.write_table(large(table), file, row_group_size=50)
        files[f"data/{name}.parquet"] = file.getvalue()
    hub.commit_files("dataset", ID, files)
    return hub


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (32, 32), (256, 256), (301, 77), (5, 9)])
@pytest.mark.parametrize(("resolution", "resize"), [(32, 0), (32, 32), (32, 37), (224, 256)])
def test_a_scaled_image_looks_the_same(size: tuple[int, int], resolution: int, resize: int) -> None:
    seen = Preprocessing(resolution, resize, (0.0,) * 3, (1.0,) * 3)  # type: ignore[arg-type]
    image = picture(3).convert("RGB").resize(size)
    scaled = seen.scaled(image)
    assert seen.scaled(scaled).tobytes() == scaled.tobytes()
    assert np.array_equal(seen(scaled), seen(image))


@pytest.mark.slow
def test_a_run_of_a_stream_is_the_same_and_keeps_no_file(photos: HubServer, tmp_path: Path) -> None:
    runs, homes = {}, {}
    for name, more in (("stored", ()), ("streamed", ("--streaming",))):
        homes[name], runs[name] = tmp_path / name, tmp_path / name / "run"
        env = hub_env(photos, homes[name], TOKEN) | {"OMP_NUM_THREADS": "1"}
        done = run_wdistill(
            "run", "--dataset", ID, "--resolution", "32", "--output", runs[name], *LEARNT, *more,
            env=env,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert parquet_bytes(runs["streamed"]) == parquet_bytes(runs["stored"])
    assert "Read as a stream" in done.stdout
    files = [path for path in (homes["streamed"] / "hf").rglob("*") if path.is_file()]
    originals = photos.files("dataset", ID).values()
    assert not any(path.read_bytes() in originals for path in files)
    assert {path.parent.parent.parent.name for path in files if path.suffix == ".arrow"} == {
        "streamed"
    }
    kept = sum(path.stat().st_size for path in files)
    assert kept < sum(map(len, originals))
    once = asked(photos, "parquet")
    again = run_wdistill(
        "run", "--dataset", ID, "--resolution", "32", "--output", runs["streamed"], *LEARNT,
        "--streaming", env=env,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert asked(photos, "parquet") == once  # nothing is read twice


READ = """
import json
from hashlib import sha256
import wdistill.data.hub.streaming as streaming
from wdistill.config import (DataConfig)
from wdistill.data.dataset import load_data
from wdistill.errors import WdistillError
from wdistill.data.pixels import Preprocessing
from wdistill.data.hub.streaming import Scaling
streaming.PIECE = {piece}
seen = Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3)
data = load_data(
    DataConfig("alice/photos", skip_broken={skip}), 0, 1, True,
    lambda native: Scaling(f"32 of {{native}}", seen.scaled),
)
pixels = [seen(split.image(row)).numpy().tobytes() for split in (data.train, data.eval)
          for row in range(len(split))]
labels = [*data.train.labels.tolist(), *data.eval.labels.tolist()]
print(json.dumps({{"pixels": sha256(b"".join(pixels)).hexdigest(), "labels": labels,
                  "native": data.native_size, "fingerprint": data.source.fingerprint,
                  "broken": data.broken}}))
"""


def read(env: dict[str, str], piece: int = 64, skip: bool = False) -> Any:
    return run_json(READ.format(piece=piece, skip=skip), env)


def asked(hub: HubServer, path: str) -> int:
    """How often a file, or a part of it, was sent."""
    return sum(m == "GET" and path in p and status in (200, 206) for m, p, status in hub.log)


def copies(home: Path) -> list[Path]:
    return sorted((home / "hf" / "wdistill" / "streamed").rglob("*.arrow"))


@pytest.mark.slow
def test_a_stream_that_breaks_off_is_continued(photos: HubServer, tmp_path: Path) -> None:
    whole = read(hub_env(photos, tmp_path / "whole", TOKEN))
    assert whole["native"] in range(SIDES[0], SIDES[0] + 5)
    env = hub_env(photos, tmp_path / "broken", TOKEN) | {"HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    photos.fail_next(404, 10**6, "train-1.parquet", "GET")
    failed = run_python(READ.format(piece=64, skip=False), env)
    assert failed.returncode != 0
    assert "DataError" in failed.stderr.splitlines()[-1]
    before = {path: path.stat().st_mtime_ns for path in copies(tmp_path / "broken")}
    assert len(before) >= 4  # what came before the break is kept
    photos.faults.clear()
    before_break = asked(photos, "train-0.parquet")
    assert read(env) == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = asked(photos, "train-0.parquet") - before_break
    assert again < before_break  # it goes on where it was


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_copy_is_read_again(photos: HubServer, tmp_path: Path, damage: str) -> None:
    env = hub_env(photos, tmp_path, TOKEN)
    whole = read(env)
    victim = copies(tmp_path)[1]
    content = victim.read_bytes()
    if damage == "cut":
        victim.write_bytes(content[: len(content) // 2])
    else:
        victim.unlink()
    assert read(env) == whole
    assert victim.stat().st_size > len(content) // 2


@pytest.mark.slow
def test_a_broken_image_is_told_by_its_row_or_left_out(hub: HubServer, tmp_path: Path) -> None:
    table = large(embedded_table("train", 8))
    cells = table["image"].to_pylist()
    cells[5] = {"bytes": b"no image", "path": "5.img"}
    place = table.schema.get_field_index("image")
    broken = table.set_column(
        place, table.schema.field("image"), pa.array(cells, table.schema.field("image").type)
    )
    pq.write_table(broken, tmp_path / "train.parquet")
    hub.create_repo("dataset", ID)
    hub.commit_files("dataset", ID, {"train.parquet": (tmp_path / "train.parquet").read_bytes()})
    env = hub_env(hub, tmp_path, TOKEN)
    failed = run_python(READ.format(piece=64, skip=False), env)
    assert "broken image in row 5 of split 'train' (5.img)" in failed.stderr.splitlines()[-1]
    assert read(env, skip=True)["broken"] == 1


def test_folders_of_images_are_streamed(hub: HubServer, tmp_path: Path) -> None:
    files = {}
    for row in range(24):
        file = io.BytesIO()
        picture(row).resize(SIDES).save(file, "PNG")
        files[f"train/{'bag' if row % 2 else 'coat'}/{row}.png"] = file.getvalue()
    hub.create_repo("dataset", ID)
    hub.commit_files("dataset", ID, files)
    found = read(hub_env(hub, tmp_path, TOKEN), piece=7)
    assert sorted(found["labels"]) == [0] * 12 + [1] * 12


def test_what_is_local_is_no_stream(tmp_path: Path) -> None:
    def refused(*dataset: str | Path) -> str:
        done: subprocess.CompletedProcess[str] = run_wdistill(
            "run", "--streaming", *dataset, cwd=tmp_path
        )
        assert done.returncode != 0
        return done.stderr

    (tmp_path / "photos").mkdir()
    for given in ((), ("--dataset", "photos")):
        assert refused(*given).splitlines() == [
            "Error: --streaming is for datasets on the Hub; drop it, or give a Hub id"
        ]


@pytest.mark.slow
def test_the_fingerprint_of_a_stream_is_known_without_streaming(
    photos: HubServer, tmp_path: Path
) -> None:
    """And is not that of other splits or another commit."""
    streamed = read(hub_env(photos, tmp_path / "streamed", TOKEN))["fingerprint"]
    code = f"""
import json
from wdistill.config import (DataConfig)
from wdistill.data.dataset import load_data
def fits(**more):
    return load_data(DataConfig("alice/photos", **more), 0, 1).is_of({streamed!r})
first = fits(), fits(eval_split="test[:50%]")
print(json.dumps([*first, load_data(DataConfig("alice/photos"), 0, 1).is_of("")]))
"""
    env = hub_env(photos, tmp_path / "stored", TOKEN)
    assert run_json(code, env) == [True, False, False]
    photos.commit_files("dataset", ID, {"notes.txt": b"new"})
    assert run_json(code, env) == [False, False, False]


@pytest.mark.slow
def test_the_fingerprint_of_a_stream_knows_its_columns(photos: HubServer, tmp_path: Path) -> None:
    env = hub_env(photos, tmp_path, TOKEN)
    found = read(env)["fingerprint"]
    assert found.startswith(f"revision:{photos.head('dataset', ID)}:")
    code = READ.replace(
        'DataConfig("alice/photos"',
        'DataConfig("alice/photos", train_split="train[9%:]", eval_split="train[:9%]"',
    )
    other = json.loads(run_python(code.format(piece=64, skip=False), env).stdout)
    assert other["fingerprint"] != found
