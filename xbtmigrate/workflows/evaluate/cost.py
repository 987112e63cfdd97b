"""Estimate the cost of each strategy from counts and measured rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xbtmigrate.evaluation.recommendation import Costs
from xbtmigrate.migration.plan import Cost
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.types import Layout, Strategy
from xbtmigrate.workflows.evaluate.rates import Rates

# Bytes; a float16 collection stores half, so the estimate is too high there.
FLOAT = 4
# The larger of two layouts: 310 in place, where sixteen points share a mark, 170 in a shadow.
PROVENANCE_BYTES = 310
"""A point's provenance in the payload: plan, kind and content hash, as stored."""
INDEX_FACTOR = 1.5
"""Memory of vectors with their HNSW links over the bare vectors (Qdrant, capacity planning)."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Counts, sizes and rates from which the cost of every strategy follows.

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
        # A point that is projected first and encoded later is written twice, but stored once.
        writes = projected + encodes
        stored = max(projected, encodes)
        vector_bytes = stored * self.size * FLOAT
        # Only a shadow repeats payloads and other vectors; in place they stay where they are.
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
    """Return the costs in money where a price is known, else in seconds."""
    rows = {cost.strategy: cost for cost in costs}
    if not rows:
        return Costs()
    forward, full = rows[Strategy.FORWARD], rows[Strategy.FULL]
    # Projecting calls no paid model, so in money it is free.
    if full.money:
        return Costs(full=full.money)
    return Costs(forward=forward.seconds, full=full.seconds)


def estimate_costs(work: Workload, share: float | None = None) -> list[Cost]:
    """Estimate every strategy, keep first.

    Args:
        work: What the costs depend on.
        share: Share that a strategy re-encodes beside projecting; None for the strategy's default.
    """
    return [
        work.cost(strategy, share if spec.is_partial and share is not None else spec.fraction)
        for strategy, spec in STRATEGIES.items()
    ]
