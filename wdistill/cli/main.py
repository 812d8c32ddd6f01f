"""The command line: parse, one call, print. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import sys
from typing import get_args

import click

from wdistill._version import __version__
from wdistill.cli.command import command, common
from wdistill.cli.exit import fail, interrupt, listen, signal_of, stopped_by, usage_message
from wdistill.cli.runs import estimate, merge, run
from wdistill.cli.sets import card, evaluate, push, reproduce
from wdistill.config import EvaluateConfig, RecipeName, RunConfig
from wdistill.errors import PeerError, WdistillError

CONFIGS = {
    "run": (RunConfig, ()),
    "estimate": (RunConfig, ()),
    "evaluate": (EvaluateConfig, ("source",)),
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wdistill")
def cli() -> None:
    """Distill an image dataset into a few synthetic images per class, score them, publish them.

    \b
    Example:
      wdistill run --dataset cifar10 --backbone resnet18 --ipc 10
      wdistill push runs/cifar10-ipc10 you/cifar10-wdistill-ipc10
      wdistill reproduce you/cifar10-wdistill-ipc10
    """


@command(name="config")
@click.argument("command", type=click.Choice([*CONFIGS]), default="run")
@common
def config_(command: str, quiet: bool, debug: bool) -> None:
    """Print all settings of `wdistill run` (and estimate) or evaluate as YAML, ready to edit.

    \b
    Example:
      wdistill config run > settings.yaml
      wdistill run --config settings.yaml
    """
    from wdistill.cli.settings_file import settings_text

    kind, fixed = CONFIGS[command]
    click.echo(settings_text(kind, fixed))


@command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(get_args(RecipeName)))
@common
def recipes(names: tuple[RecipeName, ...], quiet: bool, debug: bool) -> None:
    """Describe the recipes of `wdistill evaluate --recipe`, and what papers report under them.

    \b
    Example:
      wdistill recipes classic
    """
    from wdistill.evaluation.recipes.describe import describe

    click.echo("\n\n".join(describe(name) for name in names or get_args(RecipeName)))


for each in (run, merge, estimate, evaluate, reproduce, card, push, config_, recipes):
    cli.add_command(each)


def main() -> None:
    """Entry point: an expected error is one line on stderr and a non-zero exit code."""
    debug = "--debug" in sys.argv
    if "RANK" in os.environ and not debug:  # else a peer that is gone is told by stacks of C++
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    listen()
    try:
        sys.exit(cli.main(prog_name="wdistill", standalone_mode=False))
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # from click 8.2 on
            error.show()
        else:
            click.echo(f"Error: {usage_message(error)}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:
        interrupt(signal_of(error))
    except Exception as error:
        number = None if isinstance(error, PeerError) else stopped_by()
        if number:  # a library has turned the signal into another error
            interrupt(number)
        fail(error, debug, error.exit_code if isinstance(error, WdistillError) else 1)
