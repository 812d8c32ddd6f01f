"""Random streams and work units do not depend on who draws or works, nor when."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed import HashStore

from wdistill.core.processes import _taken
from wdistill.core.seeds import stream, stream_seed
from wdistill.core.units import Computation, Stage, StoredUnits, Unit, class_units, compute_units
from wdistill.errors import RunFolderError

# --- seeds --------------------------------------------------------------------------------------


def draw(*keys: str | int, seed: int = 0) -> Tensor:
    return torch.rand(8, generator=stream(seed, *keys))


def test_streams_do_not_depend_on_the_order_of_drawing() -> None:
    forward = {label: draw("synthesis", label) for label in range(5)}
    backward = {label: draw("synthesis", label) for label in reversed(range(5))}
    for label in range(5):
        assert torch.equal(forward[label], backward[label])


def test_streams_do_not_touch_the_global_one() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = draw("a")
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(draw("a"), first)


def test_every_key_and_seed_names_its_own_stream() -> None:
    stages = ("transport", "synthesis", "relabel", "noise")
    keys = [(seed, s, c) for seed in range(10) for s in stages for c in range(100)]
    assert len({stream_seed(*key) for key in keys}) == len(keys)
    assert stream_seed(1, 23) != stream_seed(12, 3)
    assert stream_seed(0, "a", 1, 2) != stream_seed(0, "a", 12)
    assert stream_seed(0, "a") != stream_seed(0, "a", 0)


def test_seeds_are_valid_and_neighbours_are_not_alike() -> None:
    seeds = [stream_seed(0, "x", c) for c in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    draws = torch.stack([draw("x", c) for c in range(1000)])
    assert draws.mean() == pytest.approx(0.5, abs=0.02)
    assert torch.corrcoef(torch.stack([draws[:-1].flatten(), draws[1:].flatten()]))[
        0, 1
    ].abs() == pytest.approx(0, abs=0.05)


def test_seeds_are_the_same_in_another_process() -> None:
    code = "from wdistill.core.seeds import stream_seed; print(stream_seed(3, 'synthesis', 7))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == stream_seed(3, "synthesis", 7)


# --- groups of classes --------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 2, 7, 10, 1000])
@pytest.mark.parametrize("ipc", [1, 3, 10, 100])
@pytest.mark.parametrize("images_per_step", [1, 100, 128])
def test_units_cover_every_class_once(classes: int, ipc: int, images_per_step: int) -> None:
    units = class_units(classes, ipc, images_per_step)
    assert [c for unit in units for c in unit.classes] == list(range(classes))
    assert [unit.index for unit in units] == list(range(len(units)))
    sizes = [len(unit.classes) for unit in units]
    assert 1 <= min(sizes) <= max(sizes) <= max(1, images_per_step // ipc)
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) >= min(4, classes)


def test_a_step_is_filled_where_there_are_many_classes() -> None:
    assert {len(unit.classes) for unit in class_units(1000, 10, 100)} == {10}


def test_processes_share_small_sets_evenly() -> None:
    sizes = [len(unit.classes) for unit in class_units(10, 10, 100)]
    assert sizes == [2, 3, 2, 3]


def test_a_class_of_more_images_than_a_step_stays_whole() -> None:
    assert class_units(3, 100, 10) == (Unit(0, (0,)), Unit(1, (1,)), Unit(2, (2,)))


# --- files --------------------------------------------------------------------------------------

UNITS = (Unit(0, (0, 1, 2)), Unit(1, (3, 4, 5)), Unit(2, (6,)))


@dataclass(frozen=True)
class Pictures:
    pixels: Tensor

    def to_tensors(self) -> dict[str, Tensor]:
        return {"pixels": self.pixels}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Pictures:
        return cls(**tensors)


def stage(key: str = "k", name: str = "stage") -> Stage[Pictures]:
    return Stage(name, key, Pictures)


class Work:
    """Draws a picture per class and remembers which units it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, unit: Unit, advance: Callable[[int], object]) -> Pictures:
        self.asked.append(unit.index)
        advance(len(unit.classes))
        return Pictures(torch.stack([draw("work", label) for label in unit.classes]))


ALONE = SimpleNamespace(
    process_index=0, num_processes=1, is_main_process=True, wait_for_everyone=lambda: None
)


def process(folder: Path, key: str = "k") -> list[int]:
    """What a process computes; several are in test_work.py."""
    work, place = Work(), ALONE
    did = compute_units(Computation(stage(key), work), UNITS, folder, place, quiet=True)
    assert did == bool(work.asked)
    return work.asked


def test_units_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    stored = StoredUnits(stage(), tmp_path, UNITS)
    assert process(tmp_path) == [0, 1, 2]
    found = torch.cat([result.pixels for result in stored])
    assert torch.equal(found, torch.stack([draw("work", label) for label in range(7)]))
    assert torch.equal(stored[1].pixels, stored[:2][1].pixels)
    assert len(stored) == 3


def test_finished_units_are_not_computed_again(tmp_path: Path) -> None:
    assert process(tmp_path) == [0, 1, 2]
    assert process(tmp_path) == []
    stage().path(tmp_path, UNITS[1]).unlink()
    assert process(tmp_path) == [1]


def test_another_key_is_computed_again(tmp_path: Path) -> None:
    process(tmp_path, key="old")
    assert stage("new").read(tmp_path, UNITS[0]) is None
    with pytest.raises(RunFolderError, match="missing or damaged"):
        StoredUnits(stage("new"), tmp_path, UNITS)[0]
    assert process(tmp_path, key="new") == [0, 1, 2]
    assert stage("new").read(tmp_path, UNITS[0]) is not None


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_computed_again(tmp_path: Path, keep: int) -> None:
    process(tmp_path)
    path = stage().path(tmp_path, UNITS[2])
    path.write_bytes(path.read_bytes()[:keep])
    assert stage().read(tmp_path, UNITS[2]) is None
    with pytest.raises(RunFolderError, match="stage-00002"):
        StoredUnits(stage(), tmp_path, UNITS)[2]
    assert process(tmp_path) == [2]
    assert StoredUnits(stage(), tmp_path, UNITS)[2]


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    process(tmp_path)
    path = stage().path(tmp_path, UNITS[0])
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    assert stage().read(tmp_path, UNITS[0]) is None


def test_units_and_stages_have_their_own_files(tmp_path: Path) -> None:
    paths = {stage(name=name).path(tmp_path, unit) for name in ("a", "b") for unit in UNITS}
    assert len(paths) == 6


def test_a_failed_unit_leaves_the_finished_ones(tmp_path: Path) -> None:
    class Broken(Work):
        def __call__(self, unit: Unit, advance: Callable[[int], object]) -> Pictures:
            if unit.index == 1:
                raise KeyboardInterrupt
            return super().__call__(unit, advance)

    with pytest.raises(KeyboardInterrupt):
        compute_units(Computation(stage(), Broken()), UNITS, tmp_path, ALONE, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["stage-00000.safetensors"]
    assert process(tmp_path) == [1, 2]


def test_the_next_unit_is_begun_before_this_one_is_finished(tmp_path: Path) -> None:
    stage().write(tmp_path, UNITS[1], Pictures(torch.zeros(1)))
    seen: list[str] = []

    def compute(unit: Unit, advance: Callable[[int], object]) -> Pictures:
        seen.append(f"finish {unit.index}")
        return Pictures(torch.zeros(len(unit.classes)))

    computation = Computation(stage(), compute, lambda unit: seen.append(f"begin {unit.index}"))
    compute_units(computation, UNITS, tmp_path, ALONE, quiet=True)
    assert seen == ["begin 0", "begin 2", "finish 0", "finish 2"]


@pytest.mark.parametrize(
    ("pieces", "most", "ahead"), [(1, 1, 0), (3, 1, 0), (4, 1, 1), (9, 1, 1), (9, 4, 4), (6, 4, 3)]
)
def test_what_is_begun_early_leaves_a_piece_for_each_other_process(
    pieces: int, most: int, ahead: int
) -> None:
    store, begun = HashStore(), []
    work: Any = SimpleNamespace(begin=begun.append, ahead=most)
    taken = _taken(work, range(pieces), store, processes=3)
    assert next(taken) == 0
    assert begun == list(range(1 + ahead))
    assert store.add("turn", 0) == 1 + ahead
    store.add("turn", pieces)  # the others take all that is left
    assert list(taken) == list(range(1, 1 + ahead))
