"""Estimate what each strategy takes, from counts and measured rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xbtmigrate.evaluation.recommendation import Costs
from xbtmigrate.migration.plan import Cost
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.types import Layout, Strategy
from xbtmigrate.workflows.evaluate.rates import Rates

FLOAT = 4
PROVENANCE_BYTES = 310
"""A point's provenance in the payload: plan, kind and content hash, as stored."""
INDEX_FACTOR = 1.5
"""Memory of vectors with their HNSW links over the bare vectors (Qdrant, capacity planning)."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What the costs depend on.

    Attributes:
        points: Points of the collection.
        sources: Points that can be encoded.
        size: Length of the new vectors.
        layout: Where they go.
        other_bytes: Bytes a shadow copies besides the new vectors: payload and other vectors.
        rates: How fast each stage goes.
        price: Money for one encoded item, None if unknown.
    """

    points: int
    sources: int
    size: int
    layout: Layout
    other_bytes: int
    rates: Rates
    price: float | None

    def cost(self, strategy: Strategy, fraction: float) -> Cost:
        """Estimate a strategy that re-encodes this share of the points."""
        encodes = round(fraction * self.sources)
        projected = self.points if STRATEGIES[strategy].projects else 0
        writes = projected + encodes
        stored = max(projected, encodes)
        vector_bytes = stored * self.size * FLOAT
        copied = self.other_bytes if stored and self.layout is Layout.SHADOW else 0
        return Cost(
            strategy=strategy,
            encodes=encodes,
            writes=writes,
            disk_bytes=round(vector_bytes * INDEX_FACTOR) + stored * PROVENANCE_BYTES + copied,
            ram_bytes=round(vector_bytes * INDEX_FACTOR),
            seconds=self.rates.seconds(strategy, self.points, encodes) or 0.0,
            money=None if self.price is None else encodes * self.price,
        )


def to_compare(costs: Sequence[Cost]) -> Costs:
    """What strategies are compared by: the price where there is one, else the time."""
    rows = {cost.strategy: cost for cost in costs}
    if not rows:
        return Costs()
    forward, full = rows[Strategy.FORWARD], rows[Strategy.FULL]
    if full.money:
        return Costs(full=full.money)
    return Costs(forward=forward.seconds, full=full.seconds)


def all_costs(work: Workload, share: float | None = None) -> list[Cost]:
    """Estimate every strategy, keep first.

    Args:
        work: What the costs depend on.
        share: Share that a strategy re-encodes beside projecting; None for the strategy's default.
    """
    return [
        work.cost(strategy, share if spec.is_partial and share is not None else spec.fraction)
        for strategy, spec in STRATEGIES.items()
    ]
