"""What went wrong while reading a dataset, in one line that a user can act on."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import datasets
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from wdistill.config import DataConfig
from wdistill.core.text import hub_id_in
from wdistill.errors import DataError, WdistillError

ALLOWED = "a Hub id, a folder of images, parquet files or a save_to_disk folder"
HTTPX_ERROR = HfHubHTTPError.__bases__[0]  # the client's base class; its package was renamed once
EMPTY = ("corresponds to no data", "BatchSize must be greater than 0")  # two kinds of empty parquet
NOT_FOUND = (RepositoryNotFoundError, datasets.exceptions.DatasetNotFoundError)


def no_such(name: str) -> str:
    """The line for a name that is neither a path here nor a valid Hub id."""
    inside = hub_id_in(name)
    if inside is not None:
        return f"{name!r} does not exist; it is an address rather than a Hub id: give {inside}"
    return f"{name!r} does not exist; give {ALLOWED}"


class Explained:
    """Context in which any failure to read the dataset becomes a ``DataError`` of one line."""

    def __init__(self, config: DataConfig, revision: str | None = None) -> None:
        self.config = config
        self.revision = revision

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, WdistillError):
            raise explain(error, self.config, self.revision) from error


def explain(error: Exception, config: DataConfig, revision: str | None = None) -> DataError:
    """The line for an error of `datasets` or `huggingface_hub`; their types first, then texts.

    Both libraries turn errors into others and cut the chain of causes, so that for some cases
    only the text is left.
    """
    name, chain = config.dataset, list(_chain(error))
    text = " ".join(str(link) for link in chain)
    message = _access(config, chain, text)
    if message is None and "scripts are no longer supported" in text:
        message = (
            f"dataset {name!r} is a Python script, which `datasets` no longer runs; "
            "try `data.revision` refs/convert/parquet, where the Hub keeps a copy without code"
        )
    if message is None and (
        "Config name is missing" in text or ("BuilderConfig '" in text and "not found" in text)
    ):
        message = _config_message(config, revision)
    return DataError(message or _other(name, chain, text))


def _access(config: DataConfig, chain: list[BaseException], text: str) -> str | None:
    """Why the dataset cannot be reached, if that is what went wrong."""
    name = config.dataset

    def has(kinds: type[Exception] | tuple[type[Exception], ...]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if has(GatedRepoError) or "gated dataset" in text:
        page = f"{constants.ENDPOINT}/datasets/{name}"
        advice = f"accept its terms on {page}, then log in with `hf auth login` or set HF_TOKEN"
        return f"dataset {name!r} is gated; {advice}"
    if has(RevisionNotFoundError):
        return f"dataset {name!r} has no revision {config.revision!r}; check `data.revision`"
    if has(NOT_FOUND):
        where = f"neither a local path nor found on {constants.ENDPOINT}"
        advice = "check the id, or log in with `hf auth login` if it is private"
        return f"dataset {name!r} is {where}; {advice}"
    if has(HFValidationError):
        return no_such(str(name))
    if is_network(chain[0]):
        advice = "check the network and HF_ENDPOINT, or the path if it should be a local folder"
        return (
            f"cannot reach {constants.ENDPOINT} for dataset {name!r}, and there is no such file or "
            f"folder here; {advice}"
        )
    return None


def no_copy(name: str, reason: str) -> DataError:
    """The line for a dataset whose copy, if there is one, `datasets` does not give offline."""
    return DataError(
        f"cannot reach {constants.ENDPOINT} for dataset {name!r}, and no copy of it can be used "
        f"({reason}); with a network, datasets.load_dataset(ID, CONFIG) once prepares all of it"
    )


def missing_source(name: str, error: DataError) -> DataError | None:
    """The line for a SOURCE to judge that is no local path, and that the Hub does not give either;
    None if ``error`` is about something else.
    """
    chain = list(_chain(error))
    here = f"SOURCE {name!r} is no folder or file here, and {constants.ENDPOINT}"
    if any(isinstance(link, GatedRepoError) for link in chain):
        return None
    if any(isinstance(link, NOT_FOUND) for link in chain):
        advice = "check the path or the id, or log in with `hf auth login` if it is private"
        return DataError(f"{here} has no dataset of that name; {advice}")
    if is_network(error):
        advice = "check the path, or the network and HF_ENDPOINT"
        return DataError(f"{here} cannot be reached to look for a dataset of that name; {advice}")
    return None


def _other(name: str | None, chain: list[BaseException], text: str) -> str:
    full = any(getattr(link, "errno", None) == errno.ENOSPC for link in chain)
    if full or "No space left" in text:
        folder = datasets.config.HF_DATASETS_CACHE
        return f"no space left for dataset {name!r} in {folder}; free some or set HF_HOME"
    refused = next((link for link in chain if isinstance(link, HfHubHTTPError)), None)
    if refused is not None:
        status = refused.response.status_code
        advice = "check your token" if status in (401, 403) else "try again later"
        return f"{constants.ENDPOINT} answered {status} for dataset {name!r}; {advice}"
    if any(sign in text for sign in EMPTY):
        return f"dataset {name!r} has a split without rows; remove or fill it"
    if "Invalid string class label" in text:
        return (
            f"`datasets` takes the names of folders in dataset {name!r} for more classes than it "
            "says there are; download its files and give their folder"
        )
    if any(map(_of_the_card, chain)):
        problem = " ".join(str(chain[-1]).replace(' in "<unicode string>"', "").split())[:200]
        return (
            f"dataset {name!r} has a README.md whose YAML header cannot be read ({problem}); "
            "it has to be repaired there, or read its files from a folder without it"
        )
    root = chain[-1]
    reason = next((line.strip() for line in str(root).splitlines() if line.strip()), "")
    return f"cannot read dataset {name!r}: {reason or type(root).__name__}"


def _of_the_card(error: BaseException) -> bool:
    """Whether it was raised by what reads dataset cards."""
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(Path(file).name == "repocard.py" for file in files)


def _config_message(config: DataConfig, revision: str | None) -> str:
    path = Path(os.path.expanduser(str(config.dataset)))
    where = str(path.resolve()) if path.exists() else str(config.dataset)
    names = ", ".join(datasets.get_dataset_config_names(where, revision=revision))
    has = "several configs" if config.config_name is None else f"no config {config.config_name!r}"
    return f"dataset {config.dataset!r} has {has}; choose with `data.config_name`: {names}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, the first cause last."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def is_network(error: BaseException) -> bool:
    """Whether the Hub could not be reached, as opposed to having answered something."""
    kinds = (ConnectionError, TimeoutError, OfflineModeIsEnabled)
    return any(
        isinstance(link, kinds) or (isinstance(link, HTTPX_ERROR) and not hasattr(link, "response"))
        for link in _chain(error)
    )
