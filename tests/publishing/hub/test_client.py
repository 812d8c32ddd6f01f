"""Push and load over real HTTP: a Hub on loopback, unmodified clients in their own processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.hub_server import HubServer, hub_env
from helpers.pushes import (
    BOB_TOKEN,
    CARD,
    NAMES,
    READ_TOKEN,
    TOKEN,
    count_bytes,
    manifest,
    parquet,
    png,
    real_images,
    run_json,
    run_push,
    six_rows,
)

from wdistill.core.text import human_bytes
from wdistill.errors import HubError, RunFolderError
from wdistill.publishing.hub.merge import marked
from wdistill.publishing.hub.plan import format_plan
from wdistill.publishing.hub.push import PushOptions, push


@pytest.fixture(scope="module")
def rows() -> dict[str, list[Any]]:
    return six_rows()


def test_a_pushed_set_is_loaded_as_it_was_written(
    hub: HubServer, run: Path, rows: dict[str, list[Any]], tmp_path: Path
) -> None:
    env = hub_env(hub, tmp_path, TOKEN)
    first = run_push(env, run, "shapes", commit_message="Six images")
    second = run_push(env, run / "publish", "alice/shapes")

    head = hub.head("dataset", "alice/shapes")
    assert [c.title for c in hub.commits("dataset", "alice/shapes")] == [
        "Six images",
        "initial commit",
    ]
    assert first["repo_id"] == "alice/shapes"
    assert first["changed"]
    assert first["commit_url"] == f"{hub.url}/datasets/alice/shapes/commit/{head}"
    assert not second["changed"]
    assert second["commit_url"] == first["commit_url"]
    files = hub.files("dataset", "alice/shapes")
    assert sorted(files) == [
        ".gitattributes",
        "README.md",
        "ipc2/data/train-00000-of-00001.parquet",
        "ipc2/preview.png",
        "ipc2/report.json",
        "ipc2/wdistill.json",
    ]
    assert files.pop("README.md").decode() == marked(CARD)
    assert all(
        data == (run / "publish" / path).read_bytes()
        for path, data in files.items()
        if path != ".gitattributes"
    )
    assert not hub.repos["dataset", "alice/shapes"].private

    loaded = run_json(
        """
import json, numpy as np
from datasets import load_dataset
def plain(rows):
    return [{**row, "image": np.asarray(row["image"]).tolist()} for row in rows]
whole = load_dataset("alice/shapes", split="train")
stream = load_dataset("alice/shapes", split="train", streaming=True)
print(json.dumps({"names": whole.features["label"].names, "columns": whole.column_names,
    "stream_names": stream.features["label"].names,
    "mode": whole[0]["image"].mode, "whole": plain(whole), "stream": plain(stream)}))
""",
        hub_env(hub, tmp_path, None),
    )
    assert loaded["columns"] == ["image", "label", "weight", "soft_label"]
    assert loaded["names"] == loaded["stream_names"] == NAMES
    assert loaded["mode"] == "L"
    assert loaded["whole"] == loaded["stream"]
    for row, pixels, label, weight, soft in zip(
        loaded["whole"],
        real_images(6),
        rows["label"],
        rows["weight"],
        rows["soft_label"],
        strict=True,
    ):
        assert row["image"] == pixels.tolist()
        assert (row["label"], row["weight"], row["soft_label"]) == (label, weight, soft)


def test_branch_pull_request_organisation_and_other_peoples_files(
    hub: HubServer, run: Path, tmp_path: Path
) -> None:
    hub.create_repo("model", "lab/shapes")  # a model's name is free for a dataset
    hub.create_repo("dataset", "lab/shapes")
    hub.commit_files("dataset", "lab/shapes", {"notes/by-hand.md": b"keep me"})
    head = hub.head("dataset", "lab/shapes")
    env = hub_env(hub, tmp_path, TOKEN)

    run_push(env, run, "lab/shapes", revision="ipc2")
    proposed = run_push(hub_env(hub, tmp_path, BOB_TOKEN), run, "lab/shapes", create_pr=True)

    assert hub.head("dataset", "lab/shapes") == head
    assert proposed["pr_url"] == f"{hub.url}/datasets/lab/shapes/discussions/1"
    for revision in ("ipc2", "refs/pr/1"):
        files = hub.files("dataset", "lab/shapes", revision)
        assert files["notes/by-hand.md"] == b"keep me"
        assert "ipc2/wdistill.json" in files
        assert hub.commits("dataset", "lab/shapes", revision)[0].parent == head
    assert hub.commits("dataset", "lab/shapes", "ipc2")[0].title == (
        "Distilled alice/real, 2 images per class, with wdistill 0.1.0"
    )


@pytest.mark.parametrize(
    ("source", "asked", "private", "reason"),
    [
        ({"access": "gated"}, None, True, "gated"),
        ({"license": None}, None, True, "licence"),
        ({"license": None}, False, False, None),
        ({"license": None, "kind": "imagefolder"}, None, True, "licence"),
        ({"license": "unknown"}, None, True, "licence"),
        ({"access": "private"}, None, True, "private"),
        ({"access": "unknown"}, None, True, "may be gated"),
        ({"kind": "embedded"}, None, None, None),
        ({}, True, True, None),
    ],
)
def test_a_set_is_private_where_its_source_asks_for_it(
    run: Path, source: dict[str, Any], asked: bool | None, private: bool | None, reason: str | None
) -> None:
    (run / "publish" / "ipc2/wdistill.json").write_text(manifest(**source))
    count_bytes(run / "publish" / "ipc2")
    plan = push(run, "alice/shapes", PushOptions(private=asked, dry_run=True))
    assert plan.private is private
    assert (reason in plan.notice) if reason and plan.notice else plan.notice is reason


def test_private_is_set_on_creation_and_changed_only_when_asked(
    hub: HubServer, run: Path, tmp_path: Path
) -> None:
    env = hub_env(hub, tmp_path, TOKEN)
    (run / "publish" / "ipc2/wdistill.json").write_text(manifest(access="gated"))
    count_bytes(run / "publish" / "ipc2")
    run_push(env, run, "alice/shapes")
    repo = hub.repos["dataset", "alice/shapes"]
    assert repo.private
    run_push(env, run, "alice/shapes", private=False)
    assert not repo.private
    run_push(env, run, "alice/shapes")
    assert not repo.private


def test_dry_run_needs_no_network(run: Path, tmp_path: Path) -> None:
    env = hub_env("http://127.0.0.1:1", tmp_path, None) | {"HF_HUB_OFFLINE": "1"}
    planned = run_push(env, run, "alice/shapes", dry_run=True)
    assert planned["commit_url"] is None
    text = format_plan(push(run, "alice/shapes", PushOptions(dry_run=True)))
    assert "ipc2/data/train-00000-of-00001.parquet" in text
    assert "5 files" in text
    assert text.endswith(CARD)
    (run / "publish" / "README.md").write_text("# x\x1b]0;own your terminal\x07\n\u202eb")
    text = format_plan(push(run, "alice/shapes", PushOptions(dry_run=True)))
    assert not set(text) & set("\x1b\x07\u202e")
    assert "# x\ufffd]0;own your terminal\ufffd\n\ufffdb" in text


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_340_000, "2.3 MB"), (5 * 10**9, "5.0 GB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert human_bytes(size) == words


def test_refusals_are_one_line_and_leave_the_head(
    hub: HubServer, run: Path, tmp_path: Path
) -> None:
    for namespace in ("alice", "bob"):
        hub.create_repo("dataset", f"{namespace}/shapes")
    heads = [hub.head("dataset", f"{name}/shapes") for name in ("alice", "bob")]
    env = hub_env(hub, tmp_path, TOKEN)
    nobody = hub_env(hub, tmp_path, None)

    cases = [
        (nobody, "alice/shapes", "no Hugging Face token"),
        (nobody | {"HF_TOKEN": "hf_wrongSecretToken"}, "alice/shapes", "does not accept the token"),
        (nobody | {"HF_TOKEN": "hf_wrongSecretToken\x01"}, "alice/shapes", "characters"),
        (nobody | {"HF_TOKEN": READ_TOKEN}, "alice/shapes", "may read but not write"),
        (env, "bob/shapes", "'alice' is not a member of 'bob'"),
        (env, "bob/new", "'alice' is not a member of 'bob'"),
        (env | {"HF_ENDPOINT": "http://127.0.0.1:1"}, "alice/shapes", "http://127.0.0.1:1"),
        (env | {"HF_HUB_OFFLINE": "1"}, "alice/shapes", "HF_HUB_OFFLINE"),
    ]
    for environment, repo_id, expected in cases:
        answer = run_push(environment, run, repo_id)
        assert expected in answer["error"], answer
        assert answer["type"] == "HubError"
    assert [hub.head("dataset", f"{name}/shapes") for name in ("alice", "bob")] == heads

    (run / "publish" / "README.md").write_text("---\nlicense: my-own\n---\n")
    assert '"license" must be one of' in run_push(env, run, "alice/shapes")["error"]
    assert [hub.head("dataset", f"{name}/shapes") for name in ("alice", "bob")] == heads


def test_what_cannot_be_published_is_named(run: Path) -> None:
    options = PushOptions(dry_run=True)
    for bad in ("a/b/c", "alice/two words", "alice/--", "x" * 97):
        with pytest.raises(HubError, match="not a repository id"):
            push(run, bad, options)
    data = run / "publish" / "ipc2" / "data" / "train-00000-of-00001.parquet"
    (run / "publish" / "ipc2/preview.png").unlink()
    (run / "publish" / "ipc2/preview.png").symlink_to("/etc/hostname")
    with pytest.raises(RunFolderError, match="is a link"):
        push(run, "alice/shapes", options)
    (run / "publish" / "ipc2/preview.png").unlink()
    data.with_name("a\x1b[2J.parquet").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"'.*a\\x1b\[2J\.parquet' has control characters"):
        push(run, "alice/shapes", options)
    data.with_name("a\x1b[2J.parquet").unlink()
    data.parent.rename(run / "elsewhere")
    data.parent.symlink_to(run / "elsewhere")
    with pytest.raises(RunFolderError, match="is a link"):
        push(run, "alice/shapes", options)
    data.parent.unlink()
    (run / "elsewhere").rename(data.parent)
    (run / "publish" / "ipc2/wdistill.json").write_text("[]")
    with pytest.raises(RunFolderError, match=r"wdistill\.json' is not what wdistill writes"):
        push(run, "alice/shapes", options)
    data.unlink()
    with pytest.raises(RunFolderError, match=r"no ipc\*/data/\*\.parquet"):
        push(run, "alice/shapes", options)
    with pytest.raises(RunFolderError, match=r"no README\.md"):
        push(run / "absent", "alice/shapes", options)


def test_the_test_hub_answers_the_clients_other_calls(hub: HubServer, tmp_path: Path) -> None:
    first = hub.create_repo("dataset", "lab/x").resolve("main").oid
    image = png(real_images(1)[0])
    head = hub.commit_files("dataset", "lab/x", {"a/b/c.png": image, "README.md": b"# x"})
    answer = run_json(
        """
import json
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
api, repo, kind = HfApi(), "lab/x", {"repo_type": "dataset"}
api.create_tag(repo, tag="v1", **kind)
api.create_branch(repo, branch="next", **kind)
refs = api.list_repo_refs(repo, **kind)
try:
    api.create_commit(repo, [CommitOperationAdd("b.txt", b"b")], commit_message="stale", **kind,
        parent_commit=api.list_repo_commits(repo, **kind)[-1].commit_id)
except HfHubHTTPError as error:
    stale = error.response.status_code
api.delete_file("a/b/c.png", repo, revision="next", **kind)
[png] = api.get_paths_info(repo, "a/b/c.png", **kind)
fs = HfFileSystem()
with fs.open("datasets/lab/x@v1/a/b/c.png") as file:
    file.seek(1)
    magic = file.read(3).decode()
print(json.dumps({
    "refs": [refs.tags[0].name, refs.tags[0].target_commit, [b.name for b in refs.branches]],
    "stale": stale, "magic": magic, "lfs": [png.size, png.lfs.sha256],
    "commits": [c.commit_id for c in api.list_repo_commits(repo, revision="v1", **kind)],
    "tree": [entry.path for entry in api.list_repo_tree(repo, recursive=True, **kind)],
    "top": [entry.path for entry in api.list_repo_tree(repo, **kind)],
    "next": api.list_repo_files(repo, revision="next", **kind),
    "snapshot": snapshot_download(repo, **kind),
}))
""",
        hub_env(hub, tmp_path, TOKEN),
    )
    blob = hub.repos["dataset", "lab/x"].resolve(head).files["a/b/c.png"]
    assert answer["refs"] == ["v1", head, ["main", "next"]]
    assert (answer["stale"], answer["magic"]) == (412, "PNG")
    assert answer["lfs"] == [len(image), blob.sha256]
    assert answer["commits"] == [head, first]
    assert answer["tree"] == [".gitattributes", "README.md", "a", "a/b", "a/b/c.png"]
    assert answer["top"] == [".gitattributes", "README.md", "a"]
    assert answer["next"] == [".gitattributes", "README.md"]
    assert (Path(answer["snapshot"]) / "a" / "b" / "c.png").read_bytes() == image


@pytest.mark.slow
def test_clients_read_datasets_and_models_from_the_test_hub(
    hub: HubServer, rows: dict[str, list[Any]], tmp_path: Path
) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    local = {name: rows[name] for name in ("image", "label")}
    parquet(tmp_path / "train.parquet", local)
    data = (tmp_path / "train.parquet").read_bytes()
    for id in ("user/ds", "ILSVRC/imagenet-1k", "alice/private"):
        hub.create_repo("dataset", id, private=id == "alice/private")
        hub.commit_files("dataset", id, {"ipc2/data/train-00000-of-00001.parquet": data})
    hub.commit_files("dataset", "ILSVRC/imagenet-1k", {"README.md": b"---\nlicense: mit\n---\n"})
    hub.alias("dataset", "imagenet-1k", "ILSVRC/imagenet-1k")
    hub.create_repo("dataset", "user/gated", gated=True)
    hub.commit_files("dataset", "user/gated", {"train/bag/0.png": png(real_images(1)[0])})
    hub.create_repo("dataset", "user/folder")
    images = {f"train/{NAMES[i % 3]}/{i}.png": png(p) for i, p in enumerate(real_images(6))}
    old = hub.commit_files("dataset", "user/folder", images)
    hub.commit_files("dataset", "user/folder", {"train/bag/new.png": png(real_images(1)[0])})

    config = ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic"
    )
    config.id2label = dict(enumerate(NAMES))
    config.label2id = {name: index for index, name in enumerate(NAMES)}
    ResNetForImageClassification(config).save_pretrained(tmp_path / "model")
    hub.create_repo("model", "user/model")
    files = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    hub.commit_files("model", "user/model", files)

    answer = run_json(
        f"""
import json
from datasets import load_dataset
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi
from transformers import AutoConfig, AutoModelForImageClassification
def failure(id, **options):
    try:
        return len(load_dataset(id, split="train", **options))
    except DatasetNotFoundError as error:
        return str(error)
info = HfApi().dataset_info("imagenet-1k")
model = AutoModelForImageClassification.from_pretrained("user/model")
print(json.dumps({{
    "rows": load_dataset("user/ds", split="train")["label"][:],
    "canonical": info.id, "license": info.card_data.license,
    "imagenet": load_dataset(info.id, split="train").features["label"].names,
    "folder": len(load_dataset("user/folder", split="train")),
    "pinned": len(load_dataset("user/folder", split="train", revision="{old}")),
    "gated": failure("user/gated"), "private": failure("alice/private"),
    "absent": failure("user/absent"), "revision": failure("user/ds", revision="none"),
    "labels": list(model.config.id2label.values()),
    "type": AutoConfig.from_pretrained("user/model").model_type,
    "commit": HfApi().model_info("user/model").sha,
}}))
""",
        hub_env(hub, tmp_path, None),
    )
    assert answer["rows"] == rows["label"]
    assert (answer["canonical"], answer["license"]) == ("ILSVRC/imagenet-1k", "mit")
    assert answer["imagenet"] == NAMES
    assert (answer["folder"], answer["pinned"]) == (7, 6)
    assert "is a gated dataset" in answer["gated"]
    assert "doesn't exist on the Hub or cannot be accessed" in answer["private"]
    assert "doesn't exist on the Hub or cannot be accessed" in answer["absent"]
    assert "Revision 'none' doesn't exist" in answer["revision"]
    assert (answer["type"], answer["labels"]) == ("resnet", NAMES)
    assert answer["commit"] == hub.head("model", "user/model")
