"""How hard an early network finds each training image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.config import StudentConfig
from wdistill.core.seeds import stream_seed
from wdistill.data.pixels import PixelStore, to_float
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import STUDENTS, find_backbone
from wdistill.networks.features import FeatureNetwork

NETWORK = "convnet-w64"  # [own] the quickest that is built in
STEPS = 400  # [own] of 128 images: one epoch of CIFAR-10
BATCH = 128
READ = 256


@torch.no_grad()
def errors(logits: Tensor, labels: Tensor) -> Tensor:
    """EL2N || softmax(z) - onehot(y) ||, (B,), from 0 to sqrt(2); Paul et al., arXiv 2107.07075."""
    distance: Tensor = logits.softmax(1) - F.one_hot(labels, logits.shape[1])
    return distance.square().sum(1).sqrt()


def early_errors(
    train: PixelStore, class_names: tuple[str, ...], seed: int, device: torch.device
) -> Tensor:
    """(N,) EL2N of all training images, by one network that was trained on them for ``STEPS``.

    The paper averages ten networks after ten epochs; one that has seen each image once ranks the
    easiest ones, which is all that is needed here [own choice, for its cost].
    """
    source = find_backbone(NETWORK, resolution=train.preprocessing.resolution, setting=STUDENTS)
    network_seed = stream_seed(seed, "early") % 2**31
    model = new_network(source, class_names, train.preprocessing.resolution, network_seed)
    count = len(train)
    config = StudentConfig(steps=STEPS, batch_size=min(BATCH, count))
    data = TrainingSet(train, train.labels, torch.ones(count), soft=False)
    training = Training(recipe_for(config, count), network_seed, device)
    train_student(model, data, train.preprocessing, training)
    network = FeatureNetwork(model, train.preprocessing, device)
    rows, found = torch.arange(count), []
    with torch.no_grad():
        for chunk, pixels in zip(rows.split(READ), train.batches(rows, READ), strict=True):
            logits = network(to_float(pixels, device), moments=False).logits
            found.append(errors(logits.cpu(), train.labels[chunk]))
    return torch.cat(found)
