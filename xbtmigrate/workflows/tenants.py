"""Tell the tenants of one collection apart by a payload field, and count what is done for each."""

from __future__ import annotations

from collections.abc import Sequence

from xbtmigrate.documents.status import TenantDocument, TenantsDocument
from xbtmigrate.errors import ConfigError
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.gallery.in_place import made_by
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.types import WITHOUT, Kind, PointId
from xbtmigrate.workflows.store import Store

INDEXES = ("keyword", "integer", "uuid")
"""Types of an index that a server counts the values of a field by."""
MOST = 1_000_000
"""Tenants that are told apart; points of smaller ones count as of none."""
LISTED = 1_000
"""Tenants that `status` lists at most."""


def find_tenant_field(store: Store) -> str | None:
    """Return the configured field; None where there is none, or its values cannot be counted."""
    field = store.config.payload.tenant
    # The embedded mode has no indexes, and counts without.
    indexed = store.connection.embedded or store.facts.payload_indexes.get(field or "") in INDEXES
    return field if indexed else None


def require_tenant_field(store: Store) -> str:
    """Return the field that tells tenants apart.

    Raises:
        ConfigError: There is none in the configuration, or it has no index.
    """
    if found := find_tenant_field(store):
        return found
    field = store.config.payload.tenant
    if field is None:
        raise ConfigError(
            "payload.tenant does not say which field tells tenants apart",
            'set it, for example tenant = "group_id" in [payload]',
        )
    raise ConfigError(
        f"the field '{field}' of payload.tenant has no index of type {', '.join(INDEXES)} in "
        f"'{store.facts.collection}', so its values cannot be counted",
        "create a keyword index with is_tenant, or correct the name",
    )


def list_tenants(store: Store, field: str) -> dict[str, int]:
    """Return the tenants of a collection and how many points each has, the largest first."""
    reader = Reader(store.connection, store.facts.collection, 1)
    return reader.count_values(field, None, _most(store))


def read_tenants(tenants: Gallery, ids: Sequence[PointId]) -> list[str | None]:
    """Return the tenant of each point, None where it has none or is gone.

    Args:
        tenants: The points, with the tenant in place of their text: `store.reader(field)`.
        ids: The points.
    """
    found: dict[PointId, str | None] = {}
    for batch in tenants.read({"source"}, ids=ids):
        found.update(zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True))
    return [found.get(point) for point in ids]


def count_tenants(store: Store, plan: Plan) -> TenantsDocument | None:
    """Count what is done for each tenant; None where they cannot be told apart."""
    field, target = find_tenant_field(store), plan.target
    if field is None:
        return None
    reader = Reader(store.connection, target.collection, 1)
    done = {
        kind: reader.count_values(field, made_by(plan.digest, target.vector, kind), _most(store))
        for kind in Kind
    }
    encodes = STRATEGIES[plan.strategy].encodes
    found = [
        _document(name, points, {kind: of.get(name, 0) for kind, of in done.items()}, encodes)
        for name, points in list_tenants(store, field).items()
    ]
    # Those under way first, then those that wait; the largest first among them.
    found.sort(key=lambda each: (not each["left"], not each["encoded"], -each["points"]))
    return {
        "count": len(found),
        "complete": sum(not each["left"] for each in found),
        "listed": found[:LISTED],
    }


def _document(name: str, points: int, of: dict[Kind, int], encodes: bool) -> TenantDocument:  # noqa: FBT001
    projected, encoded = of[Kind.PROJECTED], of[Kind.ENCODED]
    done = encoded + sum(of[kind] for kind in WITHOUT) + (0 if encodes else projected)
    return {
        "tenant": name,
        "points": points,
        "projected": projected,
        "encoded": encoded,
        # Never below 0, because applications write between the separate counts.
        "left": max(0, points - done),
    }


def _most(store: Store) -> int:
    return min(MOST, store.facts.read_limit or MOST)
