"""Counted operations and the model of a run on GPUs react as they should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.gpu_model import (
    PRICES,
    Counts,
    Host,
    Time,
    device_seconds,
    host_seconds,
    hours_table,
    price,
    read_counts,
    stages_of,
    time_of,
    total,
)
from helpers.counts import Count
from helpers.environment import environment

TESTS = Path(__file__).parents[1]
STEP = Count(kernels=500, bytes=1e10, flops=1e12, dispatched=1000)


def run_module(name: str, *arguments: str) -> str:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments], env=environment(PYTHONPATH=path),
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def found() -> dict[str, Count]:
    counts = json.loads(run_module("helpers.counted_steps").splitlines()[-1])
    return {name: Count(**values) for name, values in counts.items()}


def test_twice_the_steps_are_twice_the_kernels(found: dict[str, Count]) -> None:
    assert found["one step"].kernels > 10
    assert found["two steps"] == found["one step"] * 2


def test_a_reading_is_one_wait(found: dict[str, Count]) -> None:
    assert found["sum"].waits == 0
    assert found["item of the sum"].waits == 1


def test_bytes_are_those_read_and_written(found: dict[str, Count]) -> None:
    assert found["addition"].kernels == 1
    assert found["addition"].bytes == 3 * 100 * 4


def test_a_product_takes_two_operations_for_each_entry_and_inner_row(
    found: dict[str, Count],
) -> None:
    assert found["product"].flops == 2 * 4 * 8 * 16


def test_operations_of_the_host_are_no_kernels(found: dict[str, Count]) -> None:
    assert found["on the host"].dispatched >= 3
    assert found["on the host"].kernels == 0


def test_kernels_do_not_depend_on_the_images_and_bytes_are_linear_in_them(
    found: dict[str, Count],
) -> None:
    few, many = found["few images"], found["many images"]
    assert few.kernels == many.kernels
    assert many.flops == 2 * few.flops
    assert few.bytes < many.bytes < 2 * few.bytes  # the weights are read once
    assert found["more images"] == found["more images, told"]


def test_training_takes_three_times_the_operations_of_a_forward_pass(
    found: dict[str, Count],
) -> None:
    """Forward, the gradient of the weights, that of the inputs; the first layer's has no images."""
    ratio = found["student"].flops / found["few images"].flops
    assert 2.5 < ratio < 3.3


def test_every_part_of_a_run_has_kernels(found: dict[str, Count]) -> None:
    for name in ("target", "nearest", "soft", "views"):
        assert found[name].kernels > 5


def test_host_and_device_work_at_the_same_time_but_for_waits() -> None:
    device, host = device_seconds(STEP), host_seconds(STEP)
    assert time_of(STEP) == Time(max(device, host), device)
    waiting = time_of(replace(STEP, waits=3))
    assert waiting.elapsed == pytest.approx(max(device, host) + 3 * price("wait"))
    assert waiting.device == device


def counts() -> Counts:
    return Counts(
        synthesis={10: STEP, 50: STEP}, survey=STEP, target=STEP, nearest=STEP,
        soft={10: STEP, 50: STEP}, views=STEP, test=STEP,
        student=dict.fromkeys(("own", "replay", "convnet-w64", "resnet10-w16"), STEP),
    )  # fmt: skip


def hours(ipc: int, host: Host, of: Counts | None = None) -> float:
    return total(stages_of(of or counts(), ipc, host)).elapsed / 3600


def test_a_run_is_longer_with_more_images_and_shorter_with_more_of_the_machine() -> None:
    assert hours(50, Host(1, 32)) > hours(10, Host(1, 32))
    assert hours(10, Host(1, 32)) / 8 < hours(10, Host(8, 32)) < hours(10, Host(1, 32))
    assert hours(10, Host(1, 32)) < hours(10, Host(1, 4))
    assert hours(10, Host(1, 32, barycenters=16)) < hours(10, Host(1, 32))


def pixels(gpus: int, cores: int) -> float:
    return stages_of(counts(), 10, Host(gpus, cores))["pixels"].elapsed


def test_one_gpu_decodes_on_all_cores_but_for_the_python_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Up to eight workers are threads, and the time is that of the one lock they have."""
    monkeypatch.setitem(PRICES, "disk", replace(PRICES["disk"], value=1e12))
    assert pixels(1, 16) == pytest.approx(2 * pixels(1, 32))
    assert pixels(8, 32) < pixels(1, 32) < 1.2 * pixels(8, 32)  # processes take more
    threads = pixels(1, 8)
    monkeypatch.setitem(PRICES, "Python of a JPEG", replace(PRICES["hash"], value=1e-3))
    assert pixels(1, 8) > 3 * threads
    assert pixels(1, 16) < threads


def test_decoding_is_no_faster_than_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRICES, "disk", replace(PRICES["disk"], value=1e9))
    assert pixels(1, 32) == pixels(1, 64) == pixels(8, 64) == pytest.approx(200, rel=0.01)


def test_twice_the_bytes_of_synthesis_lengthen_that_stage_alone() -> None:
    heavier = replace(STEP, bytes=2 * STEP.bytes)
    plain = stages_of(counts(), 10, Host(1, 32))
    heavy = stages_of(replace(counts(), synthesis={10: heavier, 50: heavier}), 10, Host(1, 32))
    longer = {name for name in plain if heavy[name].elapsed > plain[name].elapsed}
    assert longer == {"synthesis"}


def test_the_device_is_never_busier_than_the_time_that_passes() -> None:
    for gpus in (1, 8):
        for time in stages_of(counts(), 10, Host(gpus, 32)).values():
            assert 0 <= time.device <= time.elapsed


@pytest.mark.slow
def test_the_model_prints_its_tables_and_keeps_its_counts(tmp_path: Path) -> None:
    output = tmp_path / "counts.json"
    small = ("--size", "16", "--network", "resnet10-w16")
    printed = run_module("benchmarks.gpu_model", *small, "--output", str(output))
    assert "data sheet" in printed
    assert "the target of 0.5 h is" in printed
    assert "\n".join(hours_table(read_counts(output), 32, 16)) in printed
