"""The card's own code: a student of its table in PyTorch, from the files alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from wdistill.artifact.manifest import Manifest
from wdistill.artifact.report import Recipe, Report, ResultRow
from wdistill.config import BUILT_IN, StudentConfig
from wdistill.evaluation.training import recipe_for
from wdistill.evaluation.wording import number
from wdistill.networks.architectures import ConvNetConfig, SmallStemResNetConfig, built_in_config

FALLBACK = "convnet-w64"  # where the student of the table is none of ours


@dataclass(frozen=True)
class Snippet:
    """What the template prints of the code.

    Attributes:
        student: The network's name.
        differs: From the first student of the table that needs the files alone: in nothing, in its
            recipe only, or as another network; or there is no such student.
        theirs: The name of that student, or nothing.
        labels: hard, soft, or views.
        imports: What the network needs beside PyTorch.
        model: The lines that build it.
        logits: What is to be taken of its output.
        under: The name of the optimiser.
        optimizer: The lines that make optimiser and schedule.
        steps: Of the optimiser.
        batch: Images or views of a step; those of an epoch are cut into nearly equal batches.
        epochs: That these steps take.
        temperature: Of the labels, as text; 1 of hard ones.
        scale: What the loss is multiplied with, or nothing.
        crop_min: Smallest share of the area that a crop shows.
    """

    student: str
    differs: Literal["nothing", "recipe", "network", "alone"]
    theirs: str
    labels: str
    imports: str
    model: str
    logits: str
    under: str
    optimizer: str
    steps: int
    batch: int
    epochs: int
    temperature: str
    scale: str
    crop_min: str


def snippet_of(manifest: Manifest, row: ResultRow | None, report: Report | None) -> Snippet:
    """The code for a set.

    Args:
        row: Of its table the first that needs the files alone; None if there is none.
        report: That has the row.
    """
    given = _recipe_of(row, report)
    config = StudentConfig(temperature=manifest.temperature)
    recipe = given or recipe_for(config, manifest.images)
    student = row.student if row else manifest.teacher.backbone
    ours = student in BUILT_IN and (report is None or student not in report.local_students)
    if not ours:
        student = FALLBACK
    labels = row.labels if row else _published(manifest)
    rows = manifest.images
    if labels == "views" and manifest.label_views:
        rows *= manifest.label_views.views
    batch = math.ceil(rows / math.ceil(rows / recipe.batch_size))
    temperature = 1.0 if labels == "hard" else recipe.temperature
    imports, model, logits = _network(student, manifest.resolution, len(manifest.classes))
    sgd = recipe.optimizer == "SGD"
    trained: Literal["nothing", "recipe", "network"]
    trained = "network" if not ours else "recipe" if given is None else "nothing"
    return Snippet(
        student=student,
        differs="alone" if row is None else trained,
        theirs=row.student if row else "",
        labels=labels,
        imports=imports,
        model=model,
        logits=logits,
        under=recipe.optimizer,
        optimizer=_optimizer(recipe),
        steps=recipe.steps,
        batch=batch,
        epochs=math.ceil(recipe.steps * batch / rows),
        temperature=number(temperature),
        scale=" * T * T" if sgd and temperature != 1 else "",
        crop_min=number(recipe.crop_min or 1.0),
    )


def _recipe_of(row: ResultRow | None, report: Report | None) -> Recipe | None:
    """That of the first row; None if it is not our own protocol, unchanged, with our optimisers."""
    if report is None or row is None:
        return None
    named = {each.optimizer: each for each in report.recipes}
    recipe = named.get(row.optimizer, report.recipe)
    if recipe.name != "default" or recipe.changed or recipe.optimizer not in ("AdamW", "SGD"):
        return None
    return recipe.model_copy(update={"steps": row.steps})


def _published(manifest: Manifest) -> str:
    if manifest.label_views is not None:
        return "views"
    return "hard" if manifest.labels.hard_soft or manifest.labels.giver == "none" else "soft"


def _optimizer(recipe: Recipe) -> str:
    momentum = f"momentum={recipe.momentum or 0:g}, " if recipe.optimizer == "SGD" else ""
    rates = f"lr={recipe.lr:g}, {momentum}weight_decay={recipe.weight_decay:g}"
    return (
        f"optimizer = torch.optim.{recipe.optimizer}(model.parameters(), {rates})\n"
        f"schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, {recipe.steps})"
    )


def _network(name: str, resolution: int, classes: int) -> tuple[str, str, str]:
    """(imports, lines, what to take of the output) of a built-in architecture."""
    config = built_in_config(name, resolution)
    if isinstance(config, ConvNetConfig):
        width, side = config.width, config.image_size // 2**config.depth
        return "", _CONVNET.format(w=width, more=config.depth - 1, f=width * side**2, c=classes), ""
    kind = "ViT" if name == "vit" else "ResNet"
    fields = {
        "ViT": ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                "image_size", "patch_size"),
        "ResNet": ("embedding_size", "hidden_sizes", "depths", "layer_type"),
    }[kind]  # fmt: skip
    given = "".join(f"    {field}={getattr(config, field)!r},\n" for field in fields)
    model = (
        f"config = {kind}Config(\n{given}    num_labels={classes},\n)\n"
        f"model = {kind}ForImageClassification(config)"
    )
    if isinstance(config, SmallStemResNetConfig):
        model += _SMALL_STEM.format(w=config.embedding_size)
    imports = f"from transformers import {kind}Config, {kind}ForImageClassification"
    return imports, model.replace("'", '"'), ".logits"


_CONVNET = """\
layers = []
for channels in (3, *[{w}] * {more}):
    layers += [nn.Conv2d(channels, {w}, 3, padding=1), nn.GroupNorm({w}, {w})]
    layers += [nn.ReLU(), nn.AvgPool2d(2)]
model = nn.Sequential(*layers, nn.Flatten(), nn.Linear({f}, {c}))"""
_SMALL_STEM = """
# For small images: a first layer that keeps their size.
model.resnet.embedder.embedder.convolution = nn.Conv2d(3, {w}, 3, padding=1, bias=False)
model.resnet.embedder.pooler = nn.Identity()"""
