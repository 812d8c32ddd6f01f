"""The shape of wdistill.json: a folder may come from anyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Each:
    """Every value of a list, or of a mapping with text keys."""

    container: type[dict[str, Any]] | type[list[Any]]
    value: Any


@dataclass(frozen=True)
class Maybe:
    """A value that may be null."""

    value: Any


@dataclass(frozen=True)
class Absent:
    """A value of a mapping whose key may be missing: earlier versions did not write it."""

    value: Any


Schema = Any  # type | tuple[type, ...] | Each | Maybe | dict[str, Schema | Absent]
_LARGEST = 1e18
NUMBER = (int, float)
TEXT_OR_NONE = (str, type(None))
MANIFEST: Schema = {
    "format_version": int,
    "wdistill_version": str,
    "created": str,
    "command": str,
    "config": {
        "data": {"dataset": TEXT_OR_NONE},
        "synthesis": {"init": str, "iterations": int},
        "evaluate": {"temperature": NUMBER},
        "seed": int,
    },
    "config_changed": Each(dict, object),
    "config_hash": str,
    "source": {
        "id": str,
        "kind": str,
        "config_name": TEXT_OR_NONE,
        "revision": TEXT_OR_NONE,
        "fingerprint": TEXT_OR_NONE,
        "license": TEXT_OR_NONE,
        "license_name": TEXT_OR_NONE,
        "license_link": TEXT_OR_NONE,
        "gated": (bool, str),
        "pretty_name": TEXT_OR_NONE,
        "url": TEXT_OR_NONE,
        "train_split": str,
        "eval_split": TEXT_OR_NONE,
        "eval_is_holdout": bool,
        "image_column": str,
        "label_column": str,
        "train_images": int,
        "eval_images": int,
        "unlabelled": int,
        "broken": int,
    },
    "classes": Each(list, str),
    "ipc": int,
    "resolution": int,
    "images": int,
    "teacher": {
        "backbone": str,
        "revision": TEXT_OR_NONE,
        "origin": str,
        "architecture": Absent(str),
        "accuracy": NUMBER,
        "weights_sha256": str,
        "parameters": int,
    },
    "local_students": Absent(Each(dict, str)),
    "barycenter": {
        "weights": str,
        "w2": Each(list, NUMBER),
        "w2_random": Each(list, NUMBER),
    },
    "distances": {"nearest_real_rmse": Each(list, Each(list, NUMBER))},
    "labels": {
        "views": int,
        "stored": Maybe({"views": int, "topk": int, "levels": int, "temperature": NUMBER}),
    },
    "seconds": Each(dict, NUMBER),
    "versions": Each(dict, str),
    "device": str,
    "processes": int,
    "bytes": {"images": int, "soft_labels": int, "parquet": int, "label_views": int},
}


def mismatch(value: Any, schema: Schema, where: str = "") -> str | None:
    """What is wrong with ``value``, in words; None if nothing is. Unknown keys are allowed."""
    if isinstance(schema, Maybe):
        return None if value is None else mismatch(value, schema.value, where)
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return _wrong(value, where, "a mapping")
        needed = {key for key, kind in schema.items() if not isinstance(kind, Absent)}
        missing = [key for key in schema if key in needed and key not in value]
        if missing:
            return f"{_name(where, missing[0])} is missing"
        items = [
            (value[key], kind.value if isinstance(kind, Absent) else kind, _name(where, key))
            for key, kind in schema.items()
            if key in value
        ]
    elif isinstance(schema, Each):
        if not isinstance(value, schema.container):
            return _wrong(value, where, f"a {schema.container.__name__}")
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        items = [(item, schema.value, _name(where, str(key))) for key, item in pairs]
    else:
        return _mismatch_leaf(value, schema, where)
    return next((found for item in items if (found := mismatch(*item))), None)


def _mismatch_leaf(value: Any, schema: type | tuple[type, ...], where: str) -> str | None:
    types = schema if isinstance(schema, tuple) else (schema,)
    odd_bool = isinstance(value, bool) and not {bool, object} & set(types)
    if odd_bool or not isinstance(value, types):
        return _wrong(value, where, " or ".join(kind.__name__ for kind in types))
    if isinstance(value, (int, float)) and not abs(value) < _LARGEST:
        return f"{where} is not a number of a sensible size"
    return None


def _name(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _wrong(value: Any, where: str, wanted: str) -> str:
    return f"{where or 'it'} is {type(value).__name__} instead of {wanted}"
