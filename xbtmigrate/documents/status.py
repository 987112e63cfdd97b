"""Types of the documents of `status`, and of `pause`, `resume` and `throttle`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from typing_extensions import TypedDict

from xbtmigrate.backfill.pace import WaitReason
from xbtmigrate.documents.counts import GalleryCounts
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.migration.phases import Phase
from xbtmigrate.types import Strategy

Artefact: TypeAlias = Literal["plan", "pairs", "bridge", "forward", "serving", "switch", "order"]


class LimitsDocument(TypedDict):
    """Limits that hold in a run."""

    max_slowdown: float | None
    """Limit to the slowdown of other clients' queries, a ratio; null for none."""
    max_rate: float | None
    """Limit to the points written per second; null for none."""


class ControlDocument(LimitsDocument, NextDocument):
    """What a run does after the command."""

    migration: str
    """Name of the migration."""
    running: bool
    """Whether a run is going."""
    paused: bool
    """Whether it waits now, and the next one will."""


class WaitDocument(TypedDict):
    """Waits for one reason."""

    count: int
    """How often the run waited."""
    seconds: float
    """How long in all, in seconds."""


class LoadDocument(LimitsDocument):
    """How fast a run goes, and why, see [load.md](load.md)."""

    state: Literal["running", "throttled", "waiting", "pausing", "paused", "ended"] | None
    """What the run does; null, as all below, where no run was on a server."""
    reason: str | None
    """Why it waits or goes slower; `""` where it does not."""
    batch_size: int | None
    """Points in a write."""
    delay_seconds: float | None
    """Wait before the next request, in seconds."""
    points_per_second: float | None
    """Points written per second, over the last ten seconds."""
    probe_p95_ms: float | None
    """p95 of the probe queries, in milliseconds; null while queries are not timed."""
    baseline_p95_ms: float | None
    """The same without the run, in milliseconds."""
    slowdown: float | None
    """Ratio of the two."""
    pauses: dict[WaitReason, WaitDocument]
    """How often and how long the run waited, by the reason."""
    updated_at: str | None
    """When the run reported this, UTC, ISO 8601."""


class QualityDocument(TypedDict):
    """Quality of the live gallery, as `backfill --until` measured it."""

    gate: str
    """The gate that it was held against, as it was written."""
    level: float
    """The level of the gate at the last measurement, 0 to 1."""
    fractions: list[float]
    """Shares re-encoded at each measurement, 0 to 1, ascending."""
    values: list[float]
    """The metric of the gate at each of them, 0 to 1."""


class CountedDocument(GalleryCounts):
    """What `status` counts in the collection."""

    collection: str
    """The collection."""
    by_application: int
    """Points whose new vector an application has written since the cutover."""
    late_writes: int | None
    """Points that wait for a new vector although the backfill has ended: written since; null before
    its end."""
    left: int
    """Vectors still to be written for this fraction."""
    eta_seconds: float | None
    """Time for what is left, in seconds, at the rate of all runs so far; null where unknown."""


class TenantDocument(TypedDict):
    """What is done for one tenant."""

    tenant: str
    """The tenant."""
    points: int
    """Its points."""
    projected: int
    """Points with a projected new vector."""
    encoded: int
    """Points with a true new vector."""
    left: int
    """Points that are not re-encoded, of those that can be; in a `forward` migration, points
    without a new vector."""


class TenantsDocument(TypedDict):
    """What is done for each tenant of a collection."""

    count: int
    """Number of tenants."""
    complete: int
    """Tenants with nothing left."""
    listed: list[TenantDocument]
    """Those under way first, then those that wait, the largest first; 1,000 at most."""


class StatusDocument(CountedDocument, NextDocument):
    """Where the migration stands.

    A run that was killed leaves the phase `backfilling`; the same command goes on from there.
    """

    migration: str
    """Name of the migration."""
    phase: Phase | Literal["not planned"]
    """Phase of the migration."""
    strategy: Strategy | None
    """Strategy of the plan; null without a plan."""
    plan: str | None
    """Digest of the plan; null without a plan."""
    fraction: float
    """Share of the points, 0 to 1, to be re-encoded by the present or last run."""
    points_per_second: float | None
    """Points written per second of working time, over all runs; null before the first."""
    owner: str | None
    """Holder of the lease; null for none."""
    updated_at: str | None
    """When the record was stored, UTC, ISO 8601; null without a record."""
    load: LoadDocument
    """Pace of the present or last run."""
    quality: QualityDocument | None
    """Quality so far; null where no backfill under this plan ran with `--until`."""
    tenants: TenantsDocument | None
    """What is done for each tenant, by `payload.tenant`; null without it or an index of the field,
    before the first run, and after the cutover."""
    artefacts: dict[Artefact, str]
    """Paths of the files there are."""
    last_error: str | None
    """Why the last run ended by an error; null where it did not, and while a run is going."""
