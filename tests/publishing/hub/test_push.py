"""A push that is disturbed: what is on the Hub stays whole, and the next push succeeds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from helpers.examples import manifest_json
from helpers.hub_server import ROOT, HubServer, hub_env
from helpers.pushes import (
    BOB_TOKEN,
    CARD,
    NAMES,
    READ_TOKEN,
    TOKEN,
    count_bytes,
    manifest,
    parquet,
    push_code,
    run_json,
    run_push,
    six_rows,
)
from helpers.runs import run_wdistill

from wdistill.config import FORMAT_VERSION
from wdistill.errors import RunFolderError
from wdistill.publishing.hub.merge import BEGIN, END
from wdistill.publishing.hub.push import (
    PushOptions,
    PushResult,
    _unless_default,
    format_result,
    push,
)

ID = "alice/shapes"
SHARD = "ipc2/data/train-00000-of-00001.parquet"
TAG = f"wdistill-v{FORMAT_VERSION}"


def titles(hub: HubServer, id: str = ID) -> list[str]:
    return [commit.title for commit in hub.commits("dataset", id)]


def change_set(run: Path, **columns: list[Any]) -> None:
    """Another set in the same folder: other weights, another card."""
    rows = {**six_rows(), "weight": [0.5] * 6, **columns}
    parquet(run / "publish" / SHARD, rows)
    count_bytes(run / "publish" / "ipc2")
    (run / "publish" / "README.md").write_text(CARD.replace("Six", "Half a dozen"))


@pytest.mark.parametrize(
    ("default", "said"),
    [("ipc2", 'load_dataset("me/set")'), ("ipc50", 'load_dataset("me/set", "ipc2")')],
)
def test_the_line_that_loads_names_the_pushed_set(default: str, said: str, run: Path) -> None:
    """Where the repository has another default; that stays what it was."""
    entries = "".join(
        f"- config_name: {name}\n  data_files: []\n" + "  default: true\n" * (name == default)
        for name in ("ipc2", "ipc50")
    )
    config = _unless_default(run / "publish", f"---\nconfigs:\n{entries}---\n")
    result = PushResult("me/set", (), "", None, commit_url="https://h/1", changed=True)
    assert format_result(replace(result, config=config)).endswith(f"load:   {said}")


def test_passing_faults_are_waited_out(hub: HubServer, run: Path, env: dict[str, str]) -> None:
    hub.fail_next(429, path="/whoami", headers={"RateLimit": '"api";r=0;t=1'})
    hub.fail_next(0, path="/whoami")
    hub.fail_next(502, path=f"/api/datasets/{ID}", method="GET")
    hub.fail_next(503, path="/repos/create")
    hub.fail_next(503, path="/preupload/", headers={"Retry-After": "0"})
    hub.fail_next(0, path="/lfs/", method="PUT", after=100)
    hub.fail_next(429, path="/commit/main", headers={"Retry-After": "0"})
    hub.fail_next(504, path="/commit/main")
    hub.fail_next(503, path="/refs")
    hub.fail_next(0, path="/tag/", lost=True)
    start = time.monotonic()
    assert run_push(env, run, ID)["changed"]
    assert time.monotonic() - start > 1  # as the first answer asked
    assert not any(fault.count for fault in hub.faults)
    assert len(titles(hub)) == 2
    assert hub.tags("dataset", ID) == {TAG: hub.head("dataset", ID)}


@pytest.mark.parametrize(
    ("status", "path", "said"),
    [
        (429, "/whoami", "answered 429"),
        (503, "/commit/main", "answered 503 (no reason given); push again later, that is safe"),
        (0, "/commit/main", "cannot reach http://127.0.0.1"),
        (400, "/lfs/", "with 400: injected"),
        (403, "/commit/main", "no right to write 'alice/shapes': injected"),
    ],
)
def test_lasting_faults_are_one_line_and_leave_the_head(
    hub: HubServer, run: Path, env: dict[str, str], status: int, path: str, said: str
) -> None:
    hub.create_repo("dataset", ID)
    head = hub.head("dataset", ID)
    body = b"{}" if status >= 429 else b'{"error": "injected"}'
    hub.fail_next(status, count=100, path=path, body=body)
    assert said in run_push(env, run, ID)["error"]
    assert hub.head("dataset", ID) == head
    hub.faults.clear()
    assert run_push(env, run, ID)["changed"]
    assert hub.commits("dataset", ID)[0].parent == head


def test_an_endpoint_that_is_no_hub(hub: HubServer, run: Path, env: dict[str, str]) -> None:
    hub.fail_next(502, path="/api/validate-yaml", body=b"<html>bad gateway</html>")
    assert "did not answer as a Hub does" in run_push(env, run, ID)["error"]
    assert titles(hub) == ["initial commit"]


def test_a_commit_whose_answer_is_lost_is_not_made_twice(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    hub.create_repo("dataset", ID)
    hub.fail_next(0, path="/commit/main", lost=True)
    pushed = run_push(env, run, ID, commit_message="Once")
    assert titles(hub) == ["Once", "initial commit"]
    assert pushed["changed"]
    assert pushed["commit_url"].endswith(hub.head("dataset", ID))

    change_set(run)
    hub.fail_next(0, path="/commit/main", lost=True)  # nor is a second pull request opened
    assert "cannot reach" in run_push(env, run, ID, create_pr=True)["error"]
    assert [ref for ref in hub.repos["dataset", ID].refs if "/pr/" in ref] == ["refs/pr/1"]


def test_an_upload_cut_in_the_middle_goes_on_with_what_is_missing(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    rows = six_rows()
    (run / "publish" / SHARD).unlink()
    shards = [run / "publish" / f"ipc2/data/train-{i:05d}-of-00002.parquet" for i in range(2)]
    for i, shard in enumerate(shards):
        parquet(shard, {name: column[3 * i : 3 * i + 3] for name, column in rows.items()})
    count_bytes(run / "publish" / "ipc2")
    first, second = (f"/lfs/{sha256(shard.read_bytes()).hexdigest()}" for shard in shards)
    hub.fail_next(0, count=100, path=second, after=1000)
    code = push_code(run, ID)
    process = subprocess.Popen([sys.executable, "-c", code], env=env, cwd=ROOT)
    deadline = time.monotonic() + 60
    while hub.faults[0].count == 100 or first not in hub.sent("PUT", "/lfs/"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert titles(hub) == ["initial commit"]

    hub.faults.clear()
    assert run_push(env, run, ID)["changed"]
    assert hub.sent("PUT", first) == [first]
    assert hub.sent("PUT", second) == [second]
    assert len(titles(hub)) == 2


def test_somebody_elses_commit_during_the_push_is_built_upon(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    run_push(env, run, ID)
    change_set(run)

    def elsewhere() -> None:
        card = hub.files("dataset", ID)["README.md"] + b"\nFound a mistake.\n"
        hub.commit_files("dataset", ID, {"README.md": card, "notes.md": b"theirs"}, "Theirs")

    hub.before_next(elsewhere, path="/commit/main")
    assert run_push(env, run, ID, commit_message="Ours")["changed"]
    assert titles(hub)[:2] == ["Ours", "Theirs"]
    files = hub.files("dataset", ID)
    assert files["notes.md"] == b"theirs"
    assert "Half a dozen" in files["README.md"].decode()
    assert files["README.md"].endswith(b"\nFound a mistake.\n")
    assert files[SHARD] == (run / "publish" / SHARD).read_bytes()


def test_somebody_elses_change_of_our_files_is_not_overwritten_unseen(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    run_push(env, run, ID)
    change_set(run)
    hub.before_next(
        lambda: hub.commit_files("dataset", ID, {SHARD: b"theirs"}), path="/commit/main"
    )
    error = run_push(env, run, ID)["error"]
    assert f"{SHARD!r} in 'alice/shapes' was changed by somebody else during the push" in error
    assert hub.files("dataset", ID)[SHARD] == b"theirs"
    assert run_push(env, run, ID)["changed"]
    assert hub.files("dataset", ID)[SHARD] == (run / "publish" / SHARD).read_bytes()


def test_a_branch_that_never_rests_is_given_up(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    hub.create_repo("dataset", ID)
    for number in range(5):
        notes = {"notes.md": str(number).encode()}
        hub.before_next(lambda f=notes: hub.commit_files("dataset", ID, f), path="/commit/main")
    error = run_push(env, run, ID)["error"]
    assert error.startswith("'alice/shapes' changed during the push: A commit has happened since.")
    assert len(titles(hub)) == 6
    assert run_push(env, run, ID)["changed"]


def test_a_hand_edited_card_keeps_the_hands_words(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    hub.create_repo("dataset", ID)
    mine = b"---\nlicense: mit\nlanguage: [en]\n---\n# Written on the Hub\n"
    hub.commit_files("dataset", ID, {"README.md": mine, "LICENSE": b"MIT"})
    run_push(env, run, ID)
    card = hub.files("dataset", ID)["README.md"].decode()
    assert card.index("# Written on the Hub") < card.index(BEGIN) < card.index("# Six distilled")
    assert "language: [en]\n" in card

    edited = card.replace("tags: [", "tags: [cats, ") + "\n## Thanks\n"
    hub.commit_files("dataset", ID, {"README.md": edited.encode()})
    change_set(run)
    run_push(env, run, ID)
    card = hub.files("dataset", ID)["README.md"].decode()
    assert "# Six distilled" not in card
    assert "# Half a dozen distilled images\n\n" + END + "\n\n## Thanks\n" in card
    assert "tags: [cats, " in card
    assert not run_push(env, run, ID)["changed"]
    assert len(hub.commits("dataset", ID)) == 5
    assert (
        run_json(
            'import json, datasets; print(json.dumps(datasets.load_dataset("alice/shapes", '
            'split="train")["weight"][:]))',
            env,
        )
        == [0.5] * 6
    )

    hub.commit_files("dataset", ID, {"README.md": b"---\n[\n---\n"})
    head = hub.head("dataset", ID)
    assert "README.md has a damaged YAML block" in run_push(env, run, ID)["error"]
    assert hub.head("dataset", ID) == head


def test_a_push_says_which_set_it_replaces(hub: HubServer, run: Path, env: dict[str, str]) -> None:
    assert run_push(env, run, ID)["replaced"] == []
    (run / "publish" / "README.md").write_text(CARD.replace("Six", "Half a dozen"))
    assert run_push(env, run, ID)["replaced"] == []  # the card alone
    old, there = hub.head("dataset", ID), hub.files("dataset", ID)[SHARD]
    change_set(run)
    assert run_push(env, run, ID)["replaced"] == [
        f"ipc2 replaces one made 2026-11-22, which has the same settings; it stays at revision "
        f"{old[:12]}"
    ]
    assert hub.repos["dataset", ID].resolve(old).files[SHARD].data == there

    path = run / "publish" / "ipc2/wdistill.json"
    settings = {"seed": 3, "data__resolution": 14, "teacher__backbone": "vit"}
    changes = {f"config__{name}": value for name, value in settings.items()}
    made = manifest_json(tuple(NAMES), 2, source__fingerprint="c0ffee", **changes)
    path.write_text(json.dumps(made))
    change_set(run, weight=[0.25, 0.75] * 3)
    [line] = run_push(env, run, ID)["replaced"]
    assert line.startswith(
        "ipc2 replaces one made 2026-11-22, which differs in the data, data.resolution (was None, "
        "is 14), teacher.backbone (was 'resnet10-w16', is 'vit'), 1 more; it stays at revision "
    )


def test_a_set_with_other_bytes_than_were_written_is_not_pushed(run: Path) -> None:
    with (run / "publish" / SHARD).open("ab") as file:
        file.write(b"more")
    with pytest.raises(
        RunFolderError, match=r"ipc2/data' has [\d,]+ bytes of parquet, but [\d,]+ "
    ):
        push(run, ID, PushOptions(dry_run=True))


def test_only_what_a_push_wrote_is_ever_removed(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    two = "ipc2/data/train-00001-of-00002.parquet"
    hub.create_repo("dataset", ID)
    theirs = {"data/mine.parquet": b"x", "extra/train-00000-of-00001.parquet": b"x"}
    ours = {two: b"x", "ipc2/wdistill.json": b"{}", "ipc2/report.json": b"{}"}
    hub.commit_files("dataset", ID, theirs | ours)
    (run / "publish" / "ipc2/report.json").unlink()
    run_push(env, run, ID)
    files = hub.files("dataset", ID)
    assert theirs.keys() | {SHARD} <= files.keys()
    assert not {two, "ipc2/report.json"} & files.keys()  # else read as part of the new set


def test_a_dataset_of_another_kind_is_left_alone(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    hub.create_repo("dataset", ID)
    hub.commit_files("dataset", ID, {"README.md": b"# Cats", "train.csv": b"a,b"})
    head = hub.head("dataset", ID)
    error = run_push(env, run, ID, private=True)["error"]
    assert error.startswith("dataset 'alice/shapes' holds something else ('train.csv' and no")
    assert (hub.head("dataset", ID), hub.repos["dataset", ID].private) == (head, False)
    assert run_push(env, run, ID, create_pr=True)["pr_url"]  # its owner decides
    assert run_push(env, run, "alice/new")["changed"]


def test_a_model_of_the_same_name_is_no_obstacle(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    hub.create_repo("model", ID)
    head = hub.head("model", ID)
    assert run_push(env, run, ID)["commit_url"].startswith(f"{hub.url}/datasets/{ID}/commit/")
    assert hub.head("model", ID) == head


def test_the_tag_follows_the_main_branch(hub: HubServer, run: Path, env: dict[str, str]) -> None:
    run_push(env, run, ID)
    old = hub.head("dataset", ID)
    assert hub.tags("dataset", ID) == {TAG: old}
    change_set(run)
    run_push(env, run, ID, create_pr=True)
    run_push(env, run, ID, revision="next")
    assert hub.tags("dataset", ID) == {TAG: old}

    hub.fail_next(403, path="/tag/", method="POST")
    error = run_push(env, run, ID)["error"]
    head = hub.head("dataset", ID)
    assert error.startswith(f"pushed {hub.url}/datasets/{ID}/commit/{head}, but its tag '{TAG}' is")
    assert not run_push(env, run, ID)["changed"]
    assert hub.tags("dataset", ID) == {TAG: head}


GROUPS = {  # what whoami says of a token: role, organisations, role in them, scopes
    "hf_fineAliceSecret": ("fineGrained", ("lab",), "write", {"alice": ("repo.write",)}),
    "hf_fineShapesSecret": ("fineGrained", (), "write", {ID: ("repo.write",)}),
    "hf_fineReadSecret": ("fineGrained", (), "write", {"alice": ("repo.content.read",)}),
    "hf_fineLabSecret": ("fineGrained", ("lab",), "write", {"lab": ("repo.write",)}),
    "hf_labReaderSecret": ("write", ("lab",), "read", None),
}
CHECK = """
import json, sys
from wdistill.errors import HubError
from wdistill.publishing.hub.push import check_target
answers = []
for repo_id in json.loads({ids!r}):
    try:
        answers.append(check_target(repo_id) or "may")
    except HubError as error:
        answers.append(str(error))
assert "torch" not in sys.modules
print(json.dumps(answers))
"""


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (
            TOKEN,
            {ID: "may", "shapes": "may", "lab/new": "may", "bob/x": "is not a member of 'bob'"},
        ),
        (READ_TOKEN, {ID: "may read but not write"}),
        (BOB_TOKEN, {ID: "is not a member of 'alice'", "lab/x": "'lab'", "bob/x": "may"}),
        ("hf_fineAliceSecret", {ID: "may", "alice/x": "may", "lab/x": "may not write to 'lab/x'"}),
        ("hf_fineShapesSecret", {ID: "may", "alice/x": "fine-grained token of 'alice'"}),
        ("hf_fineReadSecret", {ID: "may not write to 'alice/shapes'; give it write access"}),
        ("hf_fineLabSecret", {ID: "may not write to", "lab/x": "may"}),
        ("hf_labReaderSecret", {"lab/x": "may read but not write in organisation 'lab'"}),
        ("hf_wrongSecretToken", {ID: "does not accept the token"}),
        (TOKEN, {"alice/cats": "holds something else", "a/b/c": "is not a repository id"}),
    ],
)
def test_rights_are_known_before_anything_is_made(
    hub: HubServer, tmp_path: Path, token: str, said: dict[str, str]
) -> None:
    for name, (role, orgs, org_role, scopes) in GROUPS.items():
        hub.add_user("alice", name, role, orgs, org_role, scopes)
    hub.create_repo("dataset", "alice/cats")
    hub.commit_files("dataset", "alice/cats", {"train.csv": b"a,b"})
    found = run_json(CHECK.format(ids=json.dumps(list(said))), hub_env(hub, tmp_path, token))
    for (repo_id, expected), answer in zip(said.items(), found, strict=True):
        assert (answer == "may") if expected == "may" else (expected in answer), (repo_id, answer)
        assert "\n" not in answer
    assert list(hub.repos) == [("dataset", "alice/cats")]


def test_of_a_dataset_that_exists_the_hub_says_who_may_write(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    """Also where nothing that it tells about the token speaks against it."""
    assert run_push(env, run, ID)["changed"]
    assert len(hub.sent("GET", "/auth-check/write")) == 0  # the dataset was new
    hub.fail_next(503, path="/auth-check/write")
    assert run_json(CHECK.format(ids=json.dumps([ID])), env) == ["may"]
    assert len(hub.sent("GET", "/auth-check/write")) == 1
    hub.fail_next(403, path="/auth-check/write")
    assert run_json(CHECK.format(ids=json.dumps([ID])), env) == [
        "no right to write 'alice/shapes'; use a token that may, or pass `create_pr=True`"
    ]


def test_a_client_that_cannot_ask_goes_by_what_the_hub_tells_of_the_token(
    hub: HubServer, tmp_path: Path
) -> None:
    """As huggingface_hub 1.0, which asks for the right to read alone."""
    for id in (ID, "bob/shapes"):
        hub.create_repo("dataset", id)
    older = """
from huggingface_hub import HfApi
def auth_check(self, repo_id, *, repo_type=None, token=None): raise AssertionError
HfApi.auth_check = auth_check
"""
    code = older + CHECK.format(ids=json.dumps([ID, "bob/shapes"]))
    may, refused = run_json(code, hub_env(hub, tmp_path, TOKEN))
    assert may == "may"
    assert "is not a member of 'bob'" in refused


@pytest.mark.parametrize(
    ("token", "target"),
    [("hf_fineShapesSecret", ID), ("hf_fineLabSecret", "lab/x"), ("hf_fineAliceSecret", "x")],
)
def test_a_fine_grained_token_pushes_where_it_may(
    hub: HubServer, run: Path, tmp_path: Path, token: str, target: str
) -> None:
    role, orgs, org_role, scopes = GROUPS[token]
    hub.add_user("alice", token, role, orgs, org_role, scopes)
    hub.create_repo("dataset", ID)
    assert run_push(hub_env(hub, tmp_path, token), run, target)["changed"]


def test_a_hostile_manifest_is_refused_or_tamed(
    hub: HubServer, run: Path, env: dict[str, str]
) -> None:
    path = run / "publish" / "ipc2/wdistill.json"
    path.write_text(manifest(id="evil\n\nCo-authored-by: root\x1b[2J" + "x" * 999))
    count_bytes(path.parent)
    run_push(env, run, ID)
    [title, _] = titles(hub)
    assert title.startswith("Distilled evil Co-authored-by")
    assert len(title) <= 200
    head = hub.head("dataset", ID)
    for version in ('"1/../../x"', "true", "null", "1.5", "[" * 100_000):
        field = '"format_version": '
        path.write_text(manifest().replace(f"{field}{FORMAT_VERSION}", f"{field}{version}"))
        said = run_push(env, run, ID)["error"]
        assert "is damaged" in said or "format_version is" in said
    assert (hub.head("dataset", ID), list(hub.tags("dataset", ID))) == (head, [TAG])


def every_byte(*folders: Path) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            yield str(path), str(path).encode()
            if path.is_file():
                yield str(path), path.read_bytes()


def test_the_token_is_in_no_file_and_no_line(
    hub: HubServer, run: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """Also with --debug, the client's own log at its loudest, and whatever goes wrong."""
    env |= {"HF_HUB_VERBOSITY": "debug", "HF_DEBUG": "1"}
    weird = "hf_weirdSecretToken\x01"
    said = []
    for status, path, token, code in (
        (200, "", TOKEN, 0),
        (0, "/commit/main", TOKEN, 0),
        (400, "/commit/main", TOKEN, 1),
        (413, "/api/validate-yaml", TOKEN, 1),
        (400, "/lfs/", TOKEN, 1),
        (200, "", "hf_wrongSecretToken", 1),
        (200, "", weird, 1),
    ):
        change_set(run, weight=[len(said) / 8] * 6)
        if path:
            hub.fail_next(status, path=path)
        done = run_wdistill("push", run, ID, "--debug", env=env | {"HF_TOKEN": token})
        assert done.returncode == code, (status, path, token)
        assert "Traceback" in done.stderr or code == 0
        said.append(done.stdout + done.stderr)
        hub.faults.clear()
    for secret in ("aliceSecretWriteToken", "wrongSecretToken", "weirdSecretToken"):
        assert not [text for text in said if secret in text]
        assert not [name for name, data in every_byte(tmp_path) if secret.encode() in data]
        pushed = hub.files("dataset", ID) | {"titles": "".join(titles(hub)).encode()}
        assert not [name for name, data in pushed.items() if secret.encode() in data]


@pytest.mark.slow
def test_a_run_that_may_not_push_does_not_begin(
    hub: HubServer, env: dict[str, str], tmp_path: Path
) -> None:
    for target, expected in (("bob/x", "is not a member of 'bob'"), ("a b", "repository id")):
        done = run_wdistill("run", "--push-to", target, "--output", tmp_path / "run", env=env)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert expected in done.stderr
    assert not (tmp_path / "run").exists()
    assert not hub.repos
