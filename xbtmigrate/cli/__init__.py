"""Define the command line: one file per verb parses options, calls one workflow, prints.

Verbs import their workflow when they run, so `--help` and a mistyped option answer at once
instead of loading numpy, pyarrow and the models' libraries first.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, cast

import typer

from xbtmigrate import __version__
from xbtmigrate.cli import (
    abort,
    backfill,
    bench,
    control,
    cutover,
    demo,
    doctor,
    evaluate,
    export_onnx,
    finalize,
    init,
    plan,
    publish,
    render,
    rollback,
    serve,
    status,
    train_projector,
    verify,
)
from xbtmigrate.errors import ConfigError, ExhaustedError, XbtMigrateError

# Whether typer uses click or brings its own copy of it depends on typer's version.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])

app = typer.Typer(
    name="xbtmigrate",
    help="Upgrade the embedding model behind a live Qdrant collection: measured, then done online.",
    epilog="Exit codes: 0 done, 1 error, 2 usage, 3 a check failed, 130 interrupted.",
    no_args_is_help=True,
    # Plain help: to load rich takes longer than everything else that --help does.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init", short_help="Write a configuration for a collection.")(init.init)
app.command("plan", short_help="Measure whether and how to move.")(plan.plan)
app.command("train-projector", short_help="Fit the maps between both models.")(
    train_projector.train_projector
)
app.command("backfill", short_help="Write the new vectors online.")(backfill.backfill)
app.command("pause", short_help="Pause a running backfill.")(control.pause)
app.command("resume", short_help="Resume a paused backfill.")(control.resume)
app.command("throttle", short_help="Change the limits of a running backfill.")(control.throttle)
app.command("publish", short_help="Store what applications need for queries.")(publish.publish)
app.command("bench", short_help="Measure rates on your server.")(bench.bench)
app.command("status", short_help="Show where the migration stands.")(status.status)
app.command("verify", short_help="Check every point before a cutover.")(verify.verify)
app.command("cutover", short_help="Switch applications to the new vectors.")(cutover.cutover)
app.command("rollback", short_help="Switch back to the old vectors.")(rollback.rollback)
app.command("finalize", short_help="Drop the old side for good.")(finalize.finalize)
app.command("abort", short_help="Undo a migration before its cutover.")(abort.abort)
app.command("doctor", short_help="Name what is wrong and the way out.")(doctor.doctor)
app.command("evaluate", short_help="Measure quality on judged queries.")(evaluate.evaluate)
app.command("serve", short_help="Answer queries over HTTP.")(serve.serve)
app.command("export-onnx", short_help="Write a projector for other languages.")(
    export_onnx.export_onnx
)
app.command("demo", short_help="Run the whole path on sample data.")(demo.demo)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"xbtmigrate {__version__}")
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


def main() -> None:
    """Run the command line; turn every error of the tool into its message and exit code."""
    # Where the machine also does other work, spinning OpenMP threads slow torch down several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Read by hand: an error of parsing comes before typer has a value for the option.
    as_json = "--json" in sys.argv
    render.show_log()
    try:
        # Without standalone mode typer raises usage errors, which then get a hint and JSON, too.
        sys.exit(app(standalone_mode=False))
    except XbtMigrateError as error:
        render.error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except UsageError as error:
        # A bare `xbtmigrate` is a call for help, not a mistake to report.
        if len(sys.argv) == 1:
            error.show()
        else:
            hint = "`xbtmigrate --help` lists the verbs, `xbtmigrate VERB --help` its options"
            render.error(ConfigError(error.format_message(), hint), as_json=as_json)
        sys.exit(ConfigError.exit_code)
    # A full disk or too little memory gets a message; any other such error keeps its traceback.
    except (MemoryError, OSError, RuntimeError) as error:
        exhausted = ExhaustedError.of(error)
        if exhausted is None:
            raise
        render.error(exhausted, as_json=as_json)
        sys.exit(exhausted.exit_code)
    except KeyboardInterrupt:
        # A second Ctrl-C, or one where nothing has to be finished first.
        sys.stderr.write("interrupted\n")
        sys.exit(130)
