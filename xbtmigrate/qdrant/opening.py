"""Qdrant: puts the gallery of a chosen layout together."""

from __future__ import annotations

from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.connection import Connection
from xbtmigrate.qdrant.gallery import GallerySettings, InPlaceGallery, Space
from xbtmigrate.qdrant.inspection import CollectionFacts
from xbtmigrate.qdrant.layouts import LayoutChoice
from xbtmigrate.qdrant.payload import EmbeddedFields
from xbtmigrate.qdrant.shadow import ShadowGallery
from xbtmigrate.types import Layout

PAGE = 512
EMBEDDED_PAGE = 4096
"""The embedded mode sorts all ids for every page, so its pages are larger."""


def open_gallery(
    connection: Connection,
    facts: CollectionFacts,
    choice: LayoutChoice,
    fields: EmbeddedFields,
    plan_digest: str,
) -> Gallery:
    """Open the gallery of a prepared layout.

    Args:
        connection: The open Qdrant.
        facts: The source collection.
        choice: The layout; for writes `prepare` has been called with it.
        fields: Where the embedded content is.
        plan_digest: Digest of the plan that the writes belong to.
    """
    page = EMBEDDED_PAGE if connection.embedded else PAGE
    page = min(page, facts.read_limit or page)
    settings = GallerySettings(
        fields=fields,
        plan=plan_digest,
        old=Space(facts.vector, facts.size),
        new=Space(choice.space.name, choice.space.size),
        custom_sharding=facts.custom_sharding,
        page=page,
        write_limit=min(page, facts.write_limit or page),
    )
    if choice.layout is Layout.IN_PLACE:
        return InPlaceGallery(connection, choice.collection, settings)
    others = [*facts.dense, *facts.sparse, *facts.multi]
    copied = [name for name in others if name != choice.space.name]
    return ShadowGallery(connection, facts.collection, choice.collection, settings, copied)
