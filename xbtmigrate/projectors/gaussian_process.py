"""Mean and variance of a Gaussian process, computed around landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.types import Vectors

# In the order of the fields: `from_tensors` passes them by position.
_PARTS = ("weight", "bias", "scale", "landmarks", "coefficients", "mean", "spread")


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """y = x W + b + k(x) A: an affine prior mean and a Gaussian kernel around landmarks.

    Regression shrinks towards the mean. Where a space is anisotropic, what is near its mean scores
    high for every query and pushes true vectors aside. So outputs can be moved away from the mean,
    to the distance at which true vectors lie, or half of the way.

    Attributes:
        weight: W, shape (d_in, d_out).
        bias: b, shape (d_out,).
        scale: What each coordinate of x is multiplied by before distances are taken, (d_in,).
        landmarks: Inputs the kernel stands around, scaled, in half precision, (m, d_in).
        coefficients: A, shape (m, d_out).
        mean: Mean of true vectors, (d_out,).
        spread: Mean distance of true vectors from it, and which part of the way outputs are moved
            to that distance: 0 for shrunk, 0.5 for half, 1 for unshrunk; (2,).
    """

    name: ClassVar[str] = "gaussian_process"
    weight: Vectors
    bias: Vectors
    scale: Vectors
    landmarks: Vectors
    coefficients: Vectors
    mean: Vectors
    spread: Vectors

    @property
    def d_in(self) -> int:
        """Length of the input vectors."""
        return len(self.weight)

    @property
    def d_out(self) -> int:
        """Length of the output vectors."""
        return len(self.bias)

    def __call__(self, x: Vectors) -> Vectors:
        """Compute (n, d_in) float32 -> (n, d_out) float32."""
        y = gaussian_kernel(x * self.scale, self.landmarks) @ self.coefficients
        y += x @ self.weight
        y += self.bias
        distance, share = self.spread
        return spread_out(y, self.mean, distance, share) if share else y

    def tensors(self) -> dict[str, Vectors]:
        """Return the parameters by name."""
        tensors = {name: getattr(self, name) for name in _PARTS}
        # Half the file without loss: training rounds the landmarks before it solves for A.
        return {**tensors, "landmarks": self.landmarks.astype(np.float16)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[np.floating]]) -> GaussianProcess:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        parts = [np.asarray(tensors[name], np.float32) for name in _PARTS]
        (d_in, d_out), landmarks = parts[0].shape, len(parts[3])
        shapes = [(d_out,), (d_in,), (landmarks, d_in), (landmarks, d_out), (d_out,), (2,)]
        if [part.shape for part in parts[1:]] != shapes:
            raise ValueError("the tensors of the Gaussian process do not fit together")
        return cls(*parts)


@dataclass(frozen=True, slots=True)
class ProcessVariance:
    """The variance of a Gaussian process at a point, as a log-variance.

    Attributes:
        scale: What each coordinate of x is multiplied by before distances are taken, (d_in,).
        landmarks: Inputs the kernel stands around, scaled, in half precision, (m, d_in).
        known: Maps the kernel's values to the root of the variance that the pairs explain, (m, m).
        level: Squared error per coordinate at full variance, (1,).
    """

    name: ClassVar[str] = "process_variance"
    scale: Vectors
    landmarks: Vectors
    known: Vectors
    level: Vectors

    @property
    def d_in(self) -> int:
        """Length of the input vectors."""
        return len(self.scale)

    def __call__(self, x: Vectors) -> npt.NDArray[np.float32]:
        """Estimate (n, d_in) float32 -> (n,) float32."""
        explained = gaussian_kernel(x * self.scale, self.landmarks) @ self.known
        # k(x, x) = 1 minus what the pairs explain; rounding can take it below zero, which has no
        # logarithm.
        variance = np.maximum(1 - np.einsum("nm,nm->n", explained, explained), 1e-6)
        return cast("Vectors", np.log(self.level[0] * variance))

    def tensors(self) -> dict[str, npt.NDArray[np.floating]]:
        """Return the parameters by name."""
        return {
            "scale": self.scale,
            "landmarks": self.landmarks.astype(np.float16),
            "known": self.known,
            "level": self.level,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[np.floating]]) -> ProcessVariance:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        names = ("scale", "landmarks", "known", "level")
        made = cls(*(np.asarray(tensors[name], np.float32) for name in names))
        count = len(made.landmarks)
        fit = made.landmarks.shape == (count, made.d_in) and made.known.shape == (count, count)
        if not fit or made.level.shape != (1,):
            raise ValueError("the tensors of the variance do not fit together")
        return made


def gaussian_kernel(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Vectors:
    """Compute exp(-|a - b|^2 / 2) between rows (n, d) and (m, d); shape (n, m)."""
    # -|a - b|^2 / 2 = a.b - |a|^2 / 2 - |b|^2 / 2: one matrix product, and no array of differences.
    near = a @ b.T
    near -= np.einsum("nd,nd->n", a, a)[:, None] / 2
    near -= np.einsum("md,md->m", b, b) / 2
    # Rounding can make the exponent of equal rows positive, and the kernel larger than 1.
    np.minimum(near, 0, out=near)
    return cast("Vectors", np.exp(near, out=near))


def spread_out(y: Vectors, mean: Vectors, distance: float, share: float) -> Vectors:
    """Move rows (n, d) a share of the way to a distance from a mean, in the direction they lie."""
    away = y - mean
    lengths = np.sqrt(np.einsum("nd,nd->n", away, away))[:, None]
    factor = distance / np.maximum(lengths, 1e-12)
    return cast("Vectors", mean + away * (1 + share * (factor - 1)))
