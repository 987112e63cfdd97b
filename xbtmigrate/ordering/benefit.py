"""Estimate how much re-encoding a point would improve the answers.

The error of a projection is not the loss it causes: a badly mapped point may be found all the same
by its old vector, or lie where no query leads. Two things change when a point gets its true new
vector: queries that it answers find it (own), and other queries no longer find it in the place of
their answer (others). Both are measured on queries with known answers, in random mixtures of
re-encoded and waiting points, and learned from what is known of any point: the uncertainty of its
projection, how crowded its surroundings are in both spaces, how near it is to all queries,
and how often it ranks before the right answer of a known query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import PluginError
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.ordering.simple import PriorityScores
from xbtmigrate.ordering.trees import Linear, Regressor, Tensors, Trees
from xbtmigrate.protocols import Projector
from xbtmigrate.scoring.calibration import Calibration, measure_hubness
from xbtmigrate.types import Channel, Distance, PointId, Scores, Vectors

NEAREST = (1, 5, 10, 50)
"""Ranks of the neighbours whose similarities measure how crowded a region is."""

# Points described at a time: `_block` compares each with every query of the bank, in two states.
BLOCK = 1000


@dataclass(frozen=True, slots=True)
class Reference:
    """A random sample of m points of the collection, to measure crowding.

    Attributes:
        ids: Their ids.
        old: Their stored vectors, (m, d_old).
        projected: The same in the new space, (m, d_new).
    """

    ids: Sequence[PointId]
    old: Vectors
    projected: Vectors


@dataclass(frozen=True, slots=True)
class FeatureInputs:
    """The queries and the reference points that a point's features are computed from.

    Attributes:
        calibration: How the mixed gallery is searched, with its bank of known queries.
        answers: Fused score of the answer of each query of the bank, waiting and re-encoded,
            float32 (queries, 2).
        reference: Points that crowding is measured against.
        old_distance: Distance of the old space.
        new_distance: Distance of the new space.
    """

    calibration: Calibration
    answers: Scores
    reference: Reference
    old_distance: Distance
    new_distance: Distance

    def features(
        self,
        ids: Sequence[PointId],
        old: Vectors,
        projected: Vectors,
        uncertainty: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float32]:
        """Compute the features of points that are known before they are re-encoded.

        Args:
            ids: Ids of n points.
            old: Their stored vectors, (n, d_old).
            projected: Their projections, (n, d_new).
            uncertainty: Predicted log-variance of the projections, (n,).

        Returns:
            Float32 (n, 12).
        """
        parts = [np.empty((0, 4 + 2 * len(NEAREST)), np.float32)]
        for start in range(0, len(ids), BLOCK):
            rows = slice(start, start + BLOCK)
            parts.append(self._block(ids[rows], old[rows], projected[rows], uncertainty[rows]))
        return np.concatenate(parts)

    def _block(
        self,
        ids: Sequence[PointId],
        old: Vectors,
        projected: Vectors,
        uncertainty: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float32]:
        bank, fusion = self.calibration.bank, self.calibration.fusion
        # Points take the place of queries here, so the scores are (points, queries of the bank).
        met = {
            Channel.OLD: SearchSpace(old, bank.old, self.old_distance).score(),
            Channel.FORWARD: SearchSpace(projected, bank.new, self.new_distance).score(),
        }
        hubs = measure_hubness(
            bank, ids, {channel: scores.__getitem__ for channel, scores in met.items()}
        )
        # The fused score of each point while it is not re-encoded.
        waiting = fusion.score(
            {channel: scores.T for channel, scores in met.items()} | _unused(fusion.channels, met),
            hubs,
            np.zeros(len(ids), np.bool_),
        ).T
        own = np.asarray(ids, np.str_)[:, None] == np.asarray(bank.ids, np.str_)
        # Against the answer in both of its states: in a mixture it may be in either.
        ahead = (waiting[:, :, None] > self.answers[None]).sum(axis=2) * ~own
        columns = [
            uncertainty,
            hubs[Channel.OLD],
            hubs[Channel.FORWARD],
            ahead.mean(axis=1),
            *self._crowding(ids, old, self.reference.old, self.old_distance),
            *self._crowding(ids, projected, self.reference.projected, self.new_distance),
        ]
        return np.stack(columns, axis=1, dtype=np.float32)

    def _crowding(
        self, ids: Sequence[PointId], vectors: Vectors, others: Vectors, distance: Distance
    ) -> Scores:
        """Return the similarity to the nearest reference points but the point itself, (k, n)."""
        scores = SearchSpace(vectors, others, distance).score()
        own = np.asarray(ids, np.str_)[:, None] == np.asarray(self.reference.ids, np.str_)
        # Its own entry would make every point of the reference look crowded.
        scores = np.where(own, -np.inf, scores)
        count = scores.shape[1]
        places = [count - min(each, count - 1) for each in NEAREST]
        return np.partition(scores, places, axis=1)[:, places].T


@dataclass(frozen=True, slots=True)
class Estimate:
    """Benefit of re-encoding a point, in queries that find their answer among the first ten.

    Attributes:
        own: For the point's own queries, at a rate of one query for each point.
        others: For all queries that other points answer.
    """

    own: Regressor
    others: Regressor

    def tensors(self, name: str) -> dict[str, npt.NDArray[np.generic]]:
        """Return the parameters of both sides under a name."""
        sides = (("own", self.own), ("others", self.others))
        return {
            f"{name}.{side}.{key}": tensor
            for side, part in sides
            for key, tensor in part.tensors().items()
        }

    @classmethod
    def from_tensors(
        cls, name: str, kind: type[Linear] | type[Trees], tensors: Tensors
    ) -> Estimate:
        """Rebuild from `tensors(name)`; raises KeyError where one is missing."""
        return cls(*(kind.from_tensors(_under(f"{name}.{s}.", tensors)) for s in ("own", "others")))


@dataclass(frozen=True, slots=True)
class BenefitModel:
    """Everything that the learned orders need.

    Attributes:
        surroundings: Computes the features of points.
        combined: Weighted features.
        trees: Boosted trees; None where scikit-learn was not installed at the training.
        forward: Digest of the forward projector it belongs to.
    """

    surroundings: FeatureInputs
    combined: Estimate
    trees: Estimate | None
    forward: str

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the parameters of the estimates by name."""
        found = self.combined.tensors("combined")
        return found if self.trees is None else found | self.trees.tensors("trees")

    @classmethod
    def from_tensors(cls, around: FeatureInputs, tensors: Tensors, forward: str) -> BenefitModel:
        """Rebuild from `tensors()`; raises KeyError where one is missing."""
        combined = Estimate.from_tensors("combined", Linear, tensors)
        grown = any(name.startswith("trees.") for name in tensors)
        trees = Estimate.from_tensors("trees", Trees, tensors) if grown else None
        return cls(around, combined, trees, forward)


class _Learned:
    """Score points by an estimate of the benefit of re-encoding them."""

    name = ""

    def __init__(
        self,
        *,
        projector: Projector,
        benefit: BenefitModel | None,
        demand: Mapping[PointId, int] | None = None,
    ) -> None:
        if benefit is None:
            raise PluginError(
                f"the {self.name} order needs what train-projector learns from queries",
                "run `xbtmigrate train-projector` in both directions, or choose another order",
            )
        self._projector, self._benefit, self._demand = projector, benefit, demand or {}
        self._usual = sum(self._demand.values()) / max(1, len(self._demand))

    def estimate(self, benefit: BenefitModel) -> Estimate:
        """Return the estimate that scores the points."""
        raise NotImplementedError

    def score(self, ids: Sequence[PointId], old: Vectors) -> PriorityScores:
        """Return the estimated benefit, NaN where there is no old vector. Shape (n,)."""
        known = np.asarray(np.isfinite(old).all(axis=1))
        # Zeros let a point without an old vector pass through the maps; its score is NaN at the
        # end.
        filled = np.where(known[:, None], old, 0)
        features = self._benefit.surroundings.features(
            ids, filled, self._projector.apply(filled), self._projector.uncertainty(filled)
        )
        found = self.estimate(self._benefit)
        benefit = found.own(features) * self._hits(ids) + found.others(features)
        return cast("PriorityScores", np.where(known, benefit, np.nan).astype(np.float32))

    def _hits(self, ids: Sequence[PointId]) -> npt.NDArray[np.float32]:
        """Return how often queries reach each point, in units of the mean; 1 without a log."""
        if not self._demand:
            return np.ones(len(ids), np.float32)
        hits = np.array([self._demand.get(point, 0) for point in ids], np.float32)
        # In units of the mean, since `own` is learned for one query per point; the scale against
        # `others` then holds.
        return hits / np.float32(self._usual)


class BenefitOrdering(_Learned):
    """Points whose re-encoding improves the answers most come first, by boosted trees.

    Args:
        projector: The forward projector.
        benefit: What train-projector learned.
        demand: Point id -> how often queries reached it; without it all points count alike.

    Raises:
        PluginError: Nothing was learned, or scikit-learn was not there to learn it.
    """

    name = "benefit"

    def estimate(self, benefit: BenefitModel) -> Estimate:
        """Return the trees, or raise PluginError where none were fitted."""
        if benefit.trees is None:
            raise PluginError(
                "the benefit order was not learned: scikit-learn was not installed",
                "pip install 'xbtmigrate[train]' and run train-projector, or use combined",
            )
        return benefit.trees


class CombinedOrdering(_Learned):
    """The same benefit by a weighted sum of features: uncertainty, crowding, hubness, precedence.

    The weights are learned on queries with known answers. Arguments as for `BenefitOrdering`.
    """

    name = "combined"

    def estimate(self, benefit: BenefitModel) -> Estimate:
        """Return the weighted sum."""
        return benefit.combined


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def _unused(channels: frozenset[Channel], met: Mapping[Channel, Scores]) -> dict[Channel, Scores]:
    """Return zeros for channels that only re-encoded points are scored by."""
    some = next(iter(met.values())).T
    return {channel: np.zeros_like(some) for channel in channels - set(met)}
