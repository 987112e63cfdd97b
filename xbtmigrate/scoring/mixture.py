"""Describe each serving as one linear score for every point, by its state in the backfill.

A mixture is two query vectors, one for each space, and weights for the three states of a point.
Other modules compute the sum, in the server or with numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from xbtmigrate.scoring.fusion import Fusion, Weights
from xbtmigrate.types import Channel


class State(StrEnum):
    """How a point's new vector was made."""

    ENCODED = "encoded"  # the new model's own
    PROJECTED = "projected"  # the old vector, mapped
    WAITING = "waiting"  # there is none yet


@dataclass(frozen=True, slots=True)
class Part:
    """Weights of the two spaces and an offset, in one state of a point.

    Attributes:
        old: Weight of the score in the old space.
        new: Weight of the score in the new space.
        offset: Added to every point in this state.
    """

    old: float
    new: float
    offset: float = 0.0


OLD_ONLY, NEW_ONLY = Part(1.0, 0.0), Part(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Mixture:
    """One serving as a linear score.

    Attributes:
        name: Its name, as evaluations call it.
        asks: Which query meets the old vectors: `OLD`, `BRIDGE` or `BLEND`.
        parts: Weights by state.
        hubness: Whether a point's stored hubness is added (see `Fusion`).
    """

    name: str
    asks: Channel
    parts: Mapping[State, Part]
    hubness: bool = False

    def space(self, *, waiting: bool) -> str | None:
        """Return the only space that is needed, "old" or "new"; None if both are.

        Args:
            waiting: Whether there are points without a new vector.
        """
        # Once no point waits, a serving that needed both spaces may need only one.
        states = [state for state in State if waiting or state is not State.WAITING]
        parts = {self.parts[state] for state in states}
        if parts == {OLD_ONLY}:
            return "old"
        return "new" if parts == {NEW_ONLY} else None

    def needs_old_model(self, *, waiting: bool) -> bool:
        """Return whether a query has to be embedded with the old model."""
        met = self.asks in (Channel.OLD, Channel.BLEND)
        return met and self.space(waiting=waiting) != "new"

    def needs_new_model(self, *, waiting: bool) -> bool:
        """Return whether a query has to be embedded with the new model."""
        return self.asks is not Channel.OLD or self.space(waiting=waiting) != "old"


def _mixture(name: str, asks: Channel, encoded: Part, projected: Part) -> Mixture:
    # A point without a new vector can only be found by its old one, in every serving.
    parts = {State.ENCODED: encoded, State.PROJECTED: projected, State.WAITING: OLD_ONLY}
    return Mixture(name, asks, parts)


KEEP = _mixture("keep", Channel.OLD, OLD_ONLY, OLD_ONLY)
BRIDGE = _mixture("bridge", Channel.BRIDGE, OLD_ONLY, OLD_ONLY)
# The bridged query scores waiting points, so `single` never needs the old model.
SINGLE = _mixture("single", Channel.BRIDGE, NEW_ONLY, NEW_ONLY)
MERGE = _mixture("merge", Channel.OLD, NEW_ONLY, OLD_ONLY)
SLERP = _mixture("slerp", Channel.BLEND, NEW_ONLY, OLD_ONLY)

CALIBRATED, CALIBRATED_BRIDGE = "calibrated", "calibrated_bridge"


def make_calibrated_mixture(
    fusion: Fusion, name: str = CALIBRATED, asks: Channel = Channel.OLD
) -> Mixture:
    """Turn a calibration into a mixture.

    A point without a new vector has no forward score; the one in the old space replaces it.

    Args:
        fusion: The weights.
        name: Name of the serving.
        asks: Which query meets the old vectors.
    """
    none = Weights(0.0)
    wait, done = fusion.waiting, fusion.encoded
    old, forward = wait.get(asks, none), wait.get(Channel.FORWARD, none)
    encoded = Part(done.get(asks, none).score, done.get(Channel.NEW, none).score, fusion.offset)
    parts = {
        State.ENCODED: encoded,
        State.PROJECTED: Part(old.score, forward.score),
        # With the sum of both weights, its scores have the scale of projected points.
        State.WAITING: Part(old.score + forward.score, 0.0),
    }
    weights = [*wait.values(), *done.values()]
    return Mixture(name, asks, parts, any(each.hubness for each in weights))
