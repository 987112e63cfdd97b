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
from xbtmigrate.training.problem import Candidate, FittedMap, Problem, Settings
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
        # Only a projected gallery lies among true vectors, which shrunken ones would push aside.
        halfway = problem.cosine and problem.direction is Direction.FORWARD
        share: Settings = {"share": 0.5 if halfway else 0.0}
        starts = [START, START_SIDE] if problem.side else [START]
        # Solving takes the cube of the landmarks, and some ten settings are tried.
        small = problem.shrink(TRIAL_PAIRS, TRIAL_QUERIES)
        tried = [(_reached(small, each), each) for each in ({**start, **share} for start in starts)]
        return [_improved(small, *max(tried, key=lambda each: each[0]))]

    def fit(self, problem: Problem, settings: Settings) -> FittedMap:
        """Solve once."""
        return FittedMap(_mean(problem, settings), _variance(problem, settings))


PROCESS = Process()


Order = tuple[float, ...]


def _reached(problem: Problem, settings: Settings) -> Order:
    """Measure how well held-out queries find their answers with these settings."""
    given = problem.with_inputs_for(settings)
    return given.quick_score(_mean(given, settings)).order


def _improved(problem: Problem, reached: Order, settings: Settings) -> Settings:
    """Improve settings one at a time (coordinate search), from some that reach so much."""
    for name, values in GRID.items():
        for value in values if name in settings else ():
            tried = {**settings, name: value}
            order = _reached(problem, tried)
            # By the mean reciprocal rank, the first figure of `Scores.order`.
            if order[0] > reached[0] + MIN_GAIN:
                settings, reached = tried, order
    return settings


def _mean(problem: Problem, settings: Settings) -> GaussianProcess:
    """Solve for the mean of the process."""
    x, y = problem.x, problem.y.astype(np.float64)
    weight, bias = _prior(problem)
    scale = _scale(problem, settings)
    chosen = _landmarks(problem, LANDMARKS if len(x) > EXACT else len(x))
    # Rounded as they are stored, so that the coefficients fit the kernel that will be applied.
    landmarks = (x[chosen] * scale).astype(np.float16).astype(np.float32)
    # The square root on both sides: the linear kernel is then the product of two of these.
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
    # A linear kernel is a weight matrix: folded into the prior's, it costs nothing when applied.
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
    # (K + noise I)^-1 r, the exact mean of the process.
    among[np.diag_indices_from(among)] += noise if exact else JITTER
    lower = cholesky(among, lower=True, overwrite_a=True)
    if exact:
        return np.asarray(cho_solve((lower, True), residual))
    # Nystroem: with F = L^-1 k', ridge regression (F F' + noise I)^-1 F r, taken back through L'.
    features = solve_triangular(lower, kernel.T, lower=True)
    gram = features @ features.T
    gram[np.diag_indices_from(gram)] += noise
    found = cho_solve(cho_factor(gram, overwrite_a=True), features @ residual)
    return np.asarray(solve_triangular(lower, found, lower=True, trans="T"))


def _variance(problem: Problem, settings: Settings) -> ProcessVariance:
    """Compute the variance of the process, around fewer landmarks.

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
    # With F'F = V diag(v) V', 1 loses |diag(sqrt(v / (v + noise))) V' L^-1 k|^2.
    shrinking = np.sqrt(np.maximum(1 - noise / (noise + np.maximum(values, 0)), 0))
    known = solve_triangular(lower, vectors * shrinking, lower=True, trans="T")
    weight, bias = _prior(problem)
    # At full variance nothing but the prior is known, so its error is the error to expect.
    level = np.mean((problem.y - (problem.x @ weight + bias)) ** 2)
    parts = (scale, landmarks, known, [max(level, 1e-12)])
    return ProcessVariance(*(np.asarray(part, np.float32) for part in parts))


def _prior(problem: Problem) -> tuple[Matrix, Matrix]:
    """Return the student, scaled by one number and moved to the targets' mean, or just the mean."""
    mean = problem.y.mean(axis=0, dtype=np.float64)
    weight = np.zeros((problem.x.shape[1], len(mean)))
    start, stop = _place(problem, WORDS)
    # No words, or words of another length than the targets: then the mean is the prior.
    if stop - start != len(mean):
        return weight, mean
    student = problem.x[:, start:stop].astype(np.float64)
    middle = student.mean(axis=0)
    student -= middle
    # Least squares for one scalar: a matrix would need the pairs that words are there to save.
    factor = np.sum(student * (problem.y - mean)) / max(np.sum(student**2), 1e-12)
    weight[start:stop] = factor * np.eye(len(mean))
    return weight, mean - factor * middle


def _scale(problem: Problem, settings: Settings) -> Vectors:
    """Compute the factor of each coordinate that the kernel's distances are taken with."""
    scale = np.zeros(problem.x.shape[1], np.float32)
    stored, aside = len(scale) - problem.side, float(settings.get("side_weight", 0))
    blocks = [(slice(0, stored), 1 - aside)]
    if problem.side:
        # Only the first block enters distances; what follows keeps scale 0, as its kernel is
        # linear.
        first = next(iter(problem.blocks.values()))
        blocks.append((slice(stored, stored + first), aside))
    for part, share in blocks:
        # Relative to the typical distance, so that one grid of gammas fits every pair of models.
        typical = np.sqrt(problem.x[:, part].var(axis=0).sum())
        scale[part] = np.sqrt(float(settings["gamma"]) * share) / max(typical, 1e-12)
    return scale


def _landmarks(problem: Problem, most: int) -> npt.NDArray[np.intp]:
    """Choose the pairs whose inputs are the landmarks of the kernel."""
    rows = np.random.default_rng(problem.seed).permutation(len(problem.x))[:most]
    # A random sample: which pairs are the landmarks matters little.
    return np.sort(rows)


def _place(problem: Problem, name: str) -> tuple[int, int]:
    """Return the columns of a block of side vectors, from and to; 0, 0 where there is none."""
    start = problem.x.shape[1] - problem.side
    for block, size in problem.blocks.items() if problem.side else ():
        if block == name:
            return start, start + size
        start += size
    return 0, 0


def _block(problem: Problem, x: Vectors, name: str) -> Matrix:
    start, stop = _place(problem, name)
    return x[:, start:stop].astype(np.float64)
