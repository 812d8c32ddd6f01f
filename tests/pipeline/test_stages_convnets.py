"""A set that is made for ConvNets: states are trained once, and the card says for whom it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import QUICK, parquet_bytes, run_wdistill

from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import read_manifest
from wdistill.core.files import read_tensors
from wdistill.synthesis.states import NETWORKS, states_at

pytestmark = pytest.mark.slow

STEPS = 8
SPACES = QUICK.index("--feature-spaces")
FOR = (
    *QUICK[:SPACES], *QUICK[SPACES + 2 :],
    "--no-evaluate", "--allow-weak-teacher", "--for", "convnet",
)  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """States of few steps, which only a file sets."""
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    path.write_text(f"synthesis:\n  state_steps: {STEPS}\n")
    return path


@pytest.fixture(scope="module")
def made(source: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "made"
    done = run_wdistill(*command(source, settings), "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder


def command(source: Path, settings: Path) -> list[str | Path]:
    return ["run", "--dataset", source, *FOR, "--config", settings]


def test_states_are_kept_and_not_trained_again(made: Path, source: Path, settings: Path) -> None:
    files = sorted((made / "work").glob("states-*"))
    assert len(files) == NETWORKS
    for file in files:
        moments = {name.partition(".")[0] for name in read_tensors(file)[0]}
        assert moments == {str(step) for step in states_at(STEPS)}
    times, before = [file.stat().st_mtime_ns for file in files], parquet_bytes(made)
    for unit in (made / "work").glob("synthesis-*"):
        unit.unlink()
    done = run_wdistill(*command(source, settings), "--output", made)
    assert done.returncode == 0, done.stderr
    assert [file.stat().st_mtime_ns for file in files] == times
    assert parquet_bytes(made) == before


def test_the_name_says_for_whom(made: Path, source: Path, settings: Path) -> None:
    """Also of a set that an earlier version called by its number alone, and on its card."""
    folder, card = one_set(made), made / "publish/README.md"
    assert folder.name.endswith("-convnet")
    before, text = parquet_bytes(made), card.read_text()
    plain = folder.name.removesuffix("-convnet")
    folder.rename(folder.with_name(plain))
    card.write_text(text.replace(folder.name, plain))
    done = run_wdistill(*command(source, settings), "--output", made)
    assert done.returncode == 0, done.stderr
    assert one_set(made) == folder
    assert parquet_bytes(made) == before
    assert f"path: {folder.name}/data/" in card.read_text()


def test_images_are_others_and_the_card_says_for_whom(
    made: Path, source: Path, settings: Path, tmp_path: Path
) -> None:
    assert read_manifest(one_set(made)).config.synthesis.aim == "convnet"
    card = (made / "publish/README.md").read_text()
    assert "**for ConvNets that learn from class labels**: other students may learn less" in card
    assert "by matching Wasserstein barycenters" not in card
    any_student = ["run", "--dataset", source, *FOR, "--for", "any", "--output", tmp_path / "any"]
    done = run_wdistill(*any_student)
    assert done.returncode == 0, done.stderr
    assert parquet_bytes(tmp_path / "any") != parquet_bytes(made)
    assert "for ConvNets that" not in (tmp_path / "any/publish/README.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--shard", "1/2"), "trains networks on all classes"),
        (("--feature-spaces", "convnet:2"), "--feature-spaces has no effect with --for convnet"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: tuple[str, ...], said: str, source: Path, tmp_path: Path
) -> None:
    done = run_wdistill("run", "--dataset", source, *FOR, *options, "--output", tmp_path / "run")
    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run/publish").exists()


def test_two_processes_make_the_same_images(
    made: Path, source: Path, settings: Path, tmp_path: Path
) -> None:
    """Of one teacher: what two processes train differs by rounding."""
    given = [*command(source, settings), "--backbone", made / "teacher"]
    for name, more in (("one", ()), ("two", ("--num-processes", "2"))):
        done = run_wdistill(*given, "--output", tmp_path / name, *more)
        assert done.returncode == 0, done.stderr
    assert parquet_bytes(tmp_path / "two") == parquet_bytes(tmp_path / "one")
