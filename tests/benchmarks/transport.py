"""Compare the barycenter solvers with scikit-learn and POT on real features, and time them.

python -m tests.benchmarks.transport real --checkpoint RUN/teacher --dataset cifar10 -o real.json
python -m tests.benchmarks.transport real --features features.npz -o real.json
python -m tests.benchmarks.transport scale -o scale.json

`features.npz` holds `features` (N, d) and `labels` (N,). Seconds are CPU seconds of one thread
(`time.process_time`), which other work on the machine disturbs less than the clock's.
"""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import ot
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from wdistill.config import BarycenterConfig, DataConfig, Weights
from wdistill.core.seeds import stream
from wdistill.data.dataset import load_data
from wdistill.data.pixels import PixelStore, to_float
from wdistill.networks.backbones import load_backbone
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.preprocessing import preprocessing_for, working_resolution
from wdistill.transport.barycenter import Barycenter, class_barycenter, wasserstein2

Array = NDArray[np.float64]
IPCS = (1, 10, 50, 100)
LIBRARIES = ("numpy", "scipy", "torch", "POT", "scikit-learn")
# The alternation of the official code (its numbers, not its lines): from N(0, 1), rounds of weights
# by mirror steps on the duals of ot.emd (Cuturi and Doucet 2014, alg. 1) from equal ones, the cost
# scaled to a maximum of 1, then of positions part of the way to ot.lp.free_support_barycenter's.
ROUNDS, WEIGHT_STEPS, STEP_SIZE, RELAXATION = 10, 100, 10.0, 0.2


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = time.process_time()
    return function(*arguments), time.process_time() - start


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(models),
        "threads_used": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def read_features(path: Path) -> tuple[Array, NDArray[np.int64]]:
    with np.load(path) as arrays:
        return arrays["features"], arrays["labels"]


@torch.no_grad()
def compute_features(checkpoint: str, dataset: str) -> tuple[Array, NDArray[np.int64]]:
    """Penultimate features of all training images, as the survey computes them."""
    data = load_data(DataConfig(dataset=dataset), 0, 1)
    source = find_backbone(checkpoint, resolution=data.native_size)
    resolution = working_resolution(source, None, data.native_size)
    preprocessing = preprocessing_for(source, resolution, ((0.0,) * 3, (1.0,) * 3))
    backbone = load_backbone(source, data.class_names, preprocessing, 0)
    network = FeatureNetwork(backbone.model, preprocessing, torch.device("cpu"))
    store = PixelStore(data.train, preprocessing)
    batches = store.batches(torch.arange(len(store)), 500)
    parts = [network(to_float(b, network.device), moments=False).features for b in batches]
    return torch.cat(parts).double().numpy(), np.asarray(store.labels)


def ours(y: Array, n: int, weights: Weights, label: int) -> Barycenter:
    config = BarycenterConfig(ipc=n, weights=weights)
    return class_barycenter(torch.from_numpy(y), config, stream(0, "transport", label))


def sixteen_k_means(y: Array, n: int, seed: int) -> float:
    return float(KMeans(n, n_init=16, random_state=seed).fit(y).inertia_) / len(y)


def pot(y: Array, n: int, seed: int) -> float:
    """W2^2 of POT's free_support_barycenter at its defaults, from N(0, 1), equal weights."""
    start = np.random.default_rng(seed).standard_normal((n, y.shape[1]))
    atoms = ot.lp.free_support_barycenter([y], [ot.unif(len(y))], start)
    return wasserstein2(atoms, ot.unif(n), y)


def alternating_pot(y: Array, n: int, seed: int) -> float:
    """W2^2 of the weighted problem after the alternation."""
    atoms = np.random.default_rng(seed).standard_normal((n, y.shape[1]))
    uniform, weights = ot.unif(len(y)), ot.unif(n)
    for _ in range(ROUNDS):
        weights = mirror_descent(ot.dist(atoms, y), uniform)
        there = ot.lp.free_support_barycenter([y], [uniform], atoms, weights)
        atoms = atoms + RELAXATION * (there - atoms)
    return wasserstein2(atoms, weights, y)


def mirror_descent(cost: Array, uniform: Array) -> Array:
    weights = ot.unif(len(cost))
    for _ in range(WEIGHT_STEPS):
        _, log = ot.emd(weights, uniform, cost / cost.max(), log=True)
        moved = np.maximum(weights * np.exp(-STEP_SIZE * log["u"]), 1e-12)
        moved /= moved.sum()
        if np.abs(moved - weights).sum() < 1e-9:
            break
        weights = moved
    return weights


def compare(y: Array, n: int, label: int, alternate: bool) -> dict[str, Any]:
    """One class at one IPC: W2^2 and CPU seconds of every solver."""
    free, free_s = timed(ours, y, n, "free", label)
    uniform, uniform_s = timed(ours, y, n, "uniform", label)
    k_means, k_means_s = timed(sixteen_k_means, y, n, label)
    theirs, theirs_s = timed(pot, y, n, label)
    row = {
        "ipc": n, "class": label, "points": len(y),
        "free": free.w2, "free_seconds": free_s,
        "sklearn16": k_means, "sklearn16_seconds": k_means_s,
        "uniform": uniform.w2, "uniform_seconds": uniform_s,
        "pot_uniform": theirs, "pot_uniform_seconds": theirs_s,
        "random_free": free.w2_random, "random_uniform": uniform.w2_random,
    }  # fmt: skip
    if alternate:
        value, seconds = timed(alternating_pot, y, n, label)
        row |= {"pot_free": value, "pot_free_seconds": seconds}
    return row


def summary(rows: list[dict[str, Any]], n: int) -> dict[str, Any]:
    mine = [row for row in rows if row["ipc"] == n]
    alternated = [row for row in mine if "pot_free" in row]

    def worst(name: str, rival: str) -> float:
        return max(row[name] / row[rival] for row in mine)

    return {
        "ipc": n,
        "worst_free_to_sklearn16": worst("free", "sklearn16"),
        "worst_uniform_to_pot": worst("uniform", "pot_uniform"),
        "worst_free_to_random": worst("free", "random_free"),
        "worst_free_to_alternating_pot": max(r["free"] / r["pot_free"] for r in alternated),
        "times_faster_than_alternating_pot": sum(r["pot_free_seconds"] for r in alternated)
        / sum(r["free_seconds"] for r in alternated),
        "free_seconds_per_class": float(np.mean([row["free_seconds"] for row in mine])),
        "uniform_seconds_per_class": float(np.mean([row["uniform_seconds"] for row in mine])),
    }


def show(row: dict[str, Any]) -> None:
    cells = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    click.echo("; ".join(cells))


@click.group()
def main() -> None:
    """Benchmarks of the transport solvers."""


@main.command()
@click.option("--features", type=click.Path(path_type=Path), help="npz with features, labels")
@click.option("--checkpoint", help="a wdistill teacher folder")
@click.option("--dataset", help="its dataset")
@click.option("--alternating", default=1, show_default=True, help="classes for alternating POT")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def real(
    features: Path | None, checkpoint: str | None, dataset: str | None, alternating: int,
    output: Path,
) -> None:  # fmt: skip
    """Every class of real features, IPC 1, 10, 50 and 100."""
    torch.set_num_threads(1)
    if features is not None:
        y, labels = read_features(features)
    elif checkpoint and dataset:
        y, labels = compute_features(checkpoint, dataset)
    else:
        raise click.UsageError("give --features, or --checkpoint and --dataset")
    ours(y[:500].astype(np.float64), 10, "uniform", 0)  # libraries warm up at their first call
    rows: list[dict[str, Any]] = []
    for n in IPCS:
        for label in np.unique(labels).tolist():
            part = y[labels == label].astype(np.float64)
            rows.append(compare(part, n, label, label < alternating))
            show(rows[-1])
    summaries = [summary(rows, n) for n in IPCS]
    for row in summaries:
        show(row)
    report = {"machine": machine(), "dimensions": y.shape[1], "summary": summaries, "rows": rows}
    output.write_text(json.dumps(report, indent=1) + "\n")


@main.command()
@click.option("--classes", default=1000, show_default=True)
@click.option("--measured", default=20, show_default=True, help="classes that are really solved")
@click.option("--points", default=1300, show_default=True)
@click.option("--dimensions", default=512, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def scale(classes: int, measured: int, points: int, dimensions: int, output: Path) -> None:
    """Seconds and memory for many classes of synthetic Gaussian mixtures: no real features."""
    torch.set_num_threads(1)
    ours(mixture(500, dimensions, 0), 10, "uniform", 0)
    rows: list[dict[str, Any]] = []
    for weights in ("free", "uniform"):
        for n in IPCS[1:]:
            seconds = 0.0
            for label in range(measured):
                y = mixture(points, dimensions, label)
                seconds += timed(ours, y, n, weights, label)[1]
            rows.append({
                "weights": weights, "ipc": n, "classes_measured": measured,
                "seconds_measured": seconds, "classes": classes,
                "seconds": seconds * classes / measured, "extrapolated": measured < classes,
                "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            })  # fmt: skip
            show(rows[-1])
    report = {"machine": machine(), "points": points, "dimensions": dimensions, "rows": rows}
    report["data"] = "synthetic mixtures of 20 Gaussians per class"
    output.write_text(json.dumps(report, indent=1) + "\n")


def mixture(points: int, dimensions: int, label: int) -> Array:
    generator = stream(0, "mixture", label)
    centres = 0.4 * torch.randn(20, dimensions, generator=generator)
    which = torch.randint(20, (points,), generator=generator)
    noise = torch.randn(points, dimensions, generator=generator)
    return (centres[which] + noise).double().numpy()


if __name__ == "__main__":
    main()
