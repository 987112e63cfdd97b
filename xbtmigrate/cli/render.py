"""Print all output: JSON and tables on stdout, progress and errors on stderr.

Names, texts and errors come from collections, files and servers that others control. All output
passes through `plain`, so none of it can steer a terminal or look like a line of the tool.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from xbtmigrate.errors import XbtMigrateError

# A break is kept only before an indented line, so no text can begin a line like the tool's.
_BREAK = re.compile(r"[\t\v\f\x85\u2028\u2029]|\r?\n(?!  )|\r")
# Bidirectional controls can reorder what a terminal shows (Trojan Source, CVE-2021-42574).
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Hebrew, Arabic and the other scripts written from right to left, by Unicode block.
_RIGHT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff"
_LEFTWARD = re.compile(rf"[{_RIGHT}]+(?:(?:(?!\n)[\W\d_])*[{_RIGHT}]+)*")

if TYPE_CHECKING:
    from rich.console import Console
    from tqdm import tqdm


def document(content: Mapping[str, object]) -> None:
    """Print one JSON document on stdout."""
    # NaN is no JSON: better an error here than a document that other parsers refuse.
    sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def error(failure: XbtMigrateError, *, as_json: bool) -> None:
    """Print what went wrong and what to do; with `as_json` also as a document on stdout."""
    if as_json:
        document(
            {
                "error": {
                    "type": type(failure).__name__,
                    "message": failure.message,
                    "hint": failure.hint,
                    "exit_code": failure.exit_code,
                }
            }
        )
    sys.stderr.write(f"error: {plain(failure.message)}\n")
    if failure.hint:
        sys.stderr.write(f"hint: {plain(failure.hint)}\n")


def plain(text: str) -> str:
    """Remove from a text what would change how, or where, other text is shown.

    Control characters and lone surrogates are left out, and so are marks of direction; words that
    are written from right to left are isolated instead. Of line breaks only those stay that go on
    with an indented line.
    """
    kept = "".join(each for each in _BREAK.sub(" ", text) if _is_shown(each))
    # U+2068 and U+2069 isolate a run: it cannot turn around the text beside it.
    return _LEFTWARD.sub("\u2068\\g<0>\u2069", kept)


def _is_shown(character: str) -> bool:
    if character in _DIRECTIONS:
        return False
    # Cc holds the escape character of terminals; a lone surrogate (Cs) cannot be encoded.
    return character == "\n" or unicodedata.category(character) not in ("Cc", "Cs")


def say(text: str) -> None:
    """Print a line for a person on stdout; square brackets are text, not markup."""
    from rich.console import Console

    Console(soft_wrap=True).print(plain(text), markup=False, highlight=False)


def note(text: str) -> None:
    """Print a line about the run on stderr."""
    sys.stderr.write(plain(text) + "\n")


class _Notes(logging.Handler):
    """Shows the log of the package on stderr, above the bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.getMessage()}"
        # Without tqdm loaded there is no bar; importing it for a message would take time.
        bars = sys.modules.get("tqdm")
        if bars is None:
            note(text)
        else:
            bars.tqdm.write(plain(text), file=sys.stderr)


def show_log() -> None:
    """Show on stderr what the package logs: why it waits, and when it goes on."""
    # Warnings of libraries join the log; printed by Python, they would break into a bar.
    logging.captureWarnings(capture=True)
    for name in ("xbtmigrate", "py.warnings"):
        log = logging.getLogger(name)
        if not any(isinstance(each, _Notes) for each in log.handlers):
            log.addHandler(_Notes())
        log.setLevel(logging.INFO)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stdout; columns after the first are right-aligned numbers or short words."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    named = Text(_cell(title), "bold")
    view = Table(title=named, box=box.SIMPLE_HEAD, title_justify="left")
    for number, column in enumerate(columns):
        view.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        # `Text` and not str: rich would read square brackets in names as markup.
        view.add_row(*(Text(_cell(value)) for value in row))
    _console().print(view)


def facts(title: str, pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    named = Text(_cell(title), "bold")
    view = Table(title=named, box=box.SIMPLE, show_header=False, title_justify="left")
    view.add_column(style="dim", no_wrap=True)
    view.add_column(overflow="fold")
    for name, value in pairs:
        view.add_row(Text(_cell(name)), Text(_cell(value)))
    _console().print(view)


def figures(
    means: Mapping[str, float], names: Sequence[str], *, by_definition: bool
) -> list[object]:
    """Return the cells of one system; one that is right by definition has no other figures."""
    if by_definition:
        return ["1 by definition" if "recall@10" in name else None for name in names]
    return [means[name] for name in names]


def size(count: float) -> str:
    """Format bytes in a unit that a person reads."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Format seconds in a unit that a person reads."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


class ProgressBars:
    """A bar on stderr for each stage of a run: done of total, rate, time to go."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that a stage has come to `done` of `total`; a stage without a total is one line."""
        # Waits and one-step stages have no total; a bar would stay at 0.
        if total == 0:
            self._close()
            self._stage = stage
            note(stage)
            return
        if self._bar is None or stage != self._stage:
            self._open(stage, done, total)
        assert self._bar is not None
        # Totals may grow: a live collection gets points during a run.
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def _open(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        self._close()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=stage,
            unit="pt",
            file=sys.stderr,
            # In a log file every refresh is a line.
            mininterval=0.5 if sys.stderr.isatty() else 10,
        )
        self._stage = stage

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _console() -> Console:
    """Return a console on stdout; where that is no terminal, wide enough for every table."""
    from rich.console import Console

    # Into a pipe rich assumes 80 columns, too few for the widest tables.
    return Console(width=None if sys.stdout.isatty() else 110)


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
