"""The public functions: one for each command of the command line.

They do not touch signal handlers or environment variables and never exit the process; the verbosity
of libraries and Accelerate's state are restored afterwards. Progress is shown by tqdm, and messages
go to the logger ``wdistill``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from wdistill.artifact.report import Report
from wdistill.config import EvaluateConfig, RunConfig, RuntimeConfig
from wdistill.core.units import Shard
from wdistill.evaluation.evaluate import Output, judge
from wdistill.evaluation.evaluate import default_output as report_folder
from wdistill.evaluation.several.compare import compare_sets
from wdistill.evaluation.several.compare import default_output as comparison_folder
from wdistill.evaluation.several.table import SideBySide
from wdistill.pipeline import run as pipeline
from wdistill.pipeline.api.libraries import restore_libraries
from wdistill.pipeline.api.result import DistilledRun
from wdistill.pipeline.judging import on_own_run
from wdistill.pipeline.reproduction import reproduce as reproduction
from wdistill.pipeline.reproduction.differences import Differences
from wdistill.pipeline.run_folder import default_output
from wdistill.pipeline.tables import Estimate
from wdistill.publishing.hub import push as hub
from wdistill.publishing.hub.push import PushOptions, PushResult


def distill(
    dataset: str | Path | None = None,
    *,
    backbone: str | Path | None = None,
    ipc: int | None = None,
    output: str | Path | None = None,
    config: RunConfig | None = None,
    runtime: RuntimeConfig | None = None,
) -> DistilledRun:
    """Distil a dataset, evaluate the result, and write a folder that is ready to publish.

    If it is interrupted, the same call resumes where it stopped. Several processes, started by
    ``accelerate launch``, share the work if each makes the same call.

    Args:
        dataset: Hub id, image folder, parquet file or folder, or save_to_disk folder; by default
            that of ``config``, or else the Fashion-MNIST subset in the package.
        backbone: Image classifier whose features are used: Hub id, folder or built-in name.
        ipc: Images per class; of a number in all, or unequal ones, ``barycenter`` in ``config``.
        output: The run's folder; by default ``runs/<dataset>-ipc10``, or by what ``config`` gives
            ``-100images`` or ``-37500B``, then ``-w2`` and ``-convnet``, and ``-shard-1-of-4`` of a
            part.
        config: All settings that change the result. The arguments above override it.
        runtime: Device, workers, progress bars, tracking, streaming, shard.

    Returns:
        The run: its folder, manifest, report, preview and images.

    Raises:
        WdistillError: Any error that the caller can fix, in one line.

    Example:
        >>> run = wdistill.distill("cifar10", backbone="resnet18", ipc=10)
        >>> run.report
    """
    runtime = runtime or RuntimeConfig()
    config = _run_settings(config, dataset, backbone, ipc)
    shard = None if runtime.shard is None else Shard.parse(runtime.shard)
    folder = default_output(config, shard) if output is None else Path(output)
    with restore_libraries(runtime.quiet):
        pipeline.run(config, runtime, folder, runtime.command or config.command(), shard=shard)
    return DistilledRun(folder)


def estimate(
    dataset: str | Path | None = None,
    *,
    backbone: str | Path | None = None,
    ipc: int | None = None,
    config: RunConfig | None = None,
    runtime: RuntimeConfig | None = None,
) -> Estimate:
    """Measure how long :func:`distill` with these arguments would take, and what it would need.

    Args:
        dataset: As in :func:`distill`, and so are the other arguments.
        backbone: Image classifier whose features are used.
        ipc: Images per class.
        config: All settings that change the result.
        runtime: Device, workers, progress bars, streaming.

    Returns:
        Time, memory and disk space.

    Raises:
        WdistillError: Any error that the caller can fix, as for the run itself.

    Example:
        >>> wdistill.estimate("cifar10", backbone="resnet18", ipc=10)
    """
    runtime = runtime or RuntimeConfig()
    with restore_libraries(runtime.quiet):
        return pipeline.estimate_run(_run_settings(config, dataset, backbone, ipc), runtime)


def evaluate(
    source: str | Path,
    *,
    against: str | Path | None = None,
    students: Sequence[str] | None = None,
    output: str | Path | None = None,
    config: EvaluateConfig | None = None,
    runtime: RuntimeConfig | None = None,
) -> Report:
    """Train students on a set of images and on real images, and write a report.

    Args:
        source: A run folder, a published folder, or any small labelled image dataset: Hub id,
            image folder, parquet file or save_to_disk folder.
        against: The real dataset; by default the one that the set was made from.
        students: Architectures to train; by default the teacher's.
        output: Folder of report.json and report.html; by default ``report`` in a run folder, else
            ``reports/<name>``.
        config: All settings that change the result. The arguments above override it.
        runtime: Device, workers, progress bars.

    Returns:
        The report: a row for each student, labels and set of images.

    Raises:
        WdistillError: Any error that the caller can fix, in one line.

    Example:
        >>> wdistill.evaluate("runs/cifar10-ipc10", students=["convnet"])
    """
    runtime = runtime or RuntimeConfig()
    config = replace(config or EvaluateConfig(str(source)), source=str(source))
    if against is not None:
        config = replace(config, against=replace(config.against, dataset=str(against)))
    if students is not None:
        config = replace(config, evaluate=replace(config.evaluate, students=tuple(students)))
    folder = report_folder(config) if output is None else Path(output)
    with restore_libraries(runtime.quiet):
        command = runtime.command or config.command()
        return judge(config, runtime, Output(folder), command, on_own_run)


def compare(
    sources: Sequence[str | Path],
    *,
    against: str | Path | None = None,
    output: str | Path | None = None,
    config: EvaluateConfig | None = None,
    runtime: RuntimeConfig | None = None,
) -> SideBySide:
    """Evaluate several sets against the same real images, and put them on one page.

    Args:
        sources: Two or more sets, each as in :func:`evaluate`.
        against: The real dataset; by default the one that each set was made from.
        output: Folder of comparison.html, comparison.json and a report for each set; by default
            ``reports/<names>``.
        config: Settings for all of them, the recipe among others; its source is not used.
        runtime: Device, workers, progress bars.

    Returns:
        The sets; as text their table.

    Raises:
        WdistillError: Any error that the caller can fix, in one line.

    Example:
        >>> wdistill.compare(["runs/cifar10-ipc10", "data.pt"], against="cifar10")
    """
    runtime, names = runtime or RuntimeConfig(), [str(source) for source in sources]
    config = config or EvaluateConfig(names[0] if names else "")
    if against is not None:
        config = replace(config, against=replace(config.against, dataset=str(against)))
    folder = comparison_folder(names) if output is None else Path(output)
    command = runtime.command or " ".join([config.command(), *names[1:]])
    with restore_libraries(runtime.quiet):
        return compare_sets(names, config, runtime, folder, command)


def reproduce(
    source: str | Path,
    *,
    dataset: str | Path | None = None,
    backbone: str | Path | None = None,
    output: str | Path | None = None,
    trust_remote_code: bool = False,
    runtime: RuntimeConfig | None = None,
) -> Differences:
    """Reproduce a published set from its recorded settings, and compare the two.

    Args:
        source: Hub id of a dataset that wdistill pushed, a published folder or a run folder.
        dataset: The real data, if they were local; by default the source at its revision.
        backbone: The backbone, if it was local; by default as recorded, at its revision.
        output: The new run's folder; by default ``runs/reproduced-<name>``.
        trust_remote_code: Whether to run code from a network's repository.
        runtime: Device, workers, progress bars.

    Returns:
        The differences between the two sets.

    Raises:
        WdistillError: Any error that the caller can fix, in one line.

    Example:
        >>> print(wdistill.reproduce("you/cifar10-wdistill-ipc10"))
    """
    runtime, source = runtime or RuntimeConfig(), str(source)
    overrides = reproduction.Overrides(_text(dataset), _text(backbone), trust_remote_code)
    folder = reproduction.default_output(source) if output is None else Path(output)
    command = runtime.command or f"wdistill reproduce {source}"
    with restore_libraries(runtime.quiet):
        return reproduction.reproduce(source, overrides, runtime, folder, command)


class PushArguments(TypedDict, total=False):
    """The keywords of :func:`push`."""

    private: bool | None
    revision: str | None
    create_pr: bool
    commit_message: str | None
    dry_run: bool


def push(folder: str | Path, repo_id: str, **options: Unpack[PushArguments]) -> PushResult:
    """Upload a finished run, or its published folder, to a dataset on the Hub, in one commit.

    Args:
        folder: The run's folder or its ``publish`` folder.
        repo_id: The dataset repository, ``you/name``; created if it does not exist.
        **options: ``private``: visibility of a new repository, by default public, but private if
            the source is gated or private or its licence is unknown; ``revision``: the branch, by
            default main; ``create_pr``: open a pull request instead; ``commit_message``;
            ``dry_run``: only list what would be uploaded, without network access.

    Returns:
        What was pushed, and the URL of the commit or pull request.

    Raises:
        RunFolderError: There is no finished run in the folder.
        HubError: The Hub refused, or cannot be reached; the same push can be repeated.

    Example:
        >>> wdistill.push("runs/cifar10-ipc10", "you/cifar10-wdistill-ipc10", private=True)
    """
    return hub.push(Path(folder), repo_id, PushOptions(**options))


def _run_settings(
    config: RunConfig | None,
    dataset: str | Path | None,
    backbone: str | Path | None,
    ipc: int | None,
) -> RunConfig:
    """``config`` updated with the arguments that are not None."""
    config = config or RunConfig()
    if dataset is not None:
        config = replace(config, data=replace(config.data, dataset=str(dataset)))
    if backbone is not None:
        config = replace(config, teacher=replace(config.teacher, backbone=str(backbone)))
    if ipc is not None:
        barycenter = replace(config.barycenter, ipc=ipc, images=None)
        config = replace(config, barycenter=barycenter, budget=None)
    return config


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)
