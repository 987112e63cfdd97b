"""Find plugins by name over entry points, check their options, and import them on first use."""

from __future__ import annotations

import difflib
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pydantic

from xbtmigrate.errors import PluginError

ENCODERS = "xbtmigrate.encoders"
ENGINES = "xbtmigrate.engines"
ORDERINGS = "xbtmigrate.orderings"
PROJECTORS = "xbtmigrate.projectors"
SERVINGS = "xbtmigrate.servings"


def list_names(group: str) -> list[str]:
    """Return the names of the installed plugins of a group, sorted."""
    # A set: two packages may offer one name, which `load` refuses.
    return sorted({entry.name for entry in _installed(group)})


def load(group: str, name: str) -> Callable[..., Any]:
    """Import the factory of a plugin.

    Raises:
        PluginError: No or more than one distribution offers the name, or its import fails.
    """
    # By distribution: an editable install beside a wheel may list one entry twice.
    found = {_origin(entry): entry for entry in _installed(group) if entry.name == name}
    if not found:
        known = ", ".join(list_names(group)) or "none"
        raise PluginError(
            f"no plugin '{name}' in {group}",
            f"{suggest(name, list_names(group))}installed: {known}; "
            f"a plugin is a package, for example pip install xbtmigrate-{name.replace('_', '-')}",
        )
    if len(found) > 1:
        raise PluginError(
            f"'{name}' in {group} is offered by {' and by '.join(sorted(found))}",
            "uninstall all but one of them",
        )
    (origin, entry), *_ = found.items()
    try:
        factory: Callable[..., Any] = entry.load()
    # A plugin may raise anything while it is imported.
    except Exception as error:
        raise PluginError(
            f"plugin '{name}' of {origin} cannot be imported: {error}",
            "reinstall or upgrade the package that provides it",
        ) from error
    return factory


def build(group: str, name: str, options: Mapping[str, object], base: Path) -> Any:
    """Validate options and build a plugin from them.

    Args:
        group: Entry-point group.
        name: Name in the group.
        options: The factory's keyword options as read from a file.
        base: Folder that relative paths among the options are resolved against.

    Raises:
        PluginError: An option is unknown, missing or of the wrong type; lists all of them.
    """
    factory = load(group, name)
    model = _options_model(name, factory)
    try:
        validated = model.model_validate(dict(options))
    except pydantic.ValidationError as error:
        mistakes = explain(error, model)
        raise PluginError(
            f"{name}: " + "; ".join(f"{key}: {text}" for key, text in mistakes),
            f"options of '{name}': {', '.join(model.model_fields) or 'none'}",
        ) from error
    return factory(**{key: _resolved(value, base) for key, value in validated})


def check_options(group: str, name: str, options: Mapping[str, object]) -> list[tuple[str, str]]:
    """Check options without building the plugin; returns (key, mistake) pairs."""
    model = _options_model(name, load(group, name))
    try:
        model.model_validate(dict(options))
    except pydantic.ValidationError as error:
        return explain(error, model)
    return []


def explain(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel]
) -> list[tuple[str, str]]:
    """Turn a validation error into (dotted key, sentence) pairs with a guess for unknown keys."""
    mistakes = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            guess = suggest(str(item["loc"][-1]), _fields_at(model, item["loc"][:-1]))
            text = f"unknown key; {guess}".rstrip("; ")
        elif item["type"] == "missing":
            text = "is required"
        else:
            text = item["msg"].removeprefix("Value error, ") + _found(item["input"])
        mistakes.append((key, text))
    return mistakes


def _installed(group: str) -> Sequence[EntryPoint]:
    """Return the entry points of a group."""
    return _on_path(group, tuple(sys.path))


@cache
def _on_path(group: str, path: Sequence[str]) -> Sequence[EntryPoint]:
    """Return the entry points of a group in the packages on a path."""
    # Kept, because a command looks up several names, and reading all packages takes 40 ms.
    del path
    return list(entry_points(group=group))


def _found(value: object) -> str:
    """Return a wrong value for the message, or "" if it may contain a password."""
    return "" if "@" in str(value) else f" (found {value!r})"


def suggest(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? " for the closest known word, or ""."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean '{close[0]}'? " if close else ""


def _fields_at(model: type[pydantic.BaseModel], path: Iterable[int | str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        nested = field.annotation if field else None
        if not (isinstance(nested, type) and issubclass(nested, pydantic.BaseModel)):
            return []
        model = nested
    return list(model.model_fields)


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value


def _options_model(name: str, factory: Callable[..., Any]) -> type[pydantic.BaseModel]:
    # The annotations of a class are its attributes; the options are those of its constructor.
    target = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(target, include_extras=True)
        parameters = inspect.signature(factory).parameters.values()
    except Exception as error:
        raise PluginError(
            f"the options of plugin '{name}' cannot be read: {error}",
            "its factory needs resolvable annotations for every option",
        ) from error
    # A signature is enough to describe a plugin's options: no second list to keep in step.
    fields: dict[str, Any] = {
        parameter.name: (
            hints.get(parameter.name, Any),
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in parameters
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }
    settings = pydantic.ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()
    )
    return pydantic.create_model(f"{name}_options", __config__=settings, **fields)


def _resolved(value: object, base: Path) -> object:
    # Paths are relative to the configuration file, in whichever folder a command runs.
    return base / value.expanduser() if isinstance(value, Path) else value
