"""The classes of a set in the order of the real data, matched by name or by number."""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import replace

import numpy as np

from wdistill.core.text import folded
from wdistill.data.splits import ImageSplit
from wdistill.errors import DataError
from wdistill.evaluation.sets.subject import Subject
from wdistill.labels.views import reindex

logger = logging.getLogger(__name__)


def in_order_of(subject: Subject, names: tuple[str, ...], dataset_id: str) -> Subject:
    """Reorder the classes of a set to ``names``, the classes of the real data.

    Classes are matched by name, or, where only one class is meant, ignoring case and surrounding
    spaces; numeric names that do not match are positions in ``names``.

    Raises:
        DataError: A class exists in only one of the two; the message names it.
    """
    subject_names = _names_among(subject, names)
    present = {subject_names[label] for label in np.unique(subject.labels)}
    unknown = [name for name in subject_names if name in present and name not in set(names)]
    if unknown:
        raise DataError(
            f"{subject.id!r} has class {unknown[0]!r}, which {dataset_id!r} lacks (it has "
            f"{_listed(names)}); choose another `against.dataset`"
        )
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(
            f"{subject.id!r} has no image of class {missing[0]!r} of {dataset_id!r}; "
            "a set is judged on all classes of the real data: choose another `against.dataset`"
        )
    index_of = {name: index for index, name in enumerate(names)}
    target = np.array([index_of.get(name, -1) for name in subject_names], dtype=np.int64)
    soft = subject.soft_labels
    if soft is not None:
        columns = np.array([subject_names.index(name) for name in names])
        soft = soft[:, columns]
    labels = target[subject.labels]
    order = np.argsort(labels, kind="stable")
    images = subject.images
    return replace(
        subject,
        class_names=names,
        labels=labels[order],
        images=images.take(order) if isinstance(images, ImageSplit) else images[order],
        weights=None if subject.weights is None else subject.weights[order],
        soft_labels=None if soft is None else soft[order],
        views=None if subject.views is None else reindex(subject.views, order, target),
    )


def _names_among(subject: Subject, names: tuple[str, ...]) -> tuple[str, ...]:
    """The class names of ``subject``, spelled as in ``names``."""
    subject_names = subject.class_names
    present = {subject_names[label] for label in np.unique(subject.labels)}
    if subject_names == names or (subject.named and present <= set(names)):
        return subject_names
    if numbers := _positions(subject_names):
        pairs = zip(numbers, subject_names, strict=True)
        return tuple(names[n] if n < len(names) else name for n, name in pairs)
    counts = [Counter(map(folded, group)) for group in (subject_names, names)]
    by_folded_name = {folded(name): name for name in names}
    matches = tuple(
        by_folded_name.get(folded(name), name)
        if all(count[folded(name)] <= 1 for count in counts)
        else name
        for name in subject_names
    )
    respelled = [pair for pair in zip(subject_names, matches, strict=True) if pair[0] != pair[1]]
    if respelled:
        listing = _listed(tuple(f"{one!r} as {other!r}" for one, other in respelled))
        logger.info(f"{len(respelled)} classes are matched but for case and spaces: {listing}")
    return matches


def _positions(names: tuple[str, ...]) -> list[int]:
    """The class indices that ``names`` are, or nothing if one is no index: labels stored without
    class names, ``new007`` as SRe2L names its folders, ``00007`` as RDED does.
    """
    numbers = [re.fullmatch(r"(?:new)?(\d+)", name) for name in names]
    return [int(number[1]) for number in numbers if number] if all(numbers) else []


def _listed(names: tuple[str, ...], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
