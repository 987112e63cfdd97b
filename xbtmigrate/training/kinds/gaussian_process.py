"""Training: Gaussian processes in closed form; the prior mean is a student of the new model.

The student is static: the mean of the new model's vectors of a text's words, for which no pair is
needed. The process learns from pairs where it errs. Float64 inside: kernels of near vectors are
close to singular.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from xbtmigrate.projectors import GaussianProcess, ProcessVariance
from xbtmigrate.projectors.gaussian_process import gaussian_kernel
from xbtmigrate.side_information import LEXICAL, WORDS
from xbtmigrate.training.problem import Candidate, Fitted, Problem, Settings
from xbtmigrate.types import Direction, Vectors

Matrix = npt.NDArray[np.float64]
EXACT = 5000
"""So many pairs or fewer are all landmarks; solving takes time by their number cubed."""
LANDMARKS = 2500
"""Landmarks among more pairs (Nystroem)."""
VARIANCE_LANDMARKS = 1000
JITTER = 1e-6
"""Keeps kernels among landmarks that lie close together from being singular."""
TRIAL_PAIRS, TRIAL_QUERIES = 2500, 500
"""Pairs and held-out queries that settings are compared on."""
MIN_GAIN = 0.002
"""Less is chance among so few queries; narrow kernels look better than they are."""
START: Settings = {"gamma": 2.0, "noise": 0.1}
START_SIDE: Settings = {**START, "side": True, "side_weight": 0.5, "lexical": 0.3}
GRID: Mapping[str, Sequence[float]] = {
    "gamma": (1.0, 4.0),
    "noise": (0.03, 0.3),
    "side_weight": (0.75,),
    "lexical": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Process:
    """The kind `gaussian_process`.

    Settings: `gamma`, how narrow the kernel is; `noise`, the variance that pairs are not trusted
    with; `share`, how far outputs are moved away from the mean: half of the way in a gallery of a
    cosine space, where queries meet true vectors too; with side vectors also
    `side_weight`, their part in the kernel beside the stored vectors, and `lexical`, the weight of
    a linear kernel over the words themselves, which learns a vector for each.
    """

    kind: str = "gaussian_process"
    directions: tuple[Direction, ...] = tuple(Direction)
    closed_form: bool = True

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:  # noqa: ARG002
        """Choose by held-out queries on a part of the pairs, one setting at a time."""
        halfway = problem.cosine and problem.direction is Direction.FORWARD
        share: Settings = {"share": 0.5 if halfway else 0.0}
        starts = [START, START_SIDE] if problem.side else [START]
        small = problem.trial(TRIAL_PAIRS, TRIAL_QUERIES)
        tried = [(_reached(small, each), each) for each in ({**start, **share} for start in starts)]
        return [_improved(small, *max(tried, key=lambda each: each[0]))]

    def fit(self, problem: Problem, settings: Settings) -> Fitted:
        """Solve once."""
        return Fitted(_mean(problem, settings), _variance(problem, settings))


PROCESS = Process()


Order = tuple[float, ...]


def _reached(problem: Problem, settings: Settings) -> Order:
    """How well held-out queries find their answers with these settings."""
    given = problem.given(settings)
    return given.quick_score(_mean(given, settings)).order


def _improved(problem: Problem, reached: Order, settings: Settings) -> Settings:
    """Walk to better settings, one after the other, from some that reach so much."""
    for name, values in GRID.items():
        for value in values if name in settings else ():
            tried = {**settings, name: value}
            order = _reached(problem, tried)
            if order[0] > reached[0] + MIN_GAIN:
                settings, reached = tried, order
    return settings


def _mean(problem: Problem, settings: Settings) -> GaussianProcess:
    """Solve for the mean of the process."""
    x, y = problem.x, problem.y.astype(np.float64)
    weight, bias = _prior(problem)
    scale = _scale(problem, settings)
    chosen = _landmarks(problem, LANDMARKS if len(x) > EXACT else len(x))
    landmarks = (x[chosen] * scale).astype(np.float16).astype(np.float32)
    lexical = np.sqrt(float(settings.get("lexical", 0))) * _block(problem, x, LEXICAL)
    residual = y - (x @ weight + bias)
    coefficients = _solve(
        gaussian_kernel((x * scale).astype(np.float64), landmarks.astype(np.float64))
        + lexical @ lexical[chosen].T,
        gaussian_kernel(landmarks.astype(np.float64), landmarks.astype(np.float64))
        + lexical[chosen] @ lexical[chosen].T,
        residual,
        float(settings["noise"]),
    )
    start, stop = _place(problem, LEXICAL)
    weight[start:stop] += np.sqrt(float(settings.get("lexical", 0))) * (
        lexical[chosen].T @ coefficients
    )
    mean = y.mean(axis=0)
    spread = [np.linalg.norm(y - mean, axis=1).mean(), float(settings["share"])]
    parts = (weight, bias, scale, landmarks, coefficients, mean, spread)
    return GaussianProcess(*(np.asarray(part, np.float32) for part in parts))


def _solve(kernel: Matrix, among: Matrix, residual: Matrix, noise: float) -> Matrix:
    """Find the coefficients of the landmarks: exact where every pair is one, else Nystroem's.

    Args:
        kernel: Between pairs and landmarks, (n, m).
        among: Between landmarks, (m, m); overwritten.
        residual: What the prior leaves, (n, d_out).
        noise: Variance that pairs are not trusted with.

    Returns:
        Float64 (m, d_out).
    """
    exact = len(kernel) == len(among)
    among[np.diag_indices_from(among)] += noise if exact else JITTER
    lower = cholesky(among, lower=True, overwrite_a=True)
    if exact:
        return np.asarray(cho_solve((lower, True), residual))
    features = solve_triangular(lower, kernel.T, lower=True)
    gram = features @ features.T
    gram[np.diag_indices_from(gram)] += noise
    found = cho_solve(cho_factor(gram, overwrite_a=True), features @ residual)
    return np.asarray(solve_triangular(lower, found, lower=True, trans="T"))


def _variance(problem: Problem, settings: Settings) -> ProcessVariance:
    """What the process does not know, around fewer landmarks.

    With k the kernel to the landmarks, L L' the kernel among them, and M M' = noise I + F'F where F
    are the pairs' coordinates L^-1 k, the variance is 1 - |L^-1 k|^2 + noise |M^-1 L^-1 k|^2.
    Kept as one matrix: the root of what is taken away from 1.
    """
    x, scale = problem.x.astype(np.float64), _scale(problem, settings)
    chosen = _landmarks(problem, VARIANCE_LANDMARKS)
    landmarks = (x[chosen] * scale).astype(np.float16).astype(np.float64)
    among = gaussian_kernel(landmarks, landmarks)
    among[np.diag_indices_from(among)] += JITTER
    lower = cholesky(among, lower=True)
    own = solve_triangular(lower, gaussian_kernel(x * scale, landmarks).T, lower=True)
    noise = float(settings["noise"])
    values, vectors = np.linalg.eigh(own @ own.T)
    shrinking = np.sqrt(np.maximum(1 - noise / (noise + np.maximum(values, 0)), 0))
    known = solve_triangular(lower, vectors * shrinking, lower=True, trans="T")
    weight, bias = _prior(problem)
    level = np.mean((problem.y - (problem.x @ weight + bias)) ** 2)
    parts = (scale, landmarks, known, [max(level, 1e-12)])
    return ProcessVariance(*(np.asarray(part, np.float32) for part in parts))


def _prior(problem: Problem) -> tuple[Matrix, Matrix]:
    """The student scaled by one number and moved to the targets' mean; without words the mean."""
    mean = problem.y.mean(axis=0, dtype=np.float64)
    weight = np.zeros((problem.x.shape[1], len(mean)))
    start, stop = _place(problem, WORDS)
    if stop - start != len(mean):
        return weight, mean
    student = problem.x[:, start:stop].astype(np.float64)
    middle = student.mean(axis=0)
    student -= middle
    factor = np.sum(student * (problem.y - mean)) / max(np.sum(student**2), 1e-12)
    weight[start:stop] = factor * np.eye(len(mean))
    return weight, mean - factor * middle


def _scale(problem: Problem, settings: Settings) -> Vectors:
    """Make distances of stored vectors and of each block of side vectors count as they should."""
    scale = np.zeros(problem.x.shape[1], np.float32)
    stored, aside = len(scale) - problem.side, float(settings.get("side_weight", 0))
    blocks = [(slice(0, stored), 1 - aside)]
    if problem.side:
        first = next(iter(problem.blocks.values()))
        blocks.append((slice(stored, stored + first), aside))
    for part, share in blocks:
        typical = np.sqrt(problem.x[:, part].var(axis=0).sum())
        scale[part] = np.sqrt(float(settings["gamma"]) * share) / max(typical, 1e-12)
    return scale


def _landmarks(problem: Problem, most: int) -> npt.NDArray[np.intp]:
    """Rows of the pairs that the kernel stands around."""
    rows = np.random.default_rng(problem.seed).permutation(len(problem.x))[:most]
    return np.sort(rows)


def _place(problem: Problem, name: str) -> tuple[int, int]:
    """Columns of a block of side vectors, from and to; an empty range where there is none."""
    start = problem.x.shape[1] - problem.side
    for block, size in problem.blocks.items() if problem.side else ():
        if block == name:
            return start, start + size
        start += size
    return 0, 0


def _block(problem: Problem, x: Vectors, name: str) -> Matrix:
    start, stop = _place(problem, name)
    return x[:, start:stop].astype(np.float64)
