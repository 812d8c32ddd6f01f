"""An evaluation on the card: one table of accuracies, and what it honestly says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from wdistill.artifact.claims.differences import caveats, is_even
from wdistill.artifact.claims.optimizers import Survival, doubts, survivals
from wdistill.artifact.claims.worth import bound, interval, own_ipc, why_untold
from wdistill.artifact.report import (
    Equivalent,
    Recipe,
    Report,
    ResultRow,
    Scores,
    gain_over,
    optimizers_of,
    panel_equivalents,
    panel_of,
    panel_rows,
    panels,
    row_of,
)
from wdistill.config import (
    BUILT_IN,
    FIXED,
    PLACEHOLDER_REPO,
    RATES,
    EvaluateConfig,
    Labels,
    Optimizer,
    RecipeName,
    StudentConfig,
)
from wdistill.errors import OptionError
from wdistill.evaluation.recipes.rates import published_rates
from wdistill.evaluation.students import STORED
from wdistill.evaluation.wording import (
    COUNTED,
    ONE_SEED,
    number,
    other_optimizers,
    percent,
    recipe_settings,
    score,
    scores_name,
    signed,
    verdicts,
)
from wdistill.publishing.card.markdown import is_hub_id

_SETS = {
    "distilled": "Distilled",
    "random": "Random real",
    "nearest": "Nearest real",
    "herding": "Herding",
    "k-centre": "k-centre",
    "easy": "Easy real",
    "tiles": "Tiles of easy real",
    "noise": "Noise, same labels",
    "full": "All real images",
}
_SCORES = {
    "improvement_over_random": "improvement over random",
    "hard_label_recovery": "hard-label recovery",
    "label_robust_score": "label-robust score",
    "augmentation_robust_score": "augmentation-robust score",
}
_ENOUGH_SEEDS = 5
LABELS = {"hard": "hard labels", "soft": "soft labels", "views": "labels of views"}


@dataclass(frozen=True)
class TableRow:
    """cells: one for each of the names of the table, empty where that set was not tried; survives:
    whether a gain under one optimiser is one under the other, too; empty where there is one.
    """

    student: str
    labels: str
    optimizer: str
    ipc: int
    cells: tuple[str, ...]
    difference: str
    survives: str
    equivalent: str


@dataclass(frozen=True)
class ReportView:
    """What the template prints of a report.

    names: of the sets of images that were tried; optimizers: whether there are several; survivals:
    whether a row says if a gain survives the other; equivalents: whether a row has its equivalent
    number; scores: those of DD-Ranking, one line per student; soft: whether random real images had
    labels of the teacher; again: the command that trains the students of the headline, empty where
    a stranger lacks one of its parts; counted: what bytes and bits are of.
    """

    names: tuple[str, ...]
    rows: tuple[TableRow, ...]
    optimizers: bool
    survivals: bool
    equivalents: bool
    verdicts: tuple[str, ...]
    scores: tuple[str, ...]
    local_students: dict[str, str]
    teacher_accuracy: str | None
    recipe: str
    comparable: str
    steps: str
    images: str
    soft: bool
    few_seeds: bool
    headline: str
    again: str
    counted: str
    rates: str


def report_view(
    report: Report, repo_id: str | None = PLACEHOLDER_REPO, seed: int = 0
) -> ReportView:
    """repo_id: of the set on the Hub, None where a stranger lacks the real images; seed: that the
    run's students were drawn with.
    """
    present = {row.images for row in report.rows}
    kinds = [kind for kind in (*_SETS, *sorted(present - set(_SETS))) if kind in present]
    with_soft_labels = [
        row for row in report.rows if row.images == "random" and row.labels in STORED
    ]
    rates = published_rates(report)
    survive = {(each.student, each.labels): each for each in survivals(report)}
    others = "".join(f"; {name} {value}" for name, value in other_optimizers(report))
    return ReportView(
        names=tuple(_SETS.get(kind, kind) for kind in kinds),
        rows=tuple(
            _row(report, distilled, kinds, survive.get((distilled.student, distilled.labels)))
            for panel in panels(report)
            if (distilled := row_of(panel_rows(report, *panel), "distilled"))
        ),
        optimizers=len(optimizers_of(report.rows)) > 1,
        survivals=bool(survive),
        equivalents=bool(report.equivalents),
        verdicts=tuple(verdicts(report)),
        scores=tuple(line for scores in report.scores if (line := _scores(report, scores))),
        local_students=dict(report.local_students),
        teacher_accuracy=percent(report.teacher.accuracy) if report.teacher else None,
        recipe=", ".join(f"{name} {value}" for name, value in recipe_settings(report.recipe))
        + others,
        comparable=report.comparable,
        steps=f"{report.recipe.steps:,}",
        images=f"{report.against.eval_images:,}",
        soft=bool(with_soft_labels),
        few_seeds=any(row.n < _ENOUGH_SEEDS for row in report.rows),
        headline=_headline(report),
        again=_again(report, repo_id, seed) if repo_id else "",
        counted=COUNTED,
        rates=f"{rates.source}; {rates.differs}" if rates else "",
    )


def first_row(report: Report) -> ResultRow | None:
    """The students of the headline, which saw nothing but the files."""
    return row_of(_first_rows(report), "distilled")


def _first_rows(report: Report) -> list[ResultRow]:
    """Of the first student, optimiser and labels that need the files alone."""
    given = [panel for panel in panels(report) if panel.labels != "teacher"]
    return panel_rows(report, *given[0]) if given else []


def _again(report: Report, repo_id: str, seed: int) -> str:
    """The command of the first row's students; there is none for students that a stranger does not
    have, and for settings without an option.
    """
    distilled = first_row(report)
    if distilled is None or distilled.student in report.local_students or report.recipe.changed:
        return ""
    if distilled.student not in BUILT_IN and not is_hub_id(distilled.student):
        return ""
    named = {each.optimizer: each for each in report.recipes}
    recipe = named.get(distilled.optimizer, report.recipe)
    fixed = _chosen(recipe) if recipe.name == "default" else {}
    try:
        students = StudentConfig(
            students=(distilled.student,),
            labels=(cast(Labels, distilled.labels),),
            steps=distilled.steps,
            seeds=distilled.n,
            **fixed,
        )
        name = cast(RecipeName, recipe.name)
        config = EvaluateConfig(repo_id, recipe=name, evaluate=students, baselines=(), seed=seed)
    except OptionError:  # a report of other hands
        return ""
    return "" if students.crop_min != StudentConfig().crop_min else config.command()


def _chosen(recipe: Recipe) -> dict[str, Any]:
    """What the recipes of papers fix, as ours has it; rates that are the optimiser's usual ones are
    left out.
    """
    optimizer = cast(Optimizer, recipe.optimizer.lower())
    values = {name: getattr(recipe, name) for name in FIXED if name != "optimizers"}
    if (recipe.lr, recipe.weight_decay) == RATES.get(optimizer):
        values |= {"lr": None, "weight_decay": None}
    return values | {"optimizers": (optimizer,)}


def _headline(report: Report) -> str:
    """What a stranger gets of the files alone, by the first row of the table."""
    rows = _first_rows(report)
    distilled, random = row_of(rows, "distilled"), row_of(rows, "random")
    if distilled is None:
        return ""
    labels = LABELS[distilled.labels]
    if len(optimizers_of(report.rows)) > 1:
        labels += f" and {distilled.optimizer}"
    text = (
        f"A new {distilled.student} that sees nothing but these files, with {labels}, reaches "
        f"{score(distilled)} in {distilled.steps:,} steps"
    )
    if random is not None:
        text += f"; with as many random real images, treated alike, {score(random)}"
        if is_even(distilled, random):
            text += ", which is no clear difference"
        elif min(distilled.n, random.n) < 2:
            text += f" ({ONE_SEED})"
    panel = panel_of(distilled)
    return "; but ".join([text, *caveats(report, *panel), *doubts(report, *panel)])


def _row(
    report: Report, distilled: ResultRow, kinds: list[str], survival: Survival | None
) -> TableRow:
    """Random real images were also tried at other numbers of images per class."""
    panel = panel_of(distilled)
    rows = panel_rows(report, *panel)
    row_of_each = [row_of(rows, kind) for kind in kinds]
    random = row_of(rows, "random")
    equivalents = panel_equivalents(report, *panel)
    return TableRow(
        student=distilled.student,
        labels=distilled.labels,
        optimizer=distilled.optimizer,
        ipc=distilled.ipc,
        cells=tuple("" if row is None else score(row) for row in row_of_each),
        difference=signed(gain_over(distilled, random)) if random else "",
        survives=survival.word if survival else "",
        equivalent=_equivalent(report, equivalents[0]) if equivalents else "",
    )


def _equivalent(report: Report, equivalent: Equivalent) -> str:
    if why_untold(report, equivalent):
        return "unknown"
    ends = interval(report, equivalent, _whole)
    sign = bound(equivalent, own_ipc(report, equivalent))
    return f"{sign}{_whole(equivalent.ipc)}" + (f" ({ends})" if ends else "")


def _whole(ipc: float) -> str:
    return number(round(ipc))


def _scores(report: Report, scores: Scores) -> str:
    values = [(words, getattr(scores, name)) for name, words in _SCORES.items()]
    shown = [f"{words} {value:z.1f}" for words, value in values if value is not None]
    return f"{scores_name(report, scores)}: {', '.join(shown)}" if shown else ""
