"""What the commands share: how errors read, options, processes, the log."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from wdistill.cli.exit import (
    COMMAND,
    command_line,
    hang_up_if_unread,
    is_launched,
    is_main_process,
    without_part,
)
from wdistill.cli.options import SettingOption, setting_options, spoken
from wdistill.config import RuntimeConfig
from wdistill.errors import OptionError, WdistillError

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """A command whose error messages name flags instead of settings."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WdistillError as error:
            text = spoken(str(error), self)
            if text == str(error):
                raise
            raise type(error)(text) from error
        except BrokenPipeError:
            hang_up_if_unread()
            raise


command = partial(click.command, cls=Command)


def combine(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


common = combine(
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        cls=SettingOption,
        setting="runtime.quiet",
        help="No progress bars; errors and the result only.",
    ),
)
config_file = click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="YAML or JSON with settings, as `wdistill config` prints them; the command line wins.",
)
processes = click.option(
    "--num-processes",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Processes that share the work on this machine, each on a GPU of its own where there are "
    "some; several machines: `accelerate launch -m wdistill ...`.",
)
machine = combine(
    setting_options(RuntimeConfig, only=("device", "num_workers", "pixel_cache", "cuda_graphs")),
    processes,
)


def launch_processes(count: int, runtime: RuntimeConfig) -> None:
    """If the user asked for several processes, run the command in them and exit with its code."""
    if count > 1 and not is_launched():
        if "RANK" in os.environ:
            raise OptionError(
                f"--num-processes is {count}, but a launcher has started this process as one "
                f"of {os.environ.get('WORLD_SIZE', 'several')}; leave the option out"
            )
        from wdistill.cli.launch import launch

        environment = {COMMAND: command_line()}
        sys.exit(launch(sys.argv[1:], count, runtime.device, environment))


def with_command(runtime: RuntimeConfig) -> RuntimeConfig:
    """Record the command line; for a shard, the command of the full run."""
    typed = without_part(command_line()) if runtime.shard else command_line()
    return replace(runtime, command=runtime.command or typed)


def print_log(runtime: RuntimeConfig) -> None:
    """Print the log to stdout, on the main process and without -q only."""
    from wdistill.core.log import log_to_stdout

    if not runtime.quiet and is_main_process():
        click.get_current_context().with_resource(log_to_stdout())
