"""Domain, projectors: the functions a projector can compute, in numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

import numpy as np

from xbtmigrate.types import Vectors, normalized

CHUNK_ROWS = 8192
"""Rows computed at once: bounds the memory of the hidden layers, whatever the batch."""


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
        return x @ self.weight + self.bias

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
    """y = x S + b2 + gelu(x W1 + b1) W2: a linear skip and a residual of one hidden layer.

    Attributes:
        skip: S, shape (d_in, d_out).
        hidden_weight: W1, shape (d_in, h).
        hidden_bias: b1, shape (h,).
        weight: W2, shape (h, d_out).
        bias: b2, shape (d_out,).
    """

    name: ClassVar[str] = "mlp"
    skip: Vectors
    hidden_weight: Vectors
    hidden_bias: Vectors
    weight: Vectors
    bias: Vectors

    @property
    def d_in(self) -> int:
        """Length of the input vectors."""
        return len(self.skip)

    @property
    def d_out(self) -> int:
        """Length of the output vectors."""
        return len(self.bias)

    def __call__(self, x: Vectors) -> Vectors:
        """Compute (n, d_in) float32 -> (n, d_out) float32."""
        hidden = gelu(x @ self.hidden_weight + self.hidden_bias)
        return x @ self.skip + hidden @ self.weight + self.bias

    def tensors(self) -> dict[str, Vectors]:
        """Return the parameters by name."""
        return {
            "skip": self.skip,
            "hidden_weight": self.hidden_weight,
            "hidden_bias": self.hidden_bias,
            "weight": self.weight,
            "bias": self.bias,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Vectors]) -> Mlp:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        mlp = cls(
            tensors["skip"],
            tensors["hidden_weight"],
            tensors["hidden_bias"],
            tensors["weight"],
            tensors["bias"],
        )
        _check_layer(mlp.hidden_weight, mlp.hidden_bias)
        _check_layer(mlp.weight, mlp.bias)
        if mlp.skip.shape != (mlp.hidden_weight.shape[0], mlp.weight.shape[1]):
            raise ValueError(f"skip of shape {mlp.skip.shape} does not span the hidden layer")
        if mlp.hidden_weight.shape[1] != mlp.weight.shape[0]:
            raise ValueError("the two layers do not fit together")
        return mlp


ARCHITECTURES: dict[str, type[Architecture]] = {"affine": Affine, "mlp": Mlp}
"""Architectures that can be loaded, by the name in projector.json."""


def gelu(x: Vectors) -> Vectors:
    """GELU in its tanh form (Hendrycks & Gimpel 2016), equal to torch's approximate="tanh"."""
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return cast("Vectors", np.float32(0.5) * x * (1 + np.tanh(inner)))


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
    out = np.empty((len(x), architecture.d_out), np.float32)
    for start in range(0, len(x), CHUNK_ROWS):
        rows = x[start : start + CHUNK_ROWS]
        y = architecture(normalized(rows) if normalize_input else rows)
        out[start : start + CHUNK_ROWS] = normalized(y) if normalize_output else y
    return out


def _check_layer(weight: Vectors, bias: Vectors) -> None:
    """Raise ValueError unless (d_in, d_out) and (d_out,) belong together."""
    if weight.ndim != 2 or bias.shape != weight.shape[1:]:
        raise ValueError(f"weight {weight.shape} and bias {bias.shape} do not fit together")
