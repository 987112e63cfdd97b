"""Types of the documents of `doctor` and `demo`."""

from __future__ import annotations

from typing_extensions import TypedDict

from xbtmigrate.documents.backfill import BackfillDocument
from xbtmigrate.documents.cutover import CutoverDocument
from xbtmigrate.documents.evaluate import EvaluateDocument, MainMeans
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.migration.phases import Phase


class AilmentDocument(TypedDict):
    """Something that is wrong."""

    name: str
    """Its name, see [doctor](commands.md#doctor)."""
    message: str
    """The same in words."""
    way_out: str
    """What to do."""
    fixable: bool
    """Whether `--yes` can correct it."""
    fixed: bool
    """Whether it was corrected."""


class DoctorDocument(NextDocument):
    """What is wrong with a migration."""

    migration: str
    """Name of the migration."""
    phase: Phase | None
    """Phase of the migration; null without a record."""
    healthy: bool
    """Whether nothing is wrong, after `--yes` where it was given."""
    findings: list[AilmentDocument]
    """What was found."""


class DemoRow(MainMeans):
    """Quality of one strategy."""

    strategy: str
    """System, or `fastfill` for the mixed gallery."""
    serving: str | None
    """How the mixed gallery is answered, see [Servings](#servings); null for a system."""
    fraction: float
    """Share of re-encoded points, 0 to 1."""


class DemoQuery(TypedDict):
    """A query that was searched twice, and the captions of what it found, best first."""

    text: str
    """The query."""
    before: list[str]
    """What it found before the migration."""
    after: list[str]
    """What it found after the cutover."""


class DemoDocument(TypedDict):
    """What the demonstration built and measured."""

    folder: str
    """Folder it was built in."""
    query_count: int
    """Number of queries."""
    gallery_count: int
    """Number of pictures."""
    plan: str
    """Digest of the plan."""
    backfill: BackfillDocument
    """The document of `backfill --online`."""
    rows: list[DemoRow]
    """Quality by strategy and share of re-encoded points."""
    evaluation: EvaluateDocument
    """The document of `evaluate`."""
    cutover: CutoverDocument
    """The document of `cutover`."""
    query: DemoQuery
    """One query, before and after."""
    advice: list[str]
    """What to do next."""
