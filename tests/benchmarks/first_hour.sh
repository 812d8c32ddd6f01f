#!/usr/bin/env bash
# The first minutes on a machine with a GPU: checks and measurements, in one JSON.
#
#     bash tests/benchmarks/first_hour.sh gpu.json            # at most 9 minutes
#     bash tests/benchmarks/first_hour.sh cpu.json --tiny     # all of it, small, on any machine
#
# Checked are: the packages; two equal runs, byte by byte; a wrong column with two processes, which
# has to end with one line; a run in bf16; a step at 1024 px that does not fit into the memory; a run
# shaped like ImageNet on synthetic JPEG files, with the seconds of each stage. Measured are steps of
# synthesis, survey, students, label views, teacher and test at 32, 64 and 224 px, in float32 and
# bf16, steps as CUDA graphs at 32 and 64 px, and how busy the device is. Each check has its own limit of time and its own process; one
# that fails is recorded and the others go on. The exit code is 1 if any has failed.
#
# Nothing is downloaded: the images are the package's own or drawn here, the networks have random
# weights. $PYTHON is the interpreter [python3]; wdistill itself need not be installed.
#
# A machine without a network may have PyTorch and lack other packages; the first check names those
# that are missing or too old. They travel as wheels, 37 MB of them. With a network, for Python 3.12:
#
#     for_there="--only-binary=:all: --python-version 3.12 --implementation cp -d wheels
#         --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64"
#     pip download $for_there pydantic
#     pip download $for_there --no-deps POT datasets dill multiprocess ruamel.yaml
#
# and there:
#
#     python3 -m pip install --no-index --no-deps --target site wheels/*.whl
#     PYTHONPATH=$PWD/site bash tests/benchmarks/first_hour.sh gpu.json
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
export PYTHONPATH="$root:$root/tests${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m tests.benchmarks.first_hour "$@"
