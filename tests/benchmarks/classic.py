"""Recipe classic beside the code that it follows: the same weights, and the same augmentation.

    python tests/benchmarks/classic.py --code DatasetCondensation --dataset cifar10

DatasetCondensation is a checkout of github.com/VICO-UoE/DatasetCondensation (53f63a6). Without
augmentation nothing is random but the weights at the start, so its ``evaluate_synset`` and the
recipe, started from the same weights, must end at the same ones. Of the augmentation, mean and
deviation of every pixel over many draws are compared, one operation at a time.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor, nn

from wdistill.config import DataConfig, StudentConfig
from wdistill.core.seeds import stream
from wdistill.data import dsa as ours
from wdistill.data.dataset import load_data
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.evaluation.recipes.datasets import field_dataset
from wdistill.evaluation.recipes.named import CLASSIC, field_convnet
from wdistill.evaluation.sets.baselines import random_rows
from wdistill.evaluation.training import Training, TrainingSet, train_student
from wdistill.networks.architectures import ConvNet

SIZE, TESTED = 32, 500
STRATEGIES = {
    "color": ours.colour,
    "crop": ours.crop,
    "cutout": ours.cutout,
    "flip": ours.flip,
    "scale": ours.scale,
    "rotate": ours.rotate,
}


def their_code(folder: Path) -> Any:
    """Its utils, with stand-ins for what they import and do not use here."""
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms"):
        sys.modules.setdefault(name, types.ModuleType(name))
    vision: Any = sys.modules["torchvision"]
    vision.datasets, vision.transforms = types.ModuleType("d"), types.ModuleType("t")
    moved: Any = types.ModuleType("scipy.ndimage.interpolation")
    moved.rotate = scipy.ndimage.rotate
    sys.modules["scipy.ndimage.interpolation"] = moved
    sys.path.insert(0, str(folder))
    import utils

    return utils


def same_weights(theirs: nn.Module, own: ConvNet) -> None:
    """Copy their weights, layer by layer."""
    with torch.no_grad():
        for source, target in zip(theirs.parameters(), own.parameters(), strict=True):
            target.copy_(source)


def trained(utils: Any, images: Tensor, labels: Tensor, epochs: int) -> tuple[nn.Module, nn.Module]:
    """A network trained by each code from the same weights, without augmentation."""
    known = field_dataset("cifar10")
    assert known is not None
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (known.mean, known.std))
    theirs = utils.get_network("ConvNet", 3, 10, (SIZE, SIZE))
    config = field_convnet(SIZE).config
    config.num_labels = 10
    own = ConvNet(config)  # type: ignore[arg-type]
    same_weights(theirs, own)
    settings = types.SimpleNamespace(
        device="cpu", lr_net=0.01, epoch_eval_train=epochs, batch_train=256, dsa=False,
        dc_aug_param=None,
    )  # fmt: skip
    none = torch.utils.data.DataLoader(
        utils.TensorDataset((images[:2].float() / 255 - mean) / std, labels[:2]), batch_size=2
    )
    pixels = (images.float() / 255 - mean) / std
    utils.evaluate_synset(0, theirs, pixels, labels, none, settings)
    recipe = CLASSIC.recipe(StudentConfig(epochs=epochs), len(images), known)
    data = TrainingSet(images, labels, torch.ones(len(labels)), soft=False, augment=False)
    seen = Preprocessing(SIZE, SIZE, known.mean, known.std)
    train_student(own, data, seen, Training(recipe, 0, torch.device("cpu")))
    return theirs.eval(), own


def moments(augment: Callable[[Tensor], Tensor], image: Tensor, draws: int) -> tuple[Tensor, ...]:
    """Mean and deviation of each pixel over ``draws`` draws for one image."""
    drawn = augment(image.expand(draws, *image.shape).clone())
    return drawn.mean(0), drawn.std(0)


@torch.no_grad()
def augmentation(utils: Any, image: Tensor, draws: int) -> None:
    print(f"\n{'operation':9}  mean, in standard errors: rms, most   deviation: relative rms")
    for name, operation in STRATEGIES.items():
        parameters = utils.ParamDiffAug()
        torch.manual_seed(0)
        published = partial(utils.DiffAugment, strategy=name, param=parameters)
        mean, std = moments(published, image, draws)
        own = partial(operation, generator=stream(0, "benchmark"))
        own_mean, own_std = moments(own, image, draws)
        varies = (std > 1e-6) & (own_std > 1e-6)
        error = ((own_mean - mean) / ((std**2 + own_std**2) / draws).sqrt())[varies]
        spread = (own_std - std)[varies] / std[varies]
        print(
            f"{name:9}  {float(error.square().mean().sqrt()):.2f}, {float(error.abs().max()):.2f}"
            f"{'':27}{float(spread.square().mean().sqrt()):.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--dataset", required=True, help="CIFAR-10")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--draws", type=int, default=4000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    utils = their_code(options.code)
    real = load_data(DataConfig(dataset=options.dataset), 0, 1)
    store = PixelStore(real.train, Preprocessing(SIZE, SIZE, (0.0,) * 3, (1.0,) * 3), quiet=True)
    rows = random_rows(store.labels, [options.ipc] * 10, 0, 0)
    images, labels = store.get(rows), store.labels[rows]
    theirs, own = trained(utils, images, labels, options.epochs)
    largest = max(
        float((a - b).abs().max() / a.abs().max())
        for a, b in zip(theirs.parameters(), own.parameters(), strict=True)
    )
    test = store.get(torch.arange(TESTED)).float() / 255
    with torch.no_grad():
        logits = own(test).logits
        error = float((theirs(test) - logits).abs().max() / logits.abs().max())
    print(
        f"{options.epochs} epochs of {len(images)} images without augmentation: weights differ by "
        f"{largest:.1e} of the largest, logits of {TESTED} other images by {error:.1e}"
    )
    known = field_dataset("cifar10")
    assert known is not None
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (known.mean, known.std))
    augmentation(utils, (images[0].float() / 255 - mean) / std, options.draws)


if __name__ == "__main__":
    np.random.seed(0)
    main()
