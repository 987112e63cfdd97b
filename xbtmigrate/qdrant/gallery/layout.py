"""Choose between the two layouts, with the reason. Reads only; `create` does the writing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qdrant_client import models

from xbtmigrate.errors import CollectionError, UnsupportedError
from xbtmigrate.migration.plan import Target
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.connection import ADD_VECTOR, Connection
from xbtmigrate.qdrant.wire.own_collection import find_shadow_record
from xbtmigrate.types import Distance, Layout

_SUFFIX = "__xbtmigrate"
_SHADOW = re.compile(rf"(?P<stem>.+){_SUFFIX}(?P<number>\d*)")


@dataclass(frozen=True, slots=True)
class NewSpace:
    """The vector space that the migration fills.

    Attributes:
        name: Name of the new vector.
        size: Length of the new vectors.
        distance: Their distance.
    """

    name: str
    size: int
    distance: Distance


def shadow_name(collection: str) -> str:
    """Return the name of a collection's shadow; the shadow of a former shadow gets a number.

    packages, packages__xbtmigrate, packages__xbtmigrate2, packages__xbtmigrate3 and so on.
    """
    former = _SHADOW.fullmatch(collection)
    if former is None:
        return collection + _SUFFIX
    return f"{former['stem']}{_SUFFIX}{int(former['number'] or 1) + 1}"


def choose_layout(
    facts: CollectionFacts,
    connection: Connection,
    requested: Layout | None,
    space: NewSpace,
    *,
    resuming: bool = False,
) -> Target:
    """Choose where the new vectors go.

    Args:
        facts: The collection.
        connection: The open Qdrant.
        requested: The layout in the configuration; None leaves the choice to the tool.
        space: The vectors to be stored.
        resuming: Whether the journal says that this migration has already written vectors, so
            that some may lack their provenance because the run was killed.

    Raises:
        UnsupportedError: The requested layout is not possible there; says what would make it so.
        CollectionError: A vector or a collection that is not ours is in the way.
    """
    obstacle = _obstacle_in_place(facts, connection, space)
    if requested is Layout.IN_PLACE and obstacle:
        raise UnsupportedError(
            f"the new vectors cannot go into '{facts.collection}': {obstacle}",
            'set plan.layout = "shadow" (or "auto"), or remove the obstacle',
        )
    # Under `auto` the obstacle is the reason for a shadow.
    if requested is Layout.SHADOW or (requested is None and obstacle):
        return _shadow(facts, connection, space, obstacle or 'plan.layout is "shadow"')
    return _in_place(facts, connection, space, resuming=resuming)


def _obstacle_in_place(facts: CollectionFacts, connection: Connection, space: NewSpace) -> str:
    """Return why the layout in place is impossible, or ""."""
    if facts.unnamed:
        return "its vector has no name, and applications address it without one"
    if space.name == facts.vector:
        return f"the new vector would have the name of the old one, '{facts.vector}'"
    # A collection created with both names needs no newer server.
    if space.name in facts.dense or connection.at_least(ADD_VECTOR):
        return ""
    version = ".".join(map(str, connection.version))
    needed = ".".join(map(str, ADD_VECTOR[:2]))
    return (
        f"it has no vector '{space.name}', and a server of version {version} cannot add one "
        f"({needed} can)"
    )


def _in_place(
    facts: CollectionFacts, connection: Connection, space: NewSpace, *, resuming: bool
) -> Target:
    _check_name(facts, space)
    exists = space.name in facts.dense
    # A killed run leaves vectors whose marks had not arrived; these are not the user's.
    if exists and not resuming:
        _check_not_foreign(facts, connection, space.name)
    version = ".".join(map(str, connection.version[:2]))
    how = "is already there" if exists else f"can be added (version {version})"
    return Target(
        layout=Layout.IN_PLACE,
        collection=facts.collection,
        vector=space.name,
        size=space.size,
        distance=space.distance,
        creates_vector=not exists,
        creates_collection=False,
        reason=f"the vector '{space.name}' {how}, so old and new are stored on the same points",
    )


def _check_name(facts: CollectionFacts, space: NewSpace) -> None:
    if space.name in (*facts.sparse, *facts.multi):
        raise CollectionError(
            f"'{facts.collection}' has a vector '{space.name}' which is not a single dense one",
            "choose another name for the new vector",
        )
    if space.name in facts.dense and facts.dense[space.name] != (space.size, space.distance):
        size, distance = facts.dense[space.name]
        raise CollectionError(
            f"'{facts.collection}' has a vector '{space.name}' of size {size} and distance "
            f"{distance}; the new model needs {space.size} and {space.distance}",
            "choose another name for the new vector",
        )
    if facts.datatypes.get(space.name) == models.Datatype.UINT8.value:
        raise CollectionError(
            f"'{facts.collection}' stores its vector '{space.name}' as uint8, which cannot hold "
            "the vectors of an embedding model",
            "choose another name for the new vector, stored as float32 or float16",
        )


def _check_not_foreign(facts: CollectionFacts, connection: Connection, name: str) -> None:
    conditions: list[models.Condition] = [models.HasVectorCondition(has_vector=name)]
    # Strict mode forbids this filter without an index, which the first run creates. Before that,
    # every vector of that name counts as the user's.
    if facts.unindexed_filters:
        ours = models.PayloadField(key=PROVENANCE)
        conditions.append(models.IsEmptyCondition(is_empty=ours))
    foreign = models.Filter(must=conditions)
    count = connection.call(
        lambda: connection.client.count(facts.collection, count_filter=foreign, exact=True)
    ).count
    if count:
        raise CollectionError(
            f"{count} point(s) of '{facts.collection}' already have a vector '{name}' not made by "
            "this tool, which the backfill would overwrite",
            "choose another name for the new vector, or delete these vectors yourself",
        )


def _shadow(facts: CollectionFacts, connection: Connection, space: NewSpace, reason: str) -> Target:
    name = shadow_name(facts.collection)
    # Applications address the unnamed vector without a name, so the shadow keeps it unnamed.
    vector = "" if facts.unnamed else space.name
    if not facts.unnamed:
        _check_name(facts, space)
    exists = connection.call(lambda: connection.client.collection_exists(name))
    record = find_shadow_record(connection, name)
    # Only the record shows who made it: a collection of the user's may have this name.
    if exists and record is None:
        raise CollectionError(
            f"there is a collection '{name}' that this tool did not make",
            "rename or delete it yourself: the shadow needs this name",
        )
    # Left by another migration; reusing it would mix vectors of two models.
    if exists and record != (facts.collection, vector, space.size, space.distance):
        raise CollectionError(
            f"the shadow '{name}' was made for other vectors: {record}",
            "delete that collection yourself if its migration has ended",
        )
    return Target(
        layout=Layout.SHADOW,
        collection=name,
        vector=vector,
        size=space.size,
        distance=space.distance,
        creates_vector=False,
        creates_collection=not exists,
        reason=f"the new vectors go into the collection '{name}', because {reason}",
    )
