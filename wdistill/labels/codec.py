"""Label views as parquet: the configuration ``soft_labels`` of a published set."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from wdistill.core.text import human_bytes
from wdistill.errors import OptionError
from wdistill.labels.views import LabelViews

_SHARD_ROWS = 2 * 10**6
_SHARD_LOGITS = 10**7  # [own] 5 to 10 s of one core, a few MB; files are encoded side by side
_GROUP_ROWS = 10**4  # a few 100 kB, a page of the Hub's viewer
_MAX_ROWS = 10**9
_PROBE = (2, 8)  # numbers of views from whose sizes the bytes per view are extrapolated


def label_features(topk: int, classes: int) -> datasets.Features:
    """The columns as `datasets` features; ``classes`` and ``rest`` only if logits are omitted."""
    number, row = datasets.Value("float32"), datasets.Value("int32")
    columns = {
        "image": row,
        "view": row,
        "crop": datasets.List(number, length=4),
        "flip": datasets.Value("bool"),
        "partner": row,
        "mix": datasets.List(row, length=4),
        "logits": datasets.List(number, length=topk),
    }
    if topk < classes:
        columns |= {"classes": datasets.List(row, length=topk), "rest": number}
    return datasets.Features(columns)


def without_lengths(schema: pa.Schema) -> pa.Schema:
    """``schema`` with lists of any length, as a parquet file without Arrow's schema has them."""
    return pa.schema(
        [
            field.with_type(pa.list_(field.type.value_type))
            if pa.types.is_fixed_size_list(field.type)
            else field
            for field in schema
        ]
    )


def encode(views: LabelViews, classes: int) -> bytes:
    """Encode as one parquet file. Logits differ in one byte only (see :func:`rounded`): each byte
    of a float is a stream of its own, so that zstd meets one symbol a logit.
    """
    table, buffer = _rows(views, classes), io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression="zstd",
        compression_level=19,
        use_dictionary=[
            "view",
            "crop.list.element",
            "mix.list.element",
            "classes.list.element",
            "flip",
        ],
        use_byte_stream_split=["logits.list.element", "rest"],
        column_encoding={"image": "DELTA_BINARY_PACKED", "partner": "DELTA_BINARY_PACKED"},
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(table, _GROUP_ROWS)
        writer.add_key_value_metadata(table.schema.metadata)
    return buffer.getvalue()


def _rows(views: LabelViews, classes: int) -> pa.Table:
    schema = label_features(views.logits.shape[1], classes).arrow_schema
    columns = [_column(getattr(views, name), schema.field(name).type) for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(values: Tensor, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(values.numpy()).cast(kind)
    flat = pa.array(values.contiguous().reshape(-1).numpy()).cast(kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)


def parts_of(views: LabelViews) -> list[slice]:
    """The rows of each file. Those of fewer views are the same, up to the last."""
    groups = max(1, _SHARD_LOGITS // (views.logits.shape[1] * _GROUP_ROWS))
    rows = min(_SHARD_ROWS, groups * _GROUP_ROWS)
    return [slice(first, min(first + rows, len(views))) for first in range(0, len(views), rows)]


def fit(
    views: LabelViews,
    classes: int,
    budget: int | None,
    size_of: Callable[[LabelViews], int] | None = None,
) -> tuple[LabelViews, int]:
    """Keep as many views per image as a budget in bytes allows.

    Args:
        views: All views.
        classes: The number of classes.
        budget: The number of bytes; None keeps all views.
        size_of: The number of bytes that views take; by default they are encoded.

    Returns:
        The views that are kept, and the number of bytes that they take.

    Raises:
        OptionError: Not even one view of each image fits.
    """
    measure = size_of or (lambda some: sum(map(len, encode_all(some, classes))))
    count = views.count
    if budget is not None and count > _PROBE[1]:  # do not encode many more views than fit
        size_of_few, size_of_more = (measure(views.first(n)) for n in _PROBE)
        per_view = (size_of_more - size_of_few) / (_PROBE[1] - _PROBE[0])
        count = min(count, max(_PROBE[1], math.ceil(1.2 * budget / per_view)))
    while True:
        selection = views.first(count)
        size = measure(selection)
        if budget is None or size <= budget:
            return selection, size
        if count == 1:
            raise OptionError(
                f"`label_views.budget` is {human_bytes(budget)}, but one view of each image takes "
                f"{human_bytes(size)}; give more, or a lower `label_views.topk`"
            )
        count = max(1, min(count - 1, count * budget // size))


def is_encoded(path: Path, views: LabelViews, classes: int) -> bool:
    """Whether ``path`` is an undamaged file of ``views`` by :func:`encode`: it is read, since pages
    can be damaged under a whole footer.
    """
    expected = _rows(views, classes)
    try:
        found = pq.ParquetFile(path).read()
        same = found.schema.metadata == expected.schema.metadata
        return bool(same and found.cast(expected.schema).equals(expected))
    except (OSError, ValueError, pa.ArrowException):
        return False


def encode_all(views: LabelViews, classes: int) -> list[bytes]:
    """Encode as few files as there may be, see :func:`parts_of`."""
    return [encode(views.rows(part), classes) for part in parts_of(views)]


def _table(path: Path, classes: int) -> pa.Table:
    file = pq.ParquetFile(path)
    if file.metadata.num_rows > _MAX_ROWS:
        raise ValueError(f"{file.metadata.num_rows} rows are more than {_MAX_ROWS}")
    features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    topk = features["logits"]["length"]
    if not (isinstance(topk, int) and 1 <= topk <= classes):
        raise ValueError(f"it has {topk} logits a row for {classes} classes")
    schema = label_features(topk, classes).arrow_schema
    if not without_lengths(file.schema_arrow).equals(without_lengths(schema)):
        raise ValueError("its columns are not those of label views")
    return file.read().cast(schema)


def _views(table: pa.Table, classes: int) -> LabelViews:
    def column(name: str) -> Tensor:
        values = table[name].combine_chunks()
        if values.null_count or (pa.types.is_fixed_size_list(values.type) and
                                 values.flatten().null_count):  # fmt: skip
            raise ValueError(f"a value of {name} is missing")
        if not pa.types.is_fixed_size_list(values.type):
            return torch.from_numpy(np.array(values.to_numpy(zero_copy_only=False)))
        flat = np.array(values.flatten().to_numpy(zero_copy_only=False))
        return torch.from_numpy(flat.reshape(len(values), -1))

    logits = column("logits")
    has_all_logits = logits.shape[1] == classes
    all_classes = torch.arange(classes).expand(len(table), classes)
    return LabelViews(
        image=column("image").long(),
        partner=column("partner").long(),
        view=column("view").long(),
        crop=column("crop"),
        flip=column("flip"),
        mix=column("mix").long(),
        logits=logits,
        classes=all_classes if has_all_logits else column("classes").long(),
        rest=torch.zeros(len(table)) if has_all_logits else column("rest"),
    )


def _check(views: LabelViews, images: int, classes: int, size: int) -> None:
    crop, end = views.crop, views.crop[:, :2] + views.crop[:, 2:]
    limits = {"image": images, "partner": images, "classes": classes, "mix": size + 1,
              "view": len(views)}  # fmt: skip
    if len(views) == 0:
        raise ValueError("it has no rows")
    for name, top in limits.items():
        values = getattr(views, name)
        if int(values.min()) < 0 or int(values.max()) >= top:
            raise ValueError(
                f"column {name!r} names an image, view, class or pixel that does not exist"
            )
    for name in ("crop", "logits", "rest"):
        if not bool(torch.isfinite(getattr(views, name)).all()):
            raise ValueError(f"column {name!r}: a number is not finite")
    counts = torch.bincount(views.image, minlength=images)
    if int(counts.min()) != int(counts.max()):
        raise ValueError("column 'image': images have different numbers of views")
    if not bool((crop >= 0).all() and (crop[:, 2:] > 0).all() and (end <= 1 + 1e-5).all()):
        raise ValueError("column 'crop': a crop is not inside the image")
    if not bool((views.mix[:, 2:] >= views.mix[:, :2]).all()):
        raise ValueError("column 'mix': the corners of a mix are swapped")
