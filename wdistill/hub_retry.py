"""Repeat what is safe to repeat while the Hub is busy or the line is down.

The client does so itself while it uploads files, not for the requests around that.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError, HTTPError

T = TypeVar("T")
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds, as the client's own
LONGEST = 300.0  # the Hub counts requests in windows of five minutes
TURNED_AWAY = (429, 503)  # answered before anything was done
UNDONE = (*TURNED_AWAY, 500, 502, 504)  # perhaps done, perhaps not
# By name: these classes are httpx's in huggingface_hub 1.x and httpx2's in 2.x.
NOT_SENT = {"ConnectError", "ConnectTimeout"}
CUT = NOT_SENT | {"TimeoutException", "NetworkError", "RemoteProtocolError"}

_log = logging.getLogger(__name__)


def patiently(call: Callable[[], T], once: bool = False, also: tuple[int, ...] = ()) -> T:
    """What ``call`` returns, tried again with growing pauses or those that the Hub asks for.

    ``once`` is for what must not happen twice: it is repeated only where it surely did not happen.
    ``also`` names further statuses that are worth another try. Raises what the last try raises.
    """
    statuses, cuts = (TURNED_AWAY, NOT_SENT) if once else (UNDONE, CUT)
    for wait in WAITS:
        try:
            return call()
        except HTTPError as error:
            if not _passing(error, statuses + also, cuts):
                raise
            pause = _asked_for(error) or wait
            if pause > LONGEST:
                raise
            _log.warning("%s; trying again in %g s", _name(error), pause)
            time.sleep(pause)
    return call()


def _passing(error: HTTPError, statuses: tuple[int, ...], cuts: set[str]) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in statuses
    return not cuts.isdisjoint(parent.__name__ for parent in type(error).__mro__)


def _asked_for(error: HTTPError) -> float | None:
    """Seconds, from ``Retry-After: 5`` or from the Hub's ``RateLimit: "api";r=0;t=5``."""
    if not isinstance(error, HfHubHTTPError):
        return None
    headers = error.response.headers
    after = headers.get("Retry-After", "").strip()
    limit = re.search(r"\br=0;t=(\d+)", headers.get("RateLimit", ""))
    found = after if after.isdecimal() else limit[1] if limit else None
    return None if found is None else float(found)


def _name(error: HTTPError) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"the Hub answered {error.response.status_code}"
    return f"the Hub cannot be reached ({type(error).__name__})"
