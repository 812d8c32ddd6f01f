"""Where images come from: the embedded subset, the Hub, or local files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from wdistill.config import DataConfig
from wdistill.data.hub.opening import open_hub
from wdistill.data.hub.streaming import Scaling
from wdistill.data.local.card import (
    local_card,
    says_how,
)
from wdistill.data.local.reading import read_files, read_folder
from wdistill.data.opened import (
    Opened,
    Source,
    data_files,
    named,
    prepared,
    split_names,
    unnamed,
)
from wdistill.data.source_errors import Explained, no_such
from wdistill.errors import DataError


def open_source(
    config: DataConfig, scaling: Callable[[int], Scaling] | None = None, quiet: bool = True
) -> Opened:
    """What ``data.dataset`` names. A local path wins over a Hub id of the same name.

    With ``scaling`` it is read as a stream, see :mod:`wdistill.data.hub.streaming`.
    """
    name = config.dataset
    local = name is None or Path(os.path.expanduser(name)).exists() or glob.has_magic(name)
    if local and scaling is not None:
        raise DataError("`runtime.streaming` is for datasets on the Hub; drop it, or give a Hub id")
    if name is None:
        for setting in ("config_name", "revision"):
            value = getattr(config, setting)
            if value is not None:
                raise DataError(
                    f"`data.{setting}` {value!r} needs a `data.dataset` that it belongs to"
                )
        return _embedded()
    path = Path(os.path.expanduser(name))
    is_glob = glob.has_magic(name) and not path.exists()
    if path.exists() or is_glob:
        if config.revision is not None:
            raise DataError(f"{name!r} is local, but `data.revision` is for the Hub; drop it")
        with Explained(config):
            return _local(path, config)
    if is_only_local(name):
        raise DataError(no_such(name))
    return open_hub(name, config, scaling, quiet)


def is_only_local(name: str) -> bool:
    """Whether ``name`` can be a path, but no Hub id."""
    other = name.endswith(".parquet") or name.count("/") > 1 or "\\" in name
    return other or re.match(r"[./~]", name) is not None


def _embedded() -> Opened:
    def read(split: str) -> Any:
        file = files("wdistill.data").joinpath("embedded", f"fashion-mnist-{split}.parquet")
        table = pq.read_table(pa.BufferReader(file.read_bytes()))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return datasets.Dataset.from_buffer(sink.getvalue())

    source = Source(
        id="fashion-mnist-subset",
        kind="embedded",
        license="mit",
        pretty_name="Fashion-MNIST (subset)",
        url="https://github.com/zalandoresearch/fashion-mnist",
    )
    return Opened(source, ("train", "test"), read)


def _local(path: Path, config: DataConfig) -> Opened:
    label = path.resolve().name or "data"  # the folder's name only: the full path is private
    if path.is_dir() and any(
        (path / mark).is_file() for mark in ("state.json", "dataset_dict.json")
    ):
        saved = datasets.load_from_disk(str(path))
        splits = dict(saved) if isinstance(saved, datasets.DatasetDict) else {"train": saved}
        sizes = {name: len(rows) for name, rows in splits.items()}
        return Opened(Source(label, "saved"), tuple(splits), splits.__getitem__, sizes=sizes)
    if path.is_dir() and (config.config_name or says_how(path)):
        return _built(path, label, config)
    local = read_folder(path, config) if path.is_dir() else read_files(path, config)
    if local is None:  # csv, json and the like, or nothing
        return _built(path, label, config)
    source = Source(local.name or label, local.kind, **(local_card(path) if path.is_dir() else {}))
    return Opened(source, tuple(local.splits), local.read, local.notes, local.sizes)


def _built(path: Path, label: str, config: DataConfig) -> Opened:
    """A folder that `datasets` reads as it likes."""
    builder = datasets.load_dataset_builder(str(path.resolve()), name=config.config_name)
    source = Source(label, builder.name, config.config_name, **local_card(path))
    read = named(prepared(builder, config), lambda: path / "README.md")
    if builder.name == "webdataset":
        read = _flat(read)
    return Opened(source, split_names(builder), read, _unread(path, builder))


def _flat(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same with a column for each field of a json file: ``json.label``."""
    return lambda split: read(split).flatten()


def _unread(path: Path, builder: Any) -> tuple[str, ...]:
    """What of a folder is in no split, because of its names."""
    if says_how(path):
        return ()
    root = path.resolve()
    listed = [str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()]
    return unnamed(listed, data_files(builder, f"{root}/"))
