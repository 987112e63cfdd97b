"""The functions a projector can compute, in numpy alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol, Self, cast

import numpy as np

from xbtmigrate.projectors.gaussian_process import GaussianProcess
from xbtmigrate.types import Vectors, normalized

CHUNK_ROWS = 512
"""Rows computed at once: the hidden layers stay in the cache, however large the batch."""

# GELU's -2u is x (_LINEAR + _CUBIC x^2), with u = sqrt(2 / pi) (x + 0.044715 x^3).
_LINEAR = np.float32(-2 * math.sqrt(2 / math.pi))
_CUBIC = np.float32(0.044715) * _LINEAR
# exp(88) is the last whole power that float32 holds; beyond it x / (1 + exp(-2u)) is as good as 0.
_MAX_EXPONENT = np.float32(88)


class Architecture(Protocol):
    """A function from (n, d_in) to (n, d_out) whose parameters are named tensors."""

    name: ClassVar[str]

    @property
    def d_in(self) -> int:
        """Length of the input vectors."""
        ...

    @property
    def d_out(self) -> int:
        """Length of the output vectors."""
        ...

    def __call__(self, x: Vectors) -> Vectors:
        """Compute (n, d_in) float32 -> (n, d_out) float32."""
        ...

    def tensors(self) -> dict[str, Vectors]:
        """Return the parameters by name."""
        ...

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Vectors]) -> Architecture:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        ...


@dataclass(frozen=True, slots=True)
class Affine:
    """y = x W + b: rotations, ridge, low-rank maps, mean shifts, slices and paddings.

    Attributes:
        weight: W, shape (d_in, d_out).
        bias: b, shape (d_out,).
    """

    name: ClassVar[str] = "affine"
    weight: Vectors
    bias: Vectors

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
        y = x @ self.weight
        # In place, to save a second array of the output's size.
        y += self.bias
        return y

    def tensors(self) -> dict[str, Vectors]:
        """Return the parameters by name."""
        return {"weight": self.weight, "bias": self.bias}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Vectors]) -> Affine:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        affine = cls(tensors["weight"], tensors["bias"])
        _check_layer(affine.weight, affine.bias)
        return affine


@dataclass(frozen=True, slots=True)
class Mlp:
    """y = x S + b_k + g(... g(x W_1 + b_1) ...) W_k, g = GELU: hidden layers beside a linear skip.

    Attributes:
        skip: S, shape (d_in, d_out).
        weights: W_1 to W_k, each of shape (width before, width after), k > 1.
        biases: b_1 to b_k.
    """

    name: ClassVar[str] = "mlp"
    skip: Vectors
    weights: tuple[Vectors, ...]
    biases: tuple[Vectors, ...]

    @property
    def d_in(self) -> int:
        """Length of the input vectors."""
        return len(self.skip)

    @property
    def d_out(self) -> int:
        """Length of the output vectors."""
        return len(self.biases[-1])

    def __call__(self, x: Vectors) -> Vectors:
        """Compute (n, d_in) float32 -> (n, d_out) float32."""
        hidden = x
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = hidden @ weight
            hidden += bias
            hidden = gelu(hidden)
        y = x @ self.skip
        y += hidden @ self.weights[-1]
        y += self.biases[-1]
        return y

    def tensors(self) -> dict[str, Vectors]:
        """Return the parameters by name."""
        tensors = {"skip": self.skip}
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            tensors |= {f"weight{number}": weight, f"bias{number}": bias}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Vectors]) -> Self:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        # One skip and two tensors for each layer; below two layers the look-up fails, as it must.
        layers = range(max(2, len(tensors) // 2))
        mlp = cls(
            tensors["skip"],
            tuple(tensors[f"weight{number}"] for number in layers),
            tuple(tensors[f"bias{number}"] for number in layers),
        )
        for weight, bias in zip(mlp.weights, mlp.biases, strict=True):
            _check_layer(weight, bias)
        if any(a.shape[1] != b.shape[0] for a, b in pairwise(mlp.weights)):
            raise ValueError("the layers do not fit together")
        # A damaged or foreign file must fail here and not in the middle of a backfill.
        if mlp.skip.shape != (mlp.weights[0].shape[0], mlp.weights[-1].shape[1]):
            raise ValueError(f"skip of shape {mlp.skip.shape} does not span the hidden layers")
        return mlp


ARCHITECTURES: dict[str, type[Architecture]] = {
    each.name: each for each in (Affine, GaussianProcess, Mlp)
}
"""Architectures that can be loaded, by the name in projector.json."""


def gelu(x: Vectors) -> Vectors:
    """Compute GELU in its tanh form (Hendrycks & Gimpel 2016), equal to torch's approximate="tanh".

    Computed as x / (1 + exp(-2u)), which is x (1 + tanh u) / 2, in one array beside the input.
    """
    y = x * x
    y *= _CUBIC
    y += _LINEAR
    y *= x
    # Capped before exp: infinity would be right in the end, but numpy warns of the overflow.
    np.minimum(y, _MAX_EXPONENT, out=y)
    np.exp(y, out=y)
    y += 1
    return cast("Vectors", np.divide(x, y, out=y))


def project(
    architecture: Architecture, x: Vectors, *, normalize_input: bool, normalize_output: bool
) -> Vectors:
    """Compute an architecture in chunks of rows, between spaces that may be cosine spaces.

    Args:
        architecture: The function.
        x: Inputs, float32 (n, d_in).
        normalize_input: Scale inputs to unit length first (cosine input space).
        normalize_output: Scale outputs to unit length (cosine output space).

    Returns:
        Float32 (n, d_out).
    """

    def mapped(rows: Vectors) -> Vectors:
        y = architecture(normalized(rows) if normalize_input else rows)
        return normalized(y) if normalize_output else y

    # A single chunk needs no array to be copied into.
    if len(x) <= CHUNK_ROWS:
        return mapped(x)
    out = np.empty((len(x), architecture.d_out), np.float32)
    for start in range(0, len(x), CHUNK_ROWS):
        out[start : start + CHUNK_ROWS] = mapped(x[start : start + CHUNK_ROWS])
    return out


def beside(x: Vectors, side: Vectors, *, cosine: bool) -> Vectors:
    """Append side vectors to the inputs of a map, (n, d) and (n, s) -> (n, d + s).

    Args:
        x: Inputs; brought to unit length first where they are of a cosine space.
        side: Side vectors, taken as they are.
        cosine: Whether the inputs are.
    """
    return np.concatenate([normalized(x) if cosine else x, side], axis=1)


def _check_layer(weight: Vectors, bias: Vectors) -> None:
    """Raise ValueError unless (d_in, d_out) and (d_out,) belong together."""
    if weight.ndim != 2 or bias.shape != weight.shape[1:]:
        raise ValueError(f"weight {weight.shape} and bias {bias.shape} do not fit together")
