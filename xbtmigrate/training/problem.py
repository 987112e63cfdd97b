"""What is fitted: one map with its pairs and its held-out task, the trainers, and their results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from xbtmigrate.projectors import Architecture, Uncertainty, beside, project
from xbtmigrate.training.moments import Moments
from xbtmigrate.training.pairs import PairSource
from xbtmigrate.training.selection import Scores, SelectionTask, measure_retrieval
from xbtmigrate.types import Direction, Distance, PointId, Vectors

Settings: TypeAlias = Mapping[str, float | int | str | bool]


@dataclass(frozen=True, slots=True)
class ModelSpace:
    """The vector space of one model.

    Attributes:
        fingerprint: Identity of the model.
        distance: Distance of the space.
    """

    fingerprint: str
    distance: Distance


@dataclass(frozen=True, eq=False)
class Problem:
    """One map to fit. Vectors of cosine spaces are of unit length here.

    Attributes:
        direction: Which way the map goes.
        source: Pairs it is fitted on.
        ids: Points of the inputs, n; those of the other pairs are held out.
        x: Inputs, float32 (n, d_in).
        y: Targets, float32 (n, d_out).
        x_held: Inputs no map is fitted on, for figures about single vectors, (k, d_in).
        y_held: Their targets, (k, d_out).
        x_distance: Distance of the input space.
        y_distance: Distance of the target space.
        task: Held-out retrieval to choose by.
        seed: Seed of every random choice.
        threads: Threads torch may use.
        side: How many of the last coordinates of an input are its side vector.
        blocks: Parts of the side vector and the length of each, in order.
    """

    direction: Direction
    source: PairSource
    ids: Sequence[PointId]
    x: Vectors
    y: Vectors
    x_held: Vectors
    y_held: Vectors
    x_distance: Distance
    y_distance: Distance
    task: SelectionTask
    seed: int
    threads: int
    side: int = 0
    blocks: Mapping[str, int] = field(default_factory=dict)

    @property
    def cosine(self) -> bool:
        """Whether the target space is a cosine space."""
        return self.y_distance is Distance.COSINE

    def with_inputs_for(self, settings: Settings) -> Problem:
        """Return the problem as these settings see it: without side vectors unless "side" is set.

        Args:
            settings: Hyperparameters; "side" is true where a map takes side vectors.
        """
        return self if settings.get("side") else self.alone

    @cached_property
    def alone(self) -> Problem:
        """The same problem without side vectors."""
        if not self.side:
            return self
        x, x_held = self.x[:, : -self.side], self.x_held[:, : -self.side]
        task = replace(self.task, gallery_side=None, queries_side=None)
        return replace(self, x=x, x_held=x_held, task=task, side=0)

    @property
    def gallery(self) -> Vectors:
        """Inputs of the task's gallery for a forward map, (m, d_in)."""
        task, cosine = self.task, self.x_distance is Distance.COSINE
        if not self.side or task.gallery_side is None:
            return task.gallery_old
        return beside(task.gallery_old, task.gallery_side, cosine=cosine)

    @property
    def queries(self) -> Vectors:
        """Inputs of the task's queries for a bridge, (q, d_in)."""
        task, cosine = self.task, self.x_distance is Distance.COSINE
        if not self.side or task.queries_side is None:
            return task.queries_new
        return beside(task.queries_new, task.queries_side, cosine=cosine)

    @cached_property
    def moments(self) -> Moments:
        """Moments of the pairs, measured once for all closed forms."""
        return Moments.of(self.x, self.y)

    def take_subset(self, rows: npt.NDArray[np.integer]) -> Problem:
        """Return the same problem with some of the pairs only."""
        ids = [self.ids[row] for row in rows]
        return replace(self, ids=ids, x=self.x[rows], y=self.y[rows])

    def shrink(self, pairs: int, queries: int) -> Problem:
        """Return a problem for comparing settings, with at most this many pairs and queries."""
        task, rng = self.task, np.random.default_rng(self.seed)
        rows, asked = (
            np.sort(rng.permutation(count)[:most])
            for count, most in ((len(self.x), pairs), (len(task.queries_new), queries))
        )
        old, side = (
            None if each is None else each[asked] for each in (task.queries_old, task.queries_side)
        )
        less = replace(
            task,
            queries_new=task.queries_new[asked],
            queries_old=old,
            queries_side=side,
            relevant=[task.relevant[row] for row in asked],
        )
        small = self if len(rows) == len(self.x) else self.take_subset(rows)
        return replace(small, task=less)

    def project(self, architecture: Architecture, x: Vectors) -> Vectors:
        """Map (n, d_in) to the target space."""
        return project(
            architecture,
            x,
            normalize_input=self.x_distance is Distance.COSINE and not self.side,
            normalize_output=self.cosine,
        )

    def score(self, architecture: Architecture) -> Scores:
        """Measure a map by the held-out retrieval, in the space it maps to.

        A projected gallery has to be right among true new vectors as well: where these are known,
        the figures are the mean over galleries of which nothing, a quarter and half is re-encoded.
        """
        task = self.task
        if self.direction is Direction.BRIDGE:
            queries, galleries = self.project(architecture, self.queries), [task.gallery_old]
        else:
            queries, galleries = task.queries_new, [self.project(architecture, self.gallery)]
            if task.gallery_new is not None:
                galleries += [mix_true_vectors(galleries[0], task, each) for each in (4, 2)]
        return Scores.mean(
            [measure_retrieval(queries, each, task.relevant, self.y_distance) for each in galleries]
        )

    def quick_score(self, architecture: Architecture) -> Scores:
        """Measure a map like `score`, but project only the answers if points search for themselves.

        All other rows are true new vectors then, the hardest gallery for a projected answer.
        """
        task = self.task
        if self.direction is Direction.BRIDGE or not task.self_asked or task.gallery_new is None:
            return self.score(architecture)
        rows, gallery = np.concatenate(task.relevant), task.gallery_new.copy()
        gallery[rows] = self.project(architecture, self.gallery[rows])
        return measure_retrieval(task.queries_new, gallery, task.relevant, self.y_distance)

    def squared_errors(self, architecture: Architecture, x: Vectors, y: Vectors) -> Vectors:
        """Compute the squared error per coordinate of each row; shape (n,)."""
        return np.asarray(np.mean((self.project(architecture, x) - y) ** 2, axis=1), np.float32)


def mix_true_vectors(
    projected: Vectors, task: SelectionTask, each: int, new: Vectors | None = None
) -> Vectors:
    """Replace each n-th row of a projected gallery by its true vector; shape (m, d).

    Args:
        projected: The gallery as it is projected.
        task: Holds the true vectors, and the rows that are not to be replaced.
        each: Rows 0, each, 2 each and so on are replaced.
        new: The true vectors where they are not the task's.
    """
    true = task.gallery_new if new is None else new
    assert true is not None
    chosen = np.arange(len(projected))[:, None] % each == 0
    if task.self_asked:
        chosen[np.concatenate(task.relevant)] = False
    return np.asarray(np.where(chosen, true, projected), np.float32)


@dataclass(frozen=True, slots=True)
class FittedMap:
    """The result of a trainer.

    Attributes:
        architecture: The map.
        error: An estimate of the map's error that was trained with it.
    """

    architecture: Architecture
    error: Uncertainty | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One fitted map with its figures on held-out data.

    Attributes:
        kind: Method.
        source: Pairs it was fitted on.
        pairs: How many of them.
        settings: Hyperparameters.
        scores: Held-out retrieval.
        cosine: Mean cosine between map and target on held-out pairs.
        squared_error: Mean squared error per coordinate on held-out pairs.
        seconds: Time of the fit.
        fitted: The map.
    """

    kind: str
    source: PairSource
    pairs: int
    settings: Settings
    scores: Scores
    cosine: float
    squared_error: float
    seconds: float
    fitted: FittedMap


class Trainer(Protocol):
    """A method of fitting: the value of an entry point in the group xbtmigrate.projectors.

    Its result is always one of the architectures of `xbtmigrate.projectors`, so a projector is
    applied without the code that fitted it.
    """

    @property
    def kind(self) -> str:
        """Name of the method, equal to the name of its entry point."""
        ...

    @property
    def directions(self) -> Collection[Direction]:
        """Directions it can map."""
        ...

    @property
    def closed_form(self) -> bool:
        """Whether it is fast and needs no torch."""
        ...

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:
        """List the hyperparameters to try, given what was already fitted to this problem."""
        ...

    def fit(self, problem: Problem, settings: Settings) -> FittedMap:
        """Fit one map to `problem.x`, `problem.y`; equal arguments give equal maps."""
        ...
