"""Fit the chosen map on every pair, and project every pair as if it had been left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, cast, runtime_checkable

import numpy as np

from xbtmigrate.training.problem import Candidate, FittedMap, Problem, Settings
from xbtmigrate.training.trainers import find_trainer
from xbtmigrate.types import Vectors

FOLDS = 2
"""Every fold is one more training of the map."""


@runtime_checkable
class LeavesOneOut(Protocol):
    """A trainer with a closed form for leave-one-out projections."""

    def fit_leaving_out(self, problem: Problem, settings: Settings) -> tuple[FittedMap, Vectors]:
        """Fit one map, and project every pair as if it had been left out, (n, d_out)."""
        ...


def refit(found: Candidate, problem: Problem) -> Candidate:
    """Solve a closed form once more on all pairs; its figures stay those of the comparison.

    Networks stay as they are: another training would take as long as the first.
    """
    trainer = find_trainer(found.kind)
    if not trainer.closed_form:
        return found
    return replace(
        found, fitted=trainer.fit(problem.with_inputs_for(found.settings), found.settings)
    )


def refit_with_unseen(found: Candidate, problem: Problem) -> tuple[Candidate, Vectors]:
    """Do the same, and project every pair by a map fitted without it.

    A map's errors on its own training pairs are too small, most of all where it has seen a
    neighbour, so neither an uncertainty nor a calibration may learn from those.

    Returns:
        The candidate, and one row for each row of `problem.x`, float32 (n, d_out).
    """
    trainer, given = find_trainer(found.kind), problem.with_inputs_for(found.settings)
    if isinstance(trainer, LeavesOneOut):
        fitted, projected = cast("LeavesOneOut", trainer).fit_leaving_out(given, found.settings)
        return replace(found, fitted=fitted), projected
    fold = np.random.default_rng(given.seed).permutation(len(given.x)) % FOLDS
    projected = np.empty((len(given.x), given.y.shape[1]), np.float32)
    for number in range(FOLDS):
        rows = np.flatnonzero(fold == number)
        # The settings are those chosen on all pairs: a choice for each fold would be another map.
        unaware = trainer.fit(given.take_subset(np.flatnonzero(fold != number)), found.settings)
        projected[rows] = given.project(unaware.architecture, given.x[rows])
    return refit(found, problem), projected
