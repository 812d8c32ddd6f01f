"""Whether the user's token may write where a push goes: asked before anything long starts."""

from __future__ import annotations

from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from wdistill.errors import HubError
from wdistill.hub_errors import LOGIN, explained
from wdistill.hub_retry import patiently

WRITE = {"repo.write", "repo.content.write"}  # permissions of fine-grained tokens

Json = dict[str, Any]


def check_id(repo_id: str) -> None:
    """Raises `HubError` unless ``repo_id`` is 'name' or 'user/name'."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise HubError(
            f"{repo_id!r} is not a repository id; give 'name' or 'user/name' "
            "of letters, digits, '-', '_' and '.', up to 96 characters"
        ) from None


def check_access(repo_id: str, pull_request: bool = False) -> str:
    """``repo_id`` with the user's name if it had none; the token may write there.

    A pull request needs no right to write. What the Hub does not tell about a token passes: the
    push itself will show. Raises `HubError` if there is no token or it certainly will not do.
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
    namespace = full.partition("/")[0]
    scopes = (token.get("fineGrained") or {}).get("scoped")
    if isinstance(scopes, list):
        if not any(_covers(scope, full) for scope in scopes):
            raise HubError(
                f"the fine-grained token of {user!r} may not write to {full!r}; give it write "
                f"access to the repositories of {namespace!r} in the settings of the Hub"
            )
    elif namespace != user:
        _check_member(identity, namespace)
    return full


def _identity() -> Json:
    token = get_token()
    if token is None:
        raise HubError(f"no Hugging Face token found; {LOGIN}")
    if not (token.isascii() and token.isprintable()):
        raise HubError(f"the Hugging Face token has characters that no token has; {LOGIN}")
    with explained():
        identity: Json = patiently(HfApi().whoami)
    return identity


def _covers(scope: Json, repo_id: str) -> bool:
    name = scope.get("entity", {}).get("name")
    names = (repo_id, f"datasets/{repo_id}", repo_id.partition("/")[0])
    return bool(WRITE & set(scope.get("permissions", ()))) and (name is None or name in names)


def _check_member(identity: Json, namespace: str) -> None:
    if "orgs" not in identity:
        return
    user, roles = identity["name"], {org["name"]: org.get("roleInOrg") for org in identity["orgs"]}
    if namespace not in roles:
        raise HubError(
            f"{user!r} is not a member of {namespace!r} and may not write there; "
            f"push to '{user}/...' or to an organisation of yours, or pass --create-pr"
        )
    if roles[namespace] == "read":
        raise HubError(
            f"{user!r} may read but not write in organisation {namespace!r}; "
            "ask its administrators for the role 'contributor', or pass --create-pr"
        )
