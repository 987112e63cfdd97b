"""Types of the documents of `backfill`."""

from __future__ import annotations

from typing_extensions import TypedDict

from xbtmigrate.documents.counts import GalleryCounts
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.migration.phases import Phase
from xbtmigrate.types import Layout, Strategy


class IntentDocument(GalleryCounts, NextDocument):
    """Without `--online`: what a run would do."""

    collection: str
    """The collection."""
    strategy: Strategy
    """Strategy of the plan."""
    layout: Layout
    """Where the new vectors go."""
    writes_to: str
    """Collection and vector that would be written."""
    phase: Phase
    """Phase of the migration."""
    order: str
    """Order of re-encoding."""
    fraction: float
    """Share of the points, 0 to 1, to be re-encoded."""
    until: str | None
    """The gate that ends the encoding earlier; null for none."""
    to_project: int
    """Points to be projected."""
    to_encode: int
    """Points to be encoded."""
    estimated_seconds: float
    """Rough time in seconds, from the rates of the plan."""


class UntilDocument(TypedDict):
    """What the live gallery was measured to reach."""

    gate: str
    """The gate."""
    met: bool
    """Whether it was met in the end."""
    value: float
    """The metric of the mixed gallery as it is served, 0 to 1."""
    level: float
    """The level it is compared with, 0 to 1; from an estimate where the gate names `full`."""
    query_count: int
    """Number of queries."""
    basis: str
    """Where the queries came from, in words."""


class BackfillDocument(NextDocument):
    """What a run did.

    The counts are those of this run; `gallery` is counted in the collection afterwards.
    """

    collection: str
    """The collection."""
    strategy: Strategy
    """Strategy of the plan."""
    status: str
    """`complete`, `already complete`, `complete except for points that keep changing`,
    `stopped: interrupted`, `stopped: time budget used up` or `stopped: cost limit reached`."""
    phase: Phase
    """Phase of the migration now."""
    fraction: float
    """Share of the points, 0 to 1, to be re-encoded; with `--until` the share that was reached."""
    until: UntilDocument | None
    """What the live gallery was measured to reach; null without `--until`."""
    planned: int
    """Vectors to be written, as seen before the run."""
    projected: int
    """Projected vectors written."""
    encoded: int
    """Encoded vectors written."""
    vanished: int
    """Points that were deleted during the run."""
    missing_source: int
    """Points without the field to embed."""
    failed: int
    """Points whose content could not be embedded."""
    still_changing: int
    """Points that changed again in the last sweep."""
    cost: float | None
    """Money that this run spent on embedding, in the currency of the encoder's price; null where
    the encoder does not count it."""
    seconds: float
    """Working time in seconds."""
    points_per_second: float
    """Vectors written per second."""
    steps: dict[str, float]
    """Step (`order`, `read`, `encode`, `project`, `write`, `mark`, `sweep`, `wait`) -> seconds,
    added up over threads that work side by side."""
    gallery: GalleryCounts
    """Exact counts of the collection."""
    quarantined: dict[str, str]
    """Id of a point -> why it was skipped; at most 100 points are listed."""
