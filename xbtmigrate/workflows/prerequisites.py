"""Check, before anything is written, everything a migration needs up to its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import chain
from urllib.parse import quote

from xbtmigrate.errors import ConnectionFailedError, GateError
from xbtmigrate.migration.plan import Cost, Finding, Plan, Target
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.collection.aliases import list_aliases
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.gallery.limits import (
    MARK_BYTES,
    find_low_limits,
    payload_limit,
    read_free_space,
)
from xbtmigrate.qdrant.wire.connect import check_writable
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Layout, Strategy
from xbtmigrate.workflows.store import Store

_GIB = 2**30


def require_prerequisites(
    store: Store, layout: Target, costs: Sequence[Cost], strategy: Strategy
) -> list[Finding]:
    """List everything that the migration needs until `finalize` and that is missing.

    Args:
        store: What the migration has in Qdrant.
        layout: Where the new vectors go.
        costs: What the strategies take.
        strategy: The one that is chosen.

    Raises:
        GateError: The migration cannot reach its end.
    """
    if not STRATEGIES[strategy].writes:
        return []
    [cost] = [each for each in costs if each.strategy is strategy]
    # All checks run before any refuses, so one attempt names everything that has to be changed.
    found = list(
        chain(
            _alias(store, layout),
            _rights(store),
            _limits(store, layout),
            _payloads(store),
            _rates(store.facts, cost, layout.layout),
            _room(store.connection, cost),
            _settings(store.connection, layout),
        )
    )
    _refuse(found)
    return found


def refuse_impossible(store: Store, layout: Target) -> None:
    """Raise if limits of the collection would stop the migration half-way.

    Raises:
        GateError: There are such limits; names all of them.
    """
    _refuse(list(_limits(store, layout)))


def _refuse(findings: Sequence[Finding]) -> None:
    """Raise if a finding makes the migration impossible.

    Raises:
        GateError: Some do; names all of them and their ways out.
    """
    blocking = [each for each in findings if each.blocks]
    if blocking:
        raise GateError(
            "; ".join(each.message for each in blocking),
            "; ".join(each.way_out for each in blocking),
        )


def _alias(store: Store, layout: Target) -> Iterator[Finding]:
    """Check that applications can read an alias, which the cutover to a shadow moves."""
    facts, connection = store.facts, store.connection
    if layout.layout is Layout.IN_PLACE:
        return
    # `requested` differs from the real name only where qdrant.collection is an alias.
    if facts.requested == facts.collection:
        yield Finding(
            name="no_alias",
            message=f"'{facts.collection}' is a collection, not an alias: cutover has nothing to "
            "move",
            way_out=describe_routes(connection, facts.collection),
        )
        return
    leading = {each for each, to in list_aliases(connection).items() if to == facts.collection}
    if others := sorted(leading - {facts.requested}):
        yield Finding(
            name="other_aliases",
            message=f"{', '.join(others)} also lead to '{facts.collection}', and cutover moves "
            f"'{facts.requested}' only",
            way_out="move or delete them before `xbtmigrate finalize`, which deletes "
            f"'{facts.collection}'",
        )


def route_option(connection: Connection, plan: Plan) -> str:
    """Return the option that `cutover` needs, with a space before it; "" where it needs none."""
    # In place nothing is moved, and a configured alias needs no option.
    if plan.target.layout is Layout.IN_PLACE or plan.collection.alias is not None:
        return ""
    return _option(connection, plan.collection.name)


def describe_routes(connection: Connection, collection: str) -> str:
    """Return how a cutover can switch readers of a collection that is configured by its name."""
    command = f"`xbtmigrate cutover{_option(connection, collection)}`"
    if "--alias" in command:
        return f"{command}, if that is what applications read; --by-switch where none reads one"
    return (
        f"{command} moves no alias: applications read the collection from switch.json. Or create "
        f"an alias of '{collection}' and let applications read it before the cutover"
    )


def _option(connection: Connection, collection: str) -> str:
    leading = [each for each, to in list_aliases(connection).items() if to == collection]
    # The first one serves as a proposal: only the user knows which one applications read.
    return f" --alias {shlex.quote(leading[0])}" if leading else " --by-switch"


def _rights(store: Store) -> Iterator[Finding]:
    try:
        check_writable(store.connection, store.facts.collection)
    except ConnectionFailedError as error:
        # A plan may be made with a read-only key; the backfill refuses it.
        yield Finding(name="rights", message=error.message, way_out=f"{error.hint} for backfill")


def _limits(store: Store, layout: Target) -> Iterator[Finding]:
    facts = store.facts
    address = quote(facts.collection, safe="")
    # A limit of strict mode reached half-way would leave a mixed gallery behind.
    found = find_low_limits(store.connection, facts, layout.layout, layout.size)
    for name, limit, needed in found:
        yield Finding(
            name=name,
            blocks=True,
            message=f"strict mode of '{facts.collection}' sets {name} to {limit}, and the "
            f"migration needs {needed:,}",
            way_out=f"raise it until the migration has ended: PATCH /collections/{address} "
            f'{{"strict_mode_config": {{"{name}": {needed}}}}}',
        )


def _payloads(store: Store) -> Iterator[Finding]:
    # Only a finding: a server does not say how much of this limit is used.
    facts, name = store.facts, "max_collection_payload_size_bytes"
    limit, marks = payload_limit(store.connection, facts), facts.points * MARK_BYTES
    if limit is not None:
        yield Finding(
            name=name,
            message=f"strict mode of '{facts.collection}' sets {name} to {limit:,}, and marks "
            f"take up to {marks:,} bytes until the migration has ended",
            way_out=f"raise it, unless that much is still free: PATCH "
            f"/collections/{quote(facts.collection, safe='')} "
            f'{{"strict_mode_config": {{"{name}": {limit + marks}}}}}',
        )


def _rates(facts: CollectionFacts, cost: Cost, layout: Layout) -> Iterator[Finding]:
    # A rate limit only delays a run (docs/load.md), so these findings only warn.
    # A shadow copies points that are read by id, each of which counts; a page counts once.
    copied = layout is Layout.SHADOW
    reads = (facts.points, "points to read") if copied else (facts.points // 50, "pages to read")
    needed = {
        "write_rate_limit": (facts.writes_per_minute, cost.writes, "vectors to write"),
        "read_rate_limit": (facts.reads_per_minute, *reads),
    }
    for name, (limit, number, what) in needed.items():
        if limit is not None and number > limit:
            yield Finding(
                name=name,
                message=f"strict mode sets {name} to {limit:,} a minute: {number:,} {what} take "
                f"{number / limit:,.0f} minutes at least",
                way_out="raise it until the migration has ended, or accept the time",
            )


def _room(connection: Connection, cost: Cost) -> Iterator[Finding]:
    """Check disk, which is required, and memory, which is not: servers can map files."""
    room = read_free_space(connection)
    if room.disk is not None and cost.disk_bytes > room.disk:
        yield Finding(
            name="disk",
            blocks=True,
            message=f"{cost.strategy} needs up to {cost.disk_bytes / _GIB:,.1f} GiB on disk, and "
            f"there are {room.disk / _GIB:,.1f} GiB",
            way_out="give Qdrant a larger disk, or choose a strategy that writes less",
        )
    if room.memory is not None and cost.ram_bytes > room.memory:
        yield Finding(
            name="memory",
            message=f"{cost.strategy} needs up to {cost.ram_bytes / _GIB:,.1f} GiB of memory, and "
            f"{room.memory / _GIB:,.1f} GiB are left",
            way_out="keep the old vectors on disk (on_disk), quantize, or give Qdrant more memory",
        )


def _settings(connection: Connection, layout: Target) -> Iterator[Finding]:
    if connection.embedded and layout.creates_vector:
        yield Finding(
            name="settings_not_kept",
            message=f"the embedded mode keeps no index settings of '{layout.vector}'",
            way_out="none is needed, because the embedded mode searches without an index",
        )
