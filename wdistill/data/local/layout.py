"""What folders of images mean: which are splits, which are classes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wdistill.core.text import folded
from wdistill.data.local.tree import Parts
from wdistill.errors import DataError

# What names of folders and files say of a split, as `datasets` reads them.
SPLIT_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "dev": "validation", "val": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "trainval": "trainval",
}  # fmt: skip
SHAPE = "a folder of images has one folder for each class, with all of its images directly in it"


@dataclass(frozen=True)
class Layout:
    """splits: of each, its folders and what they are called at each level that tells images apart,
    from the outside in; no names where a split has no classes. levels: how many there are.
    """

    splits: Mapping[str, Mapping[Parts, Parts]]
    levels: int
    notes: tuple[str, ...] = ()


def split_word(name: str) -> str | None:
    """The split that a word of ``name`` speaks of: ``test`` of ``my-test 2``."""
    words = re.split(r"[-._ 0-9]+", name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def arrange(folders: Mapping[Parts, str]) -> Layout:
    """The layout of folders, each with the path of one of its images.

    Raises DataError where images lie at different depths, of which none is known to be the class.
    """
    skipped = _common(folders)
    below = {parts: parts[skipped:] for parts in folders}
    splits, notes = _splits(below)
    named = {split: _named(split, inner, folders) for split, inner in splits.items()}
    leading = _leading(named)
    levels = len(next(iter(named[leading].values())))
    classes = {folded(names[-1]) for names in named[leading].values() if names}
    for split, inner in named.items():
        strange = {names for names in inner.values() if names}
        unknown = len(strange) == 1 and not {folded(names[-1]) for names in strange} & classes
        if split != leading and unknown:  # test/unknown, val/images
            named[split] = dict.fromkeys(inner, ())
        elif strange and len(next(iter(strange))) != levels:
            raise DataError(
                f"folders of split {leading!r} lie {levels} deep, those of split {split!r} do not "
                f"({'/'.join(next(iter(strange)))!r}); {SHAPE}"
            )
    return Layout(named, levels, notes)


def _common(folders: Iterable[Parts]) -> int:
    """How many outer folders all images share that say nothing: ``photos/data/...``."""
    listed = list(folders)
    depth = min(map(len, listed)) - 1
    for level in range(depth):
        names = {parts[level] for parts in listed}
        if len(names) > 1 or names.pop().lower() in SPLIT_WORDS:
            return level
    return max(0, depth)


def _splits(
    below: Mapping[Parts, Parts],
) -> tuple[dict[str, dict[Parts, Parts]], tuple[str, ...]]:
    """Folders of each split, and what they are called within it."""
    heads: dict[str, set[int]] = defaultdict(set)  # outer folders and how deep they are
    for inner in below.values():
        if inner:
            heads[inner[0]].add(len(inner) - 1)
    words = {head: SPLIT_WORDS.get(head.lower()) for head in heads}
    deep = {head for head in heads if max(heads[head]) > 0}
    if heads and (all(words.values()) or any(words[head] for head in deep)):
        return _by_head(below, {head: words[head] or head for head in heads})
    spoken = {head: split_word(head) or "" for head in heads}
    if deep and all(spoken.values()) and (len(set(spoken.values())) > 1 or len(heads) == 1):
        return _by_head(below, spoken)
    inner_words = {inner[1].lower() for inner in below.values() if len(inner) > 1}
    if len(inner_words) > 1 and inner_words <= set(SPLIT_WORDS) and min(map(len, below.values())):
        splits: dict[str, dict[Parts, Parts]] = defaultdict(dict)
        for parts, inner in below.items():
            word = SPLIT_WORDS[inner[1].lower()] if len(inner) > 1 else "train"
            splits[word][parts] = (inner[0], *inner[2:])
        return dict(splits), ()
    return _flat_heads(below, words)


def _by_head(
    below: Mapping[Parts, Parts], names: Mapping[str, str]
) -> tuple[dict[str, dict[Parts, Parts]], tuple[str, ...]]:
    splits: dict[str, dict[Parts, Parts]] = defaultdict(dict)
    for parts, inner in below.items():
        if not inner:
            raise _outside(parts)
        splits[names[inner[0]]][parts] = inner[1:]
    shared = [split for split, count in Counter(names.values()).items() if count > 1]
    notes = tuple(
        f"Split {split!r} is in several folders: "
        f"{', '.join(sorted(head for head in names if names[head] == split))}."
        for split in shared
    )
    return dict(splits), notes


def _flat_heads(
    below: Mapping[Parts, Parts], words: Mapping[str, str | None]
) -> tuple[dict[str, dict[Parts, Parts]], tuple[str, ...]]:
    """Class folders, beside which there may be a flat one of another split. One called train can
    only be a class, as railways are: nothing else would be trained on.
    """
    splits: dict[str, dict[Parts, Parts]] = {"train": {}}
    notes = []
    for parts, inner in below.items():
        word = words[inner[0]] if inner else None
        if word in (None, "train", "trainval"):
            splits["train"][parts] = inner
            if word is not None:
                notes.append(f"Folder {inner[0]!r} lies beside class folders and is a class too.")
        else:
            splits.setdefault(str(word), {})[parts] = ()
    return splits, tuple(notes)


def _leading(named: Mapping[str, Mapping[Parts, Parts]]) -> str:
    """The split whose folders tell the classes: that of training, or the largest labelled one."""
    labelled = [split for split, inner in named.items() if any(inner.values())]
    for split in ("train", "trainval"):
        if split in labelled:
            return split
    return max(labelled or named, key=lambda split: len(named[split]))


def _named(
    split: str, inner: Mapping[Parts, Parts], shown: Mapping[Parts, str]
) -> dict[Parts, Parts]:
    """The names of each folder at the levels that differ; none where all images lie flat."""
    depths = {len(names): shown[parts] for parts, names in inner.items()}
    if set(depths) == {0}:
        return dict.fromkeys(inner, ())
    if len(depths) > 1:
        shallow, deep = depths[min(depths)], depths[max(depths)]
        raise DataError(
            f"images of split {split!r} lie at different depths, such as {shallow!r} and {deep!r}; "
            f"{SHAPE}: move or remove the others"
        )
    columns = list(zip(*inner.values(), strict=True))
    levels = [level for level, names in enumerate(columns) if len(set(names)) > 1] or [0]
    return {parts: tuple(names[level] for level in levels) for parts, names in inner.items()}


def _outside(parts: Parts) -> DataError:
    place = repr("/".join(parts)) if parts else "the folder itself"
    return DataError(f"images lie in {place}, beside the folders of the splits; {SHAPE}")


def split_folders(folders: Iterable[Parts]) -> dict[str, list[Parts]]:
    """The splits that folders speak of, whatever their classes."""
    listed = list(folders)
    skipped = _common(listed)
    splits, _ = _splits({parts: parts[skipped:] for parts in listed})
    return {split: list(inner) for split, inner in splits.items()}
