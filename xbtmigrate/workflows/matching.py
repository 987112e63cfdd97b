"""Workflows: did the declared old model really make the stored vectors?"""

from __future__ import annotations

import numpy as np

from xbtmigrate.errors import CollectionError, EncoderError, GateError
from xbtmigrate.plan import ModelMatch
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality, normalized
from xbtmigrate.workflows.encoding import encode_readable
from xbtmigrate.workflows.sampling import Points

SAMPLE = 128


def match_old_model(
    points: Points, encoder: Encoder, stored: Modality, threshold: float
) -> ModelMatch:
    """Re-encode a sample with the old model and compare with what is stored.

    Args:
        points: Sampled points; the first 128 are used.
        encoder: The declared old model.
        stored: What the stored vectors are declared to embed; the other modality is tried too
            where the encoder takes it, to tell a swapped declaration from a wrong model.
        threshold: Least median cosine of a match.

    Raises:
        CollectionError: The model's dimension is not that of the stored vectors.
        EncoderError: The old model cannot embed any of the sampled sources.
    """
    if encoder.dimension != points.old.shape[1]:
        raise CollectionError(
            f"the old model makes vectors of {encoder.dimension} dimensions, "
            f"the stored ones have {points.old.shape[1]}",
            "name the model that made the stored vectors in [old_model]",
        )
    sample = points.rows(range(min(SAMPLE, len(points))))
    cosines = {}
    for modality in (stored, *(other for other in Modality if other is not stored)):
        try:
            found = _median_cosine(sample, encoder, modality)
        except EncoderError:
            if modality is stored:
                raise
            continue
        if found is not None:
            cosines[modality.value] = found
    if stored.value not in cosines:
        raise EncoderError(
            f"the old model could not embed any of {len(sample)} sampled {stored}s",
            f"check payload.{stored} and [old_model]",
        )
    likely = max(cosines, key=lambda name: cosines[name])
    return ModelMatch(
        sample=len(sample),
        median_cosine=cosines,
        stored=likely if cosines[likely] >= threshold else "unknown",
        matches=cosines[stored.value] >= threshold,
    )


def require_match(match: ModelMatch, stored: Modality, threshold: float) -> None:
    """Refuse a declared old model that did not make the stored vectors.

    Raises:
        GateError: It did not, or the vectors embed the other modality.
    """
    if match.matches:
        return
    found = match.median_cosine[stored.value]
    if match.stored not in ("unknown", stored.value):
        raise GateError(
            f"the stored vectors embed the {match.stored}, not the {stored}: median cosine "
            f"{match.median_cosine[match.stored]:.4f} against {found:.4f}",
            f'set old_model.stored = "{match.stored}"',
        )
    raise GateError(
        f"the declared old model did not make the stored vectors: median cosine {found:.4f} on "
        f"{match.sample} points, at least {threshold:g} is needed",
        "name the right model, version and options in [old_model]; if you know better, plan with "
        "--allow-model-mismatch",
    )


def _median_cosine(points: Points, encoder: Encoder, modality: Modality) -> float | None:
    vectors, valid = encode_readable(encoder, points.content(modality), modality, ids=points.ids)
    if not valid.any():
        return None
    cosines = (normalized(vectors[valid]) * normalized(points.old[valid])).sum(axis=1)
    return float(np.median(cosines))
