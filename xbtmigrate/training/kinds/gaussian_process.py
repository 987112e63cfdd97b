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
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dtrtri

from xbtmigrate.projectors import GaussianProcess, ProcessVariance
from xbtmigrate.projectors.gaussian_process import gaussian_kernel, spread_out
from xbtmigrate.side_information import LEXICAL, WORDS
from xbtmigrate.training.pairs import PairSource
from xbtmigrate.training.problem import Candidate, FittedMap, Problem, Settings
from xbtmigrate.types import Direction, Vectors, normalized

Matrix = npt.NDArray[np.float64]
EXACT = 6000
"""Up to this many pairs are all landmarks; solving takes cubic time."""
LANDMARKS = 2500
"""Landmarks among more pairs (Nystroem)."""
VARIANCE_LANDMARKS = 1000
JITTER = 1e-6
"""Keeps kernels among landmarks that lie close together from being singular."""
TRIAL_PAIRS, TRIAL_QUERIES = 1500, 500
"""Pairs whose errors, or queries whose retrieval, settings are compared by."""
MIN_GAIN = 0.002
"""Less is chance among so few queries; narrow or wide kernels look better than they are."""
START: Settings = {"gamma": 2.0, "noise": 0.1}
START_SIDE: Settings = {**START, "side": True, "side_weight": 0.5, "lexical": 0.3}
BRIDGE_SIDE: Settings = {"gamma": 1.0, "noise": 0.1, "side": True, "side_weight": 0.2}
"""A bridge is fitted on documents, which have many words, for queries, which have few: what is best
among documents leans too far on the words."""
GRID: Mapping[str, Sequence[float]] = {
    "gamma": (1.0, 4.0),
    "noise": (0.03, 0.3),
    "side_weight": (0.35, 0.65),
    "lexical": (0.1, 1.0),
}


@dataclass(frozen=True, slots=True)
class Process:
    """The kind `gaussian_process`.

    Settings: `gamma`, how narrow the kernel is; `noise`, the variance that pairs are not trusted
    with; `share`, how far outputs are moved away from the mean, see `_share`; with side vectors
    also `side_weight`, their part in the kernel beside the stored vectors, and `lexical`, the
    weight of a linear kernel over the words themselves, which learns a vector for each.
    """

    kind: str = "gaussian_process"
    directions: tuple[Direction, ...] = tuple(Direction)
    closed_form: bool = True

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:
        """Choose on a part of the pairs, one setting at a time (coordinate search)."""
        if problem.side and problem.direction is Direction.BRIDGE:
            # Both: queries without a known word are mapped without side vectors.
            alone = self.settings(problem.alone, earlier)
            return [{**BRIDGE_SIDE, "share": _share(problem)}, *alone]
        share: Settings = {"share": _share(problem)}
        starts = [START, START_SIDE] if problem.side else [START]
        # Solving takes the cube of the pairs, and some ten settings are tried.
        by_error = _by_error(problem)
        small = problem.shrink(TRIAL_PAIRS if by_error else LANDMARKS, TRIAL_QUERIES)
        reached, best = max(
            ((_reached(small, each), each) for each in ({**start, **share} for start in starts)),
            key=lambda each: each[0],
        )
        for name, values in GRID.items():
            tried = [{**best, name: value} for value in values if name in best]
            found = [(_reached(small, each), each) for each in tried]
            leading = max(found, key=lambda each: each[0], default=(reached, best))
            if leading[0] > reached + (0 if by_error else MIN_GAIN):
                reached, best = leading
        return [best]

    def fit(self, problem: Problem, settings: Settings) -> FittedMap:
        """Solve once."""
        mean, _ = _mean(problem, settings, left_out=False)
        return FittedMap(mean, _variance(problem, settings))

    def fit_leaving_out(self, problem: Problem, settings: Settings) -> tuple[FittedMap, Vectors]:
        """Solve once, and project every pair as if it had not been among them."""
        mean, projected = _mean(problem, settings, left_out=True)
        assert projected is not None
        return FittedMap(mean, _variance(problem, settings)), projected


PROCESS = Process()


def _share(problem: Problem) -> float:
    """Return how far outputs are moved away from the mean, see `GaussianProcess`."""
    if not problem.cosine:
        return 0.0
    # Projected vectors are compared with true ones, which would outrank shrunken ones.
    if problem.direction is Direction.FORWARD:
        return 0.5
    # A query near the mean finds what is near to all. Not so from captions to pictures, whose
    # vectors lie around different means.
    return 0.0 if problem.source is PairSource.CAPTION_IMAGE else 1.0


def _by_error(problem: Problem) -> bool:
    """Whether settings are compared by the error at pairs left out, and not by retrieval."""
    return problem.task.self_asked or not problem.cosine


def _reached(problem: Problem, settings: Settings) -> float:
    """Measure settings: the larger, the better.

    Where points ask for themselves, how near each pair is projected without it foretells how well
    real queries find their answers (rank correlation 0.95 over settings; their own retrieval: 0.4).
    Between modalities nearness misleads, and queries are real ones: there retrieval decides.
    """
    given = problem.with_inputs_for(settings)
    if _by_error(problem):
        _, projected = _mean(given, {**settings, "share": 0.0}, left_out=True)
        assert projected is not None
        return -float(np.mean((projected - given.y) ** 2))
    mean, _ = _mean(given, settings, left_out=False)
    return given.quick_score(mean).mrr


def _mean(
    problem: Problem, settings: Settings, *, left_out: bool
) -> tuple[GaussianProcess, Vectors | None]:
    """Solve for the mean of the process.

    Returns:
        The mean, and where `left_out` is set each pair as it is projected without it, (n, d_out).
    """
    x, y = problem.x, problem.y.astype(np.float64)
    weight, bias = _prior(problem)
    scale = _scale(problem, settings)
    exact = len(x) <= EXACT
    chosen = _landmarks(problem, len(x) if exact else LANDMARKS)
    # Rounded as they are stored, so that the coefficients fit the kernel that will be applied.
    landmarks = (x[chosen] * scale).astype(np.float16).astype(np.float32)
    # The square root on both sides: the linear kernel is then the product of two of these.
    lexical = np.sqrt(float(settings.get("lexical", 0))) * _block(problem, x, LEXICAL)
    # Noise covers what float32 rounds off; landmarks without noise need all digits.
    near = landmarks if exact else landmarks.astype(np.float64)
    inputs = near if exact else (x * scale).astype(np.float64)
    kernel: Matrix = gaussian_kernel(inputs, near).astype(np.float64)
    kernel += lexical @ lexical[chosen].T
    residual, noise = y - (x @ weight + bias), float(settings["noise"])
    if exact:
        coefficients, unknown = _solve_exactly(kernel, residual, noise, left_out=left_out)
    else:
        among: Matrix = gaussian_kernel(near, near).astype(np.float64)
        among += lexical[chosen] @ lexical[chosen].T
        coefficients, unknown = _solve_by_landmarks(
            kernel, residual, noise, among=among, left_out=left_out
        )
    # A linear kernel is a weight matrix: folded into the prior's, it costs nothing when applied.
    start, stop = _place(problem, LEXICAL)
    weight[start:stop] += np.sqrt(float(settings.get("lexical", 0))) * (
        lexical[chosen].T @ coefficients
    )
    mean, share = y.mean(axis=0), float(settings["share"])
    distance = np.linalg.norm(y - mean, axis=1).mean()
    parts = (weight, bias, scale, landmarks, coefficients, mean, [distance, share])
    made = GaussianProcess(*(np.asarray(part, np.float32) for part in parts))
    if unknown is None:
        return made, None
    projected = spread_out((y - unknown).astype(np.float32), made.mean, distance, share)
    return made, normalized(projected) if problem.cosine else projected


def _solve_exactly(
    kernel: Matrix, residual: Matrix, noise: float, *, left_out: bool
) -> tuple[Matrix, Matrix | None]:
    """Find the exact mean of the process, (K + noise I)^-1 r.

    Args:
        kernel: Among the pairs, (n, n); overwritten.
        residual: What the prior leaves, (n, d_out).
        noise: Variance that pairs are not trusted with.
        left_out: Whether to find the errors without each pair as well.

    Returns:
        The coefficients of the pairs, and the error at each pair by the process without it; both
        (n, d_out).
    """
    kernel[np.diag_indices_from(kernel)] += noise
    lower = cholesky(kernel, lower=True, overwrite_a=True)
    found = np.asarray(cho_solve((lower, True), residual))
    if not left_out:
        return found, None
    # [K^-1 r]_i / [K^-1]_ii (Rasmussen & Williams 2006, eq. 5.12), the diagonal by L^-1.
    inverse, _ = dtrtri(lower, lower=1, overwrite_c=1)
    return found, found / np.einsum("ij,ij->j", inverse, inverse)[:, None]


def _solve_by_landmarks(
    kernel: Matrix, residual: Matrix, noise: float, *, among: Matrix, left_out: bool
) -> tuple[Matrix, Matrix | None]:
    """Find the mean by Nystroem's approximation; see `_solve_exactly`.

    Args:
        kernel: Between pairs and landmarks, (n, m).
        residual: What the prior leaves, (n, d_out).
        noise: Variance that pairs are not trusted with.
        among: Between landmarks, (m, m); overwritten.
        left_out: Whether to find the errors without each pair as well.
    """
    among[np.diag_indices_from(among)] += JITTER
    lower = cholesky(among, lower=True, overwrite_a=True)
    # With F = L^-1 k', ridge regression (F F' + noise I)^-1 F r, taken back through L'.
    features = solve_triangular(lower, kernel.T, lower=True)
    gram = features @ features.T
    gram[np.diag_indices_from(gram)] += noise
    root = cholesky(gram, lower=True, overwrite_a=True)
    inner = cho_solve((root, True), features @ residual)
    found = np.asarray(solve_triangular(lower, inner, lower=True, trans="T"))
    if not left_out:
        return found, None
    errors = residual - features.T @ inner
    # A linear smoother's error without a pair is its error divided by 1 - h_ii.
    hat = solve_triangular(root, features, lower=True)
    return found, errors / (1 - np.einsum("mn,mn->n", hat, hat))[:, None]


def _variance(problem: Problem, settings: Settings) -> ProcessVariance | None:
    """Compute the variance of the process, around fewer landmarks; None for a bridge.

    With k the kernel to the landmarks, L L' the kernel among them, and M M' = noise I + F'F where F
    are the pairs' coordinates L^-1 k, the variance is 1 - |L^-1 k|^2 + noise |M^-1 L^-1 k|^2.
    Kept as one matrix: the root of what is taken away from 1.
    """
    # Points are ordered by it; nothing reads that of a query.
    if problem.direction is Direction.BRIDGE:
        return None
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
    # At full variance only the prior is known, so its error is the expected error.
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
