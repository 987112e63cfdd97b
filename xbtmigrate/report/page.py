"""The report's content, rendered as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from xbtmigrate.errors import ConfigError

LIBRARIES = ("jinja2", "matplotlib")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, all text; the first cell names the row.

    Attributes:
        columns: Heads of the columns.
        rows: The cells of each row.
        marked: Number of the recommended row; None for none.
        title: What it shows, "" where the section says it.
        folded: Show it only when it is opened.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: int | None = None
    title: str = ""
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """One finding.

    Attributes:
        title: Its heading.
        text: The finding in words.
        figure: Inline SVG, or "".
        tables: The figures behind it; those that are not folded stand side by side.
        terms: Terms of this section and what they mean.
        steps: Commands to run, and what each is for.
    """

    title: str
    text: str
    figure: str = ""
    tables: Sequence[Table] = ()
    terms: Sequence[tuple[str, str]] = ()
    steps: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Tile:
    """One number that matters."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to know before acting; `kind` is "good", "bad" or "note"."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class ReportPage:
    """A report.

    Attributes:
        title: What it is about.
        about: Names and values of what was measured.
        headline: The recommendation in a few words.
        reason: Why.
        tiles: The numbers that matter.
        notices: Gates and warnings.
        sections: The findings.
    """

    title: str
    about: Sequence[tuple[str, str]]
    headline: str
    reason: str
    tiles: Sequence[Tile]
    notices: Sequence[Notice]
    sections: Sequence[Section]


def require_libraries() -> None:
    """Raise an error if a library that the report needs is missing.

    Raises:
        ConfigError: A library is missing.
    """
    # Not imported: `evaluate` checks this before work that may take an hour.
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--report needs {' and '.join(missing)}, not installed",
            "pip install 'xbtmigrate[report]'",
        )


def render(page: ReportPage) -> str:
    """Render the report as HTML; everything but the figures is escaped."""
    return render_template("page.html.j2", page=page)


def render_template(name: str, **values: object) -> str:
    """Render one of the templates of this package; every value is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("xbtmigrate.report", "."),
        autoescape=True,
        # A misspelled name in the template is an error, not an empty place on the page.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)
