"""What papers report under each recipe, and with which of it a report may be compared."""

from __future__ import annotations

from dataclasses import dataclass

from wdistill.artifact.report import Recipe
from wdistill.config import RecipeName
from wdistill.evaluation.recipes.datasets import FieldDataset, field_dataset
from wdistill.evaluation.recipes.named import NAMED

_DC_BENCH = "Cui et al., arXiv 2207.09639 (dc-bench.github.io), best of its augmentations"


@dataclass(frozen=True)
class Published:
    """Accuracies of one method on one dataset, in percent.

    Attributes:
        values: (images per class, accuracy), in rising order.
        source: The paper that reports them.
        remark: What a reader must know before comparing; empty if nothing.
    """

    recipe: RecipeName
    dataset: str
    method: str
    values: tuple[tuple[int, float], ...]
    source: str
    remark: str = ""


def _at(*values: float, ipcs: tuple[int, ...] = (1, 10, 50)) -> tuple[tuple[int, float], ...]:
    return tuple(zip(ipcs, values, strict=True))


_DSA = "Zhao and Bilen, arXiv 2102.08259"
_DM = "Zhao and Bilen, arXiv 2110.04181"
_IDC = "Kim et al., arXiv 2205.14959"
_TILES = "four images are decoded from each stored one"
_WMDD = "Liu et al., arXiv 2311.18531"
_QUOTED = "as notes on the paper quote it"
_EDC = "Shao et al., arXiv 2404.13733"
PUBLISHED = (
    Published("classic", "CIFAR-10", "DSA", _at(28.8, 52.1, 60.6), _DSA),
    Published(
        "classic", "CIFAR-10", "DM", _at(26.0, 48.9, 63.0), _DM,
        "57 instead of 63 in an attempt to reproduce it (issue 34 of its repository)",
    ),
    Published(
        "classic", "CIFAR-10", "CAFE+DSA", _at(31.6, 50.9, 62.3), "Wang et al., arXiv 2203.01531"
    ),
    Published("classic", "CIFAR-10", "random real images", _at(15.4, 31.0, 50.6), _DC_BENCH),
    Published(
        "classic", "CIFAR-10", "k-centre", _at(25.2, 41.5, 56.0), _DC_BENCH,
        "real images, by k-means in the features of a trained network",
    ),
    Published("classic", "CIFAR-100", "DSA", _at(13.9, 32.3, 42.8), _DSA),
    Published("classic", "CIFAR-100", "DM", _at(11.4, 29.7, 43.6), _DM),
    Published("classic", "Fashion-MNIST", "DSA", _at(70.6, 84.6, 88.7), _DSA),
    Published("classic", "Fashion-MNIST", "DM", _at(70.7, 83.5, 88.1), _DM),
    Published("classic", "SVHN", "DSA", _at(27.5, 79.2, 84.4), _DSA),
    Published("classic", "Tiny ImageNet", "DM", _at(3.9, 12.9, 24.1), _DM),
    Published("idc", "CIFAR-10", "IDC-I", _at(36.7, 58.3, 69.5), _IDC),
    Published("idc", "CIFAR-10", "IDC", _at(50.6, 67.5, 74.5), _IDC, _TILES),
    Published(
        "idc", "CIFAR-10", "DREAM", _at(51.1, 69.4, 74.8), "Liu et al., arXiv 2302.14416", _TILES
    ),
    Published(
        "idc", "CIFAR-10", "DANCE", _at(47.1, 70.8, 76.1), "Zhang et al., arXiv 2406.01063", _TILES
    ),
    Published("idc", "Fashion-MNIST", "IDC-I", _at(70.7, 85.3, 89.1), _IDC),
    Published("idc", "Fashion-MNIST", "IDC", _at(81.0, 86.0, 86.2), _IDC, _TILES),
    Published("idc", "SVHN", "IDC-I", _at(46.7, 77.0, 87.9), _IDC),
    Published("idc", "SVHN", "IDC", _at(68.5, 87.5, 90.1), _IDC, _TILES),
    Published(
        "wmdd", "ImageNette", "WMDD", _at(40.2, 64.8, 87.1, ipcs=(1, 10, 100)), _WMDD, _QUOTED
    ),
    Published("wmdd", "Tiny ImageNet", "WMDD", _at(59.4, 61.0, ipcs=(50, 100)), _WMDD, _QUOTED),
    Published(
        "wmdd", "ImageNet-1K", "WMDD", _at(38.2, 57.6, 60.7, ipcs=(10, 50, 100)), _WMDD, _QUOTED
    ),
    Published("edc", "CIFAR-10", "EDC", _at(32.6, 79.1, 87.0), _EDC, "eight teachers label"),
)  # fmt: skip
_NOT = {
    "classic": "those of DC and of the random and herding rows beside it (300 epochs without DSA), "
    "of whitened images (MTT, DataDAM, FRePo), of CutMix at the student (IDC, NCFM) or of soft "
    "labels",
    "idc": "those of the classic judge (DC, DSA, DM), of whitened images (MTT, DataDAM) or of soft "
    "labels; and its papers report the best of several tests, here it is the last epoch",
    "wmdd": "those of hard labels, of other teachers or of other recipes with soft labels (EDC, "
    "RDED)",
    "edc": "those of other recipes (SRe2L, RDED), and with its own only beside eight teachers: "
    "here one labels",
}


def published(recipe: RecipeName, dataset: str | None = None) -> list[Published]:
    """The rows of a recipe, or of one of its datasets."""
    rows = [row for row in PUBLISHED if row.recipe == recipe]
    return [row for row in rows if dataset in (None, row.dataset)]


@dataclass(frozen=True)
class RealTest:
    """The real data of a report: id, number of classes, number of test images."""

    id: str
    classes: int
    images: int


def comparable(recipe: Recipe, row: str, tested: RealTest) -> str:
    """With which published numbers a report may be compared, and with which not, in one line.

    Args:
        recipe: How its students were trained, with what differs from the recipe of that name.
        row: The student and the labels that the recipe names, ``convnet-3 with hard labels``.
        tested: The real data.
    """
    if recipe.name not in NAMED:
        return (
            "Recipe default is wdistill's own: compare the rows of this report with one another, "
            "and with no published number."
        )
    lead = f"Recipe {recipe.name}"
    if recipe.changed:
        return (
            f"{lead}, changed ({'; '.join(recipe.changed)}): compare only with what was measured "
            "with the same changes, and with no published number."
        )
    known = field_dataset(tested.id)
    if known is not None and (known.classes, known.test_images) != (tested.classes, tested.images):
        return (
            f"{lead}, on {tested.classes:,} classes and {tested.images:,} test images where papers "
            f"have {known.classes:,} and {known.test_images:,}: compare with no published number."
        )
    rows = [] if known is None else published(NAMED[recipe.name].name, known.name)
    if known is None or not rows:
        return f"{lead}: no published numbers under it are known for {tested.id!r}."
    return (
        f"{lead}: {row} may stand beside {_methods(rows, known)}; not beside {_NOT[recipe.name]}."
    )


def _methods(rows: list[Published], dataset: FieldDataset) -> str:
    names = [row.method for row in rows]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"the published numbers of {listed} on {dataset.name}"
