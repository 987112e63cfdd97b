"""Interpolate the old query towards the bridged new one, and search old vectors with the blend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.types import Channel, Scores, Vectors, normalized

ALPHAS = tuple(step / 10 for step in range(11))


class SlerpServing:
    """Blended query on old vectors, new query on re-encoded ones, raw scores (Ricci et al. 2026).

    The space of `Channel.BLEND` holds queries made by `slerp`.
    """

    name = "slerp"
    channels = frozenset({Channel.BLEND, Channel.NEW})
    by_state = True

    def score(self, blocks: Mapping[Channel, Scores], encoded: npt.NDArray[np.bool_]) -> Scores:
        """Use the new score of re-encoded rows and the blended score of the rest."""
        return np.where(encoded, blocks[Channel.NEW], blocks[Channel.BLEND])


def slerp(old: Vectors, bridged: Vectors, alpha: float) -> Vectors:
    """Rotate old queries towards bridged ones along the sphere (arXiv 2609.39836).

    Args:
        old: Old query vectors, shape (n, d).
        bridged: New query vectors projected into the old space, shape (n, d).
        alpha: 0 keeps the old query, 1 is the bridged one.

    Returns:
        Unit vectors, shape (n, d).
    """
    # sin((1 - a) t) / sin(t) u + sin(a t) / sin(t) v, with t the angle between u and v.
    u, v = normalized(old), normalized(bridged)
    cosine = np.clip((u * v).sum(axis=1, keepdims=True), -1, 1)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    flat = sine < 1e-4  # equal or opposite directions: the straight blend is the limit
    divisor = np.where(flat, 1, sine)
    left = np.where(flat, 1 - alpha, np.sin((1 - alpha) * angle) / divisor)
    right = np.where(flat, alpha, np.sin(alpha * angle) / divisor)
    return normalized(cast("Vectors", left * u + right * v))


def choose_alpha(
    old: Vectors, bridged: Vectors, quality: Callable[[Vectors], float]
) -> tuple[float, dict[float, float]]:
    """Choose the blend on validation queries.

    Args:
        old: Old query vectors of the validation queries, shape (n, d).
        bridged: The same queries, new vectors projected into the old space, shape (n, d).
        quality: Measures blended queries, higher is better.

    Returns:
        The best alpha (the smallest of equals), and the quality of each.
    """
    measured = {alpha: quality(slerp(old, bridged, alpha)) for alpha in ALPHAS}
    # `max` returns the first of equals, and the grid ascends.
    return max(measured, key=lambda alpha: measured[alpha]), measured
