"""Where images come from: the embedded subset, the Hub, or local files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

from wdistill.config import DataConfig
from wdistill.data.columns import candidates
from wdistill.data.local.card import (
    card_fields,
    has_untyped_names,
    local_card,
    says_how,
    with_text_names,
)
from wdistill.data.local.reading import read_files, read_folder
from wdistill.data.source_errors import ALLOWED, Explained, explain, is_network, no_copy
from wdistill.data.streaming import Scaling, Stream
from wdistill.errors import DataError


@dataclass(frozen=True)
class Source:
    """Provenance of the data, as the manifest keeps it."""

    id: str
    kind: str  # embedded, hub, imagefolder, parquet, saved
    config_name: str | None = None
    revision: str | None = None  # commit on the Hub
    fingerprint: str = ""  # SHA-256 over content, or of a stream the commit, see data.py
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    gated: bool | str = False  # or "private" (repository), or "unknown" (read offline)
    pretty_name: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Opened:
    """A dataset whose splits are known but not yet read."""

    source: Source
    names: tuple[str, ...]
    read: Callable[[str], Any]  # split name -> datasets.Dataset
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)  # rows of splits, where they are known
    stream: Stream | None = None  # what ``read`` is, if the dataset is not stored


def open_source(
    config: DataConfig, scaling: Callable[[int], Scaling] | None = None, quiet: bool = True
) -> Opened:
    """What ``data.dataset`` names. A local path wins over a Hub id of the same name.

    With ``scaling`` it is read as a stream, see :mod:`wdistill.data.streaming`.
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
        raise DataError(f"{name!r} does not exist; give {ALLOWED}")
    return _hub(name, config, scaling, quiet)


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
    read = _named(_prepared(builder, config), lambda: path / "README.md")
    if builder.name == "webdataset":
        read = _flat(read)
    return Opened(source, _split_names(builder), read, _unread(path, builder))


def _named(read: Callable[[str], Any], readme: Callable[[], Path | None]) -> Callable[[str], Any]:
    """The same with class names that are text, also those that YAML took for something else."""

    def named(split: str) -> Any:
        rows = read(split)
        return with_text_names(rows, readme()) if has_untyped_names(rows.features) else rows

    return named


def _flat(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same with a column for each field of a json file: ``json.label``."""
    return lambda split: read(split).flatten()


def _unread(path: Path, builder: Any) -> tuple[str, ...]:
    """What of a folder is in no split, because of its names."""
    if says_how(path):
        return ()
    root = path.resolve()
    listed = [str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()]
    return _unnamed(listed, _data_files(builder, f"{root}/"))


def _data_files(builder: Any, root: str) -> set[str]:
    """Files of all splits, from below ``root``."""
    files = (builder.config.data_files or {}).values()
    return {str(file).partition(root)[2] for group in files for file in group}


def _unnamed(listed: Iterable[str], used: set[str]) -> tuple[str, ...]:
    """A line about files of the kinds of those that are used, which are in no split: `datasets`
    goes by words in names, and takes only those that have one where others do.
    """
    kinds = {Path(name).suffix for name in used}
    rest = sorted(name for name in listed if Path(name).suffix in kinds and name not in used)
    rest = [name for name in rest if not any(part.startswith(".") for part in Path(name).parts)]
    if not rest:
        return ()
    return (f"Left out {len(rest):,} files whose names say no split, such as {rest[0]!r}.",)


def _hub(
    name: str, config: DataConfig, scaling: Callable[[int], Scaling] | None, quiet: bool
) -> Opened:
    """A dataset on the Hub, read at the commit that ``data.revision`` is now."""
    try:
        info = HfApi().dataset_info(name, revision=config.revision, timeout=30)
    except Exception as error:
        if scaling is None and is_network(error):
            return _offline(name, config, error)
        raise explain(error, config) from error
    # The full name from here on: the libraries refuse legacy names without an owner.
    with Explained(config, info.sha):
        builder = datasets.load_dataset_builder(
            info.id, name=config.config_name, revision=info.sha or config.revision
        )
    if builder.info.features is not None:  # a text dataset is refused before its download
        candidates(builder.info.features, config)
    source = Source(
        id=info.id,
        kind="hub",
        config_name=config.config_name or _named_config(builder),
        revision=info.sha,
        gated="private" if info.private else bool(info.gated),
        url=f"{constants.ENDPOINT}/datasets/{info.id}",
        **card_fields(info.card_data),
    )
    notes: tuple[str, ...] = (
        () if info.id == name else (f"The Hub's name for {name!r} is {info.id!r}.",)
    )

    def readme() -> Path:
        with Explained(config, info.sha):
            file = hf_hub_download(info.id, "README.md", repo_type="dataset", revision=info.sha)
        return Path(file)

    if config.config_name is None and not (info.card_data or {}).get("configs"):
        listed = [file.rfilename for file in info.siblings or ()]
        notes += _unnamed(listed, _data_files(builder, f"@{info.sha}/"))
    if scaling is None:
        read = _named(_prepared(builder, config, info.id, info.sha), readme)
        return Opened(source, _split_names(builder), read, notes, _known_sizes(builder))
    sizes = _known_sizes(builder)
    stream = Stream(info.id, info.sha or "main", config, sizes, scaling, quiet)

    def streamed(split: str) -> Any:
        with Explained(config, info.sha):
            return stream(split)

    names = _split_names(builder)
    return Opened(source, names, _named(streamed, readme), notes, sizes, stream)


def _offline(name: str, config: DataConfig, unreachable: Exception) -> Opened:
    """The copy that `datasets` has prepared before and gives without a network."""
    if "/" not in name:
        raise no_copy(name, "prepared copies go by full names, OWNER/NAME") from unreachable
    try:
        builder = datasets.load_dataset_builder(name, name=config.config_name)
    except ValueError as error:  # there is something, but not all of one config
        raise no_copy(name, str(error).partition("\n")[0]) from unreachable
    except Exception:
        raise explain(unreachable, config) from unreachable
    if config.revision not in (None, builder.hash):
        raise no_copy(name, f"the prepared copy is of revision {builder.hash}") from unreachable
    readme = try_to_load_from_cache(name, "README.md", revision=builder.hash, repo_type="dataset")
    source = Source(
        id=name,
        kind="hub",
        config_name=config.config_name or _named_config(builder),
        revision=builder.hash,
        gated="unknown",
        url=f"{constants.ENDPOINT}/datasets/{name}",
        **(local_card(Path(readme).parent) if isinstance(readme, str) else {}),
    )
    note = f"The Hub is out of reach: using the copy of {name!r} prepared before."
    read = _named(
        _prepared(builder, config), lambda: Path(readme) if isinstance(readme, str) else None
    )
    return Opened(source, _split_names(builder), read, (note,))


def _known_sizes(builder: Any) -> dict[str, int]:
    """Rows of each split, where the card or a prepared copy says so."""
    return {str(name): split.num_examples for name, split in (builder.info.splits or {}).items()}


def _named_config(builder: Any) -> str | None:
    return None if builder.config.name == "default" else str(builder.config.name)


def _split_names(builder: Any) -> tuple[str, ...]:
    return tuple(map(str, builder.config.data_files or builder.info.splits or ()))


def _prepared(
    builder: Any, config: DataConfig, hub_id: str | None = None, revision: str | None = None
) -> Callable[[str], Any]:
    """A reader of one split that downloads no other split where that can be told apart."""
    several = hub_id and builder.name == "parquet" and len(_split_names(builder)) > 2
    apart = several and not _is_prepared(builder)

    def read(split: str) -> Any:
        with Explained(config, revision):
            if apart:
                chosen = {split: list(builder.config.data_files[split])}
                return datasets.load_dataset(
                    hub_id,
                    name=config.config_name,
                    revision=revision,
                    data_files=chosen,
                    features=builder.info.features,
                    split=split,
                )
            builder.download_and_prepare()
            return builder.as_dataset(split=split)

    return read


def _is_prepared(builder: Any) -> bool:
    try:
        datasets.DatasetInfo.from_directory(builder.cache_dir)
    except FileNotFoundError:
        return False
    return True
