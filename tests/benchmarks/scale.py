"""Whole runs with more and more classes: peak memory and seconds of each stage.

    python -m tests.benchmarks.scale --cifar10 PARQUET-FOLDER --work DIR -o scale-run.json

The classes are artificial, their images real: class k holds four crops of each of fifty training
images of CIFAR-10, 32 pixels, so that 1,000 classes have 200,000 images. What counts here is how
much, not how well: one epoch for the teacher, five steps of synthesis, one epoch for the students.
Memory is that of the run's process, looked up ten times a second, as MiB: the most that was its own
(RssAnon), also as a multiple of that with the fewest classes, and the largest resident set (VmHWM),
in which pages of the dataset's mapped files count that the system takes back when it needs them.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import datasets
from PIL import Image
from tqdm import tqdm

from wdistill.artifact.layout import one_set
from wdistill.core.devices import versions
from wdistill.core.files import write_json

SIDE, CROP = 32, 28
SOURCES = {"train": 50, "test": 2}  # images of CIFAR-10 behind a class
RUN = (
    "--teacher-epochs", "1", "--allow-weak-teacher", "--iterations", "5", "--eval-epochs", "1",
    "--eval-seeds", "1", "--feature-spaces", "convnet-w64:2",
)  # fmt: skip


def crops(cell: dict[str, Any]) -> list[bytes]:
    """Four corners of an image, as large as the image again, as PNG."""
    made = []
    with Image.open(io.BytesIO(cell["bytes"])) as image:
        for left in (0, SIDE - CROP):
            for top in (0, SIDE - CROP):
                file = io.BytesIO()
                part = image.crop((left, top, left + CROP, top + CROP))
                part.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(file, "PNG")
                made.append(file.getvalue())
    return made


def build(cifar10: Path, folder: Path, classes: int) -> Path:
    """A folder of parquet files with ``classes`` artificial classes."""
    names = [f"class {index:04d}" for index in range(classes)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in SOURCES.items():
        path = folder / f"{split}.parquet"
        if path.exists():
            continue
        source = datasets.load_dataset("parquet", data_files=str(cifar10 / f"{split}.parquet"))
        column = next(
            n for n, f in source["train"].features.items() if isinstance(f, datasets.Image)
        )
        images = source["train"].cast_column(column, datasets.Image(decode=False))[column]
        rows: dict[str, list[Any]] = {"image": [], "label": []}
        for index in tqdm(range(classes * count), desc=path.name):
            made = crops(images[index])
            rows["image"] += [{"bytes": data, "path": None} for data in made]
            rows["label"] += [index // count] * len(made)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    return folder


def measured(source: Path, output: Path, ipc: int) -> dict[str, Any]:
    """A whole run in a process of its own."""
    command = [sys.executable, "-m", "wdistill", "run", "--dataset", str(source)]
    command += [*RUN, "--ipc", str(ipc), "--output", str(output), "-q"]
    child, peak = subprocess.Popen(command), dict.fromkeys(("RssAnon", "VmHWM"), 0)
    while child.poll() is None:
        for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in peak:
                peak[name] = max(peak[name], int(value.split()[0]))
        time.sleep(0.1)
    if child.returncode:
        raise click.ClickException(f"exit code {child.returncode} of {' '.join(command)}")
    manifest = json.loads((one_set(output) / "wdistill.json").read_text())
    return {
        "classes": len(manifest["classes"]), "images": manifest["source"]["train_images"],
        "ipc": ipc, "own_mib": round(peak["RssAnon"] / 1024),
        "resident_mib": round(peak["VmHWM"] / 1024), "seconds": manifest["seconds"],
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    stages = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
    head = ["IPC", "classes", "images", "memory, MiB", "of the first", "with mapped files", *stages]
    lines = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
    for row in sorted(rows, key=lambda r: (r["ipc"], r["classes"])):
        first = min((r for r in rows if r["ipc"] == row["ipc"]), key=lambda r: r["classes"])
        cells = [
            str(row["ipc"]),
            f"{row['classes']:,}",
            f"{row['images']:,}",
            f"{row['own_mib']:,}",
        ]
        cells += [f"{row['own_mib'] / first['own_mib']:.2f}", f"{row['resident_mib']:,}"]
        cells += [f"{row['seconds'].get(stage, 0):.0f} s" for stage in stages]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.option("--cifar10", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--classes", multiple=True, type=int, default=(100, 1000))
@click.option("--ipc", "ipcs", multiple=True, type=int, default=(10, 50))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    cifar10: Path, work: Path, classes: tuple[int, ...], ipcs: tuple[int, ...], output: Path
) -> None:
    known = json.loads(output.read_text())["rows"] if output.exists() else []
    done = {(row["classes"], row["ipc"]) for row in known}
    for count in classes:
        source = build(cifar10, work / f"classes-{count}", count)
        for ipc in ipcs:
            if (count, ipc) not in done:
                known.append(measured(source, work / f"run-{count}-{ipc}", ipc))
                write_json(output, {"rows": known, "versions": versions()})
    click.echo(table(known))


if __name__ == "__main__":
    main()
