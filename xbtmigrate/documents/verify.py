"""Types of the documents of `verify`."""

from __future__ import annotations

from typing import Literal, final

from typing_extensions import TypedDict

from xbtmigrate.documents.counts import GalleryCounts
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.migration.phases import Phase


@final
class StoppedVerifyDocument(NextDocument):
    """What a verification prints that was stopped."""

    collection: str
    """The collection."""
    status: str
    """`stopped: interrupted`."""
    phase: Phase
    """Phase of the migration."""
    clean: Literal[False]
    """False: nothing is decided yet."""
    checked: int
    """Points that were checked so far."""
    points: int
    """Points of the collection."""


class FaultsDocument(TypedDict):
    """Points at fault."""

    missing: int
    """Points without their new vector."""
    stale: int
    """Points whose new vector is not of the present content."""
    wrong_kind: int
    """Points that are projected where they should be encoded."""
    wrong_vector: int
    """Points whose new vector is not what the model or the projector makes."""
    unlike_source: int
    """Copies that differ from their source."""
    stray: int
    """Copies without their source."""


class ExampleDocument(TypedDict):
    """A point at fault."""

    id: str
    """Its id."""
    fault: str
    """Its fault: a key of `mismatches`."""
    detail: str
    """The detail, for people."""


class ComparedDocument(TypedDict):
    """Vectors that were made again and compared."""

    projected: int
    """Projected vectors."""
    encoded: int
    """Encoded vectors."""


class CosinesDocument(TypedDict):
    """Lowest cosine of a stored vector to the one made again."""

    projected: float | None
    """Lowest cosine of the projected vectors, -1 to 1; null where none was compared."""
    encoded: float | None
    """The same of the encoded vectors."""


class IndexRecallDocument(TypedDict):
    """How well the indexes find."""

    basis: str
    """What was searched for."""
    queries: int
    """Number of queries."""
    old: float
    """Share of the 10 exact neighbours, 0 to 1, that the index of the old vector finds."""
    new: float
    """The same for the new vector."""
    chance: float
    """Two standard errors of the difference, over the queries."""


class BaselineDocument(TypedDict):
    """What became of the points of the baseline."""

    points: int
    """Points of the baseline that `plan` recorded."""
    same: int
    """Those whose payload and old vectors are the same to the bit."""
    rounded: int
    """Those whose old vectors differ in the last digit only: the embedded mode rounds when it
    stores a point again."""
    changed: int
    """Those with another payload, presumably written by an application."""
    gone: int
    """Those that are no longer there."""
    replaced: list[str]
    """Ids of those with the same payload and other old vectors, which an application has put
    there: the place is only read, or the new vector was made from them."""
    vectors_changed: list[str]
    """Ids of encoded points in place with the same payload and other old vectors, by an
    application or by a fault."""


@final
class VerifyDocument(GalleryCounts, NextDocument):
    """What a verification found."""

    collection: str
    """The collection."""
    status: Literal["clean", "not clean"]
    """How it ended; a run that was stopped prints the document below."""
    clean: bool
    """Whether nothing found prevents a cutover."""
    reasons: list[str]
    """What prevents it."""
    sample: int | None
    """Number of points to check; null for all."""
    checked: int
    """Points that were checked."""
    mismatches: FaultsDocument
    """Number of points by fault."""
    examples: list[ExampleDocument]
    """Points at fault; at most 20 are listed, all are in
    `.xbtmigrate/<migration>/verification.json`."""
    repaired: int
    """Points that `--yes` has corrected."""
    compared: ComparedDocument
    """Vectors that were made again and compared."""
    least_cosine: CosinesDocument
    """Lowest cosine of a stored vector to the one made again."""
    settings: list[str]
    """Settings and indexes that differ."""
    index_recall: IndexRecallDocument | None
    """How well the indexes find; null where there was nothing to search for, and for the embedded
    mode, which has no index."""
    baseline: BaselineDocument | None
    """What became of the points of the baseline; null where there is none."""
    proven: list[str]
    """What was checked."""
    not_proven: list[str]
    """What was not."""
    phase: Phase
    """Phase of the migration now: `verified` if it is clean."""
    seconds: float
    """Time it took, in seconds."""
