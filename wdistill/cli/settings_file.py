"""Settings files in YAML or JSON: read for `--config`, written by `wdistill config`."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from wdistill.config import RuntimeConfig
from wdistill.core.settings import Option, Range, Settings, options_of
from wdistill.errors import OptionError

WIDTH = 100


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: ``no`` is a string, ``1e-4`` a number, a date a string."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first_characters in (
    ("null", r"null|~|", "n~"),
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), [*_first_characters, ""]
    )


def read_settings(path: Path) -> dict[str, Any]:
    """Read nested settings without validating them. Raises OptionError if the file is invalid."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a safe one)
    except OSError as error:
        raise OptionError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise OptionError(f"{str(path)!r} is not YAML or JSON: {text}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise OptionError(f"{str(path)!r} holds no settings; `wdistill config` prints some to edit")
    return values


def settings_text(kind: type[Settings], arguments: tuple[str, ...] = ()) -> str:
    """All settings of ``kind`` and of the runtime, with their defaults and sources, as YAML.

    Args:
        kind: RunConfig or EvaluateConfig.
        arguments: Settings that the command takes as positional arguments.
    """
    sections: dict[str, list[str]] = {"": []}
    defaults = kind(**dict.fromkeys(arguments, "")).to_dict() | {
        "runtime": RuntimeConfig().to_dict()
    }
    for name, option in _all_options(kind):
        section, _, field = name.rpartition(".")
        value = (defaults[section] if section else defaults)[field]
        lines = sections.setdefault(section, [])
        indent = "  " if section else ""
        lines += textwrap.wrap(
            _comment(option), WIDTH, initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ", break_on_hyphens=False,
        )  # fmt: skip
        lines.append(f"{indent}{field}: {json.dumps(value, ensure_ascii=False)}")
    top = sections.pop("")
    parts = [*[[f"{name}:", *lines] for name, lines in sections.items()], top]
    return "\n\n".join("\n".join(part) for part in parts)


def _all_options(kind: type[Settings]) -> Iterator[tuple[str, Option]]:
    yield from ((name, option) for name, _, option in options_of(kind))
    for name, _, option in options_of(RuntimeConfig):
        yield f"runtime.{name}", option


def _comment(option: Option) -> str:
    allowed = option.allowed
    parts = [option.help]
    if isinstance(allowed, Range):
        parts.append(f"Allowed: {allowed.words}.")
    elif allowed:
        parts.append(f"Allowed: {', '.join(allowed)}.")
    if option.flag:
        parts.append(f"({option.flag})")
    return " ".join(parts)
