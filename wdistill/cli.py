"""The command line: parse, one call, print. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from wdistill import __version__
from wdistill.config import (
    BarycenterConfig,
    DataConfig,
    EvalConfig,
    RunConfig,
    RuntimeConfig,
    SynthesisConfig,
    TeacherConfig,
)
from wdistill.errors import WdistillError

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130  # 128 + SIGINT, as shells expect
DEFAULTS = RunConfig()


def _common(command: F) -> F:
    for decorate in (
        click.option(
            "-q", "--quiet", is_flag=True, help="No progress bars; errors and the result only."
        ),
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    ):
        command = decorate(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wdistill")
def cli() -> None:
    """Distill an image dataset into a few synthetic images per class, score them, publish them.

    \b
    Example:
      wdistill run --dataset cifar10 --backbone resnet18 --ipc 10
      wdistill push runs/cifar10-ipc10 you/cifar10-wdistill-ipc10
    """


@cli.command()
@click.option(
    "--dataset",
    metavar="ID|PATH",
    help="Hub dataset id, image folder, parquet file or folder, or save_to_disk folder. "
    "[default: the Fashion-MNIST subset in the package]",
)
@click.option(
    "--backbone",
    metavar="ID|PATH|NAME",
    default=DEFAULTS.teacher.backbone,
    show_default=True,
    help="Image classifier whose features are used: Hub id, local folder (trained from "
    "scratch if it has no weights), or built-in: resnet18, resnet10-w16, convnet. "
    "The default is this tool's choice for two CPU cores.",
)
@click.option(
    "--backbone-revision",
    metavar="REV",
    help="Branch, tag or commit of a Hub backbone, ignored for others. [default: main]",
)
@click.option(
    "--ipc",
    type=int,
    default=DEFAULTS.barycenter.ipc,
    show_default=True,
    help="Images per class, 1 to 100. [source: the field's middle setting]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run folder; the same command resumes it. [default: runs/<dataset>-ipc<n>]",
)
@click.option(
    "--config-name", metavar="NAME", help="Configuration of a Hub dataset. [default: its own]"
)
@click.option(
    "--revision", metavar="REV", help="Branch, tag or commit of a Hub dataset. [default: main]"
)
@click.option("--image-column", metavar="NAME", help="[default: the only image column]")
@click.option("--label-column", metavar="NAME", help="[default: the only label column]")
@click.option(
    "--group-column",
    metavar="NAME",
    help="Column of a domain, client, sex, ...: the barycenter is then that of the groups of each "
    "class. [default: one measure per class, as in the paper]",
)
@click.option("--train-split", metavar="NAME", help="[default: train]")
@click.option(
    "--eval-split",
    metavar="NAME",
    help="[default: validation, valid, val or test; else a seeded 10% of train]",
)
@click.option(
    "--resolution",
    type=int,
    metavar="PIXELS",
    help="Side of the square images. [default: the image processor's; without one the "
    "images' own up to 64, else 224]",
)
@click.option(
    "--skip-broken",
    is_flag=True,
    help="Leave out images that cannot be decoded, and count them. [default: stop, our choice]",
)
@click.option(
    "--teacher-epochs",
    type=int,
    default=DEFAULTS.teacher.epochs,
    show_default=True,
    help="Epochs of training where the backbone's classes are not the dataset's. "
    "[source: own choice; official 50]",
)
@click.option(
    "--allow-weak-teacher",
    is_flag=True,
    help="Go on with a teacher near chance. [default: stop, our choice]",
)
@click.option(
    "--weights",
    type=click.Choice(["uniform", "free"]),
    default=DEFAULTS.barycenter.weights,
    show_default=True,
    help="Masses of the atoms: equal (paper) or optimised too. [source: own, lower W2]",
)
@click.option(
    "--group-weights",
    type=click.Choice(["equal", "proportional"]),
    default=DEFAULTS.barycenter.group_weights,
    show_default=True,
    help="What each group of --group-column counts: the same, or by its number of images. "
    "[source: Cuturi and Doucet 2014]",
)
@click.option(
    "--init",
    type=click.Choice(["real", "mean", "noise"]),
    default=DEFAULTS.synthesis.init,
    show_default=True,
    help="Start from the real image nearest to each atom (our choice), the mean of the real images "
    "that the atom stands for, or noise with the real images' spectrum (official: plain noise).",
)
@click.option(
    "--iterations",
    type=int,
    default=DEFAULTS.synthesis.iterations,
    show_default=True,
    help="Synthesis steps; a start from noise or means wants about 300. [source: own measurement; "
    "official 2000 from noise]",
)
@click.option(
    "--bn-weight",
    type=float,
    default=DEFAULTS.synthesis.bn_weight,
    show_default=True,
    help="Weight of the norm-layer statistics. [source: official for ImageNette]",
)
@click.option(
    "--feature-spaces",
    multiple=True,
    metavar="NAME[:COUNT]",
    default=DEFAULTS.synthesis.feature_spaces,
    show_default=True,
    help="Networks beside the backbone in which the images are matched as well: Hub id, folder or "
    "built-in, randomly initialised if it has no weights; repeatable; none is the paper's "
    "method. [source: paper]",
)
@click.option(
    "--student",
    "students",
    multiple=True,
    metavar="ID|PATH|NAME",
    help="Architecture to evaluate with, from random weights; repeatable. "
    "[default: the backbone's, our choice]",
)
@click.option(
    "--labels",
    type=click.Choice(["hard", "soft", "teacher"]),
    multiple=True,
    default=DEFAULTS.evaluate.labels,
    show_default=True,
    help="Labels that students see: classes, the published soft labels, or the teacher's answer "
    "to every batch; repeatable. [source: own choice; official teacher]",
)
@click.option(
    "--eval-epochs",
    type=int,
    metavar="INTEGER",
    help="Epochs of each student. [default: 100 up to 500 images, 30 above, our choice; "
    "official 300]",
)
@click.option(
    "--eval-seeds",
    type=int,
    default=DEFAULTS.evaluate.seeds,
    show_default=True,
    help="Students per row of the results. [source: own choice, the fewest that show a spread]",
)
@click.option(
    "--no-evaluate", is_flag=True, help="Skip the students. [default: evaluate, our choice]"
)
@click.option(
    "--seed",
    type=int,
    default=DEFAULTS.seed,
    show_default=True,
    help="Of everything random. [source: convention]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute. auto: CUDA, then MPS, then CPU. [source: Accelerate]",
)
@click.option(
    "--mixed-precision",
    type=click.Choice(["no", "bf16"]),
    default=DEFAULTS.mixed_precision,
    show_default=True,
    help="bf16 forward passes in training and synthesis. [source: Accelerate]",
)
@click.option(
    "--num-workers",
    type=int,
    default=0,
    show_default=True,
    help="Processes that decode images. [source: PyTorch's DataLoader]",
)
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run code that a backbone's repository brings. [default: no, as in transformers]",
)
@_common
def run(**options: Any) -> None:
    """Distil a dataset, evaluate the result, and write a folder ready to publish.

    Squeeze, recover and relabel in one command. Killed at any moment, the same command goes on
    where it was.

    \b
    Example:
      wdistill run --dataset imagenet-1k --backbone microsoft/resnet-18 --ipc 10
    """
    config, runtime = _settings(options)
    from wdistill import pipeline
    from wdistill.artifact import read_results

    _hush(options["quiet"])
    folder = options["output"] or pipeline.default_output(config)
    say = _echo_quietly if options["quiet"] else click.echo
    publish = pipeline.run(config, runtime, folder, _command_line(), say)
    if int(os.environ.get("RANK", "0")) != 0:
        return
    results = read_results(publish)
    if results is not None:
        click.echo(pipeline.results_table(results))
    click.echo(f"pictures: {publish / 'preview.png'}")
    click.echo(f"card:     {publish / 'README.md'}")
    click.echo(f'load:     load_dataset("{publish}")')
    click.echo(f"push:     wdistill push {shlex.quote(str(folder))} YOU/{folder.name}")


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@_common
def card(folder: Path, quiet: bool, debug: bool) -> None:
    """Render the dataset card of DIR (a run or a published folder) again, from its files.

    \b
    Example:
      wdistill card runs/cifar10-ipc10
    """
    from wdistill.artifact import atomic_write
    from wdistill.card import render_card
    from wdistill.published import publish_folder

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
    from wdistill import hub

    if quiet:
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    result = hub.push(folder, repo_id, hub.PushOptions(dry_run=dry_run, **options))
    click.echo(hub.format_plan(result) if dry_run else hub.format_result(result))


def _settings(options: dict[str, Any]) -> tuple[RunConfig, RuntimeConfig]:
    data = DataConfig(
        dataset=options["dataset"],
        config_name=options["config_name"],
        revision=options["revision"],
        image_column=options["image_column"],
        label_column=options["label_column"],
        group_column=options["group_column"],
        train_split=options["train_split"],
        eval_split=options["eval_split"],
        resolution=options["resolution"],
        skip_broken=options["skip_broken"],
    )
    teacher = TeacherConfig(
        backbone=options["backbone"],
        backbone_revision=options["backbone_revision"],
        epochs=options["teacher_epochs"],
        allow_weak=options["allow_weak_teacher"],
        trust_remote_code=options["trust_remote_code"],
    )
    evaluate = EvalConfig(
        enabled=not options["no_evaluate"],
        students=tuple(dict.fromkeys(options["students"])),
        labels=tuple(dict.fromkeys(options["labels"])),
        epochs=options["eval_epochs"],
        seeds=options["eval_seeds"],
    )
    config = RunConfig(
        data=data,
        teacher=teacher,
        barycenter=BarycenterConfig(
            ipc=options["ipc"],
            weights=options["weights"],
            group_weights=options["group_weights"],
        ),
        synthesis=SynthesisConfig(
            init=options["init"],
            iterations=options["iterations"],
            bn_weight=options["bn_weight"],
            feature_spaces=tuple(dict.fromkeys(options["feature_spaces"])),
        ),
        evaluate=evaluate,
        seed=options["seed"],
        mixed_precision=options["mixed_precision"],
    )
    runtime = RuntimeConfig(options["device"], options["num_workers"], options["quiet"])
    return config, runtime


def _command_line() -> str:
    return shlex.join(["wdistill", *sys.argv[1:]])


def _echo_quietly(_: str) -> None:
    """-q: stages do not speak."""


def _hush(quiet: bool) -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if quiet:
        import datasets
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        datasets.disable_progress_bars()


def main() -> None:
    """Entry point: a foreseen error is one line on stderr and a non-zero exit code."""
    debug = "--debug" in sys.argv
    try:
        sys.exit(cli.main(prog_name="wdistill", standalone_mode=False))
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # from click 8.2 on
            error.show()
        else:
            click.echo(f"Error: {_misused(error)}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _end_progress_bars()
        click.echo(f"\nInterrupted. To go on: {_command_line()}", err=True)
        sys.exit(INTERRUPTED)
    except WdistillError as error:
        _fail(error, debug, error.exit_code)
    except Exception as error:
        _fail(error, debug, 1)


def _misused(error: click.ClickException) -> str:
    """What `click` says in several sentences and lines, in one, and where to look."""
    text = " ".join(error.format_message().split()).rstrip(".")
    text = re.sub(r"\.? \(?Did you mean (.+?)\?\)?$", r" (did you mean \1?)", text)
    context = getattr(error, "ctx", None)
    return f"{text}; see '{context.command_path if context else 'wdistill'} --help'"


def _end_progress_bars() -> None:
    """Leave the line of an unfinished bar, so that what is said next stands on its own."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):
            bar.close()


def _fail(error: Exception, debug: bool, code: int) -> None:
    _end_progress_bars()
    if debug:
        raise error
    text = " ".join(str(error).split())
    if "No space left" in text:
        text = (
            f"no space left on the device ({text}); free some space and run the same command again"
        )
    elif type(error).__name__ == "OutOfMemoryError":
        text = f"the device is out of memory ({text[:120]}); lower --resolution or --ipc"
    elif not isinstance(error, WdistillError):
        text = f"{type(error).__name__}: {text} (a defect of wdistill? --debug shows where)"
    click.echo(f"Error: {text}", err=True)
    sys.exit(code)
