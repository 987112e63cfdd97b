"""A made-up corpus of two models of the same latent things, small enough to train on in seconds."""

from __future__ import annotations

import numpy as np
from xbtmigrate_research.corpora import Corpus

from xbtmigrate.types import Vectors, normalized

POINTS, QUERIES = 700, 200


def made_corpus(
    *,
    d_old: int = 8,
    seen: int | None = None,
    d_new: int = 24,
    curve: float = 0.0,
    stretch: float = 1.0,
    noise: float = 0.4,
    blurred: bool = False,
    clusters: int = 0,
) -> Corpus:
    """The new model sees all 16 latent coordinates, the old one only the first ones.

    Args:
        d_old: Length of the old vectors.
        seen: How many latent coordinates the old model sees; `d_old` by default.
        d_new: Length of the new vectors.
        curve: How far the new model bends the latent space.
        stretch: How much longer the last coordinate is to the old model than the first one.
        noise: Difference between a question and its point.
        clusters: How many clusters the points fall into; 0 for none.
        blurred: Whether the new vectors of half of the points cannot be told from the old ones.
    """
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((POINTS, 16)).astype(np.float32)
    if clusters:
        centres = 3 * rng.standard_normal((clusters, 16)).astype(np.float32)
        latent += centres[rng.integers(clusters, size=POINTS)]
    asked = latent + noise * rng.standard_normal(latent.shape).astype(np.float32)
    basis = np.linalg.qr(rng.standard_normal((d_new, d_new)))[0][:16].astype(np.float32)
    if blurred:
        extra = 3 * rng.standard_normal(latent.shape).astype(np.float32) * (latent[:, :1] > 0)
        extra[:, :1] = 0

    def old(z: Vectors) -> Vectors:
        shown = seen or d_old
        found = z[:, :shown] * np.geomspace(1, stretch, shown, dtype=np.float32)
        return normalized(np.pad(found, ((0, 0), (0, d_old - shown))))

    def new(z: Vectors) -> Vectors:
        bent = z + curve * np.roll(z**2 - 1, 1, axis=1) + (extra if blurred else 0)
        return normalized(np.asarray(bent @ basis, np.float32))

    questions = old(asked), new(asked)
    texts = [str(number) for number in range(POINTS)]
    rel = np.arange(QUERIES)
    return Corpus(
        texts, texts[:QUERIES], old(latent), new(latent), questions[0][rel], questions[1][rel],
        rel, questions,
    )  # fmt: skip
