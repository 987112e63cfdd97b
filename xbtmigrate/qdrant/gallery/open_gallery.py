"""Open the gallery of a chosen layout, and the comparison of a shadow with its source."""

from __future__ import annotations

from xbtmigrate.backfill.step_times import StepTimes
from xbtmigrate.errors import CollectionError
from xbtmigrate.migration.plan import Target
from xbtmigrate.projectors import EmbedTexts
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.gallery.compare_shadow import ShadowComparison
from xbtmigrate.qdrant.gallery.in_place import GallerySettings, InPlaceGallery, NamedVector
from xbtmigrate.qdrant.gallery.shadow import ShadowGallery
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import EmbeddedFields
from xbtmigrate.qdrant.wire.reader import LISTED, Reader
from xbtmigrate.types import Distance, Layout

PAGE = 512
EMBEDDED_PAGE = 4096
"""The embedded mode sorts all ids for every page, so its pages are larger."""


def open_gallery(
    connection: Connection,
    facts: CollectionFacts,
    target: Target,
    fields: EmbeddedFields,
    plan_digest: str,
    *,
    side: str | EmbedTexts | None = None,
    times: StepTimes | None = None,
) -> Gallery:
    """Open the gallery of a prepared layout.

    Args:
        connection: The open Qdrant.
        facts: The source collection.
        target: The layout; for writes `prepare` has been called with it.
        fields: Where the embedded content is.
        plan_digest: Digest of the plan that the writes belong to.
        side: Name of the vector that the projector takes beside the stored one, or what makes that
            vector of the text; None for neither.
        times: Measures how long marks take.

    Raises:
        CollectionError: The collection has no such side vector.
    """
    page = _page(connection, facts)
    settings = GallerySettings(
        fields=fields,
        plan=plan_digest,
        old=NamedVector(facts.vector, facts.size),
        new=NamedVector(target.vector, target.size),
        side=_side(facts, side) if isinstance(side, str) else None,
        text_side=None if isinstance(side, str) else side,
        shard_keys=facts.shard_keys,
        halves=_halves(facts, target),
        page=page,
        listed=_listed(facts),
        write_limit=min(page, facts.write_limit or page),
        times=times or StepTimes(),
    )
    if target.layout is Layout.IN_PLACE:
        return InPlaceGallery(connection, target.collection, settings)
    copied = copied_vectors(facts, target)
    return ShadowGallery(connection, facts.collection, target.collection, settings, copied)


def open_fidelity(
    connection: Connection, facts: CollectionFacts, target: Target
) -> ShadowComparison | None:
    """Open the comparison of a shadow with its source; None for a layout in place."""
    if target.layout is Layout.IN_PLACE:
        return None
    source, shadow = (
        open_reader(connection, facts, name) for name in (facts.collection, target.collection)
    )
    copied = copied_vectors(facts, target)
    # Servers normalize vectors of cosine spaces, the embedded mode does not always.
    scaled = [name for name in copied if facts.dense.get(name, (0, None))[1] is Distance.COSINE]
    return ShadowComparison(source, shadow, copied, scaled)


def open_reader(connection: Connection, facts: CollectionFacts, collection: str) -> Reader:
    """Open a collection of the migration for reading in pages that its limits allow."""
    page = _page(connection, facts)
    return Reader(connection, collection, page, listed=_listed(facts))


def copied_vectors(facts: CollectionFacts, target: Target) -> list[str]:
    """Return the vectors that a shadow copies; the new one replaces a vector of its name."""
    others = [*facts.dense, *facts.sparse, *facts.multi]
    return [name for name in others if name != target.vector]


def _halves(facts: CollectionFacts, target: Target) -> set[str]:
    """Return the vectors in half precision; an added one inherits it from the old one."""
    # `create` keeps half precision for a vector that it adds, so marks must tolerate its rounding.
    added = {} if target.vector in facts.datatypes else {target.vector: facts.datatype}
    datatypes = {**facts.datatypes, **added}
    return {each for each, datatype in datatypes.items() if datatype == "float16"}


def _page(connection: Connection, facts: CollectionFacts) -> int:
    page = EMBEDDED_PAGE if connection.embedded else PAGE
    # Pages that are read are also written or deleted as a whole.
    return min(page, facts.read_limit or page, facts.writes_per_minute or page)


def _side(facts: CollectionFacts, name: str) -> NamedVector:
    if name not in facts.dense:
        there = ", ".join(f"'{each}'" for each in facts.dense) or "none at all"
        raise CollectionError(
            f"'{facts.collection}' has no dense vector '{name}' to put beside the stored one",
            f"correct qdrant.side_vector or remove it; other dense vectors there: {there}",
        )
    return NamedVector(name, facts.dense[name][0])


def _listed(facts: CollectionFacts) -> int:
    return min(LISTED, facts.read_limit or LISTED)
