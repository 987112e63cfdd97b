"""Estimate a projector's error at a point from its input alone.

Every estimate is a log-variance: s such that exp(s) is the expected squared error per coordinate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.projectors.architectures import Mlp
from xbtmigrate.projectors.gaussian_process import ProcessVariance
from xbtmigrate.types import Vectors

MIN_ERROR = 1e-12
"""Smallest squared error per coordinate; its logarithm represents an exact copy."""


class Uncertainty(Protocol):
    """A log-variance per input row, whose parameters are named tensors."""

    name: ClassVar[str]

    @property
    def d_in(self) -> int:
        """Length of the input vectors."""
        ...

    def __call__(self, x: Vectors) -> npt.NDArray[np.float32]:
        """Estimate (n, d_in) float32 -> (n,) float32."""
        ...

    def tensors(self) -> dict[str, npt.NDArray[np.floating]]:
        """Return the parameters by name."""
        ...

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[np.floating]]) -> Uncertainty:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        ...


@dataclass(frozen=True, slots=True)
class HeteroscedasticHead:
    """A network trained by the Gaussian likelihood of the error (FastFill, ICLR 2023, sec. 3).

    Attributes:
        network: Maps the input to one number, the log-variance.
    """

    name: ClassVar[str] = "heteroscedastic"
    network: Mlp

    @property
    def d_in(self) -> int:
        """Length of the input vectors."""
        return self.network.d_in

    def __call__(self, x: Vectors) -> npt.NDArray[np.float32]:
        """Estimate (n, d_in) float32 -> (n,) float32."""
        return self.network(x)[:, 0]

    def tensors(self) -> dict[str, npt.NDArray[np.floating]]:
        """Return the parameters by name."""
        return dict(self.network.tensors())

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[np.floating]]) -> HeteroscedasticHead:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        network = Mlp.from_tensors({name: t.astype(np.float32) for name, t in tensors.items()})
        if network.d_out != 1:
            raise ValueError("an uncertainty head has one output")
        return cls(network)


@dataclass(frozen=True, slots=True)
class NeighbourResidual:
    """Mean error of the nearest training pairs.

    Non-parametric: keeps inputs with the errors of a projector that was not fitted on them.

    Attributes:
        inputs: Training inputs, float32 (m, d_in), of the same normalisation as queries.
        errors: Root mean squared error per coordinate of each, float32 (m,).
        neighbours: How many nearest inputs are averaged.
    """

    name: ClassVar[str] = "neighbours"
    inputs: Vectors
    errors: Vectors
    neighbours: int = 15

    @property
    def d_in(self) -> int:
        """Length of the input vectors."""
        return int(self.inputs.shape[1])

    def __call__(self, x: Vectors) -> npt.NDArray[np.float32]:
        """Estimate (n, d_in) float32 -> (n,) float32; nearest by Euclidean distance."""
        # |x - c|^2 / 2 without |x|^2 / 2, which is the same for every c and changes no neighbour.
        half_norms = np.einsum("md,md->m", self.inputs, self.inputs) / 2
        count = min(self.neighbours, len(self.inputs))
        mean = np.empty(len(x), np.float32)
        for start in range(0, len(x), 1024):
            rows = x[start : start + 1024]
            far = half_norms - rows @ self.inputs.T
            # Unsorted, since only their mean is taken.
            nearest = np.argpartition(far, count - 1, axis=1)[:, :count]
            mean[start : start + 1024] = self.errors[nearest].mean(axis=1)
        return cast("Vectors", np.log(np.maximum(mean * mean, MIN_ERROR)))

    def tensors(self) -> dict[str, npt.NDArray[np.floating]]:
        """Return the parameters by name: half precision, scaled so that no value overflows."""
        # float16 ends at 65,504, and vectors of a dot or Euclidean space may be longer.
        scales = np.array([np.abs(self.inputs).max(), self.errors.max()], np.float32)
        scales[scales == 0] = 1
        return {
            "inputs": (self.inputs / scales[0]).astype(np.float16),
            "errors": (self.errors / scales[1]).astype(np.float16),
            "scales": scales,
            "neighbours": np.array([self.neighbours], np.float32),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[np.floating]]) -> NeighbourResidual:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        inputs, errors = tensors["inputs"], tensors["errors"]
        if inputs.ndim != 2 or errors.shape != inputs.shape[:1] or not len(inputs):
            raise ValueError(f"inputs {inputs.shape} and errors {errors.shape} do not fit together")
        input_scale, error_scale = tensors["scales"]
        return cls(
            cast("Vectors", inputs.astype(np.float32) * input_scale),
            cast("Vectors", errors.astype(np.float32) * error_scale),
            int(tensors["neighbours"][0]),
        )


UNCERTAINTIES: dict[str, type[Uncertainty]] = {
    "heteroscedastic": HeteroscedasticHead,
    "neighbours": NeighbourResidual,
    "process_variance": ProcessVariance,
}
"""Estimates that can be loaded, by the name in projector.json."""
