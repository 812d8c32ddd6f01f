"""Command-line options generated from the settings; settings read from a file and flags."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from click.core import ParameterSource

from wdistill.config import RuntimeConfig
from wdistill.core.settings import Option, Settings, options_of, validated
from wdistill.errors import OptionError

C = TypeVar("C", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)
NUMBERS = ("barycenter.ipc", "barycenter.images", "budget")  # of images; one says it all
SETTING = re.compile(r"`([a-z]\w*(?:\.\w+)?)(?:=(\w+))?`", re.ASCII)  # in the text of an error


class ByteSize(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    """A number of bytes, with or without a unit: 15000, 15kB, 2MB, 1.5GB."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", str(value).strip().lower())
        if not parts:
            self.fail(f"{value!r} is no number of bytes such as 15kB or 2MB", param, ctx)
        return round(float(parts[1]) * 1000.0 ** " kmg".index(parts[2] or " "))


class SettingOption(click.Option):
    """An option that sets ``setting``, a full name such as barycenter.ipc."""

    def __init__(self, *arguments: Any, setting: str, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.setting = setting


def setting_options(
    kind: type[Settings], *, only: Sequence[str] = (), without: Sequence[str] = ()
) -> Callable[[C], C]:
    """A decorator that adds the options of ``kind`` to a command, in the order of the fields."""

    def decorate(command: C) -> C:
        for name, hint, option in reversed(list(options_of(kind))):
            full = f"{kind.section}.{name}" if kind.section else name
            if option.flag and name not in without and (not only or name in only):
                command = _click_option(full, hint, option, _default(kind, name))(command)
        return command

    return decorate


def _default(kind: type[Settings], name: str) -> Any:
    section, _, field_name = name.rpartition(".")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if not section:
        return fields[field_name].default
    factory: Any = fields[section].default_factory
    return getattr(factory(), field_name)


def _click_option(name: str, hint: Any, option: Option, default: Any) -> Callable[[C], C]:
    arguments: dict[str, Any] = {"help": option.help, "metavar": option.metavar}
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if hint is bool:
        arguments["is_flag"] = True
    elif get_origin(hint) is tuple and "," not in (option.metavar or ""):
        hint, arguments["multiple"] = get_args(hint)[0], True
    if get_origin(hint) is Literal:
        arguments["type"] = click.Choice(get_args(hint))
    elif option.metavar == "BYTES":
        arguments["type"] = ByteSize()
    elif hint in (int, float):
        arguments["type"] = hint
    if hint is not bool and default not in (None, ()):
        text = (
            default if arguments.get("multiple") or not isinstance(default, tuple) else default[0]
        )
        arguments |= {"default": text, "show_default": True}
    return click.option(str(option.flag), cls=SettingOption, setting=name, **arguments)


def settings(kind: type[S], options: dict[str, Any], **arguments: str) -> tuple[S, RuntimeConfig]:
    """The settings from the current command's options and its settings file; the options win.

    Args:
        kind: The class of the settings, besides those of the runtime.
        options: The values of the command's parameters.
        arguments: Settings that the command takes as positional arguments.

    Raises:
        OptionError: A setting is not allowed; the message names the file if it comes from there.
    """
    path: Path | None = options.get("config")
    values = {} if path is None else _read_file(path)
    typed = _one_number(kind, _command_line_values(options))
    for name in arguments.keys() & values.keys():
        raise OptionError(f"{str(path)!r} sets `{name}`, which the command line has to say")
    try:
        return _validate(kind, _merge(values, typed) | arguments)
    except OptionError as error:
        if path is not None:
            _blame(kind, values | arguments, str(error), path)
        raise


def given_settings(options: dict[str, Any], section: str) -> list[str]:
    """Names of the settings of ``section`` that the current command line gives."""
    full = (name.split(".") for name in _command_line_values(options))
    return [name[1] for name in full if name[0] == section and len(name) > 1]


def _validate(kind: type[S], values: dict[str, Any]) -> tuple[S, RuntimeConfig]:
    runtime = validated(RuntimeConfig, values.get("runtime", {}))
    return validated(kind, {k: v for k, v in values.items() if k != "runtime"}), runtime


def _blame(kind: type[S], values: dict[str, Any], message: str, path: Path) -> None:
    """Raise an error that names the file if the file alone is at fault."""
    try:
        _validate(kind, values)
    except OptionError as error:
        if str(error) == message:
            raise OptionError(f"{str(path)!r}: {error}") from None


def _read_file(path: Path) -> dict[str, Any]:
    from wdistill.cli.settings_file import read_settings  # yaml is slow

    return read_settings(path)


def _command_line_values(options: dict[str, Any]) -> dict[str, Any]:
    """The settings given on the command line, by their full names."""
    context = click.get_current_context()
    values: dict[str, Any] = {}
    for parameter in context.command.params:
        name = str(parameter.name)
        from_command_line = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not (from_command_line and isinstance(parameter, SettingOption)):
            continue
        value = options[name]
        if parameter.metavar == "NAME,...":
            names = [part.strip() for part in value.split(",") if part.strip()]
            value = [part for part in names if part != "none"]
        if isinstance(value, list | tuple):
            value = list(dict.fromkeys(value))
        if parameter.opts[0].startswith("--no-"):
            value = not value
        values[parameter.setting] = value
    return values


def _one_number(kind: type[Settings], typed: dict[str, Any]) -> dict[str, Any]:
    """``typed``, where one number of images takes the place of the others that a file gives.

    Raises:
        OptionError: Two of them are typed.
    """
    given = [name for name in NUMBERS if name in typed]
    if not given:
        return typed
    if len(given) > 1:
        raise OptionError(f"`{given[0]}` and `{given[1]}` are both given; leave one of them out")
    return {name: _default(kind, name) for name in NUMBERS} | typed


def _merge(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Nested ``values`` updated with ``overrides``, whose keys are full names."""
    result = dict(values)
    for full, value in overrides.items():
        section, _, name = full.rpartition(".")
        if section:
            inside = result.get(section, {})
            result[section] = {**inside, name: value} if isinstance(inside, dict) else inside
        else:
            result[name] = value
    return result


def spoken(text: str, command: click.Command) -> str:
    """Replace the settings that ``text`` names in backticks by the flags of ``command``, and those
    of the runtime that it lacks by the flags of `wdistill run`.
    """
    of_runs = {f"runtime.{name}": option.flag for name, _, option in options_of(RuntimeConfig)}
    flags: dict[str, click.Option] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            flags[str(parameter.name)] = parameter
            flags[getattr(parameter, "setting", str(parameter.name))] = parameter

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        section, _, setting = name.rpartition(".")
        places = [name]
        if section == "data":  # of the real images and of the source, or the command's own
            places += [f"against.{setting}", f"columns.{setting}", setting]
        elif setting in ("backbone", "trust_remote_code"):
            places.append(setting)
        option = next((flags[place] for place in places if place in flags), None)
        if option is None:
            return of_runs.get(name) or (match[0].strip("`") if section else match[0])
        if value == "False" and option.secondary_opts:
            return option.secondary_opts[0]
        return option.opts[-1] if value in (None, "True", "False") else f"{option.opts[-1]} {value}"

    return SETTING.sub(flag, text)
