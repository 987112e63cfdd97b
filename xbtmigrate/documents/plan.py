"""Types of the documents of `init`, `export-texts`, `make-queries`, `plan` and `bench`."""

from __future__ import annotations

from typing_extensions import TypedDict

from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.migration.plan import Plan
from xbtmigrate.types import Layout, Strategy


class WriterDocument(TypedDict):
    """What wrote the collection."""

    name: str
    """The framework."""
    sign: str
    """What shows it, in words."""


class InitDocument(NextDocument):
    """The configuration that was written."""

    config: str
    """Path of the file that was written."""
    text: str
    """Its content."""
    writer: WriterDocument | None
    """What wrote the collection; null where its payloads do not show it, or fields were given."""


class PlanDocument(Plan):
    """The plan, as stored in `.xbtmigrate/<migration>/plan.json`, and what to do with it."""

    readers: str | None
    """What every reader must send after the cutover, in one sentence; null where the plan has no
    cutover. Not in `plan.json`."""
    queries_template: str | None
    """The file to write judged queries in, see [judging.md](judging.md); null where there are
    some. Not in `plan.json`."""
    next: str | None
    """Command to run next, complete as it stands; null where none is due. Not in `plan.json`."""
    next_note: str | None
    """What to do or to know before that, for people; null for nothing. Not in `plan.json`."""


class ExportedDocument(TypedDict):
    """The files of one part."""

    files: int
    """Number of files."""
    rows: int
    """Number of rows in them."""


class ExportTextsDocument(TypedDict):
    """What has to be embedded, as it was written."""

    folder: str
    """Folder of the files."""
    parts: dict[str, ExportedDocument]
    """Files by the part of what is embedded: `sample`, `captions`, `queries`, `made-queries`,
    `words` and `gallery`; or `missing` alone."""


class MakeQueriesDocument(NextDocument):
    """Queries that were made from the collection's titles, or translated."""

    file: str
    """The file that was written."""
    field: str
    """Payload field of the titles, or of the ids."""
    queries: int
    """Number of queries."""
    answers: int
    """Points that answer them, each counted for each of its queries."""
    missing: int
    """Ids of judged queries that no point has; 0 for titles."""


class RatesDocument(TypedDict):
    """Points per second; null where it was not measured."""

    read: float
    """Reading sources and old vectors."""
    project: float
    """Projecting."""
    encode: float
    """Encoding."""
    write: float | None
    """Writing vectors with provenance; null, as all below, without `--yes`."""
    sweep: float | None
    """Checking encoded points again, as the last pass does."""
    order: float | None
    """Reading old vectors, scoring and sorting, to make the order."""
    forward: float | None
    """A whole `forward` run."""
    fill: float | None
    """Reading points without a new vector in a given order, encoding and writing, overlapping as
    in a run."""
    reencode: float | None
    """The same of points with a projected vector."""


class PredictionDocument(TypedDict):
    """Predicted time of one strategy."""

    strategy: Strategy
    """The strategy."""
    fraction: float
    """Share of the points, 0 to 1, that is encoded."""
    seconds: float | None
    """Predicted time in seconds; null where it depends on a rate that was not measured."""


class BenchDocument(TypedDict):
    """Measured rates, and the times that they predict."""

    points: int
    """Points of the collection."""
    sample: int
    """Points measured on."""
    layout: Layout
    """Where the new vectors would go."""
    projector: str
    """What was timed as the projector."""
    points_per_second: RatesDocument
    """Rates of the stages and of whole runs, in points per second."""
    predicted_seconds: list[PredictionDocument]
    """Predicted time of each strategy."""
