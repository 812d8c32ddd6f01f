"""Our synthesis step against a plain loop of the published kind, on one network, in one run.

    python -m tests.benchmarks.synthesis [--resolution 32] [--backbone resnet10-w16] [--ipc 10]

The plain loop is written from the method's description (arXiv 2311.18531, section 3.3 and SRe2L's
recover stage): one class at a time, a batch norm hook that takes the statistics of the batch, one
random crop and flip for the whole batch by torch's own resize, fp32, the teacher alone. Both loops
see the same random targets: nothing here depends on how good they are. Prints images x iterations
per second of both and their ratio, and writes them with device and versions to --output.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wdistill.config import SynthesisConfig
from wdistill.core.devices import device_name, keep_freed_memory, versions
from wdistill.core.seeds import stream
from wdistill.data.pixels import Preprocessing
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.optimise import ClassTarget, Objective, synthesise
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, Terms
from wdistill.synthesis.spectrum import measure_spectrum

CLASSES = tuple("abcdefghij")


class BatchStatistics:
    """Mean and variance over the batch of a BatchNorm layer's input, seen by a hook."""

    def __init__(self, layer: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
        self.mean, self.variance, self.loss = mean, variance, torch.zeros(())
        layer.register_forward_hook(self.hook)

    def hook(self, _: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        x = inputs[0]
        mean = x.mean([0, 2, 3])
        variance = x.permute(1, 0, 2, 3).reshape(x.shape[1], -1).var(1, unbiased=False)
        self.loss = torch.norm(self.variance - variance) + torch.norm(self.mean - mean)


def plain_class(
    model: nn.Module,
    hooks: list[BatchStatistics],
    atoms: Tensor,
    start: Tensor,
    steps: int,
) -> Tensor:
    """The images of one class, by the plain loop."""
    images = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([images], lr=0.1, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    features: list[Tensor] = []
    classifier = model.get_submodule("classifier")
    handle = classifier.register_forward_hook(lambda _, x, __: features.append(x[0]))
    size = start.shape[-1]
    for _ in range(steps):
        side = int(size * (0.4 + 0.6 * float(torch.rand(()))) ** 0.5)
        top, left = (int(torch.randint(0, size - side + 1, ())) for _ in range(2))
        seen = images[:, :, top : top + side, left : left + side]
        seen = F.interpolate(seen, size=(size, size), mode="bilinear", align_corners=False)
        if torch.rand(()) < 0.5:
            seen = seen.flip(3)
        features.clear()
        model(seen)
        loss = F.mse_loss(features[0].flatten(1), atoms) + 10 * sum(hook.loss for hook in hooks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        float(loss.detach())  # the published loop looks at its loss
    handle.remove()
    return images.detach()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _moments(model: nn.Module) -> list[tuple[nn.BatchNorm2d, Tensor, Tensor]]:
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    where = [(m, m.num_features, m.weight.device) for m in layers]
    return [(m, torch.zeros(n, device=at), torch.ones(n, device=at)) for m, n, at in where]


@click.command()
@click.option("--backbone", default="resnet10-w16", show_default=True)
@click.option("--resolution", default=32, show_default=True)
@click.option("--ipc", default=10, show_default=True)
@click.option("--steps", default=10, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="The best of so many is kept.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--bf16", is_flag=True, help="Our loop in bf16; the plain one stays in fp32.")
@click.option("--output", type=click.Path(path_type=Path))
def main(
    backbone: str,
    resolution: int,
    ipc: int,
    steps: int,
    rounds: int,
    device: str,
    bf16: bool,
    output: Path | None,
) -> None:
    keep_freed_memory()
    where = torch.device(device)
    pixels = Preprocessing(resolution, 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    source = find_backbone(backbone, resolution=resolution)
    plain = new_network(source, CLASSES, resolution, 0).to(where).eval().requires_grad_(False)
    network = FeatureNetwork(new_network(source, CLASSES, resolution, 0), pixels, where)
    width = network(torch.zeros(1, 3, resolution, resolution, device=where)).features.shape[1]
    atoms = torch.rand(len(CLASSES), ipc, width)
    start = torch.rand(len(CLASSES), ipc, 3, resolution, resolution, generator=stream(0, "start"))
    spectrum = measure_spectrum([(start.flatten(0, 1) * 255).to(torch.uint8)])
    layers = _moments(plain)
    means = tuple(mean.cpu() for _, mean, _ in layers)
    variances = tuple(variance.cpu() for _, _, variance in layers)
    targets = [
        ClassTarget(c, torch.full((ipc,), 1 / ipc), (SpaceTarget(atoms[c], 1.0, means, variances),))
        for c in range(len(CLASSES))
    ]
    config = SynthesisConfig(iterations=steps)
    space = FeatureSpace("teacher", network, Terms(1.0, moments=10.0), "")
    size = max(1, config.images_per_step // ipc)

    def ours() -> None:
        for first in range(0, len(CLASSES), size):
            group = targets[first : first + size]
            streams = [stream(0, "benchmark", target.label) for target in group]
            begin = [*start[first : first + size]]
            precision = torch.bfloat16 if bf16 else None
            objective = Objective([space], spectrum, config, precision)
            synthesise(objective, group, begin, streams)

    def theirs() -> None:
        for label in range(len(CLASSES)):
            plain_class(plain, hooks, atoms[label].to(where), start[label].to(where), steps)

    hooks = [BatchStatistics(*entry) for entry in layers]
    times = [(seconds(theirs, where), seconds(ours, where)) for _ in range(rounds + 1)][1:]
    work = len(CLASSES) * ipc * steps
    rates = {name: work / min(t[i] for t in times) for i, name in enumerate(("plain", "ours"))}
    result = {
        "backbone": backbone,
        "resolution": resolution,
        "ipc": ipc,
        "images_x_iterations_per_second": {k: round(v, 1) for k, v in rates.items()},
        "ratio": round(rates["ours"] / rates["plain"], 2),
        "bf16": bf16,
        "threads": torch.get_num_threads(),
        "device": device_name(where),
        "versions": versions(),
    }
    click.echo(json.dumps(result, indent=2))
    if output:
        output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
