"""Types of the documents of `cutover`, `rollback`, `finalize` and `abort`."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.migration.phases import Phase
from xbtmigrate.types import Layout


class CheckDocument(TypedDict):
    """A condition of the cutover."""

    name: str
    """Its name."""
    passed: bool
    """Whether it holds."""
    detail: str
    """What was found, for people."""
    way_out: str | None
    """What to do if it does not hold; null if it does."""


class CutoverDocument(NextDocument):
    """The conditions of a cutover, and what it did."""

    readers: str
    """What every reader must send from then on, in one sentence."""
    collection: str
    """The collection with the old vectors."""
    target: str
    """The collection with the new vectors."""
    vector: str
    """Name of the new vector."""
    layout: Layout
    """Where the new vectors are."""
    alias: str | None
    """Alias that is moved; null where applications follow `switch.json`."""
    other_aliases: list[str]
    """Further aliases, which are not moved."""
    phase: Phase
    """Phase of the migration now."""
    status: str
    """`a check failed`, `nothing was switched`, `ready`, `cut over` or `stopped: interrupted`."""
    ready: bool
    """Whether every gate holds."""
    gates: list[CheckDocument]
    """The conditions; empty once the cutover has begun."""
    carried_over: int
    """Late writes that were carried over."""
    deleted: int
    """Late deletions that were carried over."""
    newer_kept: int
    """Points that were changed on both sides, where the new side's content was kept."""
    left_behind: list[str]
    """Ids of points, in place, that can get no new vector; at most 20."""
    without_vector: list[str]
    """Ids of late points that were carried into the shadow without a new vector, because they can
    get none; at most 20."""


class RollbackDocument(NextDocument):
    """What a rollback did, or would do without `--yes`."""

    readers: str
    """What every reader must send from then on, in one sentence."""
    collection: str
    """The collection with the old vectors."""
    vector: str
    """Name of the old vector; `""` for the unnamed one."""
    layout: Layout
    """Where the new vectors are."""
    alias: str | None
    """Alias that is moved back; null for none."""
    alias_leads_to: str | None
    """Where it leads now; null without an alias."""
    phase: Phase
    """Phase of the migration now."""
    status: Literal["nothing was switched", "rolled back"]
    """What was done."""
    carried_back: int
    """Points written since the cutover; without `--yes` those that would be carried back."""
    deleted: int
    """Points deleted since the cutover."""
    newer_kept: int
    """Points that were changed on both sides, where the old side's content was kept."""
    cannot_be_carried: int
    """Points that the old model cannot embed."""
    left_behind: list[str]
    """Their ids; at most 20 with `--yes`."""


class PlaceDocument(TypedDict):
    """Where the data live once the old side is gone."""

    collection: str
    """The collection that holds them."""
    alias: str | None
    """Alias that leads there; null if the cutover moved none."""
    vector: str
    """Name of the vector to query."""
    model: str
    """The model to query with."""


class FinalizeDocument(NextDocument):
    """What `finalize` deleted, or would delete without `--yes`."""

    collection: str
    """The collection that was migrated."""
    deletes: str
    """What is deleted, for people."""
    snapshot: str | None
    """Name of the snapshot that the server stored; null for none."""
    snapshot_file: str | None
    """Where it lies on the server, for people; null for none."""
    restore: str | None
    """Command that restores it: the source of a shadow under its name, a collection in place as
    `NAME-before`; adjust the path where the server keeps snapshots elsewhere. Null for none."""
    snapshots_possible: bool
    """False for the embedded mode."""
    data: PlaceDocument
    """Where the data live from then on."""
    configuration: list[str]
    """What to change in the configuration before the next migration."""
    phase: Phase
    """Phase of the migration now."""
    status: Literal["nothing was deleted", "finalized"]
    """What was done."""


class AbortDocument(NextDocument):
    """What `abort` removed, or would remove without `--yes`."""

    collection: str
    """The collection."""
    removes: str
    """What is removed, for people."""
    phase: Phase
    """Phase of the migration now."""
    status: Literal["nothing was removed", "aborted"]
    """What was done."""
