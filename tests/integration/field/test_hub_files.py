"""Files on the Hub: folders, names that YAML takes for something else, files in no split."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.backbones import checkpoint
from helpers.field import classes, table, tiny
from helpers.hub_server import HubServer, hub_env, run_python
from helpers.pushes import TOKEN

from wdistill.config import DataConfig
from wdistill.core.text import hub_id_in
from wdistill.data.sources import open_source
from wdistill.errors import BackboneError, DataError
from wdistill.networks.checkpoints.source import find_backbone

CARD = """---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': no
          '1': 007
configs:
- config_name: default
  data_files:
  - split: train
    path: t*.parquet
---
"""
CODE = """
import io, json, sys
from wdistill.config import DataConfig
from wdistill.data.dataset import load_data
from wdistill.errors import DataError
answers = {}
for id in sys.argv[1:]:
    try:
        data = load_data(DataConfig(id), 0, 1)
        known = [data.source.kind, data.source.revision, data.source.gated]
        answers[id] = [data.class_names, len(data.train) + len(data.eval), data.notes, known]
    except DataError as error:
        answers[id] = str(error)
print(json.dumps(answers))
"""
NETWORKS = """
from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.backbones import load_backbone
from wdistill.networks.checkpoints.source import find_backbone
pixels = Preprocessing(32, 0, (0.5,) * 3, (0.5,) * 3)
for name in ("alone", "empty", "pickled"):
    try:
        load_backbone(find_backbone("alice/" + name, resolution=32), ("a", "b"), pixels, 0)
    except BackboneError as error:
        print(error)
"""


def read(ids: list[str], env: dict[str, str]) -> dict[str, Any]:
    code = CODE.replace("sys.argv[1:]", repr(ids))
    return json.loads(run_python(code, env).stdout.splitlines()[-1])


def zipped(files: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def test_a_folder_on_the_hub_is_read_as_one_on_the_disk(hub: HubServer, tmp_path: Path) -> None:
    """`datasets` takes only what is called after a split, and no names in some archives."""
    folders = ("bus", "tram", "diesel_train", "steam_train")
    files = {path: tiny(number) for number, path in enumerate(classes(folders))}
    splits = {"train/" + path: content for path, content in files.items()}
    splits |= {f"Valid/{path}": tiny(100 + number) for number, path in enumerate(classes(folders))}
    for name, held in (
        ("words", files | {"notes.heic": b"x"}),
        ("splits", splits),
        ("zipped", {"data/train.zip": zipped(files)}),
    ):
        hub.create_repo("dataset", f"alice/{name}")
        hub.commit_files("dataset", f"alice/{name}", held)
    ids = ["alice/words", "alice/splits", "alice/zipped"]
    env = hub_env(hub, tmp_path / "home", TOKEN)
    answers = read(ids, env)
    for id in ids:
        names, images, _, known = answers[id]
        assert names == sorted(folders)
        assert images == (2 if id == "alice/splits" else 1) * len(files)
        assert known == ["hub", hub.head("dataset", id), False]
    assert "Left out 1 file (1 .heic)." in answers["alice/words"][2]
    for id in ids:  # the same again, but without a network
        hub.fail_next(0, 10**6)
        [again] = read([id], env).values()
        assert again[:2] == answers[id][:2]
        assert again[2][0] == f"The Hub is out of reach: using the copy of {id!r} prepared before."
        assert again[3] == ["hub", hub.head("dataset", id), "unknown"]


def test_a_folder_of_which_some_files_are_here_is_not_taken_for_the_whole(
    hub: HubServer, tmp_path: Path
) -> None:
    paths = classes(("bus", "tram"))
    hub.create_repo("dataset", "alice/some")
    files = {path: tiny(number) for number, path in enumerate(paths)}
    hub.commit_files("dataset", "alice/some", files)
    env = hub_env(hub, tmp_path / "home", TOKEN)
    some = [path for path in paths if path.endswith(("0.png", "1.png"))]
    run_python(
        "from huggingface_hub import hf_hub_download\n"
        f"for path in {some!r}: hf_hub_download('alice/some', path, repo_type='dataset')",
        env,
    )
    hub.fail_next(0, 10**6)
    [refused] = read(["alice/some"], env).values()
    assert refused.startswith("cannot reach http")


def test_files_in_no_split_are_told_and_names_are_text(hub: HubServer, tmp_path: Path) -> None:
    """Of tables on the Hub `datasets` takes only those that are called after a split."""
    content = Path(table(tmp_path / "t.parquet", [0, 1] * 4)).read_bytes()
    hub.create_repo("dataset", "alice/names")
    hub.commit_files("dataset", "alice/names", {"t.parquet": content, "README.md": CARD.encode()})
    hub.create_repo("dataset", "alice/tables")
    hub.commit_files("dataset", "alice/tables", {"train.parquet": content, "more.parquet": content})
    answers = read(["alice/names", "alice/tables"], hub_env(hub, tmp_path / "home", TOKEN))
    names, images, _, _ = answers["alice/names"]
    assert names == ["no", "007"]
    assert images == 8
    note = "Left out 1 files whose names say no split, such as 'more.parquet'."
    assert note in answers["alice/tables"][2]


@pytest.mark.parametrize(
    ("given", "way_out"),
    [
        ("https://huggingface.co/datasets/uoft-cs/cifar10", "the id 'uoft-cs/cifar10'"),
        ("https://huggingface.co/datasets/a/b/tree/v1", "the id 'a/b' and the revision 'v1'"),
        ("hf://datasets/a/b@v1", "the id 'a/b' and the revision 'v1'"),
        ("datasets/a/b", "the id 'a/b'"),
        ("a/b@main", "the id 'a/b' and the revision 'main'"),
    ],
)
def test_an_address_is_refused_with_the_id_in_it(given: str, way_out: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"rather than a Hub id: give {way_out}")):
        open_source(DataConfig(given))
    with pytest.raises(BackboneError, match=re.escape(f"is an address; give {way_out}")):
        find_backbone(given, resolution=32)


def test_an_id_a_path_and_other_text_hold_no_address() -> None:
    for text in ("a/b", "cifar10", "./a/b", r"C:\photos\cats", "a/pla in", "a/b/c", "/a/b"):
        assert hub_id_in(text) is None


def test_networks_of_the_hub_without_what_is_read_are_told(hub: HubServer, tmp_path: Path) -> None:
    config = checkpoint(tmp_path / "net").config.to_json_string().encode()
    for name, files in (
        ("alone", {"model.safetensors": b"x"}),
        ("empty", {"README.md": b"x"}),
        ("pickled", {"config.json": config, "pytorch_model.bin": b"x"}),
    ):
        hub.create_repo("model", f"alice/{name}")
        hub.commit_files("model", f"alice/{name}", files)
    done = run_python(NETWORKS, hub_env(hub, tmp_path / "home", TOKEN))
    alone, empty, pickled = done.stdout.splitlines()[-3:]
    for line, name in ((alone, "alone"), (empty, "empty")):
        assert line.startswith(f"`teacher.backbone` 'alice/{name}' has no config.json, which says")
    assert pickled.startswith("`teacher.backbone` 'alice/pickled' has only pickled weights, which")
