"""Find out whether the stored vectors of long texts are means over windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from xbtmigrate.encoders.mean_of_windows import MeanOfWindows
from xbtmigrate.errors import GateError
from xbtmigrate.migration.plan import ModelMatch
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality, normalized
from xbtmigrate.workflows.encode_points import encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points

FEW = 16
"""Long texts that are embedded in both ways."""
SET_MEAN = 'set chunk = "mean" in [old_model]'


@dataclass(frozen=True, slots=True)
class WindowMatch:
    """How the old model matches the stored vectors of texts that are longer than it reads.

    Attributes:
        texts: Number of such texts that were compared.
        first: Median cosine where their first window alone is embedded.
        mean: Median cosine of the mean over all windows.
    """

    texts: int
    first: float
    mean: float

    def is_mean(self, threshold: float) -> bool:
        """Return whether the writer has averaged."""
        return self.mean >= threshold and self.mean > self.first

    @property
    def remark(self) -> str:
        """The two medians in words."""
        return (
            f"{self.texts} sampled texts are longer than the old model reads; their stored vectors "
            f"match the mean over windows by a median cosine of {self.mean:.4f}, the first window "
            f"by {self.first:.4f}"
        )


def match_windows(
    match: ModelMatch, models: Models, points: Points, *, required: bool
) -> ModelMatch:
    """Compare the stored vectors of long texts with means over windows.

    Args:
        match: How the old model matches the sample.
        models: Both models.
        points: The sample.
        required: Whether a configured mean must be what they show.

    Returns:
        The match; its remark proposes the mean where they show it and it is not configured.

    Raises:
        GateError: It is configured, and they do not show it.
    """
    threshold = models.config.plan.old_model_match
    found = compare_windows(points, models.old, models.stored)
    if models.config.old_model.chunk is not None:
        if required:
            require_mean(found, threshold)
    elif found is not None and found.is_mean(threshold):
        return match.model_copy(update={"remark": f"{found.remark}: {SET_MEAN}"})
    return match


def compare_windows(points: Points, encoder: Encoder, stored: Modality) -> WindowMatch | None:
    """Embed some long texts of a sample in both ways.

    Args:
        points: Sampled points.
        encoder: The old model, with or without the mean over windows.
        stored: What the stored vectors embed.

    Returns:
        How either way matches; None where no text is long, or the encoder does not say.
    """
    inner = getattr(encoder, "encoder", encoder)
    plain = inner.encoder if isinstance(inner, MeanOfWindows) else inner
    if stored is not Modality.TEXT or not hasattr(plain, "split_windows"):
        return None
    long = list(islice(_find_long(points, plain), FEW))
    if not long:
        return None
    chosen = points.rows(long)
    first, mean = (_cosine(chosen, each) for each in (plain, MeanOfWindows(plain)))
    return WindowMatch(len(long), first, mean)


def require_mean(match: WindowMatch | None, threshold: float) -> None:
    """Refuse a mean over windows that the stored vectors do not show.

    Raises:
        GateError: They match the first window better, match neither, or no text is long.
    """
    if match is None:
        raise GateError(
            'old_model.chunk = "mean" cannot be checked: no sampled text is longer than the old '
            "model reads",
            "remove the key, or raise plan.sample",
        )
    if not match.is_mean(threshold):
        raise GateError(
            f'old_model.chunk = "mean", but {match.remark}; at least {threshold:g} is needed',
            "remove the key: the writer cut long texts",
        )


def _find_long(points: Points, encoder: Encoder) -> Sequence[int]:
    texts = [text or "" for text in points.texts]
    found: list[int] = encoder.find_truncated(texts)  # type: ignore[attr-defined]
    return found


def _cosine(points: Points, encoder: Encoder) -> float:
    made, valid = encode_readable(encoder, points.texts, Modality.TEXT, ids=points.ids)
    products = normalized(made[valid]) * normalized(points.old[valid])
    return float(np.median(products.sum(axis=1))) if valid.any() else 0.0
