"""Print all output: JSON and tables on stdout, progress and errors on stderr.

Every text passes through `plain`, since names and errors come from collections, files and servers
that others control. What is printed fits the terminal, or 80 columns where there is none.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xbtmigrate.cli.next_command import complete
from xbtmigrate.cli.progress import ProgressDisplay, Style
from xbtmigrate.cli.text import plain
from xbtmigrate.errors import XbtMigrateError

if TYPE_CHECKING:
    from rich.console import Console

    from xbtmigrate.documents.error import ErrorDocument
    from xbtmigrate.documents.next_step import NextDocument


@dataclass(slots=True)
class _Output:
    """How this process prints, as the options of the verb say."""

    style: Style = "auto"
    verbose: bool = False
    color: bool = True
    config: Path | None = None


_output = _Output()


def choose_output(
    *, quiet: bool, verbose: bool, progress: Style, color: bool, config: Path | None
) -> None:
    """Set how the rest of the command prints, and the configuration that it was given."""
    _output.config = config
    _output.style = "none" if quiet else progress
    _output.verbose, _output.color = verbose, color
    show_log(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)


def verbose() -> bool:
    """Return whether details were asked for."""
    return _output.verbose


def progress() -> ProgressDisplay:
    """Return the progress display of this command."""
    return ProgressDisplay(_output.style, color=_output.color)


def document(content: Mapping[str, object]) -> None:
    """Print one JSON document on stdout."""
    if isinstance(command := content.get("next"), str):
        content = {**content, "next": complete(command, _output.config)}
    # NaN is no JSON: better an error here than a document that other parsers refuse.
    sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def error(failure: XbtMigrateError, *, as_json: bool) -> None:
    """Print an error and its hint; with `as_json` also as a document on stdout."""
    if as_json:
        content: ErrorDocument = {
            "error": {
                "type": type(failure).__name__,
                "message": failure.message,
                "hint": failure.hint,
                "exit_code": failure.exit_code,
            }
        }
        document(content)
    note(f"error: {failure.message}")
    if failure.hint:
        note(f"hint: {failure.hint}")


def say(text: str) -> None:
    """Print a paragraph for a person on stdout, wrapped between words at a terminal."""
    # A pipe gets one line, so that a script finds the whole sentence in it.
    width = _width() if sys.stdout.isatty() else sys.maxsize
    for line in plain(text).split("\n"):
        sys.stdout.write(_wrapped(line, width) + "\n")


def next_step(content: NextDocument) -> None:
    """Print the next command, on a line that can be copied, below what to know before it."""
    if content["next_note"] is not None:
        say(content["next_note"])
    if content["next"] is not None:
        whole_line(f"Next: {complete(content['next'], _output.config)}")


def whole_line(text: str) -> None:
    """Print a line that is never broken."""
    sys.stdout.write(plain(text) + "\n")


def note(text: str) -> None:
    """Print a line about the run on stderr, above the line of progress if there is one."""
    shown = ProgressDisplay.current
    if shown is None:
        sys.stderr.write(plain(text) + "\n")
    else:
        shown.write(text)


class _Notes(logging.Handler):
    """Shows the log of the package on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        note(f"{at} {record.getMessage()}")


def show_log(level: int = logging.INFO) -> None:
    """Show on stderr what the package logs: why it waits, and when it goes on."""
    # Warnings of libraries join the log; printed by Python, they would break into a bar.
    logging.captureWarnings(capture=True)
    for name in ("xbtmigrate", "py.warnings"):
        log = logging.getLogger(name)
        if not any(isinstance(each, _Notes) for each in log.handlers):
            log.addHandler(_Notes())
        log.setLevel(level)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stdout, numbers to the right and words to the left.

    A column without any value is left out. Text wraps between words.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [[_cell(value) for value in row] for row in rows]
    kept = [
        place for place in range(len(columns)) if any(row[place] not in ("-", "") for row in cells)
    ]
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for place in kept:
        # Never narrower than the longest word, which rich would break otherwise.
        words = " ".join([columns[place], *(row[place] for row in cells)]).split()
        numbers = any(row[place][:1].isdigit() for row in cells)
        view.add_column(
            columns[place],
            justify="right" if numbers else "left",
            vertical="bottom",
            min_width=max(map(len, words), default=0),
        )
    for row in cells:
        # `Text` and not str: rich would read square brackets in names as markup.
        view.add_row(*(Text(row[place]) for place in kept))
    _title(title)
    _console().print(view)
    sys.stdout.write("\n")


def facts(title: str, pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    _title(title)
    sys.stdout.write(_listed(pairs) + "\n")


@contextmanager
def screen() -> Iterator[Callable[[str, Iterable[tuple[str, object]]], None] | None]:
    """Return a function that redraws facts in place; None where there is no terminal."""
    if not sys.stdout.isatty():
        yield None
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=_console(), auto_refresh=False) as live:

        def show(title: str, pairs: Iterable[tuple[str, object]]) -> None:
            heading = _wrapped(_cell(title), _width()) + "\n"
            live.update(Text.assemble((heading, "bold"), _listed(pairs)), refresh=True)

        yield show


def _listed(pairs: Iterable[tuple[str, object]]) -> str:
    shown = [(_cell(name).replace("_", " "), _cell(value)) for name, value in pairs]
    shown = [(name, value) for name, value in shown if value not in ("-", "")]
    most = max((len(name) for name, _ in shown), default=0)
    lines = []
    for name, value in shown:
        head = f"  {name:<{most}}  "
        wrapped = _wrapped(value, max(24, _width() - len(head)))
        lines.append(head + wrapped.replace("\n", "\n" + " " * len(head)) + "\n")
    return "".join(lines)


def named(document: Mapping[str, object], *keys: str) -> list[tuple[str, object]]:
    """Return some values of a document."""
    return [(key, document[key]) for key in keys]


def cells(document: Mapping[str, object], *keys: str) -> list[object]:
    """Return some values of a document for the row of a table."""
    return [document[key] for key in keys]


def counts(document: Mapping[str, object], *keys: str) -> list[tuple[str, object]]:
    """Return some counts of a document, without those that are 0."""
    return [(key, value) for key, value in named(document, *keys) if value]


def _title(text: str) -> None:
    from rich.text import Text

    _console().print(Text(_wrapped(_cell(text), _width()), "bold"), soft_wrap=True)


def _wrapped(line: str, width: int) -> str:
    """Break a line between words; a word that is too long, such as a path, stays whole."""
    indent = " " * (len(line) - len(line.lstrip(" ")))
    return (
        textwrap.fill(
            line.strip(" "),
            min(width, 2**31),
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        or line
    )


def _width() -> int:
    """Return the columns of the terminal; 80 where there is none and COLUMNS is not set."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return max(40, shutil.get_terminal_size((80, 24)).columns)
    return 80


def _console() -> Console:
    """Return a console on stdout; it has colour only at a terminal and without NO_COLOR."""
    from rich.console import Console

    return Console(width=_width(), no_color=None if _output.color else True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return plain(str(value)).replace("\n", " ")
