"""Calls of the Hub: retries, errors in one line, and the rights of the token."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, TypeVar

from huggingface_hub import HfApi, get_token

# HTTPError is httpx's in 1.x and httpx2's in 2.x; this name is right in both.
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from wdistill.artifact.layout import check_id
from wdistill.errors import HubError

logger = logging.getLogger(__name__)

LOGIN = "run `hf auth login` or set HF_TOKEN to a token that may write"


@contextmanager
def explained(repo_id: str | None = None) -> Iterator[None]:
    """Turn every error of the client into a HubError."""
    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        # what stopped a file's upload comes wrapped in a RuntimeError that does not say it
        cause = error.__cause__ if isinstance(error, RuntimeError) else None
        raise HubError(_explain(cause or error, repo_id)) from error


def _explain(error: BaseException, repo_id: str | None) -> str:
    endpoint = HfApi().endpoint
    if isinstance(error, OfflineModeIsEnabled):
        return (
            "HF_HUB_OFFLINE is set, so nothing can be pushed; unset it "
            "(a `dry_run` needs no network)"
        )
    if isinstance(error, HfHubHTTPError):
        return _refused(error, repo_id, endpoint)
    if isinstance(error, json.JSONDecodeError):
        return f"{endpoint} did not answer as a Hub does; check HF_ENDPOINT and try again later"
    if isinstance(error, HTTPError | ConnectionError):
        kind = type(error).__name__
        return (
            f"cannot reach {endpoint} ({kind}); check the network and HF_ENDPOINT, then try again"
        )
    return " ".join(str(error).split()) or type(error).__name__


def _refused(error: HfHubHTTPError, repo_id: str | None, endpoint: str) -> str:
    status = error.response.status_code
    reason = " ".join((error.server_message or "").split()) or "no reason given"
    if isinstance(error, RepositoryNotFoundError):
        return f"no dataset {repo_id!r} that this token can see at {endpoint}; check the id"
    if status == 401:
        return f"{endpoint} does not accept the token; {LOGIN}"
    if status == 403:
        target = f" {repo_id!r}" if repo_id else ""
        return (
            f"no right to write{target}: {reason}; use a token that may, or pass `create_pr=True`"
        )
    if status == 412:
        return f"{repo_id!r} changed during the push: {reason}; push again"
    if status == 429 or status >= 500:
        return f"{endpoint} answered {status} ({reason}); push again later, that is safe"
    return f"{endpoint} refused {repo_id!r} with {status}: {reason}"


T = TypeVar("T")
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds, as the client's own
LONGEST = 300.0  # the Hub counts requests in windows of five minutes
TURNED_AWAY = (429, 503)  # answered before anything was done
UNDONE = (*TURNED_AWAY, 500, 502, 504)  # perhaps done, perhaps not
# By name: these classes are httpx's in huggingface_hub 1.x and httpx2's in 2.x.
NOT_SENT = {"ConnectError", "ConnectTimeout"}
CUT = NOT_SENT | {"TimeoutException", "NetworkError", "RemoteProtocolError"}


def retry(call: Callable[[], T], once: bool = False, also: tuple[int, ...] = ()) -> T:
    """Call a function of the client, and again after errors that may pass.

    Args:
        call: The function.
        once: Whether it must not take effect twice; then it is repeated only if it had no effect.
        also: Further HTTP statuses to retry.

    Returns:
        The result of ``call``.

    Raises:
        HTTPError: the last attempt failed, or the error will not pass.
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
            logger.warning("%s; trying again in %g s", _name(error), pause)
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
    seconds = after if after.isdecimal() else limit[1] if limit else None
    return None if seconds is None else float(seconds)


def _name(error: HTTPError) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"the Hub answered {error.response.status_code}"
    return f"the Hub cannot be reached ({type(error).__name__})"


WRITE = {"repo.write", "repo.content.write"}  # permissions of fine-grained tokens
Json = dict[str, Any]


def check_access(repo_id: str, pull_request: bool = False) -> str:
    """Check that the token may write to ``repo_id``, and return the id with its owner.

    For an existing dataset the Hub answers that. For a new one the rights of the token are checked
    as far as the Hub tells them. A pull request needs no right to write.

    Raises:
        HubError: there is no token, or it has no right to write there.
    """
    check_id(repo_id)
    identity = _identity()
    user = str(identity["name"])
    full = repo_id if "/" in repo_id else f"{user}/{repo_id}"
    token = identity.get("auth", {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HubError(f"the token of {user!r} may read but not write; {LOGIN}")
    if pull_request:
        return full
    with explained(full):
        allowed = _may_write(full)
    objection = None if allowed else _objection(identity, token, full)
    if objection or allowed is False:
        refused = f"no right to write {full!r}; use a token that may, or pass `create_pr=True`"
        raise HubError(objection or refused)
    return full


def _may_write(repo_id: str) -> bool | None:
    """The Hub's answer; None if the dataset does not exist yet, or the client cannot ask."""
    if "write" not in signature(HfApi.auth_check).parameters:  # huggingface_hub 1.0
        return None
    try:
        retry(lambda: HfApi().auth_check(repo_id, repo_type="dataset", write=True))
    except RepositoryNotFoundError:
        return None
    except HfHubHTTPError as error:
        if error.response.status_code != 403:
            raise
        return False
    return True


def _identity() -> Json:
    token = get_token()
    if token is None:
        raise HubError(f"no Hugging Face token found; {LOGIN}")
    if not (token.isascii() and token.isprintable()):
        raise HubError(f"the Hugging Face token has characters that no token has; {LOGIN}")
    with explained():
        identity: Json = retry(HfApi().whoami)
    return identity


def _covers(scope: Json, repo_id: str) -> bool:
    name = scope.get("entity", {}).get("name")
    names = (repo_id, f"datasets/{repo_id}", repo_id.partition("/")[0])
    return bool(WRITE & set(scope.get("permissions", ()))) and (name is None or name in names)


def _objection(identity: Json, token: Json, repo_id: str) -> str | None:
    """Why the token may not write to the repository; None if it may."""
    user, namespace = identity["name"], repo_id.partition("/")[0]
    scopes = (token.get("fineGrained") or {}).get("scoped")
    if isinstance(scopes, list):
        if any(_covers(scope, repo_id) for scope in scopes):
            return None
        return (
            f"the fine-grained token of {user!r} may not write to {repo_id!r}; give it write "
            f"access to the repositories of {namespace!r} in the settings of the Hub"
        )
    if namespace == user or "orgs" not in identity:
        return None
    roles = {org["name"]: org.get("roleInOrg") for org in identity["orgs"]}
    if namespace not in roles:
        return (
            f"{user!r} is not a member of {namespace!r} and may not write there; "
            f"push to '{user}/...' or to an organisation of yours, or pass `create_pr=True`"
        )
    if roles[namespace] == "read":
        return (
            f"{user!r} may read but not write in organisation {namespace!r}; "
            "ask its administrators for the role 'contributor', or pass `create_pr=True`"
        )
    return None
