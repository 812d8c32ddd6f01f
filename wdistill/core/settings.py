"""Settings: help, flag, limits and checks of each; reading, formatting and hashing them.

The settings themselves are in :mod:`wdistill.config`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

from wdistill._version import __version__
from wdistill.errors import OptionError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["no", "bf16"]
Tracker = Literal["trackio", "tensorboard"]

T = TypeVar("T", bound="Settings")
D = TypeVar("D")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, described by ``words``."""

    words: str
    low: float
    high: float


def between(low: float, high: float, of: str = "") -> Range:
    return Range(f"a number{of} from {low} to {high}", low, high)


POSITIVE = Range("a finite number above 0", math.ulp(0.0), 1e18)
NOT_NEGATIVE = Range("a finite number that is not negative", 0, 1e18)


@dataclass(frozen=True)
class Option:
    """Documentation and allowed values of a setting.

    Attributes:
        help: A sentence, and the source of the default.
        flag: Command-line flag; None if only a file or Python can set it.
        allowed: A range of numbers or a list of words; None if only the type matters.
        metavar: Placeholder of the value in the help text.
    """

    help: str
    flag: str | None = None
    allowed: Range | tuple[str, ...] | None = None
    metavar: str | None = None

    def check(self, name: str, value: object) -> None:
        """Raise OptionError if ``value`` is not allowed for the setting ``name``."""
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, str) and not item.isprintable():
                raise OptionError(f"`{name}` has control characters")
            if item is None or self.allowed is None:
                continue
            if not isinstance(self.allowed, Range):
                if item not in self.allowed:
                    choices = ", ".join(self.allowed)
                    raise OptionError(f"`{name}` is {item!r}; choose one of {choices}")
            elif not (
                isinstance(item, int | float) and self.allowed.low <= item <= self.allowed.high
            ):
                raise OptionError(f"`{name}` is {item!r}; give {self.allowed.words}")


def setting(
    default: D,
    help: str,
    flag: str | None = None,
    *,
    allowed: Range | tuple[str, ...] | None = None,
    metavar: str | None = None,
) -> D:
    """A field of a dataclass with its :class:`Option`."""
    result: D = field(default=default, metadata={"option": Option(help, flag, allowed, metavar)})
    return result


def section(**options: str | Option) -> dict[str, dict[str, str | Option]]:
    """Metadata of a field that holds a group of settings: their flags ("" for none) or options.

    Settings that are not listed have no effect in that section.
    """
    return {"options": options}


@dataclass(frozen=True)
class Settings:
    """A group of settings, validated on construction, also by ``dataclasses.replace``."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True}
    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            if option := setting.metadata.get("option"):
                name = f"{self.section}.{setting.name}".lstrip(".")
                option.check(name, getattr(self, setting.name))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def options_of(kind: type[Settings]) -> Iterator[tuple[str, Any, Option]]:
    """(name, type, option) of each setting of ``kind``, with full names such as barycenter.ipc.

    If a section lists its options (see :func:`section`), all others are left out.
    """
    hints = get_type_hints(kind)
    for setting in dataclasses.fields(kind):
        hint, name = hints[setting.name], setting.name
        if "option" in setting.metadata:
            yield name, hint, setting.metadata["option"]
        elif isinstance(hint, type) and issubclass(hint, Settings):
            overrides: dict[str, str | Option] | None = setting.metadata.get("options")
            for inner, inner_hint, option in options_of(hint):
                if overrides is None:
                    yield f"{name}.{inner}", inner_hint, option
                elif isinstance(override := overrides.get(inner), Option):
                    yield f"{name}.{inner}", inner_hint, override
                elif override is not None:
                    with_flag = dataclasses.replace(option, flag=override or None)
                    yield f"{name}.{inner}", inner_hint, with_flag


def command_words(words: list[str], config: Settings, default: Settings) -> str:
    words, defaults, needs_file = ["wdistill", *words], flat(default.to_dict()), False
    options = {name: option for name, _, option in options_of(type(config))}
    for name, value in flat(config.to_dict()).items():
        if value == defaults[name]:
            continue
        option = options.get(name)
        if option is None or option.flag is None:
            needs_file = True
        elif isinstance(value, bool):
            words.append(option.flag)
        elif option.metavar == "NAME,...":
            words += [option.flag, ",".join(value) or "none"]
        else:
            for item in value if isinstance(value, list) else [value]:
                words += [option.flag, str(item)]
    return shlex.join([*words, *(["--config", "settings.yaml"] if needs_file else [])])


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text; write it in quotes",
    "tuple_type": "a list",
    "dataclass_type": "settings by name",
    "missing": "it",
}  # by pydantic error type


def validated(kind: type[T], values: Any) -> T:
    """Build ``kind`` from untrusted ``values``; missing ones take their defaults.

    Args:
        kind: The class of the settings.
        values: Nested, with lists for tuples, as YAML and JSON have them.

    Raises:
        OptionError: If a name, a type or a value is not allowed, in one line that names it.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 (slow, and --help needs none)

    if isinstance(values, dict):
        values = dict(values)
        for setting in dataclasses.fields(kind):
            section = values.get(setting.name)
            if setting.default_factory is not dataclasses.MISSING and isinstance(section, dict):
                values[setting.name] = setting.default_factory().to_dict() | section
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
    place = [part for part in problem["loc"] if isinstance(part, str)]
    name = ".".join([kind.section, *place] if kind.section else place)[:100]
    name = f"`{name}`" if name.isprintable() else ascii(name)
    value = repr(problem["input"])[:100]
    if problem["type"] == "unexpected_keyword_argument":
        for part in place[:-1]:
            kind = get_type_hints(kind)[part]
        allowed = ", ".join(setting.name for setting in dataclasses.fields(kind))
        raise OptionError(f"{name} is no setting of wdistill {__version__}; choose from {allowed}")
    if problem["type"] == "literal_error":
        choices = problem["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        hint = "; in YAML, write it in quotes" if isinstance(problem["input"], bool) else ""
        raise OptionError(f"{name} is {value}; choose one of {choices}{hint}")
    expected = _EXPECTED.get(problem["type"], problem["msg"])
    raise OptionError(f"{name if place else 'what was read'} is {value}; give {expected}")


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"section.name": value}``, tuples as lists."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            result.update(flat(value, f"{prefix}{key}."))
        else:
            result[prefix + key] = list(value) if isinstance(value, tuple) else value
    return result


def stable_hash(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
