"""A dataclass from JSON that anyone may have written: every name and every type is checked."""

from __future__ import annotations

import math
import types
from dataclasses import is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from wdistill.errors import OptionError

T = TypeVar("T")


def from_json(kind: type[T], values: Any, where: str = "") -> T:
    """``kind`` with the fields that ``values`` has; those that it lacks keep their defaults.

    Fields are numbers, texts, literals, tuples of one type, optional, or dataclasses of such.
    Raises OptionError naming the field, as the dataclass's own checks do.
    """
    if not isinstance(values, dict):
        raise _wrong(where or "config", values, "a mapping")
    hints = get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise OptionError(
                f"{_name(where, name)!r} is no setting of this version of wdistill; upgrade it"
            )
    return kind(
        **{name: _value(hints[name], value, _name(where, name)) for name, value in values.items()}
    )


def _name(where: str, name: str) -> str:
    return f"{where}.{name}"[:100] if where else name[:100]


def _value(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if is_dataclass(hint):
        return from_json(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is Literal:
        return _literal(get_args(hint), value, where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(where, value, "a list")
        return tuple(_value(get_args(hint)[0], item, where) for item in value)
    return _leaf(hint, value, where)


def _literal(allowed: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, str):
        raise _wrong(where, value, "text")
    if value not in allowed:
        choices = ", ".join(map(str, allowed))
        raise OptionError(f"{where} is {value[:100]!r}; choose one of {choices}")
    return value


def _leaf(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) in (int, float):
        if not math.isfinite(value) or abs(value) > 1e18:
            raise OptionError(f"{where} is not a number of a sensible size")
        return float(value)
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise _wrong(where, value, names[kind])
    if isinstance(value, str) and not value.isprintable():
        raise OptionError(f"{where} has control characters")
    return value


def _wrong(where: str, value: Any, wanted: str) -> OptionError:
    return OptionError(f"{where} is {type(value).__name__} instead of {wanted}")
