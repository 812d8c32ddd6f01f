"""Files on the Hub: names that YAML takes for something else, files that are in no split."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.field import classes, table, tiny
from helpers.hub_server import HubServer, hub_env, run_python
from helpers.pushes import TOKEN

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
import json
from wdistill.config import DataConfig
from wdistill.data.dataset import load_data
words, names = (load_data(DataConfig(id), 0, 1) for id in ("alice/words", "alice/names"))
print(json.dumps([words.class_names, words.notes, names.class_names, len(names.train)]))
"""


def test_files_in_no_split_are_told_and_names_are_text(hub: HubServer, tmp_path: Path) -> None:
    """Of a folder of images on the Hub `datasets` takes only what is called after a split."""
    folders = ("bus", "tram", "diesel_train", "steam_train")
    files = {path: tiny(number) for number, path in enumerate(classes(folders))}
    hub.create_repo("dataset", "alice/words")
    hub.commit_files("dataset", "alice/words", files)
    content = Path(table(tmp_path / "t.parquet", [0, 1] * 4)).read_bytes()
    hub.create_repo("dataset", "alice/names")
    hub.commit_files("dataset", "alice/names", {"t.parquet": content, "README.md": CARD.encode()})
    done = run_python(CODE, hub_env(hub, tmp_path / "home", TOKEN))
    words, notes, names, images = json.loads(done.stdout.splitlines()[-1])
    assert words == ["diesel_train", "steam_train"]
    assert "Left out 8 files whose names say no split, such as 'bus/0.png'." in notes
    assert names == ["no", "007"]
    assert images == 6
