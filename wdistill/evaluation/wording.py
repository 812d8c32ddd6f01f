"""Wording of a report that the card, the page and the terminal share.

Losses are stated as plainly as gains.
"""

from __future__ import annotations

from wdistill.artifact.claims.differences import caveats, is_even
from wdistill.artifact.claims.optimizers import survivals
from wdistill.artifact.claims.worth import why_untold
from wdistill.artifact.report import (
    Recipe,
    Report,
    ResultRow,
    Scores,
    gain_over,
    optimizers_of,
    panel_equivalents,
    panel_name,
    panel_rows,
    panels,
    row_of,
)

ONE_SEED = "one seed, so the spread is unknown"
COUNTED = (  # real images that were drawn have no parquet files to be measured
    "Bytes and bits of what was trained on are counted before parquet: files of images, 4 bytes "
    "for a weight, 8 for a class or 4 for each number of a soft label, and 4 for each parameter of "
    "a network that labels in training; only labels of views count as their parquet files do."
)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def signed(value: float, digits: int = 1) -> str:
    """``+1.2``, ``−0.4``; zero has no sign."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def spread(mean: float, std: float, n: int) -> str:
    """``87.3 ± 0.4 %``; one seed has no spread."""
    return percent(mean) if n < 2 else f"{100 * mean:.1f} ± {100 * std:.1f} %"


def score(row: ResultRow) -> str:
    """``87.3 ± 0.4 % (n = 3)``."""
    return f"{spread(row.top1_mean, row.top1_std, row.n)} (n = {row.n})"


_AUGMENTATIONS = {
    "crops": "resized crops and flips",
    "dsa": "DSA, one operation a step",
    "dsa idc": "DSA, flips and colours and one operation a step",
}


def recipe_settings(recipe: Recipe) -> list[tuple[str, str]]:
    """Names and values, in words; a setting that is not used is left out."""
    settings = recipe.model_dump()
    settings["augmentation"] = _AUGMENTATIONS.get(recipe.augmentation, recipe.augmentation)
    settings["flips"] = None if recipe.flips else "none"
    settings["restarts"] = "at each drop" if recipe.restarts else None
    settings["cutmix"] = recipe.cutmix or None
    used = {name: value for name, value in settings.items() if value not in (None, ())}
    return [(name.replace("_", " "), _setting(value)) for name, value in used.items()]


def _setting(value: float | str | tuple[int | str, ...]) -> str:
    if isinstance(value, tuple):
        return " and ".join(_setting(each) for each in value)
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else number(value)


def other_optimizers(report: Report) -> list[tuple[str, str]]:
    """``with SGD``, and the settings that differ from those of the first recipe, for each."""
    settings = recipe_settings(report.recipe)
    lines = []
    for other in report.other_recipes:
        own = [pair for pair in recipe_settings(other) if pair not in settings]
        words = ", ".join(f"{name} {value}" for name, value in own if name != "optimizer")
        lines.append((f"with {other.optimizer}", words))
    return lines


def scores_name(report: Report, scores: Scores) -> str:
    """The student, with its optimiser where the report has several."""
    several = len(optimizers_of(report.rows)) > 1
    return f"{scores.student}, {scores.optimizer}" if several else scores.student


def verdicts(report: Report) -> list[str]:
    """Of each student, kind of labels and optimiser: the set against as many random real images,
    what takes a gain back, and why its worth in such images is not said; then whether gains survive
    the other optimiser.
    """
    sentences = []
    for panel in panels(report):
        rows = panel_rows(report, *panel)
        distilled, random = row_of(rows, "distilled"), row_of(rows, "random")
        said = caveats(report, *panel)
        if distilled is not None and random is not None:
            said.insert(0, _verdict(distilled, random))
        said += [f"worth unknown: {why}" for why in untold(report, *panel)]
        if said:
            sentences.append(f"{panel_name(report, *panel)}: {'; '.join(said)}.")
    sentences += [f"{each.student}, {each.labels} labels: {each}." for each in survivals(report)]
    return sentences


def untold(report: Report, student: str, labels: str, optimizer: str) -> list[str]:
    """Why the set's worth in random real images is not said, although it was measured."""
    equivalents = panel_equivalents(report, student, labels, optimizer)
    reasons = [why_untold(report, equivalent) for equivalent in equivalents]
    return [reason for reason in reasons if reason]


def _verdict(distilled: ResultRow, random: ResultRow) -> str:
    gain = gain_over(distilled, random)
    doubt = "" if min(distilled.n, random.n) > 1 else f" ({ONE_SEED})"
    if is_even(distilled, random):
        return f"no clear difference ({signed(gain)} points, within the spread over seeds)"
    if gain > 0:
        return f"the distilled images are {gain:.1f} points better than random real images{doubt}"
    if gain < 0:
        better = "" if doubt else ", which are the better choice here"
        return (
            f"the distilled images are {-gain:.1f} points worse than random real images"
            f"{better}{doubt}"
        )
    return f"the distilled images and random real images score the same{doubt}"
