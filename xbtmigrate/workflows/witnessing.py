"""Workflows: some points as they were before the first write, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from xbtmigrate.plan import Plan
from xbtmigrate.qdrant.witness import Testimony, compare, observe
from xbtmigrate.types import Layout, PointId
from xbtmigrate.workflows.wiring import Migration


def witness(migration: Migration, plan: Plan, ids: Sequence[PointId]) -> pa.Table:
    """Look at some points of the source: their payloads and every vector but the new one."""
    in_place = plan.target.layout is Layout.IN_PLACE
    without = plan.target.vector if in_place else None
    return observe(migration.connection, plan.collection.name, ids, without)


def testimony(migration: Migration, plan: Plan) -> Testimony | None:
    """Say what became of the points that were looked at while planning; None without them."""
    before = migration.artefacts.load_witness()
    if before is None:
        return None
    return compare(before, witness(migration, plan, before["id"].to_pylist()))
