"""Commands about a finished set: evaluate, reproduce, card, push."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from wdistill.cli.command import (
    command,
    common,
    config_file,
    launch_processes,
    machine,
    print_log,
    with_command,
)
from wdistill.cli.exit import is_main_process
from wdistill.cli.options import given_settings, setting_options, settings, spoken
from wdistill.config import EvaluateConfig, RuntimeConfig


@command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@setting_options(EvaluateConfig)
@machine
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="[default: report/ in a run folder, else reports/<name>; of several reports/<names>]",
)
@config_file
@common
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
    launch_processes(options["num_processes"], runtime)
    from wdistill.artifact.distilled_set import REPORT_FILE
    from wdistill.evaluation.evaluate import PAGE_FILE, default_output
    from wdistill.pipeline.api import calls as api

    print_log(runtime)
    if len(sources) > 1:
        _compare(sources, options["output"], config, runtime)
        return
    folder = options["output"] or default_output(config)
    report = api.evaluate(source, output=folder, config=config, runtime=with_command(runtime))
    if not is_main_process():
        return
    click.echo(str(report))
    click.echo(f"numbers: {folder / REPORT_FILE}")
    click.echo(f"page:    {folder / PAGE_FILE}")


def _compare(
    sources: tuple[str, ...], output: Path | None, config: EvaluateConfig, runtime: RuntimeConfig
) -> None:
    from wdistill.evaluation.several.compare import PAGE_FILE, default_output
    from wdistill.pipeline.api import calls as api

    folder = output or default_output(sources)
    result = api.compare(sources, output=folder, config=config, runtime=with_command(runtime))
    if is_main_process():
        click.echo(str(result))
        click.echo(f"page:    {folder / PAGE_FILE}")


@command()
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
@machine
@setting_options(EvaluateConfig, only=("trust_remote_code",))
@common
def reproduce(source: str, output: Path | None, **options: Any) -> None:
    """Reproduce the published set ID from its settings, and report how the two differ.

    ID is a dataset that wdistill pushed to the Hub, a published folder or a run folder. If it is
    interrupted, the same command resumes where it stopped. The exit code is 0 even if they differ.

    \b
    Example:
      wdistill reproduce you/cifar10-wdistill-ipc10
    """
    names = ("device", "num_workers", "pixel_cache", "cuda_graphs", "quiet")
    runtime = RuntimeConfig(**{name: options[name] for name in names})
    launch_processes(options["num_processes"], runtime)
    from wdistill.pipeline.api import calls as api
    from wdistill.pipeline.reproduction.reproduce import default_output

    print_log(runtime)
    folder = output or default_output(source)
    differences = api.reproduce(
        source,
        dataset=options["dataset"],
        backbone=options["backbone"],
        output=folder,
        trust_remote_code=options["trust_remote_code"],
        runtime=with_command(runtime),
    )
    if is_main_process():
        click.echo(differences)
        click.echo(f"made again in {folder}")


@command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@common
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


@command()
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
@common
def push(
    folder: Path, repo_id: str, quiet: bool, debug: bool, dry_run: bool, **options: Any
) -> None:
    """Upload the publishable folder of DIR to the dataset repository REPO_ID, in one commit.

    \b
    Example:
      wdistill push runs/cifar10-ipc10 you/cifar10-wdistill-ipc10 --dry-run
    """
    from wdistill.publishing.hub import push as hub
    from wdistill.publishing.hub.plan import format_plan

    if quiet or not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    result = hub.push(folder, repo_id, hub.PushOptions(dry_run=dry_run, **options))
    result = replace(result, notice=spoken(result.notice or "", push))
    click.echo(format_plan(result) if dry_run else hub.format_result(result))
