"""Run the command line: one file per verb parses options, calls one workflow, prints.

`--version` and `--help` are answered before typer is imported, and a verb imports its workflow
when it runs: loading typer takes five times as long as starting Python, Qdrant's client a second.
"""

from __future__ import annotations

import os
import sys

from xbtmigrate.cli.verbs import help_page, version_line

AT_ONCE = {("--version",): version_line, ("--help",): help_page, ("-h",): help_page}


def main() -> None:
    """Run the command line; turn every error of the tool into its message and exit code."""
    given = tuple(sys.argv[1:])
    if given in AT_ONCE:
        sys.stdout.write(AT_ONCE[given]())
        sys.exit(0)
    # A bare `xbtmigrate` prints the help, but has done nothing, so its exit code is not 0.
    # A shell that completes a command also runs it bare, with this variable.
    if not given and "_XBTMIGRATE_COMPLETE" not in os.environ:
        sys.stderr.write(help_page())
        sys.exit(2)
    from xbtmigrate.cli.run import run

    run()
