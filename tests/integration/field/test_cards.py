"""Cards and ids of the Hub as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.examples import NAMES, distilled_set, manifest, write_set
from huggingface_hub import DatasetCard

from wdistill.artifact.layout import check_id
from wdistill.config import DataConfig
from wdistill.data.source_errors import Explained
from wdistill.errors import DataError, HubError
from wdistill.publishing.card.card import render_card
from wdistill.publishing.hub.merge import marked, merge_cards


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


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("license: [mit", "while parsing a flow sequence"),
        ("a:\n\t- b", "while scanning for the next token"),
        ("- a", "should be a dict"),
        ("1: 2", "keywords must be strings"),
        ("license: a\x07b", "unacceptable character #x0007"),
    ],
)
def test_a_broken_readme_of_the_source_is_named(header: str, reason: str) -> None:
    with pytest.raises(DataError) as caught, Explained(DataConfig(dataset="me/set")):
        DatasetCard(f"---\n{header}\n---\n")
    text = str(caught.value)
    assert text.startswith("dataset 'me/set' has a README.md whose YAML header cannot be read (")
    assert reason in text
    assert "\n" not in text


def rendered(folder: Path, *ipcs: int) -> str:
    for ipc in ipcs:
        write_set(folder / f"ipc{ipc}", distilled_set(NAMES, ipc), manifest(NAMES, ipc))
    return render_card(folder, "me/set")


LINES = """# keep this comment
language:
- no
- 'en'
version: 1.10
arxiv: 2311.18530
code: 007
time: 1:30
yes_key: yes
extra_gated_prompt: |
  First line: yes

  - second # line
extra_gated_fields:
  I agree: checkbox
viewer: false
train-eval-index:
- config: ipc1
  task: image-classification
"""


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_push_of_another_set_keeps_what_was_written(ends: str, tmp_path: Path) -> None:
    one = marked(rendered(tmp_path / "one", 1))
    fence = one.index("\n---\n") + 1
    edited = f"{one[:fence]}{LINES}{one[fence:]}\n## Mine\n".replace("\n", ends)
    merged = merge_cards(rendered(tmp_path / "both", 1, 2), edited, pushed_before=True)
    assert LINES.replace("\n", ends) in merged
    assert merged.endswith(f"## Mine{ends}")
    assert merged.count("\n") == merged.count(ends)
    data = yaml.safe_load(merged.split("---" + ends)[1])
    assert [entry["config_name"] for entry in data["configs"]] == ["ipc1", "ipc2"]
    assert [entry["config_name"] for entry in data["dataset_info"]] == ["ipc1", "ipc2"]
    assert [entry.get("default") for entry in data["configs"]] == [None, True]
    assert {"ipc-1", "ipc-2"} < {*data["tags"]}
