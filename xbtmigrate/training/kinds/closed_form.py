"""Affine maps in closed form, all from the same first and second moments of the pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.projectors import Affine
from xbtmigrate.training.moments import Matrix, Moments
from xbtmigrate.training.problem import Candidate, FittedMap, Problem, Settings
from xbtmigrate.types import Direction

Solve = Callable[[Moments, Settings], Affine]
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
RANKS = (4, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """A kind whose map follows from the moments of the pairs.

    Attributes:
        kind: Name of the method.
        solve: Makes the map.
        grid: Settings to try.
        takes_side: Whether it can use side vectors.
    """

    kind: str
    solve: Solve
    grid: Sequence[Settings] = field(default=({},))
    takes_side: bool = False
    directions: tuple[Direction, ...] = tuple(Direction)
    closed_form: bool = True

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:  # noqa: ARG002
        """Try the grid, as far as it fits the dimensions, with and without side vectors."""
        views: list[Settings] = [{}, {"side": True}] if self.takes_side and problem.side else [{}]
        tried = [{**view, **each} for view in views for each in self.grid]
        most = min(problem.alone.x.shape[1], problem.y.shape[1])
        # At full rank `low_rank` is ridge again.
        return [each for each in tried if float(each.get("rank", 0)) < most]

    def fit(self, problem: Problem, settings: Settings) -> FittedMap:
        """Solve once."""
        return FittedMap(self.solve(problem.moments, settings))


def compatible(moments: Moments, settings: Settings) -> Affine:  # noqa: ARG001
    """Take the vectors as they are, cut or padded with zeros to the other dimension.

    For a new model that was trained to be compatible: BCT (Shen et al., CVPR 2020), BT2 (Zhou et
    al., ICCV 2023: extra dimensions), OCA (Ricci et al. 2024, arXiv 2408.08793: an orthogonal
    extension).
    """
    d_in, d_out = moments.cross.shape
    # A rectangular identity cuts or pads.
    return _affine(np.eye(d_in, d_out), np.zeros(d_out))


def mean_shift(moments: Moments, settings: Settings) -> Affine:  # noqa: ARG001
    """Add the difference of the means: query drift compensation (Goswami et al. 2025)."""
    return _through_means(moments, np.eye(*moments.cross.shape))


def procrustes(moments: Moments, settings: Settings) -> Affine:
    """Rotate: max tr(W'X'Y) over orthonormal W (Schönemann 1966; scale, Schönemann & Carroll 1970).

    Between unequal dimensions W has orthonormal rows or columns. Centred, both means are subtracted
    first and the target's is added back.
    """
    # Without centring, the origin stays where it is, and so does every angle of a cosine space.
    seen = moments if settings["centred"] else moments.uncentred
    left, values, right = np.linalg.svd(seen.cross, full_matrices=False)
    rotation = left @ right
    # The least-squares scale s = tr(S) / tr(W'X'XW), with S the singular values of X'Y.
    scale = values.sum() / np.trace(rotation.T @ seen.gram @ rotation)
    return _through_means(seen, rotation * scale)


def whitened(moments: Moments, settings: Settings) -> Affine:
    """Whiten both sides, rotate, and colour again (Artetxe et al., AAAI 2018).

    Canonical directions are weighted by their correlation to the power `reweight`: 0 is a rotation
    between whitened spaces, 1 the regression of one on the other.
    """
    left, values, right = _canonical(moments)
    return _through_means(moments, (left * values ** float(settings["reweight"])) @ right)


def ridge(moments: Moments, settings: Settings) -> Affine:
    """Regress with a penalty (Hoerl & Kennard 1970) and a free intercept.

    The penalty is in units of the mean variance of the inputs, so that it means the same for any
    pair of models, and is chosen on retrieval: between modalities the cosine misleads.
    """
    return _through_means(moments, _ridge(moments, float(settings["penalty"])))


def low_rank(moments: Moments, settings: Settings) -> Affine:
    """Regress through a narrow waist: reduced rank (Izenman 1975; r = 64 in Drift-Adapter)."""
    weight, directions = _principal(moments, float(settings["penalty"]))
    # Ascending, so the leading ones are last.
    kept = directions[:, -int(settings["rank"]) :]
    return _through_means(moments, weight @ kept @ kept.T)


COMPATIBLE = ClosedForm("compatible", compatible)
MEAN_SHIFT = ClosedForm("mean_shift", mean_shift)
PROCRUSTES = ClosedForm("procrustes", procrustes, [{"centred": c} for c in (False, True)])
WHITENED = ClosedForm("whitened", whitened, [{"reweight": w} for w in (0.0, 0.5, 1.0)])
RIDGE = ClosedForm("ridge", ridge, [{"penalty": p} for p in PENALTIES], takes_side=True)
LOW_RANK = ClosedForm(
    "low_rank", low_rank, [{"rank": rank, "penalty": p} for rank in RANKS for p in (1e-3, 1e-1)]
)


def _ridge(moments: Moments, penalty: float) -> Matrix:
    """Solve (X'X + penalty * mean(diag X'X) I) W = X'Y."""
    gram = moments.gram.copy()
    # The mean of the diagonal makes one grid of penalties fit vectors of any length.
    gram[np.diag_indices_from(gram)] += penalty * max(np.trace(gram) / len(gram), 1e-12)
    return cast("Matrix", np.linalg.solve(gram, moments.cross))


# Kept for the other settings of the same grid, which share it: it takes most of the time.
@lru_cache(maxsize=4)
def _canonical(moments: Moments) -> tuple[Matrix, Matrix, Matrix]:
    """Return canonical directions of both sides, in coordinates of each, and their correlations."""
    whiten, _ = _roots(moments.gram / moments.count)
    whiten_y, colour = _roots(moments.gram_y / moments.count)
    # The singular values of the whitened cross-covariance are the canonical correlations.
    correlation = whiten @ (moments.cross / moments.count) @ whiten_y
    left, values, right = np.linalg.svd(correlation, full_matrices=False)
    return whiten @ left, values, right @ colour


@lru_cache(maxsize=4)
def _principal(moments: Moments, penalty: float) -> tuple[Matrix, Matrix]:
    """Return a ridge regression, and the principal directions of its fitted values, ascending."""
    weight = _ridge(moments, penalty)
    _, directions = np.linalg.eigh(weight.T @ moments.gram @ weight)
    return weight, directions


def _roots(covariance: Matrix) -> tuple[Matrix, Matrix]:
    """Return inverse square root and square root, eigenvalues raised by 1 % of their mean."""
    values, vectors = np.linalg.eigh(covariance)
    roots = np.sqrt(np.maximum(values, 0) + 1e-2 * max(values.mean(), 1e-12))
    return vectors / roots @ vectors.T, vectors * roots @ vectors.T


def _through_means(moments: Moments, weight: Matrix) -> Affine:
    """Complete a weight so that the inputs' mean maps to the targets'."""
    # y = (x - mean_x) W + mean_y, with the means folded into the bias.
    return _affine(weight, moments.mean_y - moments.mean_x @ weight)


def _affine(weight: Matrix, bias: npt.NDArray[np.float64]) -> Affine:
    return Affine(weight.astype(np.float32), bias.astype(np.float32))
