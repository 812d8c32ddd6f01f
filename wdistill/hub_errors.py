"""What the Hub's client raises, in one line that says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi

# HTTPError is httpx's in 1.x and httpx2's in 2.x; this name is right in both.
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from wdistill.errors import HubError

LOGIN = "run `hf auth login` or set HF_TOKEN to a token that may write"


@contextmanager
def explained(repo_id: str | None = None) -> Iterator[None]:
    """Raises `HubError` for whatever the client raises."""
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
            "(`wdistill push --dry-run` works without a network)"
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
    said = " ".join((error.server_message or "").split()) or "no reason given"
    if isinstance(error, RepositoryNotFoundError):
        return f"no dataset {repo_id!r} that this token can see at {endpoint}; check the id"
    if status == 401:
        return f"{endpoint} does not accept the token; {LOGIN}"
    if status == 403:
        target = f" {repo_id!r}" if repo_id else ""
        return f"no right to write{target}: {said}; use a token that may, or pass --create-pr"
    if status == 412:
        return f"{repo_id!r} changed during the push: {said}; push again"
    if status == 429 or status >= 500:
        return f"{endpoint} answered {status} ({said}); push again later, that is safe"
    return f"{endpoint} refused {repo_id!r} with {status}: {said}"
