"""Commands that make a set: run, merge, estimate."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from wdistill.cli.command import (
    command,
    common,
    config_file,
    launch_processes,
    print_log,
    processes,
    with_command,
)
from wdistill.cli.exit import is_main_process
from wdistill.cli.options import setting_options, settings, spoken
from wdistill.cli.sets import push
from wdistill.config import RunConfig, RuntimeConfig
from wdistill.errors import OptionError


@command()
@setting_options(RunConfig)
@setting_options(RuntimeConfig)
@processes
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run folder; the same command resumes it. [default: runs/<dataset>-ipc10, or by what is "
    "given -100images or -37500B, then -w2 of --allocation w2, -convnet of --for convnet, and "
    "-shard-1-of-4 of a part]",
)
@click.option(
    "--push-to",
    metavar="REPO_ID",
    help="Push the finished set to this dataset repository; your right to write there is checked "
    "first. [default: no push]",
)
@config_file
@common
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
    launch_processes(options["num_processes"], runtime)
    from wdistill.pipeline.api import calls as api

    if target and is_main_process():
        from wdistill.publishing.hub import push as hub

        hub.check_target(target)
    print_log(runtime)
    distilled = api.distill(output=output, config=config, runtime=with_command(runtime))
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
    click.echo(f"pictures: {distilled.preview_file}")
    click.echo(f"card:     {distilled.set_folder.parent / 'README.md'}")
    click.echo(f'load:     load_dataset("{distilled.set_folder.parent}")')
    if target:
        result = hub.push_finished(distilled.folder, target)
        click.echo(hub.format_result(replace(result, notice=spoken(result.notice or "", push))))
    else:
        run_folder = shlex.quote(str(distilled.folder))
        click.echo(f"push:     wdistill push {run_folder} YOU/{distilled.folder.name}")


@command()
@click.argument(
    "parts", metavar="PART...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Run folder."
)
@common
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


@command()
@setting_options(RunConfig)
@setting_options(RuntimeConfig, without=("shard", "estimate"))
@config_file
@common
def estimate(**options: Any) -> None:
    """Estimate the time, memory and disk space of `wdistill run` with these options.

    All stages run on a few classes with few steps, in a temporary folder. The estimate is for the
    whole run, even if parts of it are finished.

    \b
    Example:
      wdistill estimate --dataset cifar10 --backbone resnet18 --ipc 10
    """
    config, runtime = settings(RunConfig, options)
    from wdistill.pipeline.api import calls as api
    from wdistill.pipeline.tables import estimate_table

    print_log(runtime)
    click.echo(estimate_table(api.estimate(config=config, runtime=runtime)))
