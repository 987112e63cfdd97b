"""Command line: one verb per file; each parses, calls one workflow and renders what it returns."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from xbtmigrate import __version__
from xbtmigrate.cli import (
    backfill,
    bench,
    demo,
    evaluate,
    initialize,
    plan,
    render,
    status,
    train_projector,
)
from xbtmigrate.errors import XbtMigrateError

app = typer.Typer(
    name="xbtmigrate",
    help="Upgrade the embedding model behind a live Qdrant collection: measured, then done online.",
    epilog="Exit codes: 0 done, 1 error, 2 usage, 3 a gate said no, 130 interrupted.",
    no_args_is_help=True,
    # Plain help: to load rich takes longer than everything else that --help does.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(initialize.init)
app.command("plan")(plan.plan)
app.command("train-projector")(train_projector.train_projector)
app.command("backfill")(backfill.backfill)
app.command("bench")(bench.bench)
app.command("status")(status.status)
app.command("evaluate")(evaluate.evaluate)
app.command("demo")(demo.demo)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Upgrade the embedding model behind a live Qdrant collection."""
    if version:
        typer.echo(f"xbtmigrate {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; turns every error of the tool into its message and exit code."""
    # Where the machine also does other work, spinning OpenMP threads slow torch down several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except XbtMigrateError as error:
        render.error(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
