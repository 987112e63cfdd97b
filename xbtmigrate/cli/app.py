"""Build the typer program; each verb's module is imported when that verb runs."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from xbtmigrate.cli.shared_options import SHARED, with_shared_options
from xbtmigrate.cli.verbs import DOCS, VERBS, help_page, version_line

# Former spellings: accepted, but not shown.
FORMER = {
    "backfill": {"--yes": "--online"},
    "bench": {"--write": "--yes"},
    "doctor": {"--fix": "--yes"},
    "verify": {"--repair": "--yes"},
}
CONTEXT = {"help_option_names": ["-h", "--help"]}


class VerbCommand(TyperCommand):
    """One verb; its help lists its own options, the shared ones, and an example."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept the spellings that an option had before."""
        former = FORMER.get(str(self.name), {})
        return super().parse_args(ctx, [former.get(each, each) for each in args])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the verb's own options apart from those that every verb has."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (shared if parameter.name in {*SHARED, "help"} else own).append(record)
        for title, records in (("Options", own), ("Output", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write an example and where the verb is described."""
        del ctx
        name = str(self.name)
        formatter.write(f"\nExample: {VERBS[name].example_of(name)}\n")
        formatter.write(f"Documentation: {DOCS}#{name}\n")


class Verbs(TyperGroup):
    """The verbs of `VERBS`, each made on first use."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Typer suggests these names for a mistyped one.
        self.commands = dict.fromkeys(VERBS)  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of a migration."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the module of a verb; None if there is no such verb."""
        del ctx
        return command_of(cmd_name) if cmd_name in VERBS else None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page that `main` prints without this module."""
        del ctx
        formatter.write(help_page())


def command_of(name: str) -> Any:
    """Return the click command of a verb."""
    verb = VERBS[name]
    function = getattr(import_module(f"xbtmigrate.cli.commands.{verb.module}"), verb.function)
    program = typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    summary = f"{verb.summary}."
    settings = program.command(
        name, cls=VerbCommand, short_help=summary, context_settings=dict(CONTEXT)
    )
    settings(with_shared_options(function, name, verb.effect))
    return typer.main.get_command(program)


app = typer.Typer(
    name="xbtmigrate",
    cls=Verbs,
    no_args_is_help=True,
    # Plain help: loading rich takes longer than everything else that --help does.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=dict(CONTEXT),
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(version_line(), nl=False)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Upgrade the embedding model behind a live Qdrant collection."""
