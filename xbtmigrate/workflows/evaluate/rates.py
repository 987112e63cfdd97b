"""Predict the time of each strategy from the measured rate of every stage."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast

from xbtmigrate.documents.plan import RatesDocument
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.types import Strategy

# The embedded mode commits every point to disk separately, hence its 50.
WRITE_OVER_READ = {"server": 1.1, "embedded": 50.0}
"""Ratio of the time to write a point to that to read it, until `bench --yes` measures it."""
SWEEP_OVER_READ = 2.3
"""Ratio of the time to check a finished point to that to read it; both measured at 512 -> 768."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Points per second; None where it was not measured.

    Attributes:
        read: Read with sources and old vectors.
        project: Mapped from the old space into the new one.
        encode: Encoded by the new model.
        write: Written with provenance.
        sweep: Encoded points read and compared with their provenance, as the last pass does.
        order: Points read, scored by their old vectors and sorted.
        forward: Read, projected, written and swept, all stages overlapping.
        fill: Points without a new vector read in a given order, encoded and written, overlapping.
        reencode: The same of points with a projected vector.
    """

    read: float
    project: float
    encode: float
    write: float | None = None
    sweep: float | None = None
    order: float | None = None
    forward: float | None = None
    fill: float | None = None
    reencode: float | None = None

    def seconds(self, strategy: Strategy, points: int, encoded: int) -> float | None:
        """Return the seconds of a whole run; None where a rate that it needs was not measured.

        Args:
            strategy: What is done.
            points: Points of the collection.
            encoded: Points that are encoded.
        """
        spec = STRATEGIES[strategy]
        if not spec.writes:
            return 0.0
        if not (self.sweep and self.order and self.forward and self.fill and self.reencode):
            return None
        if not spec.encodes:
            return points / self.forward
        # A partial backfill projects every point first and then encodes a part over it.
        if spec.projects:
            return points / self.forward + points / self.order + encoded / self.reencode
        return points / self.order + encoded / self.fill + points / self.sweep

    def document(self) -> RatesDocument:
        """Return the rates as `bench` prints them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        shown = {name: None if rate is None else round(rate, 1) for name, rate in values.items()}
        return cast("RatesDocument", shown)


def guess_rates(read: float, encode: float, mode: str) -> Rates:
    """Return rates of writes guessed from those of reads, by ratios measured elsewhere.

    Args:
        read: Points read per second.
        encode: Items encoded per second.
        mode: Whether a server or an embedded database is written to.
    """
    write, sweep = read / WRITE_OVER_READ[mode], read / SWEEP_OVER_READ
    # The times of the stages add up, as if none overlapped: the guess is rather too slow.
    encoded = 1 / (1 / read + 1 / write + 1 / encode)
    return Rates(
        read,
        # About a tenth of a point's time (docs/benchmarks-data-path.md): left out of a guess.
        project=float("inf"),
        encode=encode,
        write=write,
        sweep=sweep,
        order=read,
        forward=1 / (1 / read + 1 / write + 1 / sweep),
        fill=encoded,
        reencode=encoded,
    )
