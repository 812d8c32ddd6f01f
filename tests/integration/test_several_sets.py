"""Several numbers of images per class of one source: configurations of one repository."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from helpers.examples import NAMES, distilled_set, manifest, write_set
from helpers.hub_server import HubServer
from helpers.pushes import run_json, run_push
from helpers.reports import run_report
from huggingface_hub import DatasetCard

from wdistill.artifact.layout import one_set, set_folders
from wdistill.errors import RunFolderError
from wdistill.publishing.card.card import render_card

pytestmark = pytest.mark.slow
ID = "alice/shapes"


def run_of(folder: Path, ipc: int, names: tuple[str, ...] = NAMES, **changes: Any) -> Path:
    """A finished run of ``ipc`` images per class."""
    described = manifest(names, ipc, source__license="mit", **changes)
    publish = folder / f"run-{described.name}" / "publish"
    write_set(publish / described.name, distilled_set(names, ipc), described)
    run_report().write(publish / described.name / "report.json")
    (publish / "README.md").write_text(render_card(publish))
    return publish.parent


def whole(folder: Path, *counts: int) -> Path:
    """A publishable folder of several sets, as a clone of a repository is."""
    root = folder / "whole"
    for ipc in counts:
        shutil.copytree(one_set(run_of(folder, ipc)), root / f"ipc{ipc}")
    return root


def front(card: str) -> dict[str, Any]:
    return dict(DatasetCard(card).data.to_dict())


def test_each_set_is_a_configuration_of_its_own(tmp_path: Path) -> None:
    root = whole(tmp_path, 1, 4, 10)
    (root / "README.md").write_text(render_card(root))
    assert [path.name for path in set_folders(root)] == ["ipc1", "ipc4", "ipc10"]
    assert sorted(datasets.get_dataset_config_names(str(root))) == ["ipc1", "ipc10", "ipc4"]
    for ipc in (1, 4, 10):
        assert len(datasets.load_dataset(str(root), f"ipc{ipc}", split="train")) == 3 * ipc
    assert len(datasets.load_dataset(str(root), split="train")) == 30  # the largest


def test_the_card_tells_of_every_set(tmp_path: Path) -> None:
    root = whole(tmp_path, 1, 4)
    card = render_card(root)
    assert "distilled to 1 and 4 images per class" in card
    assert "| <code>ipc4</code> (default) | 4 | 12 |" in card
    assert "| <code>ipc1</code> | 1 | 3 |" in card
    assert card.count("### How it was made") == card.count("<summary>Provenance</summary>") == 2
    assert "![The distilled images" not in card  # there is no picture in these
    assert {"ipc-1", "ipc-4"} <= set(front(card)["tags"])
    assert [e["config_name"] for e in front(card)["dataset_info"]] == ["ipc1", "ipc4"]


def test_which_one_is_meant_is_asked(tmp_path: Path) -> None:
    root = whole(tmp_path, 1, 4)
    with pytest.raises(RunFolderError, match=r"holds 2 sets; give one of them: .*ipc1 or .*ipc4"):
        one_set(root)
    assert one_set(root / "ipc4") == root / "ipc4"


def test_a_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path, 4)
    (run / "publish" / "ipc4").rename(run / "publish" / "ipc5")
    with pytest.raises(RunFolderError, match="holds 4 images per class; call it 'ipc4'"):
        render_card(run / "publish")


def test_a_second_set_joins_the_first(hub: HubServer, env: dict[str, str], tmp_path: Path) -> None:
    small, large = run_of(tmp_path, 1), run_of(tmp_path, 4)
    assert run_push(env, small, ID)["changed"]
    first = hub.files("dataset", ID)
    pushed = run_push(env, large, ID, joins=True)
    assert (pushed["changed"], pushed["config"]) == (True, "ipc4")  # to be loaded by this name
    both = hub.files("dataset", ID)
    assert {path: both[path] for path in first if path != "README.md"} == {
        path: data for path, data in first.items() if path != "README.md"
    }
    card = both["README.md"].decode()
    configs = {entry["config_name"]: entry for entry in front(card)["configs"]}
    assert sorted(configs) == ["ipc1", "ipc4"]
    assert configs["ipc1"]["default"] is True  # what is loaded without a name stays the same
    assert "default" not in configs["ipc4"]
    assert "### How it was made" in card
    assert not run_push(env, large, ID, joins=True)["changed"]
    assert not run_push(env, small, ID, joins=True)["changed"]

    loaded = run_json(
        f"""
import json
from datasets import load_dataset
print(json.dumps([len(load_dataset({ID!r}, *name, split="train"))
    for name in ([], ["ipc1"], ["ipc4"])]))
""",
        env,
    )
    assert loaded == [3, 3, 12]


def test_sets_of_one_size_that_are_made_otherwise_stand_side_by_side(
    hub: HubServer, env: dict[str, str], tmp_path: Path
) -> None:
    """Also in the repository of an earlier version, which called all of them by the number."""
    names = ["ipc4", "ipc4-w2", "ipc4-9000B", "ipc4-convnet"]
    given = (
        {},
        {"config__barycenter__allocation": "w2"},
        {"config__budget": 9000, "config__barycenter__ipc": 10},  # as if no number were given
        {"config__synthesis__aim": "convnet"},
    )
    for index, (name, changes) in enumerate(zip(names, given, strict=True)):
        run = run_of(tmp_path, 4, **changes)
        pushed = run_push(env, run, ID, joins=index > 0)
        assert (pushed["changed"], pushed["replaced"]) == (True, []), name
    files = hub.files("dataset", ID)
    assert {f"{name}/wdistill.json" for name in names} < files.keys()
    configs = {e["config_name"]: e for e in front(files["README.md"].decode())["configs"]}
    assert sorted(configs) == sorted(names)
    assert [name for name, entry in configs.items() if entry.get("default")] == ["ipc4"]
    loaded = run_json(
        f"""
import json
from datasets import load_dataset
from wdistill.artifact.reading import open_published
print(json.dumps([
    [len(load_dataset({ID!r}, name, split="train")) for name in {names!r}],
    [open_published(f"{ID}/{{name}}").folder.name for name in {names!r}],
    open_published({ID!r}).folder.name,
]))
""",
        env,
    )
    assert loaded == [[12] * 4, names, "ipc4"]

    old = run_of(tmp_path / "old", 4, config__barycenter__allocation="w2")
    (old / "publish" / "ipc4-w2").rename(old / "publish" / "ipc4")  # as it was called
    (old / "publish" / "README.md").write_text(render_card(old / "publish"))
    assert len(datasets.load_dataset(str(old / "publish"), "ipc4", split="train")) == 12
    assert one_set(old).name == "ipc4"
    said = run_push(env, old, ID, joins=True)["replaced"]
    assert not said  # the images and labels are the same in this test, and so nothing is lost


def test_a_repository_without_a_card_gets_one_of_all_sets(
    hub: HubServer, env: dict[str, str], tmp_path: Path
) -> None:
    run_push(env, run_of(tmp_path, 1), ID)
    hub.repos["dataset", ID].commit("refs/heads/main", "no card", {}, ("README.md",))
    run_push(env, run_of(tmp_path, 4), ID, joins=True)
    card = hub.files("dataset", ID)["README.md"].decode()
    assert "distilled to 1 and 4 images per class" in card


def test_words_written_by_hand_survive_a_second_set(
    hub: HubServer, env: dict[str, str], tmp_path: Path
) -> None:
    run_push(env, run_of(tmp_path, 1), ID)
    card = hub.files("dataset", ID)["README.md"].decode()
    hub.commit_files("dataset", ID, {"README.md": f"{card}\nAsk Alice.\n".encode()})
    run_push(env, run_of(tmp_path, 4), ID, joins=True)
    merged = hub.files("dataset", ID)["README.md"].decode()
    assert merged.rstrip().endswith("Ask Alice.")
    assert "distilled to 1 and 4 images per class" in merged


@pytest.mark.parametrize(
    "other", [{"source__id": "somebody/else"}, {"names": ("T-shirt/top", "Trouser", "Coat")}]
)
def test_a_set_of_another_source_does_not_join(
    other: dict[str, Any], hub: HubServer, env: dict[str, str], tmp_path: Path
) -> None:
    run_push(env, run_of(tmp_path, 1), ID)
    head = hub.head("dataset", ID)
    answer = run_push(env, run_of(tmp_path, 4, **other), ID, joins=True)
    assert "sets of one repository have one source" in answer["error"]
    assert hub.head("dataset", ID) == head


def test_a_set_without_label_views_takes_their_configuration_away(tmp_path: Path) -> None:
    root = whole(tmp_path, 4)
    assert [e["config_name"] for e in front(render_card(root))["configs"]] == ["ipc4"]
    stored = {"views": 2, "topk": 3, "levels": 4, "temperature": 20.0}
    run = run_of(tmp_path / "views", 4, label_views=stored)
    text = yaml.safe_load((run / "publish" / "README.md").read_text().split("---")[1])
    assert [e["config_name"] for e in text["configs"]] == ["ipc4", "ipc4_soft_labels"]
