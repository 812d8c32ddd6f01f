"""The classes of a checkpoint, found again among those of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def match_classes(
    id2label: Mapping[int, str] | None, class_names: Sequence[str]
) -> list[int] | None:
    """Match the dataset's classes to those of a checkpoint by their names.

    Case, underscores and spacing are ignored. A name that the checkpoint uses for several classes
    (ImageNet has two cranes) is decided by position, even if the dataset, whose names must be
    unique, appends something to it (``crane2``, ``crane bird``).

    Returns:
        For each class of the dataset, its index in the checkpoint; None if the names differ, or if
        the checkpoint does not name each of its outputs.
    """
    if id2label is None or set(id2label) != set(range(len(class_names))):
        return None
    checkpoint = [_plain(str(id2label[index])) for index in range(len(class_names))]
    dataset = [_plain(name) for name in class_names]
    repeated = {name for name, count in Counter(checkpoint).items() if count > 1 and name}
    position_of = {name: index for index, name in enumerate(checkpoint) if name not in repeated}
    order = []
    for position, name in enumerate(dataset):
        same_place = checkpoint[position]
        if same_place in repeated and name.startswith(same_place):
            order.append(position)
        elif name in position_of:
            order.append(position_of[name])
        else:
            return None
    return order if len(set(order)) == len(order) else None
