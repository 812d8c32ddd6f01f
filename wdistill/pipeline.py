"""The order of the stages, and what each hands to the next."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wdistill import stages
from wdistill.artifact import (
    DistilledSet,
    atomic_write,
    read_distilled,
    read_json,
    read_manifest,
    read_results,
    write_json,
    write_publishable,
)
from wdistill.card import render_card
from wdistill.config import RunConfig, RuntimeConfig
from wdistill.data import ImageData, load_data
from wdistill.devices import open_accelerator
from wdistill.errors import RunFolderError
from wdistill.figures import loss_plot, preview_grid, progress_grid, save_png
from wdistill.label_files import label_shards
from wdistill.label_views import LabelViews
from wdistill.manifest import build_manifest, device_name, versions
from wdistill.memory import keep_freed_memory
from wdistill.published import set_name
from wdistill.run_folder import Run, claim, locked
from wdistill.synthesis import TERMS
from wdistill.teacher import Networks, find_networks, open_pool, prepare_teacher
from wdistill.units import Tensors

PUBLISH = "publish"
PICTURES = "pictures"
SECONDS = "seconds.json"
VOLATILE = (  # differ between equal runs
    "created", "command", "seconds", "processes", "threads", "bytes",
)  # fmt: skip


def default_output(config: RunConfig) -> Path:
    """runs/<last part of the dataset's name>-ipc<n>."""
    dataset = config.data.dataset or "fashion-mnist-subset"
    name = Path(dataset.rstrip("/")).name.removesuffix(".parquet") or "dataset"
    return Path("runs") / f"{name}-ipc{config.barycenter.ipc}"


def run(
    config: RunConfig,
    runtime: RuntimeConfig,
    folder: Path,
    command: str,
    echo: Callable[[str], None],
    check: Callable[[ImageData], object] = lambda _: None,
) -> Path:
    """Distil, evaluate and write the publishable folder, which is returned.

    What an earlier start of the same run has finished is not computed again. ``check`` may refuse
    the data before any work starts. Raises WdistillError on anything that the user can mend.
    """
    keep_freed_memory()
    accelerator = open_accelerator(config.mixed_precision, runtime.device)
    main = accelerator.is_main_process
    with accelerator.main_process_first():
        data = load_data(config.data, config.seed, config.barycenter.ipc, runtime.quiet)
        check(data)
        networks = find_networks(config, data)
    say = echo if main else _silent
    this = Run(config, data, folder, accelerator, runtime.num_workers, runtime.quiet, say)
    with locked(folder) if main else nullcontext():
        if main:
            claim(folder, config, data.source.fingerprint)
        accelerator.wait_for_everyone()  # nobody works in a folder that is refused
        _announce(this)
        _work(this, networks, command)
    return folder / PUBLISH


def _silent(_: str) -> None:
    """What processes other than the main one say."""


def _announce(this: Run) -> None:
    data = this.data
    this.echo(
        f"dataset: {data.source.id}, {len(data.class_names)} classes, "
        f"{len(data.train)} images in {data.train_split!r}, "
        f"{len(data.eval)} in {data.eval_split!r}"
    )
    for note in data.notes:
        this.echo(f"dataset: {note}")


@contextmanager
def _timed(this: Run, stage: str) -> Iterator[None]:
    """Add the time of ``stage`` to what earlier starts of this run have spent on it."""
    began = time.perf_counter()
    try:
        yield
    finally:
        if this.accelerator.is_main_process:
            seconds = _seconds(this)
            seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began
            write_json(this.work / SECONDS, seconds)


def _seconds(this: Run) -> dict[str, float]:
    path = this.work / SECONDS
    return dict(read_json(path)) if path.exists() else {}


def _work(this: Run, networks: Networks, command: str) -> None:
    with _timed(this, "teacher"):
        ready = prepare_teacher(this, networks)
    origin = ready.description["origin"].replace("_", " ")
    this.echo(
        f"teacher: {ready.description['backbone']} ({origin}) has accuracy "
        f"{ready.accuracy:.1%} on {this.data.eval_split!r}"
    )
    if not ready.network.norms:
        this.echo("warning: the backbone has no norm layer; synthesis uses its features alone")
    with _timed(this, "transport"):
        key, targets = stages.transport(this, ready)
    w2 = _per_class(targets, this, "w2")
    this.echo(transport_table(this.data.class_names, w2))
    with _timed(this, "synthesis"):
        pool = open_pool(this, ready, networks)
        key, images = stages.synthesis(this, ready, pool, key, targets)
    with _timed(this, "relabel"):
        key, labels = stages.relabel(this, ready, key, images)
        views_key, stored = stages.views(this, ready, key, images, this.config.evaluate.temperature)
    distilled = _assemble(this.data, targets, images, labels, this)
    if this.accelerator.is_main_process:
        _pictures(this, distilled, images)
    with _timed(this, "evaluate"):
        results = stages.evaluation(this, ready, networks, key, views_key, distilled, stored)
    if this.accelerator.is_main_process:
        nearest = torch.cat([unit["nearest"] for unit in labels]).numpy()
        manifest = build_manifest(
            config=this.config, command=command, data=this.data,
            resolution=ready.train.preprocessing.resolution, teacher=ready.description,
            w2=w2[:, 0], w2_random=w2[:, 1], nearest_rmse=nearest, stored=stored,
            seconds=_seconds(this),
            device=this.accelerator.device, processes=this.accelerator.num_processes,
        )  # fmt: skip
        _publishable(this, distilled, manifest, results, stored)
    this.accelerator.wait_for_everyone()


def _per_class(targets: Sequence[Tensors], this: Run, name: str) -> Any:
    return np.stack(
        [
            targets[unit.index][f"{label}.{name}"].numpy()
            for unit in this.units
            for label in unit.classes
        ]
    )


def _stacked(images: Sequence[Tensors], name: str) -> Any:
    pixels = torch.cat([unit[name].flatten(0, 1) for unit in images])
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def _assemble(
    data: ImageData,
    targets: Sequence[Tensors],
    images: Sequence[Tensors],
    labels: Sequence[Tensors],
    this: Run,
) -> DistilledSet:
    ipc = this.config.barycenter.ipc
    return DistilledSet(
        images=_stacked(images, "pixels"),
        labels=np.repeat(np.arange(len(data.class_names), dtype=np.int64), ipc),
        weights=_per_class(targets, this, "weights").astype(np.float32).reshape(-1),
        soft_labels=torch.cat([unit["soft_labels"] for unit in labels]).numpy(),
        class_names=data.class_names,
    )


def _pictures(this: Run, distilled: DistilledSet, images: Sequence[Tensors]) -> None:
    """How synthesis went, for people: images on their way, and the terms of the loss."""
    moments = [replace(distilled, images=_stacked(images, name)) for name in ("start", "middle")]
    save_png(this.folder / PICTURES / "synthesis.png", progress_grid([*moments, distilled]))
    trace = torch.stack([unit["trace"] for unit in images]).mean(0).numpy()
    names = [f"{space}: {term}" for space in ("teacher", "pool") for term in TERMS]
    curves = {name: row for name, row in zip(names, trace.T[1:], strict=True) if row.any()}
    if curves:
        save_png(this.folder / PICTURES / "loss.png", loss_plot(trace[:, 0], curves))


def _publishable(
    this: Run,
    distilled: DistilledSet,
    manifest: dict[str, Any],
    results: dict[str, Any] | None,
    stored: LabelViews | None,
) -> None:
    root = this.folder / PUBLISH
    folder = root / set_name(this.config.barycenter.ipc)
    if _published(folder, distilled, manifest, results):
        return
    if results is not None:
        results |= {"device": device_name(this.accelerator.device), "versions": versions()}
    save_png(folder / "preview.png", preview_grid(distilled))
    write_publishable(folder, distilled, manifest, results, stored)
    atomic_write(root / "README.md", render_card(root).encode())


def _published(
    folder: Path,
    distilled: DistilledSet,
    manifest: dict[str, Any],
    results: dict[str, Any] | None,
) -> bool:
    """Whether ``folder`` holds this very result: then it stays, and a second push sends nothing."""
    try:
        known, known_results = read_manifest(folder), read_results(folder)
        same_pixels = np.array_equal(read_distilled(folder).images, distilled.images)
    except (FileNotFoundError, RunFolderError):
        return False
    return (
        same_pixels
        and (folder.parent / "README.md").exists()
        and sum(p.stat().st_size for p in label_shards(folder)) == known["bytes"]["label_views"]
        and _stable(known) == _stable(manifest)
        and (results is None or results["rows"] == (known_results or {}).get("rows"))
    )


def _stable(manifest: dict[str, Any]) -> Any:
    kept = {key: value for key, value in manifest.items() if key not in VOLATILE}
    return json.loads(json.dumps(kept))


def transport_table(class_names: Sequence[str], w2: Any, most: int = 20) -> str:
    """W2^2 of the atoms and of random real images per class, as text; the mean comes last."""
    width = min(28, max(len(name) for name in (*class_names, "mean of all classes")))
    lines = [f"{'W2^2 to the real features':{width}}  {'atoms':>9}  {'random':>9}  ratio"]
    shown = [(name, *values) for name, values in zip(class_names[:most], w2, strict=False)]
    if len(class_names) > most:
        shown.append((f"... {len(class_names) - most} more", float("nan"), float("nan")))
    for name, atoms, random in [*shown, ("mean of all classes", *w2.mean(0))]:
        if np.isnan(atoms):
            lines.append(name)
            continue
        ratio = f"{atoms / random:5.2f}" if random > 0 else "    -"
        lines.append(f"{name[:width]:{width}}  {atoms:9.3f}  {random:9.3f}  {ratio}")
    return "\n".join(lines)


def results_table(results: dict[str, Any]) -> str:
    """Accuracy of students on the distilled and on random real images, as text."""
    rows = {(row["student"], row["labels"], row["images"]): row for row in results["rows"]}
    pairs = sorted({(student, labels) for student, labels, _ in rows})
    width = max(7, *(len(student) for student, _ in pairs))
    lines = [f"{'student':{width}}  labels  {'distilled':>14}  {'random real':>14}  difference"]
    for student, labels in pairs:
        ours, random = (rows[student, labels, images] for images in ("distilled", "random"))
        cells = [_score(row) for row in (ours, random)]
        gain = 100 * (ours["top1_mean"] - random["top1_mean"])
        lines.append(
            f"{student:{width}}  {labels:6}  {cells[0]:>14}  {cells[1]:>14}  {gain:+10.1f}"
        )
    return "\n".join(lines)


def _score(row: dict[str, Any]) -> str:
    spread = f" ± {100 * row['top1_std']:4.1f}" if row["n"] > 1 else ""
    return f"{row['top1_mean']:7.1%}{spread}"
