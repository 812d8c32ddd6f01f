"""What `wdistill recipes` prints: each recipe with its source and what papers report under it."""

from __future__ import annotations

import textwrap

from wdistill.artifact.report import Recipe
from wdistill.config import RecipeName, StudentConfig
from wdistill.evaluation.recipes.named import CONVNET, NAMED, NamedRecipe
from wdistill.evaluation.recipes.published import Published, published
from wdistill.evaluation.training import recipe_for
from wdistill.evaluation.wording import recipe_settings

WIDTH = 100
EXAMPLE = 100  # images of the set whose numbers of steps are shown


def describe(name: RecipeName) -> str:
    """Source, settings for a set of a hundred images, departures and published numbers."""
    recipe = recipe_for(StudentConfig(), EXAMPLE, name)
    settings = ", ".join(f"{key} {value}" for key, value in recipe_settings(recipe)[1:])
    named = NAMED.get(name)
    lines = [name, *_wrapped("settings", f"{settings} (for {EXAMPLE} images)")]
    if named is None:
        own = "of the set's teacher, or resnet10-w16"
        lines += _wrapped("student", f"{own}; labels: hard unless others are chosen")
        lines += _wrapped("optimisers", _other_optimizer(recipe))
        lines += _wrapped("source", "wdistill's own; as wdistill run ends with")
        lines += _wrapped("published", "nothing: compare within one report only")
        return "\n".join(lines)
    return "\n".join([*lines, *_protocol(named), *map(_line, published(name))])


def _other_optimizer(own: Recipe) -> str:
    """What is different with SGD."""
    other = recipe_for(StudentConfig(), EXAMPLE, optimizer="sgd")
    changed = [pair for pair in recipe_settings(other) if pair not in recipe_settings(own)]
    words = ", ".join(f"{name} {value}" for name, value in changed if name != "optimizer")
    return f"{own.optimizer}, or {other.optimizer} with {words}, or both in one report"


def _protocol(named: NamedRecipe) -> list[str]:
    blocks = ", three blocks at 32 px, four at 64, five at 128" if named.network == CONVNET else ""
    return [
        *_wrapped("student", f"{named.network}{blocks}; labels: {named.labels}"),
        *_wrapped("source", named.source),
        *_wrapped("papers report", named.reported),
        *(line for text in named.departs for line in _wrapped("differs here", text)),
    ]


def _line(row: Published) -> str:
    values = ", ".join(f"{value:.1f} at {ipc}" for ipc, value in row.values)
    remark = f"; {row.remark}" if row.remark else ""
    text = f"{row.dataset}, {row.method}: {values} images per class ({row.source}{remark})"
    return "\n".join(_wrapped("published", text))


def _wrapped(key: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"  {key + ':':15}", subsequent_indent=" " * 17,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
