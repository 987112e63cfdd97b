"""One space for both models: all vectors pass through one map that is near a rotation.

The space of lambda-orthogonality (Ricci et al. 2025, arXiv 2509.16664): B takes new vectors towards
the old ones, and stored vectors are projected into the new space and then mapped by B, too.
"""

from __future__ import annotations

from collections.abc import Callable

from xbtmigrate.evaluation.mixed_gallery import Single
from xbtmigrate.evaluation.servings import ServingSpec
from xbtmigrate.types import Vectors, normalized
from xbtmigrate_research.lambda_orthogonal import near_orthogonal

MIN_PAIRS = 32
"""Fewer pairs than this do not determine a map between two spaces."""


def shared_space(bound: float) -> ServingSpec:
    """Make the serving for one lambda; with 0, B is a rotation and it ranks like `single`."""
    name = f"shared-space-{bound:g}"

    def fit(old: Vectors, new: Vectors) -> Callable[[Vectors], Vectors] | None:
        if len(old) < MIN_PAIRS:
            return None
        # One fixed seed: the space must be the same for every part of a measurement.
        weight = near_orthogonal(normalized(new), normalized(old), bound, seed=0)
        return lambda vectors: vectors @ weight

    return ServingSpec(
        name,
        measure=lambda _: Single(name),
        remap=fit,
        fuses=True,
        only_measured="no vector is stored in the space that both models share",
    )


SHARED_SPACE_3 = shared_space(3)
SHARED_SPACE_12 = shared_space(12)
