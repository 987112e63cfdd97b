"""Apply the trees that estimate a point's benefit from its features, in numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Tensors: TypeAlias = Mapping[str, npt.NDArray[np.generic]]

# Limits the arrays of one step, which have an entry for each row and tree.
CHUNK = 4096


@runtime_checkable
class Regressor(Protocol):
    """A function of features."""

    def __call__(self, x: Floats) -> Floats:
        """Estimate (n, f) -> (n,)."""
        ...

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the parameters by name."""
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """Weighted sum of standardised features.

    Attributes:
        centre: Subtracted from each feature, (f,).
        scale: Divides it, (f,).
        weights: Weight of each feature, then the constant, (f + 1,).
    """

    centre: Floats
    scale: Floats
    weights: Floats

    def __call__(self, x: Floats) -> Floats:
        """Estimate (n, f) -> (n,)."""
        # Clipped as in the fit: an outlying point must not outweigh all others by one feature.
        standard = np.clip((x - self.centre) / self.scale, -4, 4)
        return cast("Floats", standard @ self.weights[:-1] + self.weights[-1])

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the parameters by name."""
        return _tensors(self)

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> Linear:
        """Rebuild from `tensors()`; raises KeyError where one is missing."""
        return cls(*(np.asarray(tensors[field.name], np.float32) for field in fields(cls)))


@dataclass(frozen=True, slots=True)
class Trees:
    """Sum of regression trees (gradient boosting, Friedman 2001), nodes side by side.

    Attributes:
        feature: Feature that a node tests, -1 in a leaf, int32 (trees, nodes).
        threshold: Rows at or below it go left, float32 (trees, nodes).
        left: Left child, int32 (trees, nodes).
        right: Right child, int32 (trees, nodes).
        value: What a leaf adds, float32 (trees, nodes).
        start: Added to every row, float32 (1,).
        depth: Depth of the deepest tree, int32 (1,).
    """

    feature: npt.NDArray[np.int32]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: Floats
    start: Floats
    depth: npt.NDArray[np.int32]

    def __call__(self, x: Floats) -> Floats:
        """Estimate (n, f) -> (n,)."""
        parts = [self._chunk(x[at : at + CHUNK]) for at in range(0, len(x), CHUNK)]
        return np.concatenate([np.empty(0, np.float32), *parts])

    def _chunk(self, x: Floats) -> Floats:
        tree, row = np.arange(len(self.feature)), np.arange(len(x))[:, None]
        node = np.zeros((len(x), len(tree)), np.int32)
        # All rows descend all trees together; a row that has reached a leaf stays there.
        for _ in range(int(self.depth[0])):
            asked = self.feature[tree, node]
            # A leaf's feature is -1; what column 0 gives in its place is discarded below.
            below = x[row, np.maximum(asked, 0)] <= self.threshold[tree, node]
            child = np.where(below, self.left[tree, node], self.right[tree, node])
            node = np.where(asked < 0, node, child)
        return cast("Floats", self.value[tree, node].sum(axis=1) + self.start[0])

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the parameters by name."""
        return _tensors(self)

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> Trees:
        """Rebuild from `tensors()`; raises KeyError where one is missing."""
        return cls(*(cast("Floats", tensors[field.name]) for field in fields(cls)))  # type: ignore[arg-type]


def _tensors(part: Linear | Trees) -> dict[str, npt.NDArray[np.generic]]:
    return {field.name: getattr(part, field.name) for field in fields(part)}
