"""Which split is trained on and which evaluates, and the rows of each."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import datasets

from wdistill.config import DataConfig
from wdistill.data.local.layout import SPLIT_WORDS
from wdistill.data.opened import Opened
from wdistill.errors import DataError

EVAL_KINDS = ("validation", "test")
Piece = tuple[str, int, int]  # a stored split, its first row, and the row after the last


def eval_names(opened: Opened, config: DataConfig, train_name: str) -> list[str]:
    if config.eval_split is not None:
        return [config.eval_split]
    trained = names_in(train_name)
    kinds = EVAL_KINDS[1:] if _kind(train_name) == "trainval" else EVAL_KINDS
    return [
        name
        for kind in kinds
        for name in sorted(opened.names, key=_usual)
        if _kind(name) == kind and name not in trained
    ]


def _kind(name: str) -> str | None:
    """What split a name means: ``validation`` of ``Val``, None of ``spring``."""
    return SPLIT_WORDS.get(name.lower())


def _usual(name: str) -> int:
    """The place of a name among those of its kind, the usual first."""
    words = list(SPLIT_WORDS)
    return words.index(name.lower()) if name.lower() in words else len(words)


def train_name(opened: Opened, config: DataConfig, setting: str = "data.train_split") -> str:
    if config.train_split is not None:
        return config.train_split
    for kind in ("train", "trainval"):
        usual = sorted((name for name in opened.names if _kind(name) == kind), key=_usual)
        if usual:
            return usual[0]
    if len(opened.names) == 1:
        return opened.names[0]
    found = ", ".join(opened.names) or "no splits"
    raise DataError(f"the dataset has no split 'train' but {found}; choose one with `{setting}`")


def names_in(spec: str) -> list[str]:
    return re.findall(r"(?:^|\+)([^\[+(]*)", spec)


def rows_of(opened: Opened, spec: str, setting: str) -> tuple[Any, list[Piece]]:
    """Rows of ``train``, ``train[:10%]`` or ``train+extra``, in the syntax of `datasets`, and which
    rows of the stored splits they are.
    """
    names = names_in(spec)
    unknown = [name for name in names if name not in opened.names]
    if unknown:
        allowed = ", ".join(opened.names)
        raise DataError(
            f"`{setting}` {spec!r}: no split is called {unknown[0]!r}; choose from {allowed}"
        )
    stored = {name: opened.read(name) for name in dict.fromkeys(names)}
    if spec in stored:
        return stored[spec], [(spec, 0, len(stored[spec]))]
    try:
        sizes = {name: len(dataset) for name, dataset in stored.items()}
        found = datasets.ReadInstruction.from_spec(spec).to_absolute(sizes)
    except (ValueError, AssertionError) as error:
        raise DataError(
            f"`{setting}` {spec!r} is not a split; write for example 'train[:10%]'"
        ) from error
    pieces = [(piece.splitname, piece.from_, piece.to) for piece in found]
    rows = [stored[name].select(range(first, end)) for name, first, end in pieces]
    return datasets.concatenate_datasets(rows), pieces


def check_apart(trained: str, ours: list[Piece], tested: str, theirs: list[Piece]) -> None:
    """No image is both trained on and tested on."""
    for (name, first, end), (other, begin, stop) in product(ours, theirs):
        if name == other and max(first, begin) < min(end, stop):
            raise DataError(
                f"`data.eval_split` {tested!r} has images of split {name!r} that are also in the "
                f"training split {trained!r}; choose others"
            )


def unused_splits(opened: Opened, used: set[str]) -> tuple[str, ...]:
    """A line about splits that nobody asked for, with their rows where they are known."""
    rest = [
        f"{name!r}" + (f" ({opened.sizes[name]:,} images)" if opened.sizes.get(name) else "")
        for name in sorted(opened.names)
        if name not in used
    ]
    return (f"Splits that are not used: {', '.join(rest)}.",) if rest else ()
