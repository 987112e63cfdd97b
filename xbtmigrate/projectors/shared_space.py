"""One space for both models, which a query and points in any state reach."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xbtmigrate.projectors.projector import Projector
from xbtmigrate.types import Vectors, normalized


@dataclass(frozen=True, slots=True)
class SharedSpace:
    """A pair of maps into one space (lambda-orthogonality, Ricci et al. 2025, arXiv 2509.16664).

    Attributes:
        bridge: B, from the new model to the shared space: for queries and re-encoded points.
        forward: F, from the old model to the shared space: for points not yet re-encoded.
    """

    bridge: Projector
    forward: Projector

    def kept(self, old: Vectors) -> Vectors:
        """Take old vectors (n, d_old) as they are to the shared space, padded with zeros."""
        # Zeros change no cosine, and training aims B at vectors that are padded the same way.
        vectors = np.zeros((len(old), self.bridge.d_out), np.float32)
        vectors[:, : old.shape[1]] = normalized(old)
        return vectors

    def save(self, folder: Path) -> None:
        """Write both maps, each atomically.

        Raises:
            ArtefactError: The place holds something else, or cannot be written.
        """
        self.bridge.save(folder / "bridge")
        self.forward.save(folder / "forward")

    @classmethod
    def load(cls, folder: Path) -> SharedSpace:
        """Read both maps.

        Raises:
            ArtefactError: Missing, damaged, or of another version.
        """
        return cls(Projector.load(folder / "bridge"), Projector.load(folder / "forward"))
