"""Where images come from: the embedded subset, the Hub, or local files."""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
from datasets.data_files import SPLIT_KEYWORDS
from datasets.packaged_modules.cache.cache import Cache
from huggingface_hub import DatasetCard, HfApi, constants

from wdistill.config import DataConfig
from wdistill.errors import DataError
from wdistill.source_errors import ALLOWED, Explained, explain, is_network


@dataclass(frozen=True)
class Source:
    """Provenance of the data, as the manifest keeps it."""

    id: str
    kind: str  # embedded, hub, imagefolder, parquet, saved
    config_name: str | None = None
    revision: str | None = None  # commit on the Hub
    fingerprint: str = ""  # SHA-256 over content, see data.py
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    gated: bool = False
    pretty_name: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Opened:
    """A dataset whose splits are known but not yet read."""

    source: Source
    names: tuple[str, ...]
    read: Callable[[str], Any]  # split name -> datasets.Dataset


def open_source(config: DataConfig) -> Opened:
    """What ``--dataset`` names. A local path wins over a Hub id of the same name."""
    name = config.dataset
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
    if re.match(r"[./~]", name) or name.endswith(".parquet") or name.count("/") > 1 or "\\" in name:
        raise DataError(f"{name!r} does not exist; give {ALLOWED}")
    return _hub(name, config)


def _embedded() -> Opened:
    def read(split: str) -> Any:
        data = files("wdistill").joinpath("embedded", f"fashion-mnist-{split}.parquet").read_bytes()
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
        source = Source(label, builder.name, config.config_name, **_local_card(path))
        return Opened(source, _split_names(builder), _prepared(builder, config))
    found = [path] if path.exists() else [Path(p) for p in sorted(glob.glob(str(path)))]
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


def _local_card(path: Path) -> dict[str, Any]:
    readme = path / "README.md"
    if not readme.is_file():
        return {}
    try:
        card = DatasetCard.load(readme, ignore_metadata_errors=True).data
    except Exception:  # a README that is no dataset card says nothing about the licence
        return {}
    return _card_fields(card)


def _card_fields(card: Any) -> dict[str, Any]:
    """Licence and name from a dataset card's metadata, where they are there."""
    if card is None:
        return {}
    found = {
        name: card.get(name) for name in ("license", "license_name", "license_link", "pretty_name")
    }
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in found.items()
        if value
    }


def _hub(name: str, config: DataConfig) -> Opened:
    try:
        info = HfApi().dataset_info(name, revision=config.revision, timeout=30)
    except Exception as error:
        if not is_network(error):
            raise explain(error, config) from error
        return _hub_cache(name, config, error)
    with Explained(config, info.sha):
        builder = datasets.load_dataset_builder(
            name, name=config.config_name, revision=info.sha or config.revision
        )
    source = Source(
        id=name,
        kind="hub",
        config_name=config.config_name or _named_config(builder),
        revision=info.sha,
        gated=bool(info.gated),
        url=f"{constants.ENDPOINT}/datasets/{name}",
        **_card_fields(info.card_data),
    )
    return Opened(source, _split_names(builder), _prepared(builder, config, info.sha))


def _hub_cache(name: str, config: DataConfig, error: Exception) -> Opened:
    """Without a network: what `datasets` has prepared before, if it is of the wanted revision."""
    try:
        builder = Cache(
            dataset_name=name.split("/")[-1],
            repo_id=name,
            config_name=config.config_name,
            version="auto",
            hash="auto",
        )
    except (ValueError, OSError):
        raise explain(error, config) from error
    if config.revision not in (None, builder.hash):
        raise explain(error, config) from error
    url = f"{constants.ENDPOINT}/datasets/{name}"
    source = Source(name, "hub", config.config_name, revision=builder.hash, url=url)
    return Opened(source, _split_names(builder), _prepared(builder, config))


def _named_config(builder: Any) -> str | None:
    return None if builder.config.name == "default" else str(builder.config.name)


def _split_names(builder: Any) -> tuple[str, ...]:
    return tuple(map(str, builder.config.data_files or builder.info.splits or ()))


def _prepared(
    builder: Any, config: DataConfig, revision: str | None = None
) -> Callable[[str], Any]:
    """A reader of one split that downloads no other split where that can be told apart."""
    known = os.path.isfile(os.path.join(builder.cache_dir, "dataset_info.json"))
    apart = revision and builder.name == "parquet" and not known and len(_split_names(builder)) > 2

    def read(split: str) -> Any:
        with Explained(config, revision):
            if apart:
                chosen = {split: list(builder.config.data_files[split])}
                return datasets.load_dataset(
                    config.dataset,
                    name=config.config_name,
                    revision=revision,
                    data_files=chosen,
                    features=builder.info.features,
                    split=split,
                )
            builder.download_and_prepare()
            return builder.as_dataset(split=split)

    return read
