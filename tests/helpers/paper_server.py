"""Forks of one process that has imported everything, each of which does one command.

    python -m helpers.paper_server ADDRESS

A client sends its folder, the program and its arguments, and its three standard streams, and gets
the exit code. `wdistill` is the real command line; what its options say of size and steps is
overruled by SMALL, so that the commands of the papers take seconds. For the same reason the folder
"small" takes the place of the embedded dataset, and resnet10-w16 that of resnet18. `python -c` runs
code in which the functions of `wdistill` have the same small settings.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import socket
import sys
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import wdistill
from wdistill.artifact.report import Report
from wdistill.config import EvaluateConfig, RunConfig, RuntimeConfig
from wdistill.pipeline.choices import budget

RUN = (
    "--resolution", "8", "--teacher-epochs", "1", "--allow-weak-teacher", "--iterations", "1",
    "--feature-spaces", "none", "--eval-epochs", "1", "--eval-seeds", "1", "--device", "cpu", "-q",
    "--label-giver", "teacher",
)  # fmt: skip
SMALL = {
    "run": RUN,
    "estimate": RUN,
    "evaluate": ("--steps", "2", "--seeds", "1", "--device", "cpu"),
}


def serve(address: Path) -> None:
    """Take clients until the process is ended."""
    budget.STEPS = (2, 3)
    for module in pkgutil.walk_packages(wdistill.__path__, "wdistill."):
        if module.name != "wdistill.__main__":
            importlib.import_module(module.name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.new")
        server.listen()
        os.rename(f"{address}.new", address)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # clients are answered by whoever waits
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                server.close()
                client.sendall(str(answer(client)).encode())
                os._exit(0)
            client.close()


def answer(client: socket.socket) -> int:
    """Do the command of ``client`` in a child that has its streams; returns the exit code."""
    message, streams, _, _ = socket.recv_fds(client, 2**20, 3)
    folder, program, *arguments = map(os.fsdecode, message.split(b"\0"))
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    code = 1
    try:
        command(program, arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(program: str, arguments: list[str]) -> None:
    if program == "wdistill":
        from wdistill.cli.main import main

        small = SMALL.get(arguments[0], ())
        if small is RUN and "--dataset" not in arguments:
            small = (*small, "--dataset", "small")
        words = ["resnet10-w16" if word == "resnet18" else word for word in arguments]
        sys.argv = ["wdistill", *words, *small]
        main()
    else:
        assert arguments[0] == "-c", arguments
        make_small()
        exec(compile(arguments[1], "<block>", "exec"), {"__name__": "__main__"})


def make_small() -> None:
    """The functions of `wdistill` have the settings of SMALL."""
    from wdistill.pipeline.api import calls as api

    settings, judge = api._run_settings, api.judge

    def run_settings(*arguments: Any) -> RunConfig:
        config = settings(*arguments)
        return replace(
            config,
            data=replace(config.data, resolution=8),
            teacher=replace(config.teacher, backbone="resnet10-w16", epochs=1, allow_weak=True),
            synthesis=replace(config.synthesis, iterations=1, feature_spaces=("none",)),
            evaluate=replace(config.evaluate, epochs=1, seeds=1),
        )

    def small_judge(config: EvaluateConfig, *arguments: Any) -> Report:
        students = replace(config.evaluate, steps=2, seeds=1)
        return judge(replace(config, evaluate=students), *arguments)

    api._run_settings, api.judge = run_settings, small_judge
    api.RuntimeConfig = partial(RuntimeConfig, quiet=True)  # no estimate before a run


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
