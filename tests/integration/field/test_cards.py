"""Cards and ids of the Hub as people write them."""

from __future__ import annotations

import pytest

from wdistill.artifact.layout import check_id
from wdistill.errors import HubError


@pytest.mark.parametrize(
    ("repo_id", "reason"),
    [
        ("me/a--b", "'me/a--b' is not a repository id, for the Hub allows no '--' in one; give"),
        ("me/a..b", "'me/a..b' is not a repository id, for the Hub allows no '..' in one; give"),
        ("me/a b", "'me/a b' is not a repository id; give 'name' or 'user/name' of letters, "),
    ],
)
def test_an_id_is_refused_with_the_reason(repo_id: str, reason: str) -> None:
    with pytest.raises(HubError) as caught:
        check_id(repo_id)
    assert str(caught.value).startswith(reason)
