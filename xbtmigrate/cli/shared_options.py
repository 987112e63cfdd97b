"""Give every verb the options for its output, and `--dry-run` where it has none of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

import typer
from typer.models import OptionInfo

from xbtmigrate.cli import render
from xbtmigrate.cli.verbs import MANY

if TYPE_CHECKING:
    from xbtmigrate.documents.error import DryRunDocument

ProgressStyle: TypeAlias = Literal["auto", "plain", "json", "none"]

QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result and errors.")]
VERBOSE = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also print the details of the log and of errors.")
]
PROGRESS = Annotated[
    ProgressStyle,
    typer.Option(
        metavar="STYLE",
        help="Progress on stderr: auto is redrawn at a terminal, plain is a line every ten "
        "seconds, json an event a line, none is none.",
    ),
]
NO_PROGRESS = Annotated[bool, typer.Option("--no-progress", help="The same as --progress none.")]
NO_COLOR = Annotated[
    bool, typer.Option("--no-color", help="Print without colour, as with NO_COLOR set.")
]
DRY_RUN = Annotated[
    bool, typer.Option("--dry-run", help="Only say what this command would change.")
]
PARALLEL = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Collections at a time, where the configuration is for many."
    ),
]
SHARED: dict[str, tuple[Any, Any]] = {
    "quiet": (QUIET, False),
    "verbose": (VERBOSE, False),
    "progress": (PROGRESS, "auto"),
    "no_progress": (NO_PROGRESS, False),
    "no_color": (NO_COLOR, False),
}
PLACEHOLDERS: dict[Any, str] = {int: "N", float: "X", Path: "FILE", str: "NAME"}
"""The placeholder of a value in the help, for options that do not name one."""


def with_shared_options(
    function: Callable[..., None], name: str, effect: str
) -> Callable[..., None]:
    """Return a verb's function with the shared options added to its signature.

    Args:
        function: What typer would call; typer reads its options from the signature.
        name: The verb.
        effect: What the verb changes, for a `--dry-run` that the verb does not handle itself.
    """
    signature = inspect.signature(function, eval_str=True)
    own = [_with_placeholder(each) for each in signature.parameters.values()]
    added = dict(SHARED)
    if not any("--dry-run" in spelling for each in own for spelling in _spellings(each)):
        added["dry_run"] = (DRY_RUN, False)
    if name in MANY:
        added["parallel"] = (PARALLEL, 2)
    parameters = own + [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for key, (kind, default) in added.items()
    ]

    @wraps(function)
    def run(**given: Any) -> None:
        shared = {key: given.pop(key) for key in added}
        render.choose_output(
            quiet=shared["quiet"],
            verbose=shared["verbose"],
            progress="none" if shared["no_progress"] else shared["progress"],
            color=not shared["no_color"],
            config=given.get("config"),
        )
        if shared.get("dry_run"):
            text = f"`xbtmigrate {name}` {effect}. Nothing was done."
            _tell(text, as_json=given.get("json", False))
            return
        if name in MANY:
            from xbtmigrate.cli import many

            if many.is_for_many(given["config"]):
                many.run(name, given["config"], given, shared["parallel"])
                return
        function(**given)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _tell(text: str, *, as_json: bool) -> None:
    """Print what a verb would change."""
    if as_json:
        content: DryRunDocument = {"dry_run": text}
        render.document(content)
    else:
        render.say(text)


def _option(parameter: inspect.Parameter) -> OptionInfo | None:
    """Return the option that typer knows a parameter by."""
    found = [each for each in get_args(parameter.annotation) if isinstance(each, OptionInfo)]
    return found[0] if found else None


def _spellings(parameter: inspect.Parameter) -> list[str]:
    option = _option(parameter)
    # In `Annotated`, typer takes the first spelling for the default.
    return [] if option is None else [str(option.default), *(option.param_decls or ())]


def _with_placeholder(parameter: inspect.Parameter) -> inspect.Parameter:
    """Give an option without a metavar one by its type: N, not <int range>."""
    option = _option(parameter)
    if option is None or option.metavar is not None:
        return parameter
    kind = get_args(parameter.annotation)[0]
    kinds = {kind, *get_args(kind)} - {type(None)}
    text = next((text for each, text in PLACEHOLDERS.items() if each in kinds), None)
    if text is None:
        return parameter
    shown = copy(option)
    shown.metavar = text
    return parameter.replace(annotation=Annotated[kind, shown])
