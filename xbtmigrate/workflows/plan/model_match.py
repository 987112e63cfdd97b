"""Check that the declared old model made the stored vectors, and find the likely cause if not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import EncoderError, GateError
from xbtmigrate.migration.plan import ModelMatch
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Distance, Modality, PointId, Vectors, normalized
from xbtmigrate.workflows.encode_points import encode_readable
from xbtmigrate.workflows.points import Points

SAMPLE = 128
EXACT = 0.999
"""Least median cosine between vectors of the same model; rounding costs far less."""
FEW = 16
"""Texts on which a likely cause is tested; each test encodes them again."""
_BGE = "Represent this sentence for searching relevant passages: "
PREFIXES = {
    "passage: ": "query: ",
    "query: ": "query: ",
    "search_document: ": "search_query: ",
    "search_query: ": "search_query: ",
    "clustering: ": "clustering: ",
    "title: none | text: ": "task: search result | query: ",
    "Passage: ": "Query: ",
    _BGE: _BGE,
}
"""The prefixes that models expect before a document, each with the one before a query: of E5 and
Arctic, Nomic, EmbeddingGemma and Jina v4. That of BGE and mxbai is meant for queries alone, but
documents are given it as well."""
SPREAD = 0.01
"""Largest difference between lengths of vectors that counts as rounding."""


@dataclass(frozen=True, slots=True)
class _OldModelSample:
    """The stored vectors of n sample points, and those that the declared model makes."""

    ids: Sequence[PointId]
    items: Sequence[str]
    stored: Vectors
    made: Vectors

    @classmethod
    def of(
        cls, points: Points, encoder: Encoder, modality: Modality, prefix: str = ""
    ) -> _OldModelSample | None:
        """Embed the points; None where none of them can be."""
        contents = [each and prefix + each for each in points.content(modality)]
        vectors, valid = encode_readable(encoder, contents, modality, ids=points.ids)
        rows = np.flatnonzero(valid).tolist()
        if not rows:
            return None
        items = [str(contents[row]) for row in rows]
        return cls([points.ids[row] for row in rows], items, points.old[rows], vectors[rows])

    @property
    def cosines(self) -> npt.NDArray[np.float32]:
        """Cosine between stored and made vector of each point."""
        products = normalized(self.made) * normalized(self.stored)
        return np.asarray(products.sum(axis=1), np.float32)

    @property
    def median(self) -> float:
        """Median of the cosines."""
        return float(np.median(self.cosines))


def match_old_model(
    points: Points, encoder: Encoder, stored: Modality, threshold: float, distance: Distance
) -> ModelMatch:
    """Re-encode a sample with the old model and compare with what is stored.

    Args:
        points: Sampled points; the first 128 are used.
        encoder: The declared old model.
        stored: What the stored vectors are declared to embed; the other modality is tried too
            where the encoder takes it, to tell a swapped declaration from a wrong model.
        threshold: Least median cosine of a match.
        distance: Distance of the old space: not all of them see a vector's length.

    Raises:
        EncoderError: The old model cannot embed any of the sampled sources.
    """
    # The points are in random order, so the first ones are a fair sample.
    sample = points.rows(range(min(SAMPLE, len(points))))
    # Both modalities, since a wrong `stored` needs another correction than a wrong model.
    found: dict[Modality, _OldModelSample] = {}
    for modality in (stored, *(other for other in Modality if other is not stored)):
        try:
            compared = _OldModelSample.of(sample, encoder, modality)
        except EncoderError:
            if modality is stored:
                raise
            continue
        if compared is not None:
            found[modality] = compared
    if stored not in found:
        raise EncoderError(
            f"the old model could not embed any of {len(sample)} sampled {stored}s",
            f"check payload.{stored} and [old_model]",
        )
    # The median, because a few points whose content has changed must not fail the right model.
    cosines = {modality: each.median for modality, each in found.items()}
    likely = max(cosines, key=lambda modality: cosines[modality])
    return ModelMatch(
        sample=len(sample),
        median_cosine={modality.value: cosine for modality, cosine in cosines.items()},
        stored=likely.value if cosines[likely] >= threshold else "unknown",
        matches=cosines[stored] >= threshold,
        remark=_remark(sample, encoder, stored, found[stored], distance),
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
        f"{match.sample} points, at least {threshold:g} is needed"
        + (f"; {match.remark}" if match.remark else ""),
        "name the right model, version and options in [old_model]; to plan nevertheless, use "
        "--allow-model-mismatch",
    )


def _remark(
    points: Points,
    encoder: Encoder,
    stored: Modality,
    compared: _OldModelSample,
    distance: Distance,
) -> str | None:
    """Return the likely cause if the same model would have matched better."""
    if compared.median >= EXACT:
        # Qdrant normalises vectors under cosine, so their lengths mean nothing there.
        return None if distance is Distance.COSINE else _length(compared)
    # The most specific cause first. Testing prefixes encodes texts, hence so few of them.
    cause = None
    if stored is Modality.TEXT:
        cause = _prefix(points.rows(range(min(FEW, len(points)))), encoder) or _truncated(compared)
    cause = (
        cause
        or _part(compared)
        or (
            "another version or precision of the model, other options of it, or texts prepared "
            "differently (a prefix, case, markup)"
            if stored is Modality.TEXT
            else "another version or precision of the model, or images prepared differently (size, "
            "crop, transparency)"
        )
    )
    return (
        f"the same model would match with a median cosine of {EXACT} or more, this one has "
        f"{compared.median:.4f}; likely cause: {cause}"
    )


def _prefix(points: Points, encoder: Encoder) -> str | None:
    """Test the usual prefixes; an encoder that only knows given texts cannot embed them."""
    medians: dict[str, float] = {}
    for prefix in ("", *PREFIXES):
        try:
            found = _OldModelSample.of(points, encoder, Modality.TEXT, prefix)
        except EncoderError:
            return None
        medians[prefix] = -1.0 if found is None else found.median
    best = max(medians, key=lambda prefix: medians[prefix])
    # Another family's prefix can come a little nearer by chance. The right one closes the gap, or
    # most of it where something else differs as well.
    if not best or 1 - medians[best] > (1 - medians[""]) / 2:
        return None
    return (
        f'the stored texts were embedded with the prefix "{best}", which fits best (median cosine '
        f'{medians[best]:.4f}): set passage_prefix = "{best}" and query_prefix = '
        f'"{PREFIXES[best]}" in [old_model], or put it before the field in payload.text, as in '
        f'"{best}{{field}}"'
    )


def _truncated(compared: _OldModelSample) -> str | None:
    """Check whether short texts match and long ones do not, as after another truncation."""
    order = np.argsort([len(item) for item in compared.items], kind="stable")
    # The shortest third against the longest: only the latter can have been cut.
    third = len(order) // 3
    cosines = compared.cosines[order]
    # Fewer than three texts have no thirds to compare.
    if not third or np.median(cosines[:third]) < EXACT or np.median(cosines[-third:]) >= EXACT:
        return None
    return (
        "long texts differ and short ones do not, so texts were cut at another length "
        "(truncation, such as max_seq_length)"
    )


def _part(compared: _OldModelSample) -> str | None:
    """Check whether some points match exactly and others do not."""
    same = int((compared.cosines >= EXACT).sum())
    if same < len(compared.items) / 5:
        return None
    return (
        f"{same} of {len(compared.items)} points match and the others do not: their content "
        "changed after it was embedded, or another version of the model embedded them"
    )


def _length(compared: _OldModelSample) -> str | None:
    """Check whether directions match and lengths differ, in a space where lengths matter."""
    stored, made = (np.linalg.norm(each, axis=1) for each in (compared.stored, compared.made))
    # The floor avoids a division by zero for a zero vector.
    ratio = float(np.median(made / np.maximum(stored, 1e-12)))
    if abs(ratio - 1) <= SPREAD:
        return None
    return (
        f"the directions match, but the declared model's vectors are {ratio:.3g} times as long as "
        "the stored ones; likely cause: normalisation (the encoder's option `normalize`)"
    )
