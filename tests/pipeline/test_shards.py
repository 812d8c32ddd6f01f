"""A run in parts that know nothing of each other, joined."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.runs import parquet_bytes, run_wdistill, small_source, with_copies

from wdistill.core.units import Shard, Unit
from wdistill.errors import OptionError

QUICK = (  # ipc 40 makes five groups of classes
    "--ipc", "40", "--iterations", "4", "--eval-epochs", "1", "--eval-seeds", "1",
    "--feature-spaces", "convnet-w64:1", "--label-giver", "teacher", "--label-views", "2",
)  # fmt: skip


COPIES = "Left out of training 3 of 600 images of split 'train' that stand in split 'test' too"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the first classes stand in both splits."""
    return with_copies(small_source(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody has cut, and its teacher."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in (
        ("teacher", ["--teacher-epochs", "2", "--iterations", "0", "--no-evaluate"]),
        ("whole", ["--backbone", folder / "teacher" / "teacher"]),
    ):
        done = run_wdistill("run", "--dataset", source, *QUICK, *options, "--output", folder / name)
        assert done.returncode == 0, done.stderr
        assert COPIES in done.stdout
    return folder / "whole"


@pytest.fixture(scope="module")
def parts(whole: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three of three."""
    folder = tmp_path_factory.mktemp("parts")
    made = [folder / f"part-{index}" for index in (1, 2, 3)]
    for index, part in enumerate(made, 1):
        done = run_wdistill(*command(source, whole), "--shard", f"{index}/3", "--output", part)
        assert done.returncode == 0, done.stderr
        assert f"part {index} of 3 is done" in done.stdout
    return made


def command(source: Path, whole: Path) -> list[str | Path]:
    teacher = whole.parent / "teacher" / "teacher"
    return ["run", "--dataset", source, *QUICK, "--backbone", teacher]


@pytest.mark.slow
def test_parts_have_every_unit_once(parts: list[Path]) -> None:
    for stage in ("transport", "synthesis", "nearest"):
        found = [sorted(p.name for p in (part / "work").glob(f"{stage}-*")) for part in parts]
        assert [len(names) for names in found] == [2, 2, 1]
        assert len({name for names in found for name in names}) == 5


@pytest.mark.slow
def test_joined_parts_make_the_same_dataset(
    whole: Path, parts: list[Path], source: Path, tmp_path: Path
) -> None:
    done = run_wdistill("merge", *parts, "--output", tmp_path / "joined")
    assert done.returncode == 0, done.stderr
    assert "joined:   15 finished pieces of work" in done.stdout
    assert "absent" not in done.stdout
    told = next(line for line in done.stdout.splitlines() if line.startswith("next: "))
    assert "--shard" not in told
    assert told.endswith(f"--output {tmp_path / 'joined'}")
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "joined/work").glob("*.safetensors")}
    done = run_wdistill(*told.split()[2:])  # as it was told
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert parquet_bytes(tmp_path / "joined") == parquet_bytes(whole)


@pytest.mark.slow
def test_what_a_missing_part_lacks_is_computed(
    whole: Path, parts: list[Path], source: Path, tmp_path: Path
) -> None:
    unfinished = Path(shutil.copytree(parts[2], tmp_path / "unfinished"))
    (unfinished / "work" / "nearest-00002.safetensors").unlink()
    done = run_wdistill("merge", parts[0], unfinished, "--output", tmp_path / "joined")
    assert done.returncode == 0, done.stderr
    assert "absent:   part 2 of 3" in done.stdout
    done = run_wdistill(*command(source, whole), "--output", tmp_path / "joined")
    assert done.returncode == 0, done.stderr
    assert parquet_bytes(tmp_path / "joined") == parquet_bytes(whole)


def refused(*arguments: str | Path, code: int = 1) -> str:
    done = run_wdistill(*arguments)
    assert done.returncode == code, done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


@pytest.mark.slow
def test_parts_of_other_runs_are_refused(
    whole: Path, parts: list[Path], source: Path, tmp_path: Path
) -> None:
    seed = tmp_path / "seed"
    done = run_wdistill(*command(source, whole), "--shard", "2/3", "--seed", "7", "--output", seed)
    assert done.returncode == 0, done.stderr
    joined = tmp_path / "joined"
    assert "seed is 0 and 7" in refused("merge", parts[0], seed, "--output", joined)
    other = Path(shutil.copytree(parts[1], tmp_path / "other"))
    for path in (seed / "work").glob("transport-*"):  # as another teacher of that name would do
        shutil.copy(path, other / "work")
    assert "teachers, feature spaces" in refused("merge", parts[0], other, "--output", joined)
    more = Path(shutil.copytree(parts[1], tmp_path / "more"))
    told = json.loads((more / "work" / "shard.json").read_text())
    (more / "work" / "shard.json").write_text(json.dumps(told | {"count": 4}))
    assert "in 3 and in 4 parts" in refused("merge", parts[0], more, "--output", joined)
    assert "is no part of a run" in refused("merge", whole, "--output", joined)
    assert not joined.exists()


@pytest.mark.slow
def test_a_damaged_unit_is_refused(parts: list[Path], tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(parts[0], tmp_path / "damaged"))
    path = damaged / "work" / "synthesis-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    assert "damaged" in refused("merge", damaged, parts[1], "--output", tmp_path / "joined")


def test_a_teacher_is_not_trained_by_each_part(source: Path, tmp_path: Path) -> None:
    line = refused(
        "run", "--dataset", source, "--shard", "1/2", "--output", tmp_path / "part", "-q", code=2
    )
    assert "train it once" in line


def test_a_part_is_not_pushed(source: Path, tmp_path: Path) -> None:
    arguments = ["run", "--dataset", source, "--output", tmp_path / "part", "--push-to", "me/set"]
    assert "--push-to cannot push a part" in refused(*arguments, "--shard", "1/2", code=2)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "1/0", "a/b", "-1/3"])
def test_a_part_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"`runtime.shard` is"):
        Shard.parse(text)


def test_parts_are_balanced() -> None:
    units = tuple(Unit(index, (index,)) for index in range(10))
    shares = [Shard.parse(f"{index}/4").of(units) for index in range(1, 5)]
    assert sorted(unit.index for share in shares for unit in share) == list(range(10))
    assert {len(share) for share in shares} == {2, 3}
