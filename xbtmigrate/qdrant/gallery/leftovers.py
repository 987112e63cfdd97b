"""Find and delete what killed commands leave behind: probes, marks, bench collections."""

from __future__ import annotations

from qdrant_client import models

from xbtmigrate.qdrant.gallery.provenance import PLAN_LENGTH, PROVENANCE
from xbtmigrate.qdrant.gallery.scratch import BENCH
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import JOURNAL, delete_records

_PROBES = models.Filter(
    must=[models.FieldCondition(key="kind", match=models.MatchValue(value="probe"))]
)


def count_probes(connection: Connection) -> int:
    """Count probe records in the journal."""
    client = connection.client
    if not connection.call(lambda: client.collection_exists(JOURNAL)):
        return 0
    return connection.call(lambda: client.count(JOURNAL, count_filter=_PROBES, exact=True)).count


def delete_probes(connection: Connection) -> None:
    """Delete probe records; a run that is probing at this moment falls back to REST."""
    delete_records(connection, _PROBES)


def find_orphan_shadows(connection: Connection) -> list[str]:
    """Return shadows that the journal lists and that do not exist."""
    client = connection.client
    names = {each.name for each in connection.call(client.get_collections).collections}
    if JOURNAL not in names:
        return []
    # One page is enough: a record that is missed does no harm.
    records, _ = connection.call(
        lambda: client.scroll(JOURNAL, limit=10_000, with_payload=["shadow"])
    )
    shadows = [(record.payload or {}).get("shadow") for record in records]
    return sorted(each for each in shadows if each and each not in names)


def list_bench_collections(connection: Connection) -> list[str]:
    """Return collections that `bench` has made."""
    listed = connection.call(connection.client.get_collections).collections
    return sorted(each.name for each in listed if each.name.startswith(BENCH))


def count_marked(connection: Connection, collection: str, plan: str | None) -> int:
    """Count points that have a mark, of any plan or of any plan but this one.

    Returns 0 if strict mode forbids filters without an index and there is none.
    """
    client, key = connection.client, f"{PROVENANCE}.plan"
    info = connection.call(lambda: client.get_collection(collection))
    strict = info.config.strict_mode_config
    limited = strict and strict.enabled and strict.unindexed_filtering_retrieve is False
    # `prepare` creates this index under such limits, so without it no run has marked a point.
    if limited and key not in info.payload_schema:
        return 0
    empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    excluded: list[models.Condition] = [empty]
    if plan is not None:
        match = models.MatchValue(value=plan[:PLAN_LENGTH])
        excluded.append(models.FieldCondition(key=key, match=match))
    condition = models.Filter(must_not=excluded)
    return connection.call(
        lambda: client.count(collection, count_filter=condition, exact=True)
    ).count
