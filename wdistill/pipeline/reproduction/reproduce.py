"""Reproduce a published set with its recorded settings, and compare the two.

The settings are untrusted: they are validated like those of the command line, they cannot name
local folders, and code from a network's repository runs only if the user allows it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from wdistill.artifact.layout import MANIFEST_FILE, PUBLISH, one_set
from wdistill.artifact.manifest import Manifest
from wdistill.artifact.reading import check_data, open_published, read_published, remote
from wdistill.artifact.records import SourceRecord
from wdistill.config import BUILT_IN, DataConfig, RunConfig, RuntimeConfig, TeacherConfig
from wdistill.core.files import read_json
from wdistill.core.settings import flat
from wdistill.data.dataset import ImageData
from wdistill.errors import OptionError, RunFolderError
from wdistill.pipeline import run as pipeline
from wdistill.pipeline.reproduction.differences import Differences, compare

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Overrides:
    """What the user sets for a reproduction.

    Attributes:
        dataset: The real data; None for the recorded source.
        backbone: The backbone; None for the recorded one.
        trust_remote_code: Whether to run code from a network's repository.
    """

    dataset: str | None = None
    backbone: str | None = None
    trust_remote_code: bool = False


def default_output(source: str) -> Path:
    """runs/reproduced-<name of the run, folder or repository>."""
    path = Path(source).expanduser()
    if path.exists():
        path = path.resolve()
        path = path.parent if path.name == PUBLISH else path
    return Path("runs") / f"reproduced-{path.name}"


def reproduce(
    source: str,
    overrides: Overrides,
    runtime: RuntimeConfig,
    folder: Path,
    command: str,
) -> Differences:
    """Run the set ``source`` again in ``folder``, or resume that run, and compare.

    Args:
        source: See :func:`open_published`.
        overrides: What replaces the recorded settings.
        runtime: Device, workers, progress bars.
        folder: The folder of the new run.
        command: The command line, for the manifest.

    Raises:
        WdistillError: Any error that the user can fix.
    """
    original = open_published(source)
    if folder.resolve() in original.folder.resolve().parents:
        raise RunFolderError(f"{str(folder)!r} holds the set itself; choose another `output`")
    config = settings_of(original.manifest, overrides)
    recorded_settings = read_json(original.folder / MANIFEST_FILE)["config"]
    missing = sorted(flat(config.to_dict()).keys() - flat(recorded_settings).keys())
    if missing:
        logger.info(
            f"{MANIFEST_FILE} does not say {', '.join(missing)}: using what is the default today"
        )

    def check(data: ImageData) -> None:
        check_data(data, original.manifest.source)

    publish = pipeline.run(config, runtime, folder, command, check)
    return compare(original, read_published(one_set(publish)))


def settings_of(manifest: Manifest, overrides: Overrides) -> RunConfig:
    """The settings of the run that wrote ``manifest``, with data and backbone at their revisions.

    Raises:
        RunFolderError: The name of a network or of the source is not a valid Hub id.
        OptionError: The source or the backbone was local and has to be given.
    """
    config = manifest.config
    for name in (*config.evaluate.students, *(name for name, _ in config.synthesis.pool())):
        if name not in BUILT_IN:
            remote(name, "network")
    return replace(
        config,
        data=_data(config.data, manifest.source, overrides.dataset),
        teacher=_teacher(config.teacher, manifest.teacher.revision, overrides),
    )


def _data(config: DataConfig, source: SourceRecord, dataset: str | None) -> DataConfig:
    """Columns and splits as recorded, so that nothing is inferred again."""
    resolved = replace(
        config,
        dataset=dataset,
        config_name=source.config_name,
        revision=None,
        image_column=source.image_column,
        label_column=source.label_column,
        train_split=source.train_split,
        eval_split=None if source.eval_is_holdout else source.eval_split,
    )
    if dataset is not None:
        return resolved
    if source.kind == "embedded":
        return replace(resolved, config_name=None)
    if source.kind == "hub" and source.revision:
        name = remote(source.id, "source", "data.dataset")
        return replace(resolved, dataset=name, revision=source.revision)
    raise OptionError(
        f"the source {source.id[:100]!r} was on the disk of who made this set; "
        "say where your copy is with `data.dataset` PATH"
    )


def _teacher(config: TeacherConfig, revision: str | None, overrides: Overrides) -> TeacherConfig:
    resolved = replace(
        config, trust_remote_code=overrides.trust_remote_code, backbone_revision=None
    )
    if overrides.backbone is not None:
        return replace(resolved, backbone=overrides.backbone)
    if config.backbone in BUILT_IN:
        return resolved
    if revision:
        name = remote(config.backbone, "backbone", "teacher.backbone")
        return replace(resolved, backbone=name, backbone_revision=revision)
    raise OptionError(
        f"the backbone {config.backbone[:100]!r} was on the disk of who made this set; "
        "say where your copy is with `teacher.backbone` PATH"
    )
