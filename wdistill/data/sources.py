"""Where images come from: the embedded subset, the Hub, or local files."""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
from datasets.data_files import SPLIT_KEYWORDS
from huggingface_hub import HfApi, constants

from wdistill.config import DataConfig
from wdistill.data.columns import candidates
from wdistill.data.provenance import Opened, Source, card_fields, local_card
from wdistill.data.source_cache import prepared_before
from wdistill.data.source_errors import ALLOWED, Explained, explain, is_network
from wdistill.data.streaming import Scaling, Stream
from wdistill.errors import DataError


def open_source(
    config: DataConfig, scaling: Callable[[int], Scaling] | None = None, quiet: bool = True
) -> Opened:
    """What ``--dataset`` names. A local path wins over a Hub id of the same name.

    With ``scaling`` it is read as a stream, see :mod:`wdistill.data.streaming`.
    """
    name = config.dataset
    local = name is None or Path(os.path.expanduser(name)).exists() or glob.has_magic(name)
    if local and scaling is not None:
        raise DataError("--streaming is for datasets on the Hub; drop it, or give a Hub id")
    if name is None:
        for option, value in (("config-name", config.config_name), ("revision", config.revision)):
            if value is not None:
                raise DataError(f"--{option} {value!r} needs a --dataset that it belongs to")
        return _embedded()
    path = Path(os.path.expanduser(name))
    is_glob = glob.has_magic(name) and not path.exists()
    if path.exists() or is_glob:
        if config.revision is not None:
            raise DataError(f"{name!r} is local, but --revision is for the Hub; drop it")
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
        data = (
            files("wdistill.data")
            .joinpath("embedded", f"fashion-mnist-{split}.parquet")
            .read_bytes()
        )
        return datasets.Dataset(datasets.table.InMemoryTable(pq.read_table(io.BytesIO(data))))

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
        return Opened(Source(label, "saved"), tuple(splits), splits.__getitem__)
    if path.is_dir():
        builder = datasets.load_dataset_builder(str(path.resolve()), name=config.config_name)
        source = Source(label, builder.name, config.config_name, **local_card(path))
        return Opened(source, _split_names(builder), _prepared(builder, config))
    found = (
        [path] if path.exists() else [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
    )
    if not found:
        raise DataError(f"{str(path)!r} matches no files; give {ALLOWED}")
    if any(file.suffix != ".parquet" for file in found):
        other = next(str(file) for file in found if file.suffix != ".parquet")
        raise DataError(f"{other!r} is no parquet file; give {ALLOWED}")
    groups = _by_split(found, _fixed_part(path))
    splits = dict(datasets.DatasetDict.from_parquet(groups))
    label = found[0].stem if len(found) == 1 else found[0].resolve().parent.name
    return Opened(Source(label, "parquet"), tuple(splits), splits.__getitem__)


def _fixed_part(pattern: Path) -> Path:
    """The folders above the first wildcard."""
    fixed = [part for part in pattern.parents if not glob.has_magic(str(part))]
    return fixed[0] if fixed else Path()


def _by_split(found: list[Path], root: Path) -> dict[str, list[str]]:
    """Files grouped by the split that folder or file name speaks of, as `datasets` does."""
    keywords = {word: str(split) for split, words in SPLIT_KEYWORDS.items() for word in words}
    groups: dict[str, list[str]] = {}
    for file in found:
        relative = file.relative_to(root)
        words = [word for part in relative.parts[:-1] for word in re.split(r"[-._ 0-9]+", part)]
        words += re.split(r"[-._ 0-9]+", relative.stem)
        split = next((keywords[word] for word in words if word in keywords), "train")
        groups.setdefault(split, []).append(glob.escape(str(file.resolve())))
    return groups


def _hub(
    name: str, config: DataConfig, scaling: Callable[[int], Scaling] | None, quiet: bool
) -> Opened:
    """A dataset on the Hub, read at the commit that ``--revision`` is now."""
    try:
        info = HfApi().dataset_info(name, revision=config.revision, timeout=30)
    except Exception as error:
        copy = prepared_before(name, config) if is_network(error) and scaling is None else None
        if copy is None:
            raise explain(error, config) from error
        return copy
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
    notes = () if info.id == name else (f"The Hub's name for {name!r} is {info.id!r}.",)
    if scaling is None:
        read = _prepared(builder, config, info.id, info.sha)
        return Opened(source, _split_names(builder), read, notes)
    sizes = {str(name): split.num_examples for name, split in (builder.info.splits or {}).items()}
    stream = Stream(info.id, info.sha or "main", config, sizes, scaling, quiet)

    def streamed(split: str) -> Any:
        with Explained(config, info.sha):
            return stream(split)

    return Opened(source, _split_names(builder), streamed, notes, stream)


def _named_config(builder: Any) -> str | None:
    return None if builder.config.name == "default" else str(builder.config.name)


def _split_names(builder: Any) -> tuple[str, ...]:
    return tuple(map(str, builder.config.data_files or builder.info.splits or ()))


def _prepared(
    builder: Any, config: DataConfig, hub_id: str | None = None, revision: str | None = None
) -> Callable[[str], Any]:
    """A reader of one split that downloads no other split where that can be told apart."""
    known = os.path.isfile(os.path.join(builder.cache_dir, "dataset_info.json"))
    apart = hub_id and builder.name == "parquet" and not known and len(_split_names(builder)) > 2

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
