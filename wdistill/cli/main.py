"""The command line: parse, one call, print. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from wdistill._version import __version__
from wdistill.cli.exit import (
    COMMAND,
    command_line,
    fail,
    hang_up_if_unread,
    interrupt,
    is_launched,
    is_main_process,
    listen,
    signal_of,
    stopped_by,
    usage_message,
    without_part,
)
from wdistill.cli.options import (
    SettingOption,
    given_settings,
    setting_options,
    settings,
    spoken,
)
from wdistill.config import EvaluateConfig, RecipeName, RunConfig, RuntimeConfig
from wdistill.errors import OptionError, PeerError, WdistillError

F = TypeVar("F", bound=Callable[..., Any])
CONFIGS = {"run": (RunConfig, ()), "evaluate": (EvaluateConfig, ("source",))}


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


class Group(click.Group):
    command_class = Command


def _combine(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


_common = _combine(
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
_config_file = click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="YAML or JSON with settings, as `wdistill config` prints them; the command line wins.",
)
_processes = click.option(
    "--num-processes",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Processes that share the work on this machine, each on a GPU of its own where there are "
    "some; several machines: `accelerate launch -m wdistill ...`.",
)
_machine = _combine(
    setting_options(RuntimeConfig, only=("device", "num_workers", "pixel_cache")), _processes
)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="wdistill")
def cli() -> None:
    """Distill an image dataset into a few synthetic images per class, score them, publish them.

    \b
    Example:
      wdistill run --dataset cifar10 --backbone resnet18 --ipc 10
      wdistill push runs/cifar10-ipc10 you/cifar10-wdistill-ipc10
      wdistill reproduce you/cifar10-wdistill-ipc10
    """


@cli.command()
@setting_options(RunConfig)
@setting_options(RuntimeConfig)
@_processes
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run folder; the same command resumes it. [default: runs/<dataset>-ipc<n>]",
)
@click.option(
    "--push-to",
    metavar="REPO_ID",
    help="Push the finished set to this dataset repository; your right to write there is checked "
    "first. [default: no push]",
)
@_config_file
@_common
def run(**options: Any) -> None:
    """Distil a dataset, evaluate the result, and write a folder ready to publish.

    Squeeze, recover and relabel in one command. If it is interrupted, the same command resumes
    where it stopped.

    \b
    Example:
      wdistill run --dataset imagenet-1k --backbone microsoft/resnet-18 --ipc 10
    """
    config, runtime = settings(RunConfig, options)
    target, output = options["push_to"], options["output"]
    if runtime.shard and target:
        raise OptionError(
            "`push_to` cannot push a part of a run; push the run that joins the parts"
        )
    _launch_processes(options["num_processes"], runtime)
    from wdistill.pipeline import api

    if target and is_main_process():
        from wdistill.publishing.hub import push as hub

        hub.check_target(target)
    _print_log(runtime)
    distilled = api.distill(output=output, config=config, runtime=_with_command(runtime))
    if not is_main_process():
        return
    if runtime.shard:
        part = runtime.shard.replace("/", " of ")
        click.echo(f"part {part} is done: {distilled.folder}")
        click.echo("next:     wdistill merge PART... --output DIR, when all parts are done")
        return
    if distilled.report is not None:
        click.echo(str(distilled.report))
    click.echo(f"size:     {distilled.size}")
    click.echo(f"pictures: {distilled.set_folder / api.PREVIEW}")
    click.echo(f"card:     {distilled.set_folder.parent / 'README.md'}")
    click.echo(f'load:     load_dataset("{distilled.set_folder.parent}")')
    if target:
        result = hub.push_finished(distilled.folder, target)
        click.echo(hub.format_result(replace(result, notice=spoken(result.notice or "", push))))
    else:
        run_folder = shlex.quote(str(distilled.folder))
        click.echo(f"push:     wdistill push {run_folder} YOU/{distilled.folder.name}")


@cli.command()
@click.argument(
    "parts", metavar="PART...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Run folder."
)
@_common
def merge(parts: tuple[Path, ...], output: Path, quiet: bool, debug: bool) -> None:
    """Merge the folders of `wdistill run --shard` into one, in which the run can be finished.

    Parts of different runs are refused. The run computes what missing or unfinished parts lack.

    \b
    Example:
      wdistill merge runs/cifar10-ipc10-shard-* --output runs/cifar10-ipc10
    """
    from wdistill.pipeline.shards import merge as join_parts

    merged = join_parts(parts, output)
    click.echo(f"joined:   {merged.units} finished pieces of work in {output}")
    for shard in merged.absent:
        click.echo(f"absent:   part {shard.index} of {shard.count}; the run will do its work")
    click.echo(f"next:     {merged.command} --output {shlex.quote(str(output))}")


@cli.command()
@setting_options(RunConfig)
@setting_options(RuntimeConfig, without=("shard", "estimate"))
@_config_file
@_common
def estimate(**options: Any) -> None:
    """Estimate the time, memory and disk space of `wdistill run` with these options.

    All stages run on a few classes with few steps, in a temporary folder. The estimate is for the
    whole run, even if parts of it are finished.

    \b
    Example:
      wdistill estimate --dataset cifar10 --backbone resnet18 --ipc 10
    """
    config, runtime = settings(RunConfig, options)
    from wdistill.pipeline import api
    from wdistill.pipeline.tables import estimate_table

    _print_log(runtime)
    click.echo(estimate_table(api.estimate(config=config, runtime=runtime)))


@cli.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@setting_options(EvaluateConfig)
@_machine
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="[default: report/ in a run folder, else reports/<name>; of several reports/<names>]",
)
@_config_file
@_common
def evaluate(sources: tuple[str, ...], **options: Any) -> None:
    """Evaluate SOURCE: train students on it and on real images, and write a report.

    SOURCE is a run folder, a published folder, or any small labelled image dataset, ours or not:
    a Hub id, image folder, parquet file, save_to_disk folder, or a .pt or .npz file of a paper.
    Several of them are put side by side on one page.

    \b
    Example:
      wdistill evaluate runs/cifar10-ipc10 --student convnet --labels hard --labels soft
      wdistill evaluate runs/cifar10-ipc10 dm.pt --against cifar10 --recipe classic
    """
    source = sources[0]
    config, runtime = settings(EvaluateConfig, options, source=source)
    config.check_recipe(*given_settings(options, "evaluate"))
    _launch_processes(options["num_processes"], runtime)
    from wdistill.artifact.distilled_set import REPORT_FILE
    from wdistill.evaluation.evaluate import PAGE_FILE, default_output
    from wdistill.pipeline import api

    _print_log(runtime)
    if len(sources) > 1:
        _compare(sources, options["output"], config, runtime)
        return
    folder = options["output"] or default_output(config)
    report = api.evaluate(source, output=folder, config=config, runtime=_with_command(runtime))
    if not is_main_process():
        return
    click.echo(str(report))
    click.echo(f"numbers: {folder / REPORT_FILE}")
    click.echo(f"page:    {folder / PAGE_FILE}")


def _compare(
    sources: tuple[str, ...], output: Path | None, config: EvaluateConfig, runtime: RuntimeConfig
) -> None:
    from wdistill.evaluation.several.compare import PAGE_FILE, default_output
    from wdistill.pipeline import api

    folder = output or default_output(sources)
    result = api.compare(sources, output=folder, config=config, runtime=_with_command(runtime))
    if is_main_process():
        click.echo(str(result))
        click.echo(f"page:    {folder / PAGE_FILE}")


@cli.command()
@click.argument("source", metavar="ID")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run folder; the same command resumes it. [default: runs/reproduced-<name>]",
)
@click.option(
    "--dataset",
    metavar="ID|PATH",
    help="The data that the set was made from, if they were on a disk. [default: the source at its "
    "recorded revision]",
)
@click.option(
    "--backbone",
    metavar="ID|PATH",
    help="Its backbone, if that was on a disk. [default: as recorded, at its revision]",
)
@_machine
@setting_options(EvaluateConfig, only=("trust_remote_code",))
@_common
def reproduce(source: str, output: Path | None, **options: Any) -> None:
    """Reproduce the published set ID from its settings, and report how the two differ.

    ID is a dataset that wdistill pushed to the Hub, a published folder or a run folder. If it is
    interrupted, the same command resumes where it stopped. The exit code is 0 even if they differ.

    \b
    Example:
      wdistill reproduce you/cifar10-wdistill-ipc10
    """
    names = ("device", "num_workers", "pixel_cache", "quiet")
    runtime = RuntimeConfig(**{name: options[name] for name in names})
    _launch_processes(options["num_processes"], runtime)
    from wdistill.pipeline import api
    from wdistill.pipeline.reproduction.reproduce import default_output

    _print_log(runtime)
    folder = output or default_output(source)
    differences = api.reproduce(
        source,
        dataset=options["dataset"],
        backbone=options["backbone"],
        output=folder,
        trust_remote_code=options["trust_remote_code"],
        runtime=_with_command(runtime),
    )
    if is_main_process():
        click.echo(differences)
        click.echo(f"made again in {folder}")


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@_common
def card(folder: Path, quiet: bool, debug: bool) -> None:
    """Render the dataset card of DIR (a run or a published folder) again, from its files.

    \b
    Example:
      wdistill card runs/cifar10-ipc10
    """
    from wdistill.artifact.layout import publish_folder
    from wdistill.core.files import atomic_write
    from wdistill.publishing.card.card import render_card

    root = publish_folder(folder)
    atomic_write(root / "README.md", render_card(root).encode())
    click.echo(root / "README.md")


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("repo_id", metavar="REPO_ID")
@click.option(
    "--private/--public",
    default=None,
    help="Visibility of a new repository. [default: public; private if the source is gated "
    "or private, or its licence is unknown]",
)
@click.option("--revision", metavar="BRANCH", help="Branch to push to. [default: main]")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of pushing.")
@click.option("--commit-message", metavar="TEXT", help="[default: says what is pushed]")
@click.option(
    "--dry-run", is_flag=True, help="Print the files, their sizes and the card; needs no network."
)
@_common
def push(
    folder: Path, repo_id: str, quiet: bool, debug: bool, dry_run: bool, **options: Any
) -> None:
    """Upload the publishable folder of DIR to the dataset repository REPO_ID, in one commit.

    \b
    Example:
      wdistill push runs/cifar10-ipc10 you/cifar10-wdistill-ipc10 --dry-run
    """
    from wdistill.publishing.hub import push as hub

    if quiet or not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    result = hub.push(folder, repo_id, hub.PushOptions(dry_run=dry_run, **options))
    result = replace(result, notice=spoken(result.notice or "", push))
    click.echo(hub.format_plan(result) if dry_run else hub.format_result(result))


@cli.command(name="config")
@click.argument("command", type=click.Choice([*CONFIGS]), default="run")
@_common
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


@cli.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(get_args(RecipeName)))
@_common
def recipes(names: tuple[RecipeName, ...], quiet: bool, debug: bool) -> None:
    """Describe the recipes of `wdistill evaluate --recipe`, and what papers report under them.

    \b
    Example:
      wdistill recipes classic
    """
    from wdistill.evaluation.recipes.describe import describe

    click.echo("\n\n".join(describe(name) for name in names or get_args(RecipeName)))


def _launch_processes(processes: int, runtime: RuntimeConfig) -> None:
    """If the user asked for several processes, run the command in them and exit with its code."""
    if processes > 1 and not is_launched():
        if "RANK" in os.environ:
            raise OptionError(
                f"--num-processes is {processes}, but a launcher has started this process as one "
                f"of {os.environ.get('WORLD_SIZE', 'several')}; leave the option out"
            )
        from wdistill.cli.launch import launch

        environment = {COMMAND: command_line()}
        sys.exit(launch(sys.argv[1:], processes, runtime.device, environment))


def _with_command(runtime: RuntimeConfig) -> RuntimeConfig:
    """Record the command line; for a shard, the command of the full run."""
    command = without_part(command_line()) if runtime.shard else command_line()
    return replace(runtime, command=runtime.command or command)


def _print_log(runtime: RuntimeConfig) -> None:
    """Print the log to stdout, on the main process and without -q only."""
    from wdistill.core.log import log_to_stdout

    if not runtime.quiet and is_main_process():
        click.get_current_context().with_resource(log_to_stdout())


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
