"""What a set's manifest says of its source and its networks, checked before anything relies on it:
anyone may have written it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wdistill.data import ImageData
from wdistill.errors import DataError, HubError, RunFolderError
from wdistill.hub_access import check_id
from wdistill.published import MANIFEST_FILE


def remote(name: str, what: str, option: str | None = None) -> str:
    """``name``, which may only mean something on the Hub; a local folder would win over it.

    what: the role of ``name``; option: that with which the user says what is meant. Raises
    RunFolderError if it is no id of the Hub, or also the name of a folder here.
    """
    try:
        check_id(name)
    except HubError as error:
        raise RunFolderError(f"the {what} of {MANIFEST_FILE}: {error}") from error
    if Path(name).exists():
        advice = f", or say what you mean with {option}" if option else ""
        raise RunFolderError(
            f"the {what} {name!r} is on the Hub, but there is a folder of that name here; "
            f"run from another folder{advice}"
        )
    return name


def check_data(data: ImageData, recorded: dict[str, Any], advice: str = "") -> None:
    """Raises DataError, ending in ``advice``, unless ``data`` are those that the set with the
    source ``recorded`` was made from.
    """
    now, was = data.source.fingerprint, recorded["fingerprint"]
    if was and not data.is_of(was):
        raise DataError(
            f"{data.source.id!r} is not the data that this set was made from: its fingerprint is "
            f"{now[:16]} and was {was[:16]}; it has {len(data.train)} training images and had "
            f"{recorded['train_images']}{advice}"
        )
