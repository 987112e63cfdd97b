"""Run one verb, and turn its errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn, cast

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.app import app
from xbtmigrate.errors import ConfigError, ExhaustedError, XbtMigrateError

# Whether typer uses click or brings its own copy of it depends on typer's version.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])


def run() -> NoReturn:
    """Parse the arguments of the process, run their verb, and exit."""
    # On a busy machine, spinning OpenMP threads slow torch down several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    render.show_log()
    try:
        # Without standalone mode typer raises usage errors, which then get a hint and JSON, too.
        sys.exit(app(standalone_mode=False))
    except XbtMigrateError as error:
        _end(error)
    except UsageError as error:
        # A bare `xbtmigrate` is a call for help, not a mistake to report.
        if len(sys.argv) == 1:
            error.show()
            sys.exit(ConfigError.exit_code)
        hint = "`xbtmigrate --help` lists the verbs, `xbtmigrate VERB --help` its options"
        _end(ConfigError(error.format_message(), hint))
    except (KeyboardInterrupt, typer.Abort):
        # A second Ctrl-C, or one where nothing has to be finished first;
        # at a question typer raises an error of its own.
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    # A full disk or too little memory gets a message; any other such error keeps its traceback.
    except (MemoryError, OSError, RuntimeError) as error:
        exhausted = ExhaustedError.of(error)
        if exhausted is None:
            raise
        _end(exhausted)


def _end(failure: XbtMigrateError) -> NoReturn:
    """Print a failure, with its traceback where details were asked for, and exit."""
    if render.verbose():
        traceback.print_exception(failure)
    # Read by hand: an error of parsing is raised before typer has a value for the option.
    render.error(failure, as_json="--json" in sys.argv)
    sys.exit(failure.exit_code)
