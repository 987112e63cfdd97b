"""Define what each strategy does to a collection, in the one table to read or to extend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from xbtmigrate.types import Strategy


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """What a strategy does.

    Attributes:
        headline: What it does, for the report; `{share}` and `{ordering}` are filled in.
        projects: Whether it writes a projection of every stored old vector.
        encodes: Whether it runs the new model over points of the collection.
        fraction: Share of the points it re-encodes unless another one is chosen.
    """

    headline: str
    projects: bool = False
    encodes: bool = False
    fraction: float = 0.0

    @property
    def writes(self) -> bool:
        """Whether it changes the collection."""
        # `keep` changes nothing, `bridge` only maps queries.
        return self.projects or self.encodes

    @property
    def is_partial(self) -> bool:
        """Whether points keep a projected vector unless they are re-encoded."""
        return self.projects and self.encodes

    @property
    def only_encodes(self) -> bool:
        """Whether the new model makes every new vector, so that no projector is needed."""
        return self.encodes and not self.projects


STRATEGIES: Mapping[Strategy, StrategySpec] = MappingProxyType(
    {
        Strategy.KEEP: StrategySpec("Keep the old model"),
        Strategy.BRIDGE: StrategySpec("Bridge the queries, write nothing"),
        Strategy.FORWARD: StrategySpec("Map the stored vectors, re-encode nothing", projects=True),
        Strategy.FASTFILL: StrategySpec(
            "Re-encode {share} of the points, in {ordering} order",
            projects=True,
            encodes=True,
            # Half is a start that `evaluate` can correct: fractions only grow.
            fraction=0.5,
        ),
        Strategy.FULL: StrategySpec("Re-encode every point", encodes=True, fraction=1.0),
    }
)
