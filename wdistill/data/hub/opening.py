"""A dataset on the Hub, read at one commit, or its copy here where the Hub is out of reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import (
    HfApi,
    constants,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

from wdistill.config import DataConfig
from wdistill.core.files import write_json
from wdistill.core.settings import stable_hash
from wdistill.data.columns import candidates
from wdistill.data.hub.streaming import Scaling, Stream
from wdistill.data.local.card import card_fields, local_card, says_how
from wdistill.data.local.reading import LocalFiles, read_folder
from wdistill.data.opened import (
    Opened,
    Source,
    data_files,
    known_sizes,
    named,
    prepared,
    split_names,
    unnamed,
)
from wdistill.data.source_errors import Explained, explain, is_network, no_copy
from wdistill.errors import DataError

_OUT_OF_REACH = "The Hub is out of reach: using the copy of {!r} prepared before."


def open_hub(
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

    downloaded = _folder(info.id, builder, config) if scaling is None else None
    if downloaded is not None:
        source = replace(source, revision=downloaded[0].name)
        return _opened(source, downloaded[1], notes)
    if config.config_name is None and not (info.card_data or {}).get("configs"):
        listed = [file.rfilename for file in info.siblings or ()]
        notes += unnamed(listed, data_files(builder, f"@{info.sha}/"))
    if scaling is None:
        read = named(prepared(builder, config, info.id, info.sha), readme)
        return Opened(source, split_names(builder), read, notes, known_sizes(builder))
    sizes = known_sizes(builder)
    stream = Stream(info.id, info.sha or "main", config, sizes, scaling, quiet)

    def streamed(split: str) -> Any:
        with Explained(config, info.sha):
            return stream(split)

    names = split_names(builder)
    return Opened(source, names, named(streamed, readme), notes, sizes, stream)


def _folder(repo: str, builder: Any, config: DataConfig) -> tuple[Path, LocalFiles] | None:
    """A repository of images and folders, read as if it lay here: by its folders, not by the words
    in names that `datasets` goes by. None where its card says how it is read.

    The path ends with the commit. The revision is asked for as it was given, so that the copy is
    found under that name without a network, too.
    """
    if builder.name != "imagefolder" or config.config_name is not None:
        return None
    with Explained(config, config.revision):
        path = Path(snapshot_download(repo, repo_type="dataset", revision=config.revision))
        write_json(_whole(repo, path), {"dataset": repo, "commit": path.name})
        folder = None if says_how(path) else read_folder(path, config)
    return None if folder is None else (path, folder)


def _whole(repo: str, snapshot: Path) -> Path:
    """The file that says that a snapshot was downloaded whole; another program may have fetched
    some of its files alone, which nothing else would show without a network.
    """
    key = stable_hash([repo, snapshot.name])
    return Path(constants.HF_HOME) / "wdistill" / "whole" / f"{key}.json"


def _opened(source: Source, folder: LocalFiles, notes: tuple[str, ...]) -> Opened:
    return Opened(source, tuple(folder.splits), folder.read, notes + folder.notes, folder.sizes)


def _offline(name: str, config: DataConfig, unreachable: Exception) -> Opened:
    """The copy that `datasets` has prepared before and gives without a network."""
    if "/" not in name:
        raise no_copy(name, "prepared copies go by full names, OWNER/NAME") from unreachable
    kept = _kept_folder(name, config)
    if kept is not None:
        path, folder = kept
        source = _source_here(name, path.name, path, config.config_name)
        return _opened(source, folder, (_OUT_OF_REACH.format(name),))
    try:
        builder = datasets.load_dataset_builder(name, name=config.config_name)
    except ValueError as error:  # there is something, but not all of one config
        raise no_copy(name, str(error).partition("\n")[0]) from unreachable
    except Exception:
        raise explain(unreachable, config) from unreachable
    if config.revision not in (None, builder.hash):
        raise no_copy(name, f"the prepared copy is of revision {builder.hash}") from unreachable
    readme = try_to_load_from_cache(name, "README.md", revision=builder.hash, repo_type="dataset")
    card = Path(readme) if isinstance(readme, str) else None
    named_config = config.config_name or _named_config(builder)
    source = _source_here(name, builder.hash, card.parent if card else None, named_config)
    read = named(prepared(builder, config), lambda: card)
    return Opened(source, split_names(builder), read, (_OUT_OF_REACH.format(name),))


def _kept_folder(name: str, config: DataConfig) -> tuple[Path, LocalFiles] | None:
    """A repository of images and folders that was downloaded whole before, at the revision wanted,
    and the folder that it lies in, whose name is the commit's.
    """
    if config.config_name is not None:
        return None
    try:
        found = snapshot_download(
            name, repo_type="dataset", revision=config.revision, local_files_only=True
        )
    except (LocalEntryNotFoundError, IncompleteSnapshotError):
        return None
    path = Path(found)
    if not _whole(name, path).exists():
        return None
    try:
        folder = None if says_how(path) else read_folder(path, config)
    except DataError:  # the card alone, say, of tables that `datasets` has prepared
        return None
    return (path, folder) if folder is not None and folder.kind == "imagefolder" else None


def _source_here(name: str, commit: str, card: Path | None, config_name: str | None) -> Source:
    """What is known of a dataset of the Hub without a network; card: the folder of its README."""
    return Source(
        id=name,
        kind="hub",
        config_name=config_name,
        revision=commit,
        gated="unknown",
        url=f"{constants.ENDPOINT}/datasets/{name}",
        **(local_card(card) if card is not None else {}),
    )


def _named_config(builder: Any) -> str | None:
    return None if builder.config.name == "default" else str(builder.config.name)
