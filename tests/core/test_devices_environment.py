"""The environment has no say in how networks are trained: what it says is put aside and told."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import fields

import pytest
from helpers.environment import environment

from wdistill.config import RuntimeConfig
from wdistill.core.devices import less_precise, open_accelerator, without_accelerate_settings
from wdistill.core.settings import Device
from wdistill.errors import OptionError

# As `accelerate launch` sets them, whatever the configuration says.
NEUTRAL = {
    "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_DYNAMO_MODE": "default",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False", "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_USE_CPU": "True", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
}  # fmt: skip
HARMFUL = {
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_FP8_BACKEND": "TE",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "fp8",
    "ACCELERATE_TORCH_DEVICE": "cuda",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_USE_SAGEMAKER": "true",
}
SCRIPT = """
import json, os
from wdistill.core.devices import open_accelerator
def variables():
    return {name: value for name, value in os.environ.items() if name.startswith("ACCELERATE_")}
before = variables()
accelerator = open_accelerator("no", "cpu")
print(json.dumps({
    "device": str(accelerator.device), "precision": accelerator.mixed_precision,
    "steps": accelerator.gradient_accumulation_steps, "kind": accelerator.distributed_type,
    "dynamo": accelerator.state.dynamo_plugin.backend, "restored": variables() == before,
}))
"""


def test_no_variable_of_accelerate_changes_the_accelerator() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment(**HARMFUL, ACCELERATE_DEBUG_MODE="x", ACCELERATE_CPU_AFFINITY="x"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "device": "cpu", "precision": "no", "steps": 1, "kind": "NO", "dynamo": "NO",
        "restored": True,
    }  # fmt: skip
    (line,) = [line for line in done.stderr.splitlines() if "not used" in line]
    assert all(f"{name}={value}" in line for name, value in HARMFUL.items())


def test_variables_of_accelerate_are_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("OTHER", "1")
    with without_accelerate_settings():
        assert "ACCELERATE_USE_FSDP" not in os.environ
        assert os.environ["OTHER"] == "1"
    assert os.environ["ACCELERATE_USE_FSDP"] == "true"


@pytest.mark.parametrize("name", HARMFUL)
def test_what_is_not_used_is_told_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "wdistill"):
        for neutral in (NEUTRAL, {name: ""}):
            with monkeypatch.context() as context:
                for key, value in neutral.items():
                    context.setenv(key, value)
                open_accelerator("no", "cpu")
        assert caplog.messages == []
        monkeypatch.setenv(name, HARMFUL[name])
        open_accelerator("no", "cpu")
    (message,) = caplog.messages
    assert message.startswith(f"not used: {name}={HARMFUL[name]} of the environment; ")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LOCAL_RANK": "0"}, "(LOCAL_RANK=0) but lacks RANK, WORLD_SIZE, MASTER_ADDR, MASTER"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "(RANK=1, WORLD_SIZE=2) but lacks LOCAL_RANK, MASTER"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x' in the environment, not a number; unset it"),
        ({"RANK": "1.5"}, "RANK is '1.5' in the environment"),
        ({"LOCAL_WORLD_SIZE": "two"}, "LOCAL_WORLD_SIZE is 'two' in the environment"),
        (
            {"LOCAL_RANK": "2", "RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "h",
             "MASTER_PORT": "1"},
            "(LOCAL_RANK=2, RANK=2, WORLD_SIZE=2) but names no process of the group",
        ),
    ],
)  # fmt: skip
def test_a_group_that_cannot_meet_is_refused(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError) as caught:
        open_accelerator("no", "cpu")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variables", [{"LOCAL_RANK": "-1"}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_one_process_alone_is_no_group(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert open_accelerator("no", "cpu").num_processes == 1


def test_what_accelerate_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ValueError("bf16 mixed precision\nrequires a supported device")

    monkeypatch.setattr("wdistill.core.devices.Accelerator", refuse)
    with pytest.raises(OptionError) as caught:
        open_accelerator("bf16", "cpu")
    assert str(caught.value).startswith(
        "Accelerate cannot start: bf16 mixed precision requires a supported device; check "
    )


def test_variables_that_make_float32_less_precise_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert less_precise() == {}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "")
    assert less_precise() == {"NVIDIA_TF32_OVERRIDE": "1"}


@pytest.mark.parametrize(
    ("device", "cuda", "mps", "cpu"),
    [
        ("auto", False, False, True),  # whatever else there is, such as an XPU
        ("auto", True, False, False),
        ("auto", False, True, False),
        ("cpu", True, False, True),
        ("cuda", True, False, False),
    ],
)
def test_the_device_is_one_of_those_that_the_help_names(
    device: Device, cuda: bool, mps: bool, cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    monkeypatch.setattr(
        "wdistill.core.devices.Accelerator", lambda **given: asked.append(given["cpu"])
    )
    open_accelerator("no", device)
    assert asked == [cpu]
    text = next(f.metadata["option"].help for f in fields(RuntimeConfig) if f.name == "device")
    assert "CUDA" in text
    assert "MPS" in text
